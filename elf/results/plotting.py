"""What all figures share: style, panels, points of a cell, and deterministic PDF, PNG and SVG."""

import io
import textwrap
from collections.abc import Callable, Iterable

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from elf.results.columns import Cell, describe_data
from elf.results.labels import dataset_label, method_label, network_labels, network_order
from elf.results.soundness import marked

# Okabe and Ito's palette (2008), told apart with every common colour vision, without its pale yellow.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#5A5A5A"
DASHES = (0, (4, 2.5))

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.2,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.2,
    "errorbar.capsize": 2,
    "pdf.fonttype": 42,
    "svg.hashsalt": "elf",
    "savefig.dpi": 200,
    "figure.facecolor": "white",
}
# Dates are left out, so that the same data give the same bytes.
METADATA = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}, "png": {}}
PANEL_COLUMNS = [
    "paper_dataset",
    "dataset",
    "method",
    "distill_network",
    "ipc",
    "paper_eval_network",
    "eval_network",
]
POINT_COLUMNS = [
    *PANEL_COLUMNS,
    "series",
    "lambda_front",
    "lambda_rear",
    "teacher_network",
    "teacher_epoch",
    "mean",
    "std",
    "ci_low",
    "ci_high",
    "n",
]


def points(cells: Iterable[tuple[str, Cell]]) -> pd.DataFrame:
    """Return what a figure shows, one row a point: accuracies in percent, with ``series`` naming its line.

    Cells without results give no point.
    """
    rows = []
    for series, cell in cells:
        summary = cell.summary
        if summary.n == 0:
            continue
        statistics = {
            "mean": summary.mean,
            "std": summary.std,
            "ci_low": summary.low,
            "ci_high": summary.high,
        }
        percent = {name: 100 * value for name, value in statistics.items()}
        rows.append({**cell.key, "series": series, **percent, "n": summary.n})
    return pd.DataFrame(rows, columns=POINT_COLUMNS).convert_dtypes()


def data_csv(frame: pd.DataFrame) -> bytes:
    """Return the points as CSV; accuracies are in percent."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def panels(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Split points into (title, evaluation network, its points), one panel a synthetic set and network."""
    labels = network_labels(frame["paper_eval_network"])
    groups = [group for _, group in frame.groupby(PANEL_COLUMNS, dropna=False, sort=False)]
    groups.sort(key=lambda group: network_order(group["paper_eval_network"].iloc[0]))
    titles = []
    for group in groups:
        first = group.iloc[0]
        parts = [labels[first["paper_eval_network"]]]
        if frame["paper_dataset"].nunique() > 1:
            parts.append(dataset_label(first["paper_dataset"]))
        if frame["method"].nunique() > 1:
            parts.append(method_label(first["method"]))
        titles.append((", ".join(parts), first["paper_eval_network"], group))
    return titles


