"""Image folders: one folder a class, including all common layouts of Tiny ImageNet."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from elf.data.allocation import Allocate, in_memory
from elf.data.images import Dataset, LabelledImages, alphabetical
from elf.data.sources.class_names import checked_class_names
from elf.data.sources.decoding import FORMATS, decode_all
from elf.data.sources.layouts import refuse_mixture
from elf.data.sources.listing import entries_of, most_left_out, pictures_in
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError

TEST_FOLDERS = ("val", "test")
ANNOTATIONS = "val_annotations.txt"
LAYOUT = "train/<class>/* and val/<class>/* (or test/<class>/*)"


def read(
    location: Path,
    *,
    name: str,
    side: int,
    allocate: Allocate = in_memory,
    workers: int = 1,
    records: Mapping[str, Record] | None = None,
) -> Dataset:
    """Return the images of class folders under ``train`` and under ``val`` or else ``test``.

    A class's images lie in ``<class>/`` or, as in Tiny ImageNet, in ``<class>/images/``. Tiny ImageNet's
    validation images may lie flat in ``val/images`` beside ``val_annotations.txt``, or be sorted into
    class folders under ``val`` or ``val/images``; all of these give the same data set. Classes are the
    training folders in alphabetical order, images of a class come in the order of their file names.
    A file is read if it begins as a picture does, whatever its name ends in. Others, hidden ones, and a second test
    folder are left out and noted.

    Parameters
    ----------
    location : Path
        Folder that holds ``train`` and ``val`` or ``test``; with both of the latter, ``val`` is taken.
    name : str
        Name used in messages.
    side : int
        Height and width of the returned images in pixels; others are resized bilinearly without
        keeping the aspect ratio, as the official code of ELF does for 64x64 ImageNet.
    allocate : callable
        Where the pixels of a split are put.
    workers : int
        Threads that decode.
    records : dict of Record, optional
        Of ``train`` and ``test``: what was converted and what was left out.

    Raises
    ------
    ElfError
        If the folders are of another layout, a class is empty or only in the test split, most files of a class are
        no pictures, an image cannot be decoded, or the same folder holds batches of the downsampled ImageNet.
    """
    records = records or new_records()
    refuse_mixture(location, name)
    test_folder = next((location / test for test in TEST_FOLDERS if (location / test).is_dir()), None)
    if test_folder is None or not (location / "train").is_dir():
        found = ", ".join(entry.name for entry in _visible(location)[:8]) if location.is_dir() else "no such folder"
        raise ElfError(f"{name}: {location} is not of the layout {LAYOUT}; found: {found or 'nothing'}")
    train = _files_by_class(location / "train", records["train"])
    if len(train) < 2:
        raise ElfError(
            f"{name}: {location / 'train'} has {len(train)} class folder(s) ({', '.join(train)}), at least 2 are "
            f"needed; the layout is {LAYOUT}"
        )
    test = _test_files_by_class(test_folder, records["test"])
    unknown = [class_name for class_name in test if class_name not in train]
    if unknown:
        raise ElfError(
            f"{name}: class {unknown[0]} of {test_folder} has no folder in {location / 'train'} "
            f"({len(unknown)} such); both must have the same classes"
        )
    class_names = checked_class_names(train, name)
    # In Tiny ImageNet's release it has no labels.
    records["test"].leave_out(
        f"{test}/" for test in TEST_FOLDERS if (location / test).is_dir() and test_folder.name != test
    )
    splits = [
        _decode(files, class_names, side, allocate, workers, records[split])
        for split, files in (("train", train), ("test", test))
    ]
    return Dataset(name, class_names, *splits, alphabetical(class_names, "alphabetical class folders"))


@dataclass(frozen=True)
class _Files:
    """Images of one class that lie in one folder; names alone, because a path each would be half a gigabyte."""

    folder: Path
    names: list[str]

    def paths(self) -> Iterator[Path]:
        return (self.folder / name for name in self.names)


def _visible(folder: Path) -> list[os.DirEntry]:
    return [entry for entry in entries_of(folder) if not entry.name.startswith(".")]


def _split(folder: Path) -> tuple[list[str], list[Path], list[str]]:
    """Return the names of the pictures in a folder, the folders in it, and the other files, in alphabetical order."""
    pictures, others = pictures_in(folder)
    return pictures, [folder / entry.name for entry in _visible(folder) if entry.is_dir()], others


def _files_by_class(folder: Path, record: Record) -> dict[str, _Files]:
    flat, folders, others = _split(folder)
    if flat:
        raise ElfError(f"{folder / flat[0]}: an image outside the class folders; the layout is {LAYOUT}")
    record.leave_out(f"{folder.name}/{other}" for other in others)
    return {class_folder.name: _class_files(class_folder, record) for class_folder in folders}


def _class_files(class_folder: Path, record: Record) -> _Files:
    holder = class_folder
    images, folders, others = _split(holder)
    if not images and [folder.name for folder in folders] == ["images"]:
        record.leave_out(f"{class_folder.name}/{other}" for other in others)
        holder = folders[0]
        images, folders, others = _split(holder)
    if folders:
        raise ElfError(f"{folders[0]}: a folder inside a class folder; the layout is {LAYOUT}, without further levels")
    if not images:
        found = f"; found {', '.join(others[:4])}" if others else ""
        raise ElfError(f"{class_folder}: no image in this class; formats that are read are {', '.join(FORMATS)}{found}")
    most_left_out(holder, images, others)
    record.leave_out(f"{class_folder.name}/{other}" for other in others)
    return _Files(holder, images)


def _test_files_by_class(folder: Path, record: Record) -> dict[str, _Files]:
    inner = folder / "images"
    if not inner.is_dir():
        return _files_by_class(folder, record)
    if (folder / ANNOTATIONS).is_file() and _split(inner)[0]:
        return _annotated_files_by_class(folder, record)
    class_folders = [entry for entry in _split(folder)[1] if entry != inner]
    if not class_folders:
        return _files_by_class(inner, record)
    if not _visible(inner):
        # What moving the validation images into class folders leaves behind.
        return {class_folder.name: _class_files(class_folder, record) for class_folder in class_folders}
    return _files_by_class(folder, record)


def _annotated_files_by_class(folder: Path, record: Record) -> dict[str, _Files]:
    """Read Tiny ImageNet's ``val_annotations.txt``: file name, class and box, separated by tabs."""
    annotations, inner = folder / ANNOTATIONS, folder / "images"
    class_of = {}
    for number, line in enumerate(annotations.read_text(errors="replace").splitlines(), start=1):
        fields = line.split("\t")
        if not line.strip():
            continue
        if len(fields) < 2:
            raise ElfError(f"{annotations}, line {number}: expected file name, tab, class; found {line[:60]!r}")
        class_of[fields[0]] = fields[1]
    pictures, _, others = _split(inner)
    most_left_out(inner, pictures, others)
    record.leave_out(f"{inner.name}/{other}" for other in others)
    present = dict.fromkeys(pictures)
    for file_name in sorted(class_of.keys() ^ present.keys()):
        problem = "is not annotated in" if file_name in present else "is missing, but annotated in"
        raise ElfError(f"{inner / file_name}: the image {problem} {annotations}")
    by_class: dict[str, _Files] = {}
    for file_name in present:
        by_class.setdefault(class_of[file_name], _Files(inner, [])).names.append(file_name)
    return by_class


def _decode(
    by_class: dict[str, _Files],
    class_names: tuple[str, ...],
    side: int,
    allocate: Allocate,
    workers: int,
    record: Record,
) -> LabelledImages:
    counts = [len(by_class[name].names) if name in by_class else 0 for name in class_names]
    images = allocate(sum(counts), side)
    first = 0
    for class_name, count in zip(class_names, counts, strict=True):
        if count:
            files = [(file, str(file)) for file in by_class[class_name].paths()]
            decode_all(files, images[first : first + count], workers, record)
        first += count
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return LabelledImages(torch.from_numpy(images), labels)
