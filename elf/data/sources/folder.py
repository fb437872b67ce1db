"""Image folders: one folder a class, including all common layouts of Tiny ImageNet."""

from pathlib import Path

import numpy as np
import torch

from elf.data.images import Dataset, LabelledImages
from elf.data.sources.decoding import decode
from elf.errors import ElfError

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
TEST_FOLDERS = ("val", "test")
ANNOTATIONS = "val_annotations.txt"
LAYOUT = "train/<class>/* and val/<class>/* (or test/<class>/*)"


def read(location: Path, *, name: str, side: int) -> Dataset:
    """Return the images of class folders under ``train`` and under ``val`` or else ``test``.

    A class's images lie in ``<class>/`` or, as in Tiny ImageNet, in ``<class>/images/``. Tiny ImageNet's
    validation images may lie flat in ``val/images`` beside ``val_annotations.txt``, or be sorted into
    class folders under ``val`` or ``val/images``; all of these give the same data set. Classes are the
    training folders in alphabetical order, images of a class come in the order of their file names.
    Hidden files and files without an image's extension are ignored.

    Parameters
    ----------
    location : Path
        Folder that holds ``train`` and ``val`` or ``test``; with both of the latter, ``val`` is taken.
    name : str
        Name used in messages.
    side : int
        Height and width of the returned images in pixels; others are resized bilinearly without
        keeping the aspect ratio, as the official code of ELF does for 64x64 ImageNet.

    Raises
    ------
    ElfError
        If the folders are of another layout, a class is empty or only in the test split, or an image
        cannot be decoded.
    """
    test_folder = next((location / test for test in TEST_FOLDERS if (location / test).is_dir()), None)
    if test_folder is None or not (location / "train").is_dir():
        found = ", ".join(entry.name for entry in _entries(location)[:8]) if location.is_dir() else "no such folder"
        raise ElfError(f"{name}: {location} is not of the layout {LAYOUT}; found: {found or 'nothing'}")
    train = _files_by_class(location / "train")
    if len(train) < 2:
        raise ElfError(
            f"{name}: {location / 'train'} has {len(train)} class folder(s) ({', '.join(train)}), at least 2 are "
            f"needed; the layout is {LAYOUT}"
        )
    test = _test_files_by_class(test_folder)
    unknown = [class_name for class_name in test if class_name not in train]
    if unknown:
        raise ElfError(
            f"{name}: class {unknown[0]} of {test_folder} has no folder in {location / 'train'} "
            f"({len(unknown)} such); both must have the same classes"
        )
    class_names = tuple(train)
    return Dataset(name, class_names, _decode(train, class_names, side), _decode(test, class_names, side))


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.suffix.lower() in EXTENSIONS and entry.is_file()]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    flat = _images(folder)
    if flat:
        raise ElfError(f"{flat[0]}: an image outside the class folders; the layout is {LAYOUT}")
    return {class_folder.name: _class_files(class_folder) for class_folder in _folders(folder)}


def _class_files(class_folder: Path) -> list[Path]:
    files, folders = _images(class_folder), _folders(class_folder)
    if not files and [folder.name for folder in folders] == ["images"]:
        files, folders = _images(folders[0]), _folders(folders[0])
    if folders:
        raise ElfError(f"{folders[0]}: a folder inside a class folder; the layout is {LAYOUT}, without further levels")
    if not files:
        raise ElfError(f"{class_folder}: no image in this class; allowed are files {', '.join(sorted(EXTENSIONS))}")
    return files


def _test_files_by_class(folder: Path) -> dict[str, list[Path]]:
    inner = folder / "images"
    if not inner.is_dir():
        return _files_by_class(folder)
    if (folder / ANNOTATIONS).is_file() and _images(inner):
        return _annotated_files_by_class(folder)
    class_folders = [entry for entry in _folders(folder) if entry != inner]
    if not class_folders:
        return _files_by_class(inner)
    if not _entries(inner):
        # What moving the validation images into class folders leaves behind.
        return {class_folder.name: _class_files(class_folder) for class_folder in class_folders}
    return _files_by_class(folder)


def _annotated_files_by_class(folder: Path) -> dict[str, list[Path]]:
    """Read Tiny ImageNet's ``val_annotations.txt``: file name, class and box, separated by tabs."""
    annotations = folder / ANNOTATIONS
    class_of = {}
    for number, line in enumerate(annotations.read_text(errors="replace").splitlines(), start=1):
        fields = line.split("\t")
        if not line.strip():
            continue
        if len(fields) < 2:
            raise ElfError(f"{annotations}, line {number}: expected file name, tab, class; found {line[:60]!r}")
        class_of[fields[0]] = fields[1]
    present = {file.name: file for file in _images(folder / "images")}
    for file_name in sorted(class_of.keys() ^ present.keys()):
        problem = "is not annotated in" if file_name in present else "is missing, but annotated in"
        raise ElfError(f"{folder / 'images' / file_name}: the image {problem} {annotations}")
    by_class: dict[str, list[Path]] = {}
    for file_name, file in present.items():
        by_class.setdefault(class_of[file_name], []).append(file)
    return by_class


def _decode(by_class: dict[str, list[Path]], class_names: tuple[str, ...], side: int) -> LabelledImages:
    counts = [len(by_class.get(class_name, ())) for class_name in class_names]
    images = np.empty((sum(counts), 3, side, side), np.uint8)
    files = (file for class_name in class_names for file in by_class.get(class_name, ()))
    for place, file in enumerate(files):
        images[place] = decode(file, side, str(file))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return LabelledImages(torch.from_numpy(images), labels)
