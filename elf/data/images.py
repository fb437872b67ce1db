"""Labelled images in memory: what every data source returns and everything else starts from."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from elf.data.allocation import Allocate, in_memory
from elf.errors import ElfError

CHUNK = 4096


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Square RGB images with one label each, held in memory as bytes.

    Parameters
    ----------
    images : Tensor of uint8, shape (n, 3, side, side)
        Pixels from 0 to 255, channels first.
    labels : Tensor of int64, shape (n,)
        Place of the image's class in the dataset's list of class names.

    Raises
    ------
    ValueError
        If a shape, a data type or a length is another.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8:
            raise ValueError(f"images are {self.images.dtype}, expected torch.uint8")
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise ValueError(f"images have shape {shape}, expected (n, 3, side, side)")
        if self.labels.dtype != torch.int64:
            raise ValueError(f"labels are {self.labels.dtype}, expected torch.int64")
        if tuple(self.labels.shape) != shape[:1]:
            raise ValueError(f"labels have shape {tuple(self.labels.shape)}, expected ({shape[0]},)")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.images.shape[-1]

    def select(self, indices: Tensor) -> "LabelledImages":
        """Return the images at ``indices`` (int64, shape (m,)), in that order."""
        return LabelledImages(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Return the same images on ``device``."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train and test images of the same classes.

    Parameters
    ----------
    name : str
        Name used in messages, for example ``"cifar10"``.
    class_names : tuple of str
        At least two different names; labels are places in this tuple.
    train, test : LabelledImages
        Of the same side. Every class has at least one training image, and there is a test image.
    class_order : str
        What the order of the classes follows; results of two orders of the same classes cannot be mixed.

    Raises
    ------
    ElfError
        If a class has no training image, a label has no class, or one of the other rules is broken.
    """

    name: str
    class_names: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages
    class_order: str = "labels of the source"

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise ElfError(f"dataset {self.name}: found {len(self.class_names)} class(es), at least 2 are needed")
        if len(set(self.class_names)) < len(self.class_names):
            twice = next(name for name in self.class_names if self.class_names.count(name) > 1)
            raise ElfError(f"dataset {self.name}: class name {twice!r} occurs twice; class names must differ")
        for split, part in (("train", self.train), ("test", self.test)):
            self._check_split(split, part)
        if self.train.side != self.test.side:
            raise ElfError(
                f"dataset {self.name}: training images have side {self.train.side}, "
                f"test images {self.test.side}; they must agree"
            )
        empty = (torch.bincount(self.train.labels, minlength=self.classes) == 0).nonzero().flatten().tolist()
        if empty:
            names = ", ".join(self.class_names[label] for label in empty[:5])
            raise ElfError(
                f"dataset {self.name}: {len(empty)} of {self.classes} classes have no training image "
                f"({names}{', ...' if len(empty) > 5 else ''})"
            )

    def _check_split(self, split: str, part: LabelledImages) -> None:
        if len(part) == 0:
            raise ElfError(f"dataset {self.name}: the {split} split has no images")
        lowest, highest = int(part.labels.min()), int(part.labels.max())
        if lowest < 0 or highest >= self.classes:
            wrong = lowest if lowest < 0 else highest
            raise ElfError(
                f"dataset {self.name}: the {split} split has label {wrong}, "
                f"allowed are 0 to {self.classes - 1} ({self.classes} classes)"
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.side


def indices_by_class(labels: Tensor, classes: int) -> list[Tensor]:
    """Return, for each class, the places of its images in ascending order.

    Parameters
    ----------
    labels : Tensor of int64, shape (n,)
        Values from 0 to ``classes - 1``.
    classes : int
        Number of classes.

    Returns
    -------
    list of ``classes`` Tensors of int64
        On the device of ``labels``; empty for a class without images.
    """
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"label {len(counts) - 1} among {classes} classes")
    return list(torch.argsort(labels, stable=True).split(counts.tolist()))


def alphabetical(class_names: tuple[str, ...], otherwise: str) -> str:
    """Return the order of classes that are sorted identifiers of WordNet, as in ImageNet's folders, or another one."""
    wnids = all(re.fullmatch(r"n\d{8}", name) for name in class_names)
    return "alphabetical wnids" if wnids and list(class_names) == sorted(class_names) else otherwise


def subset(
    images: LabelledImages, per_class: int | None, *, what: str = "the images", allocate: Allocate = in_memory
) -> LabelledImages:
    """Return the first ``per_class`` images of each class, in their original order.

    The same images for every seed: small scales train and test on a fixed part of the real data.

    Parameters
    ----------
    images : LabelledImages
    per_class : int or None
        Images kept of each class, at least 1; None keeps all.
    what : str
        What the images are, for the message, for example ``"cifar10, train split"``.
    allocate : callable
        Where the images that are kept are put.

    Raises
    ------
    ElfError
        If a class has fewer images, or ``per_class`` is below 1.
    """
    if per_class is None:
        return images
    if per_class < 1:
        raise ElfError(f"{what}: {per_class} images per class asked for, allowed are 1 and more")
    by_class = indices_by_class(images.labels, int(images.labels.max()) + 1 if len(images) else 0)
    for label, indices in enumerate(by_class):
        if len(indices) < per_class:
            raise ElfError(
                f"{what}: class {label} has {len(indices)} images, but {per_class} per class are asked for; "
                f"ask for at most {min(map(len, by_class))}"
            )
    kept = torch.cat([indices[:per_class] for indices in by_class]) if by_class else images.labels[:0]
    kept = kept.sort().values
    pixels = torch.from_numpy(allocate(len(kept), images.side))
    for places, part in zip(kept.split(CHUNK), pixels.split(CHUNK), strict=True):
        part.copy_(images.images[places])
    return LabelledImages(pixels, images.labels[kept])
