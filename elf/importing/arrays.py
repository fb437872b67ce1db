"""What counts as an array of numbers, and which names say that something holds images or labels."""

import re
from typing import Any

import torch
from torch import Tensor

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
    "synx",
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
    "y",
    "ys",
    "gt",
    "groundtruth",
    "classes",
    "class",
    "classids",
    "categories",
    "ytrain",
    "ysyn",
    "syny",
    "yproto",
    "trainy",
    "ysoft",
    "yhard",
    "logits",
    "probs",
    "probabilities",
    "arr1",
}
"""Names of arrays, in small letters and without anything but letters and digits; for labels see also `names_labels`."""

IMAGE_WORDS = {"images", "image", "imgs", "img", "x", "xs", "data", "pixels", "samples", "inputs", "input"}
LABEL_WORDS = {"labels", "label", "targets", "target", "y", "ys", "gt", "logits", "probs", "classes", "class"}
KIND_WORDS = {"soft", "hard", "learned", "distilled", "synthetic", "syn"}
# Words that say something *about* labels rather than holding one for each image.
ABOUT = {"map", "mapping", "name", "names", "smoothing", "lr", "mean", "std", "weight", "weights", "encoder", "num"}


def as_array(value: Any) -> Tensor | None:
    """Return a tensor, or numbers in lists as one: also lists of arrays of one shape; None if it is no array.

    Whole numbers become int64, and numbers with a point float64.
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, list) or not value:
        return None
    parts = [_number(part) if isinstance(part, bool | int | float) else as_array(part) for part in value]
    if any(part is None for part in parts) or len({tuple(part.shape) for part in parts}) > 1:
        return None
    if len({part.dtype for part in parts}) > 1:
        kind = torch.float64 if any(part.is_floating_point() for part in parts) else torch.int64
        parts = [part.to(kind) for part in parts]
    return torch.stack(parts)


def _number(value: bool | int | float) -> Tensor | None:
    try:
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
    except (OverflowError, RuntimeError):
        return None


def plain_name(name: object) -> str:
    """Return a name in small letters, and without anything but letters and digits."""
    return re.sub("[^a-z0-9]", "", str(name).lower())


def words_of(name: object) -> tuple[str, ...]:
    """Return the words of a name: ``labelsBest_2`` has ``labels``, ``best`` and ``2``."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Za-z])", " ", str(name))
    return tuple(re.findall("[a-z]+|[0-9]+", parted.lower()))


def names_images(name: object) -> bool:
    """Return whether a name says that something holds images."""
    return plain_name(name) in IMAGES


def names_labels(name: object) -> bool:
    """Return whether a name says that something holds a label for each image."""
    words = words_of(name)
    if plain_name(name) in LABELS:
        return True
    if ABOUT & set(words):
        return False
    return "label" in plain_name(name) or "target" in plain_name(name) or bool({"y", "ys", "gt"} & set(words))


def belongs_to(name: object) -> tuple[str, ...]:
    """Return what is left of a name without its words for images, labels and their kind: what one set has in common."""
    return tuple(word for word in words_of(name) if word not in IMAGE_WORDS | LABEL_WORDS | KIND_WORDS)


def count_of(images: Tensor) -> int:
    """Return how many images an array holds, with classes and images per class as one axis or two."""
    return images.shape[0] * images.shape[1] if images.dim() == 5 else images.shape[0]


def could_be_labels(value: Any, images: Tensor) -> bool:
    """Return whether something has an entry for each image, or for each class of images in two axes."""
    counts = {count_of(images), len(images)}
    if isinstance(value, Tensor):
        return value.dim() >= 1 and len(value) in counts and len(value) > 1
    return isinstance(value, list) and len(value) in counts and len(value) > 1
