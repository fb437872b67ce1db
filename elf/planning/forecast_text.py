"""A forecast as text."""

from collections import Counter
from collections.abc import Iterator

from elf.planning.calibration import Calibration
from elf.planning.forecast import Forecast, Kind
from elf.status.states import CODE, DAMAGED, INPUT, SETTINGS
from elf.status.text import WIDTH, hours, operations, space, wrapped

LISTED = 12
"""Reasons of one cause that are listed one by one."""

CAUSE_TEXTS = {
    DAMAGED: "damaged file",
    SETTINGS: "settings changed",
    CODE: "code changed",
    INPUT: "made from another state of an input",
}

ASSUMPTIONS = (
    "A device runs one job at a time, the one with the longest chain behind it first; all devices are equal.",
    "Operations are those of convolutions and linear layers (a multiply-add is two); torchvision's networks and "
    "methods without a closed form are not counted.",
    "A stale job counts in full; what an interrupted one has saved is not looked at.",
    "A file that is gone counts as done where all that is made from it is there and current.",
    "Tables, figures and collected results take seconds and are not estimated.",
    "Bytes follow from shapes; contact sheets, logs and files for resuming are left out.",
)


def render(forecast: Forecast, title: str, free_bytes: int | None, hint: str | None) -> str:
    """Return the forecast as text.

    Parameters
    ----------
    forecast : Forecast
    title : str
        What it is about.
    free_bytes : int or None
        Of the disk of the results; None if it is not known.
    hint : str or None
        Why hours cannot be estimated, and what to do about it; None if they are.
    """
    parts = [title, "", *_table(forecast)]
    parts += _reasons(forecast)
    parts += ["", *_space(forecast, free_bytes), *_memory(forecast), *_time(forecast, hint), "", "Assumptions:"]
    parts += [line for text in ASSUMPTIONS for line in wrapped(text, 2, "- ")]
    return "\n".join(parts)


def _table(forecast: Forecast) -> list[str]:
    with_hours = forecast.calibration is not None
    head = ["", "jobs", "done", "missing", "stale", "behind", "operations", "hours", "disk"]
    rows = [
        [
            kind.name,
            *(str(number) for number in (kind.jobs, kind.done, kind.missing, kind.stale, kind.follows)),
            operations(kind.flops) + ("+?" if kind.uncounted else ""),
            _hours(kind, with_hours),
            space(kind.bytes) if kind.bytes else "",
        ]
        for kind in forecast.kinds
    ]
    kinds = forecast.kinds
    numbers = [sum(getattr(kind, name) for kind in kinds) for name in ("jobs", "done", "missing", "stale", "follows")]
    total = ["together", *map(str, numbers), operations(sum(kind.flops for kind in kinds))]
    total += [hours(forecast.seconds) if with_hours else "?", space(sum(kind.bytes for kind in kinds))]
    widths = [max(len(row[column]) for row in (head, *rows, total)) for column in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in (head, *rows, total)]
    return [line.rstrip() for line in [*lines[:-1], "-" * len(lines[0]), lines[-1]]]


def _hours(kind: Kind, known: bool) -> str:
    if not known:
        return "?" if kind.flops or kind.uncounted else ""
    return (hours(kind.seconds) if kind.seconds else "") + ("+?" if kind.unknown else "")


def _reasons(forecast: Forecast) -> Iterator[str]:
    for cause, text in CAUSE_TEXTS.items():
        # What makes the same jobs stale shares a line: an edit changes several modules.
        shared: dict[str, list[str]] = {}
        for (own, detail), counts in forecast.reasons.items():
            if own == cause:
                shared.setdefault(_counted(counts), []).append(detail)
        if not shared:
            continue
        yield from ("", f"Stale, {text}:" if cause != DAMAGED else "Damaged:")
        entries = sorted(shared.items(), key=lambda entry: (-len(entry[1]), entry))
        for counted, details in entries[:LISTED]:
            listed = ", ".join(sorted(details)) + (f": {counted}" if cause != DAMAGED else "")
            yield from wrapped(listed, 4, "  ")
        if len(entries) > LISTED:
            yield f"  and {len(entries) - LISTED} more"


def _counted(counts: Counter) -> str:
    # 'experts' of one job are one expert.
    return ", ".join(f"{number} {kind if number > 1 else kind.removesuffix('s')}" for kind, number in counts.items())


def _space(forecast: Forecast, free_bytes: int | None) -> Iterator[str]:
    to_come = sum(kind.bytes_to_come for kind in forecast.kinds)
    free = "" if free_bytes is None else f"; {space(free_bytes)} are free there"
    yield f"Disk: {space(to_come)} are yet to be written{free}."


def _memory(forecast: Forecast) -> Iterator[str]:
    for name, (path, needed) in forecast.memory.items():
        yield f"Memory of a GPU: about {space(needed)} for the largest {name},"
        yield f"  {_shortened(path)}"


def _time(forecast: Forecast, hint: str | None) -> Iterator[str]:
    if forecast.to_do == 0:
        yield "Nothing is left to do."
        return
    if hint is not None:
        yield from wrapped(f"Hours: {hint}")
    else:
        yield from wrapped(f"Hours: {_trust(forecast.calibration)}{_extrapolation(forecast)}")
    yield ""
    total = sum(length for _, length in forecast.chain)
    unit = operations if forecast.calibration is None else hours
    yield f"Longest chain: {unit(total)} {'operations' if forecast.calibration is None else 'hours'}, of"
    yield from (f"  {unit(length):>9}  {_shortened(path)}" for path, length in forecast.chain)
    if forecast.makespans:
        yield ""
        yield "devices      hours   busy"
        for devices, makespan in forecast.makespans.items():
            busy = forecast.seconds / (devices * makespan) if makespan else 1.0
            yield f"{devices:>7}  {hours(makespan):>9}  {100 * busy:>4.0f}%"


def _trust(calibration: Calibration) -> str:
    jobs = sum(speed.jobs for stage, speed in calibration.stages.items() if stage != "any")
    based = f"on {calibration.device}, "
    if calibration.fit is None:
        return based + "by speeds that nobody has held against finished jobs."
    fit = calibration.fit
    text = based + (
        f"from {jobs} finished jobs. Predicted from the others, half of these are off by less than "
        f"{100 * fit.median_error:.0f} %, nine in ten by less than a factor of {fit.factor_of_nine_in_ten:.1f}"
    )
    if fit.factor_of_repeats is None:
        return text + "."
    return text + f"; equal jobs differ by a factor of {fit.factor_of_repeats:.2f} among themselves."


def _extrapolation(forecast: Forecast) -> str:
    if forecast.layer_ratio <= 2:
        return ""
    return (
        f" The largest layers to come have {forecast.layer_ratio:.0f} times the operations of the largest measured: "
        "their rate is extrapolated, and only an order of magnitude."
    )


def _shortened(path: str) -> str:
    room = WIDTH - 13
    return path if len(path) <= room else f"…{path[1 - room :]}"
