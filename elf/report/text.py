"""How the report writes numbers and names its files."""

import math
import re

from elf.report.costs import Total

NOTHING = "—"


def percent(fraction: float) -> str:
    """Return a fraction in percent with two decimals; nothing for NaN."""
    return "" if math.isnan(fraction) else f"{100 * fraction:.2f}"


def accuracy(mean: float, std: float) -> str:
    """Return a mean and its standard deviation, both in percent."""
    if math.isnan(mean):
        return NOTHING
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def points(value: float) -> str:
    """Return a difference in percentage points, with its sign."""
    if math.isnan(value):
        return NOTHING
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float) -> str:
    """Return an interval of differences."""
    return NOTHING if math.isnan(low) else f"[{points(low)}, {points(high)}]"


def p_value(value: float) -> str:
    """Return a p-value with three decimals."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """Return a duration: ``12.3 s``, ``5.1 min``, ``2.75 h``."""
    if value is None or math.isnan(value):
        return NOTHING
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.2f} h"


def total(value: Total) -> str:
    """Return a sum of durations; what is not known of it is said, and never taken for nothing."""
    if value.seconds is None or not value.unknown:
        return seconds(value.seconds)
    return f"{seconds(value.seconds)} + {value.unknown} unknown"


def rate(value: float | None) -> str:
    """Return a number of images a second: ``0.25``, ``31.4``, ``12,345``."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(count: float | None) -> str:
    """Return a number of bytes: ``512 B``, ``1.5 KiB``, ``2.0 GiB``."""
    if count is None or math.isnan(count):
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def slug(title: str) -> str:
    """Return an identifier for links and files: ``Table 5`` becomes ``table-5``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def slugs(titles) -> list[str]:
    """Return an identifier for each title; equal ones are told apart by a number."""
    taken: dict[str, int] = {}
    names = []
    for title in titles:
        name = slug(title)
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return names
