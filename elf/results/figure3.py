"""Figure 3: effect of the weights of the front and the rear loss."""

import pandas as pd

from elf.results import plotting
from elf.results.columns import Cell, describe_seeds, gather
from elf.results.labels import scale_text

SERIES = ("lambda_front", "lambda_rear")
LABELS = {
    "lambda_front": r"$\lambda_{\mathrm{front}}$ varied",
    "lambda_rear": r"$\lambda_{\mathrm{rear}}$ varied",
}
FIXED = 1.0


def data(cells: list[Cell]) -> pd.DataFrame:
    """Return the points of Figure 3: one line a weight, with the other one at 1, and the baseline.

    The point where both weights are 1 is on both lines. Cells where neither weight is 1 lie on no line.
    """
    chosen = [("baseline", cell) for cell in cells if cell["objective"] == "task"]
    for series, other in (SERIES, SERIES[::-1]):
        varied = [cell for cell in cells if _is_elf(cell) and cell[other] == FIXED]
        chosen += [(series, cell) for cell in sorted(varied, key=lambda cell: cell[series])]
    return plotting.points(chosen)


def render(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> dict[str, bytes]:
    """Draw Figure 3 (paper section 4, suggested weights 0, 0.1, 0.5, 1, 2, 5 and 10).

    See :func:`elf.results.plotting.render`.
    """
    return plotting.render(gather(cells, results), about, data, _draw)


def _draw(frame: pd.DataFrame, cells: list[Cell], about: dict):
    split = plotting.panels(frame)
    figure, grid = plotting.new_panels(len(split), panel_width=max(2.6, 4.8 / max(1, len(split))), panel_height=2.5)
    for axes, (title, _, group) in zip(grid, split, strict=True):
        plotting.baseline(axes, group[group["series"] == "baseline"], color=plotting.GREY, label="baseline")
        varied = group[group["series"] != "baseline"]
        shown = [*varied["lambda_front"], *varied["lambda_rear"]]
        for series, color, marker, shift in zip(SERIES, plotting.PALETTE, "os", (-2.2, 2.2), strict=False):
            points = group[group["series"] == series]
            style = {"color": color, "marker": marker, "label": LABELS[series]}
            plotting.line(axes, plotting.positions(points[series], shown), points, shift=shift, **style)
        axes.set_title(plotting.plain(title), loc="left")
        axes.set_xlabel(r"weight $\lambda$ (the other one is 1)")
        plotting.value_axis(axes, shown)
    if grid:
        grid[0].set_ylabel("test accuracy (%)")
        plotting.legend(figure, grid[0].get_legend_handles_labels()[0])
    plotting.title_and_caption(figure, about["title"], caption(cells, about))
    return figure


def caption(cells: list[Cell], about: dict) -> str:
    """Return the text under the figure: what is drawn, what is missing, scale and stand-ins."""
    text = (
        f"{plotting.subject(cells)} Points: means over {describe_seeds(cells, about['seeds'])}; bars and "
        "band: 95 % t-intervals; dashed: training without ELF. Weights are evenly spaced."
    )
    missing = [plotting.prefix(c, cells) + _weights(c) for c in cells if _is_elf(c) and c.rows.empty]
    if missing:
        text += f" Not run: {'; '.join(missing)}."
    if any(cell["objective"] == "task" and cell.rows.empty for cell in cells):
        text += " Not run: baseline."
    off = [cell for cell in cells if _is_elf(cell) and FIXED not in (cell["lambda_front"], cell["lambda_rear"])]
    if off:
        text += f" Not drawn, because neither weight is 1: {'; '.join(_weights(cell) for cell in off)}."
    return f"{text} {scale_text(about)}"


def _is_elf(cell: Cell) -> bool:
    return cell["objective"].startswith("elf") and cell["lambda_front"] is not None


def _weights(cell: Cell) -> str:
    return f"λ front {cell['lambda_front']:g}, λ rear {cell['lambda_rear']:g}"
