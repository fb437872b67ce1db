"""What the results show, in a few lines of plain text."""

import math
import textwrap

import numpy as np
import pandas as pd

from elf.results.columns import Cell
from elf.results.labels import network_labels, scale_text, signed
from elf.results.layout import SIGNIFICANT, Group, Row, Table, lay_out
from elf.results.statistics import Difference, holm_by_key, paired_difference

COMPARABLE = ("dataset", "ipc", "objective")
"""What distilled and random images must share to be compared."""


def summarise(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> str:
    """Return a short summary for the terminal: what each objective and distillation change, and how surely.

    Parameters
    ----------
    cells, results, about
        As for :func:`elf.results.layout.lay_out`.

    Returns
    -------
    str
        For each method and objective the mean gain over the cross-architecture networks, and on how many of
        them accuracy rose and fell, significantly or not; ELF against KD; distilled against random images.
    """
    table = lay_out(cells, results, about)
    lines = [f"{table.title}. {scale_text(about)}"]
    for group in table.groups:
        rows = [row for row in group.rows if row.gains is not None]
        if rows:
            lines.append(f"{group.label}:")
        lines += [f"  {_gain_line(row, table)}" for row in rows]
        lines += [f"  {line}" for line in _elf_against_kd(rows)]
    lines += _against_random(table)
    lines.append(
        f"Significant: p < {SIGNIFICANT} in a paired t-test over seeds, adjusted by Holm: against the baseline for all "
        "gains of the table, elsewhere for the networks of a line. Seeds vary the training, not the synthetic set."
    )
    return (
        "\n".join(textwrap.fill(line, 100, subsequent_indent="    ", break_on_hyphens=False) for line in lines) + "\n"
    )


def _gain_line(row: Row, table: Table) -> str:
    crossed = {network: cell for network, cell in row.cells.items() if not cell.aligned}
    gains = {network: row.gains[network] for network in crossed if network in row.gains}
    adjusted = {network: table.adjusted[crossed[network].anchor] for network in gains}
    return f"{row.label.removeprefix('+ ')} against the baseline: {_verdict(gains, len(crossed), adjusted)}"


def _elf_against_kd(rows: list[Row]) -> list[str]:
    """Compare the two teachers' signals directly, because both may beat the baseline."""
    elf = [row for row in rows if row.label == "+ ELF"]
    kd = [row for row in rows if row.label == "+ KD"]
    if not (elf and kd):
        return []
    shared = [n for n, cell in elf[0].cells.items() if n in kd[0].cells and not cell.aligned]
    return [f"ELF against KD: {_compare(kd[0].cells, elf[0].cells, shared)}"]


def _against_random(table: Table) -> list[str]:
    """Compare the baselines on distilled images with those on random real ones."""
    random = [group for group in table.groups if _method(group) == "random"]
    lines = []
    for group in table.groups:
        if _method(group) == "random":
            continue
        for control in random:
            images, real = _baselines(group), _baselines(control)
            if all(images[n][c] == real[n][c] for n in images.keys() & real.keys() for c in COMPARABLE):
                shared = [network for network in images if network in real]
                if shared:
                    lines.append(f"{group.label} against random real images, both without a teacher:")
                    lines.append(f"  {_compare(real, images, shared)}")
    return lines


def _method(group: Group) -> str:
    return next(iter(group.rows[0].cells.values()))["method"]


def _baselines(group: Group) -> dict[str, Cell]:
    return next((row.cells for row in group.rows if row.gains is None), {})


def _compare(first: dict[str, Cell], second: dict[str, Cell], networks: list[str]) -> str:
    differences = {
        network: paired_difference(first[network].accuracies, second[network].accuracies) for network in networks
    }
    return _verdict(differences, len(networks), holm_by_key(differences))


def _verdict(gains: dict[str, Difference], wanted: int, adjusted: dict[str, float]) -> str:
    """Return one sentence on differences by network; ``wanted`` is how many there should be, ``adjusted`` their p."""
    known = {network: gain for network, gain in gains.items() if gain.n > 0}
    if not known:
        return f"no results yet (0 of {wanted} networks)."
    up = [network for network, gain in known.items() if gain.mean > 0]
    down = [network for network, gain in known.items() if gain.mean < 0]
    sure = {network for network, p in adjusted.items() if p < SIGNIFICANT}
    surely_up, surely_down = len(sure.intersection(up)), len(sure.intersection(down))
    mean = float(np.mean([gain.mean for gain in known.values()]))
    text = (
        f"{signed(mean)} points on average over {_networks(len(known))}; "
        f"higher on {len(up)} ({surely_up} significantly), lower on {len(down)} ({surely_down} significantly)"
    )
    text += _wording(surely_up, surely_down, mean)
    extremes = [pick(known, key=lambda name: known[name].mean) for pick in (max, min)]
    if len(known) > 1:
        labels = network_labels(known)
        text += " Best {} {}, worst {} {}.".format(
            *(part for name in extremes for part in (labels[name], signed(known[name].mean)))
        )
    if len(known) < wanted:
        text += f" {wanted - len(known)} of {_networks(wanted)} not run."
    if any(math.isnan(gain.p) for gain in known.values()):
        text += " With a single seed nothing can be called significant."
    return text


def _wording(up: int, down: int, mean: float) -> str:
    if up and down:
        return ": it helps some networks and hurts others."
    if up:
        return "." if mean > 0 else ": it helps some, but not on average."
    if down:
        return ": it hurts." if mean < 0 else ": it hurts some, though not on average."
    return ": no effect beyond the spread of the seeds."


def _networks(count: int) -> str:
    return f"{count} network{'' if count == 1 else 's'}"
