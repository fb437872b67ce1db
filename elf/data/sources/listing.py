"""Which files of a folder are pictures, by how they begin, and which are left out."""

import os
from collections.abc import Sequence
from pathlib import Path

from elf.data.sources.decoding import is_picture
from elf.errors import ElfError

USUAL_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""Files that end so are pictures, damaged ones too; into all others one has to look."""


def entries_of(folder: Path) -> list[os.DirEntry]:
    """Return what is in a folder, hidden entries too, in alphabetical order."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def pictures_in(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the pictures in a folder, and of the files and broken links that are none or are hidden."""
    pictures, others = [], []
    for entry in entries_of(folder):
        if entry.is_dir():
            continue
        usual = os.path.splitext(entry.name)[1].lower() in USUAL_ENDINGS and entry.is_file()
        shown = not entry.name.startswith(".")
        picture = shown and (usual or (entry.is_file() and is_picture(Path(entry.path))))
        (pictures if picture else others).append(entry.name)
    return pictures, others


def most_left_out(folder: Path, pictures: Sequence[str], others: Sequence[str]) -> None:
    """Raise an error if more files of a class would be left out than are read.

    A file that has the name of a picture and another ending (an annotation) does not count, and of the hidden files
    only pictures do.
    """
    named = {os.path.splitext(name)[0] for name in pictures}
    counted = [
        name
        for name in others
        if os.path.splitext(name)[0] not in named and (not name.startswith(".") or is_picture(folder / name))
    ]
    if len(counted) > len(pictures):
        raise ElfError(
            f"{folder}: {len(counted)} of {len(counted) + len(pictures)} files would be left out, because they are "
            f"hidden or of no format that is read (first: {counted[0]}); convert them or move them elsewhere"
        )
