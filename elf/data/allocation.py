"""Where readers put the pixels of a dataset: in memory, or in a file that is mapped into it."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from elf.errors import ElfError

LARGEST_IN_MEMORY = 2**29
"""Bytes of an array that is still held in memory; the 1.28 million images of ImageNet at 64x64 are 15.7 GB."""

Allocate = Callable[[int, int], np.ndarray]
"""From a number of images and their side to an array of uint8, shape (n, 3, side, side), that may be written to."""


def in_memory(count: int, side: int) -> np.ndarray:
    """Return an array in memory for ``count`` images of a side."""
    return np.empty((count, 3, side, side), np.uint8)


def beside(folder: Path) -> Allocate:
    """Return a function that makes small arrays in memory, and large ones in files that are mapped into it.

    The files have no name and vanish with the last use of their array, also when the process is killed.

    Parameters
    ----------
    folder : Path
        Where the files lie; it needs room for them.
    """

    def allocate(count: int, side: int) -> np.ndarray:
        size = count * 3 * side * side
        if size <= LARGEST_IN_MEMORY:
            return in_memory(count, side)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                # A disk that gets full under a mapping would end the process without a word.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, np.uint8, "r+", shape=(count, 3, side, side))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "no space is left" if full else error.strerror
            raise ElfError(
                f"{folder}: cannot hold a temporary file of {size / 1e9:.1f} GB for the images ({reason}); free some "
                "space, or write the dataset elsewhere"
            ) from error

    return allocate
