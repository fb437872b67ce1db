"""Images in the parquet layout of the Hugging Face hub."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from elf.data.allocation import Allocate, in_memory
from elf.data.images import Dataset, LabelledImages, alphabetical
from elf.data.sources.class_names import checked_class_names
from elf.data.sources.decoding import decode_all
from elf.errors import ElfError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
TEST_SPLITS = ("test", "valid", "validation")
ROWS_AT_ONCE = 256
MOST_UNNAMED_CLASSES = 100_000


def read(location: Path, *, name: str, side: int, allocate: Allocate = in_memory, workers: int = 1) -> Dataset:
    """Return the images of a folder with ``train-*.parquet`` and ``test-*.parquet``.

    Without ``test-*.parquet``, or where all its labels are -1 because they are secret, ``valid-*`` or
    ``validation-*`` is the test split. An image column
    (``img`` or ``image``) is a struct of the encoded file's ``bytes`` and its ``path``; a label column
    (``label`` or ``fine_label``) holds integers. Class names come from the schema's ``huggingface``
    metadata, and are the labels themselves where it names none.

    Parameters
    ----------
    location : Path
        Folder with the files.
    name : str
        Name used in messages.
    side : int
        Height and width of the returned images in pixels; others are resized bilinearly.
    allocate : callable
        Where the pixels of a split are put.
    workers : int
        Threads that decode.

    Raises
    ------
    ElfError
        If a file, a column, an image or a label is missing or unusable.
    """
    train_files = _files(location, name, ("train",))
    test_files = _files(location, name, _test_splits(location))
    named = {file: names for file in train_files + test_files if (names := _class_names(file))}
    if len(set(named.values())) > 1:
        first, *others = named
        other = next(file for file in others if named[file] != named[first])
        raise ElfError(f"{name}: {other} names other classes than {first}; the files of a data set must agree")
    class_names = next(iter(named.values()), None)
    train = _read_split(train_files, side, class_names, allocate, workers)
    if class_names is None:
        class_names = tuple(str(label) for label in range(int(train.labels.max()) + 1 if len(train) else 0))
    test = _read_split(test_files, side, class_names, allocate, workers)
    return Dataset(name, class_names, train, test, alphabetical(class_names, "labels of the parquet files"))


def _test_splits(location: Path) -> tuple[str, ...]:
    """Return the names that the test split may have, without those of a split whose labels are secret."""
    present = [split for split in TEST_SPLITS if any(location.glob(f"{split}-*.parquet"))]
    secret = {split for split in present[:-1] if _is_secret(min(location.glob(f"{split}-*.parquet")))}
    return tuple(split for split in TEST_SPLITS if split not in secret)


def _is_secret(file: Path) -> bool:
    with _open(file) as parquet:
        try:
            labels = parquet.read([_label_column(parquet.schema_arrow, file)]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise ElfError(f"{file}: damaged ({_line(error)}); download it again") from error
    return len(labels) > 0 and all(label.as_py() == -1 for label in labels)


def _files(location: Path, name: str, splits: tuple[str, ...]) -> list[Path]:
    for split in splits:
        files = sorted(location.glob(f"{split}-*.parquet"))
        if files:
            numbered = re.fullmatch(r".*-of-(\d+)", files[0].stem)
            if numbered and int(numbered[1]) != len(files):
                raise ElfError(
                    f"{name}: {location} has {len(files)} of the {int(numbered[1])} {split} files; "
                    "download the missing ones"
                )
            return files
    found = ", ".join(sorted(path.name for path in location.iterdir())[:8]) if location.is_dir() else "no such folder"
    wanted = " or ".join(f"{split}-*.parquet" for split in splits)
    raise ElfError(f"{name}: no {wanted} in {location} (found: {found or 'nothing'})")


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise ElfError(f"{file}: not a readable parquet file ({_line(error)}); download it again") from error


def _class_names(file: Path) -> tuple[str, ...] | None:
    with _open(file) as parquet:
        schema = parquet.schema_arrow
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        features = json.loads(text)["info"]["features"]
        names = features.get(_label_column(schema, file), {}).get("names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElfError(f"{file}: the schema's huggingface metadata is not of the hub's form") from error
    return checked_class_names(map(str, names), str(file)) if names else None


def _image_column(schema: pa.Schema, file: Path) -> str:
    for column in IMAGE_COLUMNS:
        kind = schema.field(column).type if column in schema.names else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return column
    raise ElfError(
        f"{file}: no image column; allowed is {' or '.join(IMAGE_COLUMNS)} of type struct<bytes, path>, "
        f"found {_columns(schema)}"
    )


def _label_column(schema: pa.Schema, file: Path) -> str:
    for column in LABEL_COLUMNS:
        if column in schema.names and pa.types.is_integer(schema.field(column).type):
            return column
    raise ElfError(
        f"{file}: no label column; allowed is {' or '.join(LABEL_COLUMNS)} of an integer type, found {_columns(schema)}"
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no column"


def _read_split(
    files: list[Path], side: int, class_names: tuple[str, ...] | None, allocate: Allocate, workers: int
) -> LabelledImages:
    rows = []
    for file in files:
        with _open(file) as parquet:
            rows.append(parquet.metadata.num_rows)
    # One array for all files: joining them afterwards would take twice the memory of ImageNet.
    images = torch.from_numpy(allocate(sum(rows), side))
    labels = torch.empty(sum(rows), dtype=torch.int64)
    for file, file_images, file_labels in zip(files, images.split(rows), labels.split(rows), strict=True):
        _read_file(file, class_names, file_images.numpy(), file_labels.numpy(), workers)
    return LabelledImages(images, labels)


def _read_file(
    file: Path, class_names: tuple[str, ...] | None, images: np.ndarray, labels: np.ndarray, workers: int
) -> None:
    """Decode all rows of one file into ``images`` (n, 3, side, side) and ``labels`` (n,)."""
    row = 0
    with _open(file) as parquet:
        columns = [_image_column(parquet.schema_arrow, file), _label_column(parquet.schema_arrow, file)]
        try:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=columns):
                where = [f"{file}, row {row + place} (counted from 0)" for place in range(len(batch))]
                encoded = [_bytes(*pair) for pair in zip(batch.column(columns[0]).field("bytes"), where, strict=True)]
                decode_all(encoded, images[row : row + len(batch)], workers)
                for place, label in enumerate(batch.column(columns[1])):
                    labels[row + place] = _label(label.as_py(), class_names, where[place])
                row += len(batch)
            if row != len(labels):
                raise ElfError(f"{file}: damaged: holds {row} rows instead of {len(labels)}; download it again")
        except (pa.ArrowException, OSError) as error:
            raise ElfError(f"{file}: damaged after row {row} ({_line(error)}); download it again") from error


def _bytes(encoded: pa.Scalar, where: str) -> tuple[bytes, str]:
    if not encoded.is_valid:
        raise ElfError(f"{where}: no image bytes, only files with embedded images can be read")
    return encoded.as_py(), where


def _label(label: int | None, class_names: tuple[str, ...] | None, where: str) -> int:
    classes = len(class_names) if class_names else MOST_UNNAMED_CLASSES
    if label is None or not 0 <= label < classes:
        raise ElfError(f"{where}: label {label}, allowed are 0 to {classes - 1}; is this split labelled?")
    return label


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
