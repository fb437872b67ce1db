"""Names of classes come from files and folders of other people, and go into manifests, cards, pictures and pages."""

import unicodedata
from collections.abc import Iterable

from elf.errors import ElfError


def checked_class_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return names of classes, none of which has characters that nobody sees or no file can hold.

    Parameters
    ----------
    names : iterable of str
    where : str
        What names the data set in the message.

    Raises
    ------
    ElfError
        For line breaks and other control characters, and for bytes that are no UTF-8.
    """
    names = tuple(names)
    for name in names:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise ElfError(f"{where}: the class {name!r} has characters that cannot be printed in its name; rename it")
    return names
