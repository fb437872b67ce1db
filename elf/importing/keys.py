"""Which entry of a file holds the labels of its images, and how entries are called in messages."""

from typing import Any

from torch import Tensor

from elf.errors import ElfError
from elf.importing.arrays import as_array, could_be_labels, names_labels, plain_name

SAVE = "save whole numbers or rows, one an image, or say --labels position if the images are sorted by class"


def labels_of(images: Tensor, place: tuple, values: dict[tuple, Any]) -> tuple | None:
    """Return where the labels of some images are; None only if nothing else in the file could be them.

    Raises
    ------
    ElfError
        If several things could be the labels, or what is called so cannot be read, or has not one for each image.
    """
    fitting = [key for key, value in values.items() if could_be_labels(value, images)]
    named = [key for key in values if any(map(names_labels, key)) and not _has_maps(values[key])]
    # What lies with the images is theirs, before what lies elsewhere in the file.
    for near in (lambda key: key[:-1] == place[:-1], lambda key: True):
        chosen = [key for key in named if key in fitting and near(key)]
        readable = [key for key in chosen if as_array(values[key]) is not None]
        if len(readable) == 1:
            return readable[0]
        if len(readable) > 1:
            raise ElfError(f"holds several arrays of labels: {listed(readable)}; save one of them alone")
        if chosen:
            raise ElfError(f"{listed(chosen)!r} cannot be read as labels: found {describe(values[chosen[0]])}; {SAVE}")
    unusable = [key for key in named if not _about_classes(key[-1], values[key])]
    if len(unusable) == 1 and as_array(values[unusable[0]]) is not None:
        return unusable[0]  # of another length: what is said about labels says what is wrong
    if unusable:
        raise ElfError(f"{listed(unusable)!r} cannot be read as labels: {describe(values[unusable[0]])}; {SAVE}")
    if len(fitting) > 1:
        raise ElfError(f"several arrays could be the labels: {listed(fitting)}; save one of them alone, or {SAVE}")
    if fitting and (as_array(values[fitting[0]]) is None or as_array(values[fitting[0]]).dim() > 3):
        raise ElfError(f"{listed(fitting)!r} has an entry an image and cannot be read as labels; {SAVE}")
    return fitting[0] if fitting else None


def _has_maps(value: Any) -> bool:
    """Return whether entries are no rows, but maps, as those of images that are called targets."""
    array = as_array(value)
    return array is not None and array.dim() > 3


def _about_classes(name: object, value: Any) -> bool:
    """Return whether what a name of labels stands for is the number of classes, or their names."""
    names = isinstance(value, list) and all(isinstance(part, str) for part in value)
    number = isinstance(value, bool | int | float) or (isinstance(value, Tensor) and value.dim() == 0)
    return value is None or (plain_name(name) in ("classes", "categories") and (names or number))


def listed(keys: list[tuple]) -> str:
    return ", ".join(".".join(map(str, key)) for key in keys)


def describe(content: Any) -> str:
    if isinstance(content, dict):
        entries = [f"{key}: {_describe_one(value)}" for key, value in list(content.items())[:6]]
        return f"a dictionary of {len(content)} ({', '.join(entries)})"
    if isinstance(content, list):
        return f"a list of {len(content)} ({', '.join(_describe_one(value) for value in content[:4])})"
    return _describe_one(content)


def _describe_one(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"array {tuple(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list) else type(value).__name__
