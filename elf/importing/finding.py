"""Where in a file the images and the labels are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.arrays import as_array, names_images, names_labels, plain_name
from elf.importing.conclusions import Conclusion
from elf.importing.keys import describe, labels_of, listed
from elf.importing.layout import looks_like_images

RESULT_NAME = re.compile(r"res_(?P<method>.+?)_(?P<dataset>[^_]+)_(?P<network>[^_]+)_(?P<ipc>[0-9]+)ipc(_.*)?")


@dataclass(frozen=True, eq=False)
class Found:
    """Images and labels as a file holds them, in its own shapes.

    Attributes
    ----------
    images : Tensor or None
    labels : Tensor or None
    conclusions : list of Conclusion
    experiment : int or None
        Which of several.
    beside : Path or None
        The file beside that of the images that the labels are from.
    """

    images: Tensor | None
    labels: Tensor | None
    conclusions: list[Conclusion]
    experiment: int | None = None
    beside: Path | None = None


def find_set(
    content: Any,
    *,
    name: str,
    experiment: int | None = None,
    class_names: list[str] | None = None,
    by_position: bool = False,
) -> Found:
    """Find images and labels in what a file holds.

    Parameters
    ----------
    content
        From `elf.importing.reading.read`.
    name : str
        Of the file, without its ending: a lone array in ``labels_best`` is taken for labels.
    experiment : int, optional
        Which one, if the file holds several; by default the first.
    class_names : list of str, optional
        Of the data set: what the arrays of a set that lies class by class may be called.
    by_position : bool
        Whether the user says that no labels are to be looked for.

    Raises
    ------
    ElfError
        If nothing looks like images or labels, or several things do; and if something that could be the labels can
        not be read as such.
    """
    if isinstance(content, Tensor):
        return _lone(content, name)
    pairs = _pairs(content)
    if pairs:
        return _experiment(pairs, experiment)
    if experiment:
        raise ElfError(f"--experiment {experiment}: the file holds one set; leave the option out")
    if isinstance(content, dict):
        found = _by_class(content, class_names) or _named(content, name, by_position)
        if found is not None:
            return found
    if isinstance(content, list):
        parts = [as_array(part) for part in content]
        if parts and all(looks_like_images(part) for part in parts):
            return _stacked(parts, "a list of arrays of images, one a class")
        whole = as_array(content)
        if whole is not None:
            return _lone(whole, name)
    raise ElfError(f"holds no images that can be told: found {describe(content)}; see docs/importing.md for layouts")


def _lone(content: Tensor, name: str) -> Found:
    if content.dim() < 2 or (content.dim() < 4 and names_labels(name)):
        return Found(None, content, [])
    return Found(content, None, [])


def _pairs(content: Any) -> list | None:
    """Return the [images, labels] pairs of a file that has one or several, as the code of DC leaves them."""
    if isinstance(content, dict):
        content = next((content[key] for key in ("data", "experiments") if isinstance(content.get(key), list)), None)
    if _is_pair(content):
        return [content]
    if isinstance(content, list) and content and all(_is_pair(part) for part in content):
        return content
    return None


def _is_pair(content: Any) -> bool:
    """Return whether it is images and labels, with nothing behind them but single numbers such as a step size."""
    if not isinstance(content, list) or len(content) < 2:
        return False
    images, labels, *others = *map(as_array, content[:2]), *content[2:]
    if images is None or labels is None:
        return False
    single = all(isinstance(part, float | int) or (isinstance(part, Tensor) and part.dim() == 0) for part in others)
    return images.dim() >= 4 and labels.dim() <= 3 and single


def _experiment(pairs: list, experiment: int | None) -> Found:
    told, last = experiment is not None, len(pairs) - 1
    if not -len(pairs) <= (experiment or 0) <= last:
        raise ElfError(
            f"--experiment {experiment}: the file holds {len(pairs)}, allowed are 0 to {last}, or -1 for the last"
        )
    experiment = range(len(pairs))[experiment or 0]
    images, labels, *others = pairs[experiment]
    conclusions = []
    if others:
        conclusions.append(Conclusion("attention", "single numbers are not used", "they stand behind the labels"))
    if len(pairs) > 1:
        how = "as told" if told else "the first; choose another with --experiment, -1 for the last"
        how += (
            "; whether they are experiments or snapshots of one run, of which the last is distilled most, is not told"
        )
        conclusions.append(Conclusion("experiment", f"{experiment or 0} of 0 to {len(pairs) - 1}", how))
    return Found(as_array(images), as_array(labels), conclusions, experiment or 0)


def _named(content: dict, name: str, by_position: bool) -> Found | None:
    values = _leaves(content)
    arrays = {key: array for key, value in values.items() if (array := as_array(value)) is not None}
    if list(values) == [("arr_0",)] and arrays:
        # What NumPy calls an array that was given no name.
        return _lone(arrays[("arr_0",)], name)
    images = [key for key, array in arrays.items() if names_images(key[-1]) and array.dim() >= 2]
    by_name = bool(images)
    # A name that nobody foresaw: the shape tells it, if it tells one alone.
    images = images or [key for key, array in arrays.items() if looks_like_images(array)]
    if len(images) > 1:
        raise ElfError(f"holds several arrays of images: {listed(images)}; save one of them alone")
    if not images:
        unread = [key for key, value in values.items() if names_images(key[-1]) and isinstance(value, list)]
        if unread:
            raise ElfError(f"{listed(unread)} names images, but holds {describe(values[unread[0]])} of several shapes")
        return _labels_alone(arrays)
    found = arrays[images[0]]
    others = {key: value for key, value in values.items() if key != images[0]}
    labels = None if by_position else labels_of(found, images[0], others)
    finding = f"{listed(images)!r}, " + (f"labels {listed([labels])!r}" if labels else "no labels")
    left = [listed([key]) for key in others if key != labels]
    reason = ("by name" if by_name else "by shape") + (f"; not used: {', '.join(left[:8])}" if left else "")
    return Found(found, arrays[labels] if labels else None, [Conclusion("images", finding, reason)])


def _labels_alone(arrays: dict[tuple, Tensor]) -> Found | None:
    named = [key for key in arrays if names_labels(key[-1])]
    if len(named) > 1:
        raise ElfError(f"holds several arrays of labels: {listed(named)}; save one of them alone")
    return Found(None, arrays[named[0]], []) if named else None


def _leaves(content: dict, above: tuple = ()) -> dict[tuple, Any]:
    """Return what nested dictionaries hold, each with the keys that lead to it."""
    found = {}
    for key, value in content.items():
        found |= _leaves(value, (*above, key)) if isinstance(value, dict) and value else {(*above, key): value}
    return found


def _by_class(content: dict, class_names: list[str] | None) -> Found | None:
    """Return the images of a dictionary that has an array of them for each class, by its number or its name."""
    parts = {key: array for key, value in content.items() if looks_like_images(array := as_array(value))}
    if len(parts) < 2 or any(names_images(key) for key in parts):
        return None
    unread = [key for key in content if key not in parts and (names_labels(key) or isinstance(content[key], Tensor))]
    if unread:
        raise ElfError(f"holds images class by class and {unread[0]!r} too; save images and labels alone")
    numbers = {key: re.fullmatch(r"(?:class)?_?([0-9]+)", str(key)) for key in parts}
    if all(numbers.values()):
        ordered = sorted(parts, key=lambda key: int(numbers[key][1]))
        first = int(numbers[ordered[0]][1])
        if [int(numbers[key][1]) for key in ordered] != list(range(len(ordered))):
            hint = "; classes count from 0, so subtract 1" if first == 1 else ""
            raise ElfError(f"holds images class by class, but not of each class from 0 on (first: {first}){hint}")
        return _stacked([parts[key] for key in ordered], "a dictionary of arrays of images, class by class")
    names = {plain_name(key): key for key in parts}
    wanted = [plain_name(name) for name in class_names or []]
    if len(names) == len(parts) == len(set(wanted)) and set(names) == set(wanted):
        return _stacked([parts[names[name]] for name in wanted], "class by class, by the names of the data set")
    shown = ", ".join(map(str, list(parts)[:3])) + (", ..." if len(parts) > 3 else "")
    raise ElfError(
        f"holds several arrays of images: {shown}; if these {len(parts)} are classes, name the data set that has "
        "classes of these names by its file (--dataset FILE), else save one of them alone"
    )


def _stacked(parts: list[Tensor], reason: str) -> Found:
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ElfError(f"the classes have images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    return Found(torch.cat(parts), labels, [Conclusion("images", f"{len(parts)} classes", reason)])
