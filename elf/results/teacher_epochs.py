"""Table 10: after how many epochs of training the feature models are taken, for each dataset and method."""

import pandas as pd

from elf.results.columns import gather
from elf.results.labels import METHOD_LABELS, dataset_label, method_label, scale_text
from elf.results.layout import NOT_RUN
from elf.results.tables import LATEX_ESCAPES, markdown_table, templates


def epochs(cells: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs: a row a dataset, a column a method, as text; a mark where no result used that epoch yet.

    Parameters
    ----------
    cells, results : DataFrame
        As for :func:`elf.results.columns.gather`.
    """
    entries = [
        {
            "Dataset": dataset_label(cell["paper_dataset"]),
            "method": method_label(cell["method"]),
            "epoch": f"{cell['teacher_epoch']:g}" if not cell.rows.empty else NOT_RUN,
        }
        for cell in gather(cells, results)
        if cell["teacher_epoch"] is not None
    ]
    frame = pd.DataFrame(entries, columns=["Dataset", "method", "epoch"])
    # One epoch a method and dataset, whatever the evaluation network: several would be shown together.
    shown = frame.groupby(["Dataset", "method"], sort=False)["epoch"].agg(_together).unstack(fill_value="")
    order = [label for label in METHOD_LABELS.values() if label in shown.columns]
    return shown.reindex(index=list(dict.fromkeys(frame["Dataset"])), columns=order).fillna("")


def _together(values: pd.Series) -> str:
    found = sorted({value for value in values if value != NOT_RUN}, key=float)
    return ", ".join(found) or NOT_RUN


def render(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> dict[str, str]:
    """Return Table 10 as Markdown (``md``), LaTeX (``tex``), CSV (``csv``) and an HTML fragment (``html``).

    Parameters are those of :func:`elf.results.layout.lay_out`.
    """
    frame = epochs(cells, results)
    caption = f"Epochs that the feature model was trained for. {NOT_RUN} not run. {scale_text(about)}"
    head, rows = ["Dataset", *frame.columns], frame.reset_index().astype(str).to_numpy().tolist()
    page = templates().get_template("plain_table.html.j2")
    return {
        "md": f"**{about['title']}.** {caption}\n\n{markdown_table(head, rows)}\n",
        "tex": _latex(head, rows, about["title"], caption),
        "csv": frame.to_csv(lineterminator="\n"),
        "html": page.render(title=about["title"], caption=caption, head=head, rows=rows),
    }


def _latex(head: list[str], rows: list[list[str]], title: str, caption: str) -> str:
    lines = [" & ".join(field.translate(LATEX_ESCAPES) for field in row) + r" \\" for row in (head, *rows)]
    title, caption = title.translate(LATEX_ESCAPES), caption.translate(LATEX_ESCAPES)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{\textbf{{{title}.}} {caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
