"""Figure 4: effect of the teacher's epoch."""

import pandas as pd
from matplotlib.lines import Line2D

from elf.results import plotting
from elf.results.columns import Cell, describe_seeds, gather
from elf.results.labels import network_label, network_labels, network_order, scale_text

MARGIN = 1.12


def data(cells: list[Cell]) -> pd.DataFrame:
    """Return the points of Figure 4: one line and one baseline a network, over the teacher's epochs."""
    elf = sorted((cell for cell in cells if _is_elf(cell)), key=lambda cell: cell["teacher_epoch"])
    baselines = [("baseline", cell) for cell in cells if cell["objective"] == "task"]
    return plotting.points([*baselines, *(("elf", cell) for cell in elf)])


def render(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> dict[str, bytes]:
    """Draw Figure 4, a panel a network, because intervals of several in one would hide each other.

    See :func:`elf.results.plotting.render`.
    """
    return plotting.render(gather(cells, results), about, data, _draw)


def _draw(frame: pd.DataFrame, cells: list[Cell], about: dict):
    split = plotting.panels(frame)
    networks = sorted({network for _, network, _ in split}, key=network_order)
    colors = {network: plotting.PALETTE[i % len(plotting.PALETTE)] for i, network in enumerate(networks)}
    figure, grid = plotting.new_panels(len(split), panel_width=2.35, panel_height=1.75)
    epochs = frame.loc[frame["series"] == "elf", "teacher_epoch"]
    for axes, (title, network, group) in zip(grid, split, strict=True):
        color = colors[network]
        plotting.baseline(axes, group[group["series"] == "baseline"], color=color)
        points = group[group["series"] == "elf"]
        plotting.line(axes, plotting.positions(points["teacher_epoch"], epochs), points, color=color, marker="o")
        axes.set_title(plotting.plain(title), loc="left", color=color, fontweight="bold")
        plotting.value_axis(axes, epochs)
    _share_span(grid)
    if grid:
        key = {"color": plotting.GREY, "linewidth": 1.3}
        solid = Line2D([], [], marker="o", label="ELF", **key)
        dashed = Line2D([], [], linestyle=plotting.DASHES, label="baseline", **key)
        plotting.legend(figure, [solid, dashed])
    columns = min(3, len(grid))
    for position, axes in enumerate(grid):
        if position + columns >= len(grid):
            axes.set_xlabel("teacher epoch")
        if position % columns == 0:
            axes.set_ylabel("test accuracy (%)")
    plotting.title_and_caption(figure, about["title"], caption(cells, about))
    return figure


def _share_span(grid) -> None:
    """Give all panels the same span from bottom to top, so that slopes compare across networks."""
    limits = [axes.get_ylim() for axes in grid]
    span = max((high - low for low, high in limits), default=0) * MARGIN
    for axes, (low, high) in zip(grid, limits, strict=True):
        axes.set_ylim((low + high - span) / 2, (low + high + span) / 2)


def caption(cells: list[Cell], about: dict) -> str:
    """Return the text under the figure: what is drawn, what is missing, scale and stand-ins."""
    text = (
        f"{plotting.subject(cells)} Solid: ELF, means over {describe_seeds(cells, about['seeds'])} with "
        "95 % t-intervals; dashed with band: the same network without ELF. All panels span the same number of "
        "percentage points; epochs are evenly spaced."
    )
    labels = network_labels(cell["paper_eval_network"] for cell in cells)
    missing = [
        f"{plotting.prefix(cell, cells)}{labels[cell['paper_eval_network']]} "
        + (f"epoch {cell['teacher_epoch']:g}" if _is_elf(cell) else "baseline")
        for cell in cells
        if cell.rows.empty and (_is_elf(cell) or cell["objective"] == "task")
    ]
    if missing:
        text += f" Not run: {'; '.join(missing)}."
    teachers = list(dict.fromkeys(network_label(c["teacher_network"], short=False) for c in cells if _is_elf(c)))
    if teachers:
        text += f" Teachers: {', '.join(teachers)}."
    return f"{text} {scale_text(about)}"


def _is_elf(cell: Cell) -> bool:
    return cell["objective"].startswith("elf") and cell["teacher_epoch"] is not None
