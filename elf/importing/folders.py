"""Folders of images by class, and folders that hold the files of a set; no link out of them is followed."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from elf.data.sources.decoding import FORMATS, decode
from elf.data.sources.folder import EXTENSIONS
from elf.errors import ElfError
from elf.importing.conclusions import Conclusion

LARGEST_SIDE = 1024
LAYOUT = "expected <folder>/<class>/<image files>"


def files_of_a_set(folder: Path) -> list[Path] | None:
    """Return ``images_best.pt`` and its labels, or the like, if that is what a folder holds."""
    files = [file for file in _entries(folder) if file.suffix.lower() in (".pt", ".pth", ".npy", ".npz")]
    images = [file for file in files if file.stem.lower().startswith("images")]
    labels = [file for file in files if file.stem.lower().startswith("labels")]
    if len(images) == 1 and len(labels) <= 1:
        return images + labels
    if len(files) == 1 and not images and not labels:
        return files
    return None


def read_folder(folder: Path, class_names: list[str] | None = None) -> tuple[Tensor, Tensor, list[Conclusion]]:
    """Read the images of class folders.

    Parameters
    ----------
    folder : Path
        Holds a folder a class; hidden files and files without an image's ending are ignored.
    class_names : list of str, optional
        Classes of the data set, in its order. Without, names that are all whole numbers are ordered as numbers, and
        others alphabetically.

    Returns
    -------
    images : Tensor of uint8, shape (n, 3, side, side)
    labels : Tensor of int64, shape (n,)
    conclusions : list of Conclusion

    Raises
    ------
    ElfError
        If the folder has another layout, an image cannot be decoded, is not square or of another size than the first,
        or a link leads out of the folder.
    """
    root = folder.resolve()
    by_class = {entry.name: _images(entry, root) for entry in _entries(folder) if _inside(entry, root).is_dir()}
    by_class = {name: files for name, files in by_class.items() if files}
    if len(by_class) < 2:
        raise ElfError(f"{folder}: found {len(by_class)} folder(s) with images, at least 2 are needed; {LAYOUT}")
    names, reason = _ordered(folder, list(by_class), class_names)
    files = [file for name in names for file in by_class[name]]
    side = _side(files)
    images = torch.stack([torch.from_numpy(decode(file, side, str(file)).copy()) for file in files])
    labels = torch.cat([torch.full((len(by_class[name]),), label) for label, name in enumerate(names)])
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return images, labels, [Conclusion("classes", f"{len(names)}: {shown}", reason)]


def _ordered(folder: Path, found: list[str], class_names: list[str] | None) -> tuple[list[str], str]:
    if class_names and set(found) == set(class_names):
        return list(class_names), "in the order of the data set"
    if class_names and not all(name.isdecimal() for name in found):
        unknown = sorted(set(found) ^ set(class_names))[0]
        raise ElfError(f"{folder}: its folders are not the classes of the data set (first: {unknown}); rename them")
    if all(name.isdecimal() for name in found):
        return sorted(found, key=int), "folders in the order of their numbers"
    return sorted(found), "folders in alphabetical order"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ElfError(f"{folder}: cannot be read: {error.strerror}; name a file or a folder") from error


def _inside(entry: Path, root: Path) -> Path:
    if not entry.resolve().is_relative_to(root):
        raise ElfError(f"{entry}: is a link that leads out of the folder, and is not followed; copy the files there")
    return entry


def _images(folder: Path, root: Path) -> list[Path]:
    return [_inside(entry, root) for entry in _entries(folder) if entry.suffix.lower() in EXTENSIONS]


def _side(files: list[Path]) -> int:
    sizes = {}
    for file in files:
        try:
            with Image.open(file, formats=FORMATS) as image:
                sizes.setdefault(image.size, file)
        except Exception as error:
            # Damaged bytes make Pillow raise almost anything.
            raise ElfError(f"{file}: cannot be read as an image; replace it by an intact copy") from error
    (width, height), first = next(iter(sizes.items()))
    if len(sizes) > 1:
        other = list(sizes.items())[1]
        raise ElfError(f"{other[1]}: is {other[0][0]}x{other[0][1]}, but {first.name} is {width}x{height}; resize them")
    if width != height or width > LARGEST_SIDE:
        raise ElfError(f"{first}: is {width}x{height}; expected squares of at most {LARGEST_SIDE} pixels")
    return width
