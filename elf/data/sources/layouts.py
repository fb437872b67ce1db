"""In which layouts a folder holds images; this module is read when a run is planned, without PyTorch."""

from pathlib import Path

from elf.errors import ElfError

DOWNSAMPLED_TRAIN = tuple(f"train_data_batch_{number}" for number in range(1, 11))
DOWNSAMPLED_TEST = "val_data"

TORCHVISION_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}

PARQUET_SPLITS = ("train", "test", "valid", "validation")
_OF_THE_HUB = tuple(
    mark.format(split)
    for mark in ("*/{}-*.parquet", "*/{}.parquet", "{}/[0-9]*.parquet", "*/{}/[0-9]*.parquet")
    for split in PARQUET_SPLITS
)
"""Where the hub keeps parquet files: one level down, or in a folder a split that holds ``0000.parquet``."""

_MARKS = {
    "parquet": ("*.parquet", *_OF_THE_HUB),
    "downsampled": ("train_data_batch*", "val_data*"),
    "folder": ("train/", "val/", "test/"),
}
"""What tells a layout, in the order in which one is taken."""


def layouts(folder: Path) -> dict[str, str]:
    """Return the sources that could read a folder, each with the name of a file or folder that speaks for it."""
    found = {source: _first(folder, marks) for source, marks in _MARKS.items()}
    return {source: name for source, name in found.items() if name is not None}


def source_state(source: str, folder: Path) -> list[list]:
    """Return names and sizes of the files of a dataset; class folders have too many files to look at.

    Files that were copied elsewhere are still the same dataset, so neither path nor time counts.
    """
    marks = _MARKS[source] if source in ("parquet", "downsampled") else ()
    files = sorted({path for mark in marks for path in folder.glob(mark)})
    return [[file.relative_to(folder).as_posix(), file.stat().st_size] for file in files]


def _first(folder: Path, marks: tuple[str, ...]) -> str | None:
    for mark in marks:
        if mark.endswith("/"):
            if (folder / mark).is_dir():
                return mark
        elif names := sorted(path.relative_to(folder).as_posix() for path in folder.glob(mark)):
            return names[0]
    return None


def mixture(folder: Path) -> str | None:
    """Return in which two layouts a folder holds ImageNet, None if in one: their labels have different orders."""
    found = layouts(folder)
    if {"downsampled", "folder"} <= found.keys():
        return (
            f"{folder} holds both batches of the downsampled release ({found['downsampled']}) and image folders "
            f"({found['folder']}), whose classes have different orders; move one of them elsewhere"
        )
    return None


def refuse_mixture(folder: Path, name: str) -> None:
    """Raise an error if a folder holds ImageNet in two layouts."""
    problem = mixture(folder)
    if problem:
        raise ElfError(f"{name}: {problem}")
