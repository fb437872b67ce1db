"""CIFAR-10 and CIFAR-100 in the folder layout of torchvision, downloaded when absent."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from elf.data.images import Dataset, LabelledImages
from elf.data.sources.decoding import resize
from elf.data.sources.layouts import TORCHVISION_FOLDERS as FOLDERS
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError


def read(
    location: Path,
    *,
    name: str,
    side: int = 32,
    download: bool = True,
    records: Mapping[str, Record] | None = None,
) -> Dataset:
    """Return CIFAR-10 or CIFAR-100 (fine labels) from torchvision's folder layout.

    Parameters
    ----------
    location : Path
        Folder that holds, or will hold, ``cifar-10-batches-py`` or ``cifar-100-python``.
    name : str
        Name used in messages; what stands before its first hyphen says which of the two,
        ``"cifar10"`` or ``"cifar100"`` (so ``"cifar10-zca"`` is CIFAR-10).
    side : int
        Height and width of the returned images in pixels; resized bilinearly if not 32.
    download : bool
        Whether to download the data when the folder is absent.
    records : dict of Record, optional
        Of ``train`` and ``test``: how many images were resized.

    Raises
    ------
    ElfError
        If the data are absent and cannot be downloaded, or if a file differs from the official one.
    """
    kind = name.partition("-")[0]
    if kind not in FOLDERS:
        raise ElfError(f"dataset {name!r}: the source torchvision has only {' and '.join(FOLDERS)}")
    from torchvision import datasets  # costs seconds, and no other source needs it

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[kind]
    folder = location / FOLDERS[kind]
    if not folder.is_dir():
        _download(reader, folder, name, download)
    try:
        # The files are pickles, which run code when read. The constructor compares their MD5 with the
        # official files' first and reads none of them when one differs.
        train, test = reader(str(location), train=True), reader(str(location), train=False)
    except (RuntimeError, OSError) as error:
        raise ElfError(
            f"{name}: a file in {folder} is missing or differs from the official one; "
            "delete that folder and run again to download it anew"
        ) from error
    records = records or new_records()
    return Dataset(
        name=name,
        class_names=tuple(train.classes),
        train=_labelled(train, side, records["train"]),
        test=_labelled(test, side, records["test"]),
        class_order="labels of the official files",
    )


def _download(reader: type, folder: Path, name: str, download: bool) -> None:
    problem = "downloads are switched off"
    if download:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Beside its final place, so that an interrupted download leaves no incomplete folder behind.
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
                reader(temporary, download=True)
                if not folder.is_dir():
                    (Path(temporary) / folder.name).rename(folder)
            return
        except (OSError, RuntimeError, EOFError) as error:
            problem = f"the download failed ({str(error).partition(chr(10))[0]})"
    raise ElfError(
        f"{name}: no folder {folder}, and {problem}; put there either {folder.name} as torchvision lays it out "
        f"(source torchvision), or a folder {name} with train-*.parquet and test-*.parquet (source parquet)"
    )


def _labelled(part, side: int, record: Record) -> LabelledImages:
    pixels = part.data
    if side != pixels.shape[1]:
        record.count(f"resized to {side}x{side}", len(pixels))
        pixels = np.stack([resize(Image.fromarray(image), side) for image in pixels])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(part.targets, dtype=torch.int64))
