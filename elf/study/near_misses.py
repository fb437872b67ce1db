"""The name that was meant where one is nearly right."""

import re
from collections.abc import Collection
from difflib import get_close_matches


def nearest(name: str, allowed: Collection[str]) -> str | None:
    """Return the allowed name that is most like another one, None if none is like it.

    Tables and figures are told by kind and number, however these are written: ``table5``, ``Table 5``, ``fig04``.
    """
    written = name.lower().strip()
    numbered = re.fullmatch(r"(tab|fig)[a-z]*[ ._-]*0*([0-9]+)", written)
    if numbered:
        of_kind = [re.fullmatch(rf"{numbered[1]}[a-z]+0*{numbered[2]}", other) for other in allowed]
        # Another number is another table.
        return next((found[0] for found in of_kind if found), None)
    if f"all_{written}" in allowed:
        return f"all_{written}"
    return next(iter(get_close_matches(written, allowed, n=1)), None)


def suggestion(name: str, allowed: Collection[str]) -> str:
    """Return the sentence that offers the nearest name, or nothing."""
    found = nearest(name, allowed)
    return f"did you mean {found}? " if found else ""
