"""Numbers from environment variables."""

from elf.errors import ElfError


def positive_number(name: str, text: str, unit: str) -> float:
    """Return the number that an environment variable says.

    Raises
    ------
    ElfError
        If it is no number above 0; the message names the variable and the unit.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ElfError(f"{name}: found {text!r}, expected a number of {unit} above 0")
    return number
