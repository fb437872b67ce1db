"""Where in a file the images and the labels are."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.conclusions import Conclusion
from elf.importing.layout import looks_like_images

IMAGES = {
    "images",
    "image",
    "imgs",
    "img",
    "x",
    "xs",
    "data",
    "pixels",
    "samples",
    "inputs",
    "input",
    "xtrain",
    "xsyn",
    "xproto",
    "trainx",
    "trainimages",
    "imagestrain",
    "imagesyn",
    "imagessyn",
    "synimages",
    "syntheticimages",
    "distilledimages",
    "distilleddata",
    "syndata",
    "datasyn",
    "syn",
    "distilled",
    "imagesbest",
    "bestimages",
    "coresetimages",
    "arr0",
}
LABELS = {
    "labels",
    "label",
    "y",
    "ys",
    "targets",
    "target",
    "classes",
    "ytrain",
    "ysyn",
    "yproto",
    "trainy",
    "trainlabels",
    "labelstrain",
    "labelsyn",
    "labelssyn",
    "synlabels",
    "syntheticlabels",
    "distilledlabels",
    "labelsbest",
    "bestlabels",
    "softlabels",
    "ysoft",
    "hardlabels",
    "yhard",
    "arr1",
}
"""Names of arrays, in small letters and without anything but letters and digits."""

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
    """

    images: Tensor | None
    labels: Tensor | None
    conclusions: list[Conclusion]
    experiment: int | None = None


def find_set(content: Any, *, name: str, experiment: int | None = None) -> Found:
    """Find images and labels in what a file holds.

    Parameters
    ----------
    content
        From `elf.importing.reading.read`.
    name : str
        Of the file, without its ending: a lone array in ``labels_best`` is taken for labels.
    experiment : int, optional
        Which one, if the file holds several; by default the first.

    Raises
    ------
    ElfError
        If nothing looks like images or labels, or several things do.
    """
    if isinstance(content, Tensor):
        return _lone(content, name)
    pairs = _pairs(content)
    if pairs:
        return _experiment(pairs, experiment)
    if experiment:
        raise ElfError(f"--experiment {experiment}: the file holds one set; leave the option out")
    if isinstance(content, dict):
        found = _by_class(content) or _named(content, name)
        if found is not None:
            return found
    if isinstance(content, list) and content and all(looks_like_images(part) for part in content):
        return _stacked(content, "a list of arrays of images, one a class")
    raise ElfError(f"holds no images that can be told: found {_describe(content)}; see docs/importing.md for layouts")


def _lone(content: Tensor, name: str) -> Found:
    named_labels = _key(name) in LABELS or "label" in name.lower() or "target" in name.lower()
    if named_labels or content.dim() < 2:
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
    if not isinstance(content, list) or len(content) < 2 or not all(isinstance(part, Tensor) for part in content[:2]):
        return False
    images, labels, *others = content
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
    return Found(images, labels, conclusions, experiment or 0)


def _named(content: dict, name: str) -> Found | None:
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if list(content) == ["arr_0"] and tensors:
        # What NumPy calls an array that was given no name.
        return _lone(tensors["arr_0"], name)
    images = [key for key in tensors if _key(key) in IMAGES and tensors[key].dim() >= 2]
    labels = [key for key in tensors if _key(key) in LABELS]
    by_name = bool(images)
    # A name that nobody foresaw: the shape tells it, if it tells one alone.
    images = images or [key for key in tensors if looks_like_images(tensors[key])]
    if len(images) > 1:
        raise ElfError(f"holds several arrays of images: {', '.join(map(str, images))}; save one of them alone")
    if len(labels) > 1:
        raise ElfError(f"holds several arrays of labels: {', '.join(map(str, labels))}; save one of them alone")
    if not images:
        return None if len(labels) != 1 else Found(None, tensors[labels[0]], [])
    found = tensors[images[0]]
    if not labels:
        count = found.shape[0] * (found.shape[1] if found.dim() == 5 else 1)
        others = [key for key in tensors if key != images[0] and 1 <= tensors[key].dim() <= 2]
        labels = [key for key in others if len(tensors[key]) in (count, len(found)) and len(tensors[key]) > 1]
        if len(labels) > 1:
            raise ElfError(f"several arrays could be the labels: {', '.join(map(str, labels))}; save one of them alone")
    finding = f"{images[0]!r}, " + (f"labels {labels[0]!r}" if labels else "no labels")
    left = [str(key) for key in content if key not in (images[0], *labels)]
    reason = ("by name" if by_name else "by shape") + (f"; not used: {', '.join(left[:8])}" if left else "")
    return Found(found, tensors[labels[0]] if labels else None, [Conclusion("images", finding, reason)])


def _by_class(content: dict) -> Found | None:
    numbers = {key: re.fullmatch(r"(?:class)?_?([0-9]+)", str(key)) for key in content}
    if not content or not all(numbers.values()) or not all(looks_like_images(value) for value in content.values()):
        return None
    ordered = sorted(content, key=lambda key: int(numbers[key][1]))
    if [int(numbers[key][1]) for key in ordered] != list(range(len(ordered))):
        return None
    return _stacked([content[key] for key in ordered], "a dictionary of arrays of images, class by class")


def _stacked(parts: list[Tensor], reason: str) -> Found:
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ElfError(f"the classes have images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    return Found(torch.cat(parts), labels, [Conclusion("images", f"{len(parts)} classes", reason)])


def _key(name: object) -> str:
    return re.sub("[^a-z0-9]", "", str(name).lower())


def _describe(content: Any) -> str:
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