def new_panels(count: int, *, panel_width: float, panel_height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure and ``count`` axes on a grid at most three wide, with room for a legend; in inches."""
    columns = max(1, min(3, count))
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(panel_width * columns + 1.5, panel_height * rows + 0.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.02, hspace=0.04)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def title_and_caption(figure: Figure, title: str, caption: str) -> None:
    """Put the title at the top left and the caption, small and wrapped, under everything."""
    width = figure.get_figwidth()
    title = textwrap.fill(title, int(width * 11))
    figure.suptitle(plain(title), x=0.012, ha="left", fontsize=10, fontweight="bold")
    caption = textwrap.fill(caption, int(width * 19))
    figure.supxlabel(plain(caption), x=0.012, ha="left", fontsize=6.5, color=GREY, linespacing=1.35)


def plain(text: str) -> str:
    """Keep a text from being read as a formula."""
    return str(text).replace("$", r"\$")


def line(axes: Axes, x, frame: pd.DataFrame, *, shift: float = 0.0, **style) -> None:
    """Draw means joined by a line, with 95 % intervals as error bars, moved ``shift`` points sideways.

    The shift keeps error bars of two lines apart without changing what the axis says.
    """
    x = np.asarray(x, dtype=float)
    mean, low, high = (frame[name].to_numpy(dtype=float, na_value=np.nan) for name in ("mean", "ci_low", "ci_high"))
    moved = axes.transData + ScaledTranslation(shift / 72, 0, axes.get_figure().dpi_scale_trans)
    axes.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=0.9, transform=moved, **style)
    # A transform of its own takes the line out of the automatic limits.
    for values in (mean, low, high):
        known = np.isfinite(values)
        axes.update_datalim(np.column_stack([x[known], values[known]]))


def baseline(axes: Axes, frame: pd.DataFrame, *, color: str, label: str | None = None) -> None:
    """Draw the baseline as a dashed line across the panel, with its 95 % interval as a band."""
    for row in frame.itertuples():
        axes.axhline(row.mean, color=color, linestyle=DASHES, linewidth=1.1, label=label, zorder=1.5)
        if not pd.isna(row.ci_low):
            axes.axhspan(row.ci_low, row.ci_high, color=color, alpha=0.13, linewidth=0, zorder=1)


def positions(values: Iterable[float], shown: Iterable[float]) -> list[int]:
    """Return where values lie on an axis that gives each of the shown values the same room."""
    order = sorted({float(value) for value in shown})
    return [order.index(float(value)) for value in values]


def value_axis(axes: Axes, shown: Iterable[float]) -> None:
    """Put a tick at each of the shown values, evenly spaced, so that 0 and neighbours stay readable."""
    order = sorted({float(value) for value in shown})
    axes.set_xticks(range(len(order)), [f"{value:g}" for value in order])
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.autoscale_view()


def legend(figure: Figure, handles: list) -> None:
    """Put the legend beside the panels, where it can cover nothing."""
    figure.legend(handles=handles, loc="outside right center", labelspacing=0.9, handlelength=2.2)


def subject(cells: list[Cell]) -> str:
    """Return the sentence that every caption begins with: the data and the methods."""
    methods = dict.fromkeys(method_label(cell["method"]) for cell in cells)
    return f"Test accuracy on {describe_data(cells)}, {' and '.join(methods)}."


def prefix(cell: Cell, cells: list[Cell]) -> str:
    """Return what names the method of a cell where a figure has several: ``DM ``, otherwise nothing."""
    return f"{method_label(cell['method'])} " if len({other["method"] for other in cells}) > 1 else ""


def render(
    cells: list[Cell],
    about: dict,
    data: Callable[[list[Cell]], pd.DataFrame],
    draw: Callable[[pd.DataFrame, list[Cell], dict], Figure],
) -> dict[str, bytes]:
    """Return a figure in all formats, with what it shows.

    Parameters
    ----------
    cells : list of Cell
        As :func:`elf.results.columns.gather` gives them.
    about : dict
        ``title``, ``scale``, ``stand_ins``, ``seeds``.
    data : callable
        From the cells to the points that are drawn.
    draw : callable
        From points, cells and ``about`` to the figure.

    Returns
    -------
    dict
        Extension (``pdf``, ``png``, ``svg``, ``csv``) to content; the CSV holds exactly what is drawn.
    """
    frame = data(cells)
    with style():
        files, written = save(draw(frame, cells, about)), data_csv(frame)
    return {**files, "svg": marked(files["svg"], written), "csv": written}


def save(figure: Figure) -> dict[str, bytes]:
    """Return the figure as PDF, PNG (200 dpi) and SVG; the same data give the same bytes."""
    files = {}
    for extension, metadata in METADATA.items():
        stream = io.BytesIO()
        figure.savefig(stream, format=extension, metadata=metadata)
        files[extension] = stream.getvalue()
    return files


def style():
    """Return the context in which figures are built and saved; other users of matplotlib keep theirs."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE})
