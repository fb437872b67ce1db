"""What was done to pictures on the way to bytes, and which files were left out: counted for the card of a data set."""

import threading
from collections import Counter
from collections.abc import Iterable

from elf.errors import ElfError

SHOWN = 8
PLAIN_FROM = 2**14
"""Where no value of 16 bits reaches this, fewer bits are in use than there is room for, and nobody says how many."""


class Record:
    """Counts of one split; threads that decode may share it.

    Parameters
    ----------
    exact : bool
        Whether pictures whose colours are not determined (transparent ones) are refused instead of laid over white.

    Attributes
    ----------
    converted : Counter of str
        How many pictures were converted in which way; a picture may count in several.
    left_out : list of str
        Files that lie among the pictures and are not read.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        self.converted: Counter[str] = Counter()
        self.left_out: list[str] = []
        self._largest: int | None = None
        self._lock = threading.Lock()

    def count(self, what: str, pictures: int = 1) -> None:
        """Count pictures that were converted."""
        with self._lock:
            self.converted[what] += pictures

    def leave_out(self, names: Iterable[str]) -> None:
        """Note files that are not read."""
        self.left_out += names

    def reaches(self, largest: int) -> None:
        """Note the largest value of a picture of 16 bits."""
        with self._lock:
            self._largest = max(largest, self._largest or 0)

    def check(self, where: str) -> None:
        """Raise an error if the range of pictures of 16 bits is not plain."""
        if self._largest is not None and self._largest < PLAIN_FROM:
            raise ElfError(
                f"{where}: the largest value of all pictures of 16 bits is {self._largest} of 65535, so they use fewer "
                "bits than that and nothing says how many; save them with 8 bits"
            )

    def as_dict(self) -> dict:
        """Return what a card holds: ``converted``, and of the files ``left_out`` their number and the first names."""
        names = sorted(self.left_out)
        return {
            "converted": {what: pictures for what, pictures in sorted(self.converted.items()) if pictures},
            "left_out": {"files": len(names), "names": names[:SHOWN]},
        }


def new_records(*, exact: bool = False) -> dict[str, Record]:
    """Return an empty record of each split."""
    return {split: Record(exact=exact) for split in ("train", "test")}
