"""Figure 1: baseline and ELF on other networks, beside the network that the images were distilled with."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from elf.results import plotting
from elf.results.columns import Cell, describe_seeds, gather
from elf.results.labels import method_label, network_label, network_labels, network_order, scale_text

ALIGNMENT = "Alignment"
SERIES = {"baseline": ("baseline", plotting.PALETTE[5]), "elf": ("ELF", plotting.PALETTE[1])}
WIDTH = 0.38


def data(cells: list[Cell]) -> pd.DataFrame:
    """Return the bars of Figure 1, one row a bar: ``series`` is ``alignment``, ``baseline`` or ``elf``."""
    chosen = [("alignment", cell) for cell in cells if cell.aligned]
    chosen += [("baseline", cell) for cell in cells if not cell.aligned and cell["objective"] == "task"]
    chosen += [("elf", cell) for cell in cells if cell["objective"] == "elf"]
    return plotting.points(chosen)


def render(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> dict[str, bytes]:
    """Draw Figure 1, a panel a distillation method; its numbers are those of Table 6.

    See :func:`elf.results.plotting.render`.
    """
    return plotting.render(gather(cells, results), about, data, _draw)


def _draw(frame: pd.DataFrame, cells: list[Cell], about: dict):
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    networks = list(dict.fromkeys(cell["paper_eval_network"] for cell in cells if not cell.aligned))
    networks.sort(key=network_order)
    figure, grid = plotting.new_panels(len(methods), panel_width=3.6, panel_height=2.5)
    for letter, axes, method in zip("abcdefgh", grid, methods, strict=False):
        _panel(axes, frame[frame["method"] == method], networks)
        axes.set_title(plotting.plain(f"({letter}) {method_label(method)}"), loc="left")
        axes.set_ylabel("test accuracy (%)")
    if grid:
        shown = [(ALIGNMENT, plotting.GREY), *SERIES.values()]
        plotting.legend(figure, [Patch(color=color, label=label) for label, color in shown])
    plotting.title_and_caption(figure, about["title"], caption(cells, about))
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, networks: list[str]) -> None:
    """Draw the bar of the aligned network, then a pair of bars for each other network."""
    aligned = frame[frame["series"] == "alignment"]
    _bars(axes, np.zeros(len(aligned)), aligned, color=plotting.GREY)
    for side, (series, (_, color)) in zip((-1, 1), SERIES.items(), strict=True):
        rows = frame[frame["series"] == series]
        places = np.array([networks.index(name) + 1 for name in rows["paper_eval_network"]], dtype=float)
        _bars(axes, places + side * WIDTH / 2, rows, color=color)
    printed = network_labels(networks)
    names = [ALIGNMENT, *(printed[name] for name in networks)]
    axes.set_xticks(range(len(names)), [name.replace("-", "\n") for name in names])
    axes.margins(x=0.02)


def _bars(axes: Axes, places: np.ndarray, frame: pd.DataFrame, **style) -> None:
    mean, low, high = (frame[name].to_numpy(dtype=float, na_value=np.nan) for name in ("mean", "ci_low", "ci_high"))
    axes.bar(places, mean, WIDTH, **style)
    known = np.isfinite(low)
    spread = [(mean - low)[known], (high - mean)[known]]
    axes.errorbar(places[known], mean[known], yerr=spread, fmt="none", ecolor="black", elinewidth=0.8)


def caption(cells: list[Cell], about: dict) -> str:
    """Return the text under the figure: what is drawn, what is missing, scale and stand-ins."""
    distilled = list(dict.fromkeys(network_label(c["distill_network"], short=False) for c in cells if c.aligned))
    text = (
        f"{plotting.subject(cells)} {ALIGNMENT}: evaluation with the network of the distillation "
        f"({', '.join(distilled)}). Means over {describe_seeds(cells, about['seeds'])} with 95 % t-intervals."
    )
    labels = network_labels(cell["paper_eval_network"] for cell in cells)
    missing = [
        f"{method_label(cell['method'])} {labels[cell['paper_eval_network']]}"
        + (" with ELF" if cell["objective"] == "elf" else "")
        for cell in cells
        if cell.rows.empty
    ]
    if missing:
        text += f" Not run: {'; '.join(missing)}."
    return f"{text} {scale_text(about)}"
