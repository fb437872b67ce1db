"""One door to all data sources."""

from pathlib import Path

import torch

from elf.data.images import Dataset
from elf.data.sources import digits, folder, parquet, torchvision_cifar
from elf.errors import ElfError

SOURCES = ("digits", "torchvision", "parquet", "folder")


def read_dataset(source: str, *, name: str, location: Path | None, side: int, download: bool = True) -> Dataset:
    """Read a data set from one of the sources.

    Parameters
    ----------
    source : {"digits", "torchvision", "parquet", "folder"}
        How the images are stored.
    name : str
        Name used in messages; for torchvision also which data set, ``"cifar10"`` or ``"cifar100"``.
    location : Path or None
        Folder with the images; None for digits, which ship with scikit-learn.
    side : int
        Height and width of the returned images in pixels.
    download : bool
        Whether torchvision may download what is absent.

    Returns
    -------
    Dataset
        At least 2 classes, each with training and test images.

    Raises
    ------
    ElfError
        If the source is unknown, or the data are absent, incomplete or damaged.
    """
    if source not in SOURCES:
        raise ElfError(f"dataset {name}: source {source!r} is unknown; allowed are {', '.join(SOURCES)}")
    if source != "digits" and location is None:
        raise ElfError(f"dataset {name}: the source {source} needs a location, the folder with the images")
    if source == "digits":
        dataset = digits.read(name=name, side=side)
    elif source == "torchvision":
        dataset = torchvision_cifar.read(location, name=name, side=side, download=download)
    elif source == "parquet":
        dataset = parquet.read(location, name=name, side=side)
    else:
        dataset = folder.read(location, name=name, side=side)
    _require_test_images(dataset)
    return dataset


def _require_test_images(dataset: Dataset) -> None:
    # Without this, a half-copied test split would give accuracies over the other classes only.
    counts = torch.bincount(dataset.test.labels, minlength=dataset.classes).tolist()
    empty = [class_name for class_name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if empty:
        raise ElfError(
            f"dataset {dataset.name}: {len(empty)} of {dataset.classes} classes have no test image "
            f"(first: {empty[0]}); the test split is incomplete"
        )
