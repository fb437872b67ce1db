"""Folders of images by class, and folders that hold the files of a set; no link out of them is followed."""

import re
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from elf.data.sources.decoding import FORMATS, decode
from elf.data.sources.listing import most_left_out, pictures_in
from elf.data.sources.record import Record
from elf.errors import ElfError
from elf.importing.conclusions import Conclusion

LARGEST_SIDE = 1024
LAYOUT = "expected <folder>/<class>/<image files>"
ENDINGS = (".pt", ".pth", ".npy", ".npz")
IN_A_LOG = re.compile("(images|labels|lr)_(best|[0-9]+|zca_.*)", re.IGNORECASE)
"""Names that the code of MTT gives what it leaves while it distils; also TESLA, FTD and DATM."""
SHOWN = 8


def files_of_a_set(folder: Path) -> list[Path] | None:
    """Return the images and the labels of a folder that holds the files of a set, None if it holds none.

    Of several, as the code of MTT leaves them, ``images_best`` with ``labels_best`` are taken, and whitened images
    rather than their pixels (``images_zca_*``).

    Raises
    ------
    ElfError
        If there are several sets and none of them is called so.
    """
    files = [file for file in _entries(folder) if file.suffix.lower() in ENDINGS and file.is_file()]
    images = [file for file in files if file.stem.lower().startswith("images")]
    labels = [file for file in files if file.stem.lower().startswith("labels")]
    if len(images) == 1 and len(labels) <= 1:
        return images + labels
    if len(files) == 1 and not images and not labels:
        return files
    # What was whitened lies there as pixels, too.
    plain = [file for file in images if not file.stem.lower().startswith("images_zca")]
    best = [file for file in images if file.stem.lower() == "images_best"]
    chosen = next((found for found in (best, images, plain) if len(found) == 1), [])
    if chosen:
        ending = chosen[0].stem[len("images") :].lower()
        return chosen + [file for file in labels if file.stem[len("labels") :].lower() == ending][:1]
    if images:
        found = ", ".join(file.name for file in images[:SHOWN])
        raise ElfError(f"{folder}: holds several sets ({found}) and no images_best; name the images and labels of one")
    return None


def names_images(path: Path) -> bool:
    """Return whether a file is called as images are."""
    return path.stem.lower().startswith("image") or "_images" in path.stem.lower()


def unread_beside(paths: list[Path]) -> list[Conclusion]:
    """Return which other files of the same distillation lie beside those that are read."""
    if not any(IN_A_LOG.fullmatch(path.stem) for path in paths if not path.is_dir()):
        return []
    read = {path.name for path in paths}
    others = [
        entry.name for entry in _entries(paths[0].parent) if IN_A_LOG.fullmatch(entry.stem) and entry.name not in read
    ]
    if not others:
        return []
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    finding = f"not read: {', '.join(others[:SHOWN])}{more}"
    return [Conclusion("beside", finding, "left by the same run; name images and labels to read others")]


def read_folder(folder: Path, class_names: list[str] | None = None) -> tuple[Tensor, Tensor, list[Conclusion]]:
    """Read the images of class folders.

    Parameters
    ----------
    folder : Path
        Holds a folder a class. Files are read if they begin as pictures do; in the order of their numbers if all of a
        class are numbers, else alphabetically. Hidden ones and others are left out, and the conclusions name them.
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
        If the folder has another layout, most files of a class are no pictures, an image cannot be decoded, has colours
        that nothing determines, is not square or of another size than the first, or a link leads out of the folder.
    """
    root, record = folder.resolve(), Record(exact=True)
    by_class = {entry.name: _images(entry, root, record) for entry in _entries(folder) if _inside(entry, root).is_dir()}
    if len(by_class) < 2:
        raise ElfError(f"{folder}: found {len(by_class)} folder(s) with images, at least 2 are needed; {LAYOUT}")
    stray = pictures_in(folder)[0]
    if stray:
        raise ElfError(f"{folder / stray[0]}: an image outside the class folders; {LAYOUT}")
    names, reason = _ordered(folder, list(by_class), class_names)
    files = [file for name in names for file in by_class[name]]
    side = _side(files)
    images = torch.stack([torch.from_numpy(decode(file, side, str(file), record).copy()) for file in files])
    record.check(str(folder))
    labels = torch.cat([torch.full((len(by_class[name]),), label) for label, name in enumerate(names)])
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return images, labels, [Conclusion("classes", f"{len(names)}: {shown}", reason), *_conclusions(record)]


def _conclusions(record: Record) -> list[Conclusion]:
    counts = record.as_dict()
    found = [
        Conclusion("pictures", f"{count} converted", f"{what}; docs/importing.md says how")
        for what, count in counts["converted"].items()
    ]
    left_out = counts["left_out"]
    if left_out["files"]:
        reason = f"hidden, or no pictures: {', '.join(left_out['names'])}"
        found.append(Conclusion("attention", f"{left_out['files']} files left out", reason))
    return found


def _ordered(folder: Path, found: list[str], class_names: list[str] | None) -> tuple[list[str], str]:
    if class_names and set(found) == set(class_names):
        return list(class_names), "in the order of the data set"
    numbers = sorted(found, key=int) if all(name.isascii() and name.isdecimal() for name in found) else None
    if class_names and numbers is None:
        unknown = sorted(set(found) ^ set(class_names))[0]
        raise ElfError(f"{folder}: its folders are not the classes of the data set (first: {unknown}); rename them")
    if numbers is None:
        return sorted(found), "folders in alphabetical order"
    first = int(numbers[0])
    if first not in (0, 1) or [int(name) for name in numbers] != list(range(first, first + len(numbers))):
        raise ElfError(
            f"{folder}: its folders are numbers, but not all from 0 or 1 on (found {', '.join(numbers[:SHOWN])}), so "
            "nothing tells which classes they are; rename them"
        )
    return numbers, "folders in the order of their numbers" + (", which count from 1" if first else "")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ElfError(f"{folder}: cannot be read: {error.strerror}; name a file or a folder") from error


def _inside(entry: Path, root: Path) -> Path:
    if not entry.resolve().is_relative_to(root):
        raise ElfError(f"{entry}: is a link that leads out of the folder, and is not followed; copy the files there")
    return entry


def _images(folder: Path, root: Path, record: Record) -> list[Path]:
    # Before anything is opened.
    entries = [_inside(entry, root) for entry in folder.iterdir()]
    inner = sorted(entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if inner:
        raise ElfError(f"{inner[0]}: a folder inside a class folder; {LAYOUT}, without further levels")
    pictures, others = pictures_in(folder)
    if not pictures:
        raise ElfError(
            f"{folder}: no image in this class; formats that are read are {', '.join(FORMATS)}; {LAYOUT}; convert its "
            "files, or remove the folder"
        )
    most_left_out(folder, pictures, others)
    record.leave_out(f"{folder.name}/{other}" for other in others)
    stems = [Path(name).stem for name in pictures]
    if all(stem.isascii() and stem.isdecimal() for stem in stems):
        pictures = sorted(pictures, key=lambda name: (int(Path(name).stem), name))
    return [folder / name for name in pictures]


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
