"""Text for terminals: wrapped lines, and numbers in units that people read."""

import textwrap

WIDTH = 100
"""Columns."""


def wrapped(text: str, indent: int = 2, head: str = "") -> list[str]:
    """Return lines of at most ``WIDTH`` columns; words that are longer, such as paths, stay whole.

    Parameters
    ----------
    text : str
    indent : int
        Spaces before all lines but the first.
    head : str
        What the first line starts with, spaces included.
    """
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * indent, **options)


def hours(seconds: float) -> str:
    """Return a time in hours, with two significant digits where it is short."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def space(count: float) -> str:
    """Return a number of bytes in units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 99.5 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def operations(flops: float) -> str:
    """Return a number of operations with two significant digits; nothing for none."""
    return f"{flops:.1e}" if flops else ""
