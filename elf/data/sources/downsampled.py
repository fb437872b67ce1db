"""The official downsampled ImageNet: batches of rows of pixels, pickled or as NumPy archives."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from elf.data.allocation import Allocate, in_memory
from elf.data.images import Dataset, LabelledImages
from elf.data.sources.decoding import resize
from elf.data.sources.layouts import DOWNSAMPLED_TEST, DOWNSAMPLED_TRAIN, refuse_mixture
from elf.data.sources.pickled import read_pickle
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError

CLASSES = 1000
PORTION = 4096
"""Images that are copied at once."""


@dataclass(frozen=True)
class _Batch:
    """One file; ``portions`` yields its rows of pixels, a few thousand at once."""

    file: Path
    labels: np.ndarray
    portions: Callable[[], Iterator[np.ndarray]]


def read(
    location: Path,
    *,
    name: str,
    side: int,
    allocate: Allocate = in_memory,
    workers: int = 1,
    records: Mapping[str, Record] | None = None,
) -> Dataset:
    """Return the images of ``train_data_batch_1`` to ``train_data_batch_10`` and ``val_data``.

    Each file is a pickled dictionary (of Python 2 or 3) with ``data``, uint8 of shape (n, 3 * s * s), channels first,
    and ``labels`` from 1 to 1000, in the release's own order of classes; or an archive ``.npz`` of the same arrays.
    The order of the images is that of the files. Classes are named by their labels, ``"1"`` to ``"1000"``.

    Parameters
    ----------
    location : Path
        Folder with the 11 files.
    name : str
        Name used in messages.
    side : int
        Height and width of the returned images in pixels; others are resized bilinearly.
    allocate : callable
        Where the pixels of a split are put.
    workers
        Not used: there is nothing to decode.
    records : dict of Record, optional
        Of ``train`` and ``test``: how many images were resized.

    Raises
    ------
    ElfError
        If files are missing, damaged, unknown or name anything but arrays, if a label is none of 1 to 1000, or if
        the same folder holds class folders.
    """
    refuse_mixture(location, name)
    *train_files, test_file = _files(location, name)
    records = records or new_records()
    train = _split([_open(file) for file in train_files], side, allocate, records["train"])
    test = _split([_open(test_file)], side, allocate, records["test"])
    class_names = tuple(str(label) for label in range(1, int(train.labels.max()) + 2))
    return Dataset(name, class_names, train, test, "labels of the downsampled release")


def _files(location: Path, name: str) -> list[Path]:
    """Return the training files in order and the validation file."""
    wanted = (*DOWNSAMPLED_TRAIN, DOWNSAMPLED_TEST)
    files = [next((f for f in (location / n, location / f"{n}.npz") if f.is_file()), location / n) for n in wanted]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ElfError(
            f"{name}: {location} lacks {', '.join(missing)} of the downsampled release, each of which may end with "
            ".npz; download the missing ones"
        )
    present = {path for start in ("train_data_batch", DOWNSAMPLED_TEST) for path in location.glob(f"{start}*")}
    extra = sorted(path.name for path in present - set(files))
    if extra:
        raise ElfError(
            f"{name}: {location} holds {', '.join(extra)} besides the 10 training files and {DOWNSAMPLED_TEST}; "
            "move them elsewhere"
        )
    return files


def _open(file: Path) -> _Batch:
    if file.suffix == ".npz":
        return _open_archive(file)
    found = read_pickle(file)
    missing = {"data", "labels"} - found.keys()
    if missing:
        raise ElfError(f"{file}: holds no {' and no '.join(sorted(missing))}; found {', '.join(found) or 'nothing'}")
    pixels, labels = found["data"], found["labels"]
    if not isinstance(pixels, np.ndarray):
        raise ElfError(f"{file}: data is a {type(pixels).__name__}, expected an array of uint8")
    _check_rows(file, pixels.dtype, pixels.shape)
    portions = range(0, len(pixels), PORTION)
    return _checked(file, labels, len(pixels), lambda: (pixels[first : first + PORTION] for first in portions))


def _open_archive(file: Path) -> _Batch:
    try:
        # The pixels are read piece by piece; np.load would hold all of them.
        with np.load(file, allow_pickle=False) as archive:
            labels = archive["labels"]
        with zipfile.ZipFile(file) as archive, archive.open("data.npy") as stream:
            shape, dtype = _array_header(stream)
    except Exception as error:
        raise _unreadable(file, error) from error
    _check_rows(file, dtype, shape)

    def portions() -> Iterator[np.ndarray]:
        try:
            with zipfile.ZipFile(file) as archive, archive.open("data.npy") as stream:
                _array_header(stream)
                for first in range(0, shape[0], PORTION):
                    rows = min(PORTION, shape[0] - first)
                    yield np.frombuffer(stream.read(rows * shape[1]), np.uint8).reshape(rows, shape[1])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _unreadable(file, error) from error

    return _checked(file, labels, shape[0], portions)


def _array_header(stream) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
    shape, fortran, dtype = read_header(stream)
    if fortran:
        raise ValueError("data is stored column by column")
    return shape, dtype


def _unreadable(file: Path, error: Exception) -> ElfError:
    reason = str(error).partition("\n")[0]
    return ElfError(f"{file}: no intact archive of arrays data and labels ({reason}); get an intact copy")


def _check_rows(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    square = len(shape) == 2 and shape[1] > 0 and 3 * isqrt(shape[1] // 3) ** 2 == shape[1]
    if dtype != np.uint8 or not square:
        raise ElfError(
            f"{file}: data is {dtype} of shape {tuple(shape)}, expected uint8 of shape (n, 12288): 3 channels of 64x64"
        )


def _checked(file: Path, labels, count: int, portions: Callable[[], Iterator[np.ndarray]]) -> _Batch:
    if isinstance(labels, list) and not all(isinstance(label, int | float) for label in labels):
        # Before NumPy looks at it: lists of lists of lists may be endless.
        raise ElfError(f"{file}: labels are no list of integers, one a row of data; get an intact copy")
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ElfError(
            f"{file}: labels are {labels.dtype} of shape {labels.shape}, expected {count} integers, one a row of data"
        )
    wrong = labels[(labels < 1) | (labels > CLASSES)]
    if len(wrong):
        raise ElfError(f"{file}: label {wrong[0]}, allowed are 1 to {CLASSES}; is this the downsampled release?")
    return _Batch(file, labels.astype(np.int64), portions)


def _split(batches: list[_Batch], side: int, allocate: Allocate, record: Record) -> LabelledImages:
    images = allocate(sum(len(batch.labels) for batch in batches), side)
    first = 0
    for batch in batches:
        for rows in batch.portions():
            if rows.shape[1] != 3 * side * side:
                record.count(f"resized to {side}x{side}", len(rows))
            images[first : first + len(rows)] = _pixels(rows, side)
            first += len(rows)
    # Labels of the release start at 1.
    labels = np.concatenate([batch.labels for batch in batches]) - 1
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))


def _pixels(rows: np.ndarray, side: int) -> np.ndarray:
    """Return rows of pixels (n, 3 * s * s) as images (n, 3, side, side)."""
    stored = isqrt(rows.shape[1] // 3)
    pixels = rows.reshape(-1, 3, stored, stored)
    if stored == side:
        return pixels
    resized = [resize(Image.fromarray(image), side) for image in pixels.transpose(0, 2, 3, 1)]
    return np.stack(resized).transpose(0, 3, 1, 2)
