"""Labels in another file of the folder: no set is taken to be sorted by class while they lie beside its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from elf.errors import ElfError
from elf.importing.arrays import as_array, belongs_to, could_be_labels, count_of, names_labels
from elf.importing.conclusions import Conclusion
from elf.importing.layout import looks_like_images
from elf.importing.reading import read

ARRAYS = (".pt", ".pth", ".npy", ".npz", ".safetensors")
LARGEST = 1 << 24
"""Bytes of a file that is looked into although its name does not say that it holds labels."""

HOW = "name the file with the labels too, or say --labels position if the images are sorted by class"


def labels_beside(path: Path, images: Tensor) -> tuple[Tensor | None, Path | None, list[Conclusion]]:
    """Look for the labels of a file of images in the files beside it.

    Parameters
    ----------
    path : Path
        File that holds images and no labels.
    images : Tensor
        As the file holds them.

    Returns
    -------
    labels : Tensor or None
        Of the only file that fits in name and length.
    file : Path or None
        Where they are.
    conclusions : list of Conclusion
        Says what was used, and what lies beside and was not.

    Raises
    ------
    ElfError
        If several files fit, or one may hold the labels and cannot be read, or has another name.
    """
    others = sorted(
        file for file in path.parent.iterdir() if file.is_file() and file != path and not file.name.startswith(".")
    )
    named = [file for file in others if names_labels(file.stem)]
    arrays = [file for file in others if file.suffix.lower() in ARRAYS]
    fitting: dict[Path, Tensor] = {}
    unread, unfit, rivals = [], [], []
    for file in others:
        if file not in arrays:
            unread += [file] if file in named else []
            continue
        if file not in named and file.stat().st_size > LARGEST:
            rivals.append(file)
            continue
        try:
            content = read(file)
            labels = labels_in(content, images)
        except ElfError:
            (unread if file in named else rivals).append(file)
            continue
        if labels is not None:
            fitting[file] = labels
        elif file in named:
            unfit.append(file)
        elif not isinstance(content, Tensor) or content.dim() > 2:
            rivals.append(file)
    own = belongs_to(path.stem)
    theirs = [file for file in named if belongs_to(file.stem) == own]
    if not theirs and not rivals:
        # Nothing else here could be what labels without any other word in their name belong to.
        theirs = [file for file in named if not belongs_to(file.stem)]
    doubtful = [file for file in theirs if file in unread] or [file for file in unread if not belongs_to(file.stem)]
    usable = [file for file in theirs if file in fitting]
    if len(usable) == 1 and not doubtful:
        reason = f"it lies beside {path.name} and has as many entries; --labels position leaves it out"
        return fitting[usable[0]], usable[0], [Conclusion("file of labels", usable[0].name, reason)]
    if usable or doubtful or fitting:
        files = ", ".join(file.name for file in dict.fromkeys([*usable, *doubtful, *fitting]))
        raise ElfError(f"holds {count_of(images)} images without labels, and beside it lies {files}; {HOW}")
    notes = [
        Conclusion(
            "attention", f"{file.name} is not used", f"it has not one entry for each of {count_of(images)} images"
        )
        for file in unfit
    ]
    return None, None, notes


def two_arrays(folder: Path) -> list[Path] | None:
    """Return the images and the labels of a folder that holds two files of arrays, one of them called labels."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ARRAYS and not file.name.startswith("."))
    labels = [file for file in files if names_labels(file.stem)]
    return files if len(files) == 2 and len(labels) == 1 else None


def labels_in(content: Any, images: Tensor) -> Tensor | None:
    """Return the labels of some images in what another file holds: its only array of as many entries, if it is one.

    Raises
    ------
    ElfError
        If several arrays have as many entries.
    """
    if isinstance(content, dict):
        values = {key: as_array(value) for key, value in content.items()}
        fitting = {key: value for key, value in values.items() if could_be_labels(value, images)}
        named = {key: value for key, value in fitting.items() if names_labels(key)}
        fitting = named or fitting
        if len(fitting) > 1:
            raise ElfError(
                f"several arrays could be the labels: {', '.join(map(str, fitting))}; save one of them alone"
            )
        content = next(iter(fitting.values()), None)
    array = as_array(content)
    fits = array is not None and could_be_labels(array, images) and array.dim() <= 3 and not looks_like_images(array)
    return array if fits else None


def told_by_shape(images: list[Tensor], contents: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Tell images from labels in two files of which no name says it."""
    for first, other in ((0, 1), (1, 0)):
        if looks_like_images(images[first]) and not looks_like_images(images[other]):
            labels = labels_in(contents[other], images[first])
            if labels is not None:
                return [images[first]], [labels]
    return images, []
