"""One door to all data sources."""

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch

from elf.data.allocation import Allocate, in_memory
from elf.data.images import Dataset
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError

MODULES = {
    "digits": "elf.data.sources.digits",
    "torchvision": "elf.data.sources.torchvision_cifar",
    "parquet": "elf.data.sources.parquet",
    "folder": "elf.data.sources.folder",
    "downsampled": "elf.data.sources.downsampled",
}


def read_dataset(
    source: str,
    *,
    name: str,
    location: Path | None,
    side: int,
    download: bool = True,
    allocate: Allocate = in_memory,
    workers: int = 1,
    image_column: str | None = None,
    label_column: str | None = None,
    records: Mapping[str, Record] | None = None,
) -> Dataset:
    """Read a data set from one of the sources.

    Parameters
    ----------
    source : {"digits", "torchvision", "parquet", "folder", "downsampled"}
        How the images are stored.
    name : str
        Name used in messages; for torchvision also which data set, ``"cifar10"`` or ``"cifar100"``.
    location : Path or None
        Folder with the images; None for digits, which ship with scikit-learn.
    side : int
        Height and width of the returned images in pixels.
    download : bool
        Whether torchvision may download what is absent.
    allocate : callable
        Where the pixels of a split are put, by the sources that can be large: parquet, folder and downsampled.
    workers : int
        Threads that decode images; they do not change what is returned.
    image_column, label_column : str or None
        Of parquet files, where they are not called as usual.
    records : dict of Record, optional
        Of ``train`` and ``test``: they count how images were converted and what was left out.

    Returns
    -------
    Dataset
        At least 2 classes, each with training and test images.

    Raises
    ------
    ElfError
        If the source is unknown, or the data are absent, incomplete or damaged.
    """
    if source not in MODULES:
        raise ElfError(f"dataset {name}: source {source!r} is unknown; allowed are {', '.join(MODULES)}")
    if source != "digits" and location is None:
        raise ElfError(f"dataset {name}: the source {source} needs a location, the folder with the images")
    # By name, so that a dataset depends on the code of its own source alone.
    module = importlib.import_module(MODULES[source])
    records = records or new_records()
    if source == "digits":
        dataset = module.read(name=name, side=side, records=records)
    elif source == "torchvision":
        dataset = module.read(location, name=name, side=side, download=download, records=records)
    else:
        columns = {"image_column": image_column, "label_column": label_column} if source == "parquet" else {}
        options = {"allocate": allocate, "workers": workers, "records": records} | columns
        dataset = module.read(location, name=name, side=side, **options)
    for split, record in records.items():
        record.check(f"{name}, {split} split")
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
