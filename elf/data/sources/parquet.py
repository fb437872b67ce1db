"""Images in the parquet layout of the Hugging Face hub."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from elf.data.allocation import Allocate, in_memory
from elf.data.images import Dataset, LabelledImages, alphabetical
from elf.data.sources.class_names import checked_class_names
from elf.data.sources.decoding import decode_all
from elf.data.sources.layouts import PARQUET_SPLITS
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
TEST_SPLITS = PARQUET_SPLITS[1:]
ROWS_AT_ONCE = 256
MOST_UNNAMED_CLASSES = 100_000


@dataclass(frozen=True)
class _Columns:
    """Names of the columns where they are told; and of the classes, once they are known."""

    image: str | None
    label: str | None
    class_names: tuple[str, ...] | None = None

    def places(self) -> dict[str, int]:
        """Return the label of each name, where labels are text."""
        return {name: label for label, name in enumerate(self.class_names or ())}


def read(
    location: Path,
    *,
    name: str,
    side: int,
    allocate: Allocate = in_memory,
    workers: int = 1,
    image_column: str | None = None,
    label_column: str | None = None,
    records: Mapping[str, Record] | None = None,
) -> Dataset:
    """Return the images of a folder with ``train-*.parquet`` and ``test-*.parquet``.

    The files may be called ``train.parquet``, or lie in ``train/``, and all of them may lie in one folder more, such
    as ``data/``. Without a test split, or where all its labels are -1 because they are secret, ``valid`` or
    ``validation`` is the test split.

    An image column (``img`` or ``image``) holds encoded files, as bytes or as a struct of ``bytes`` and ``path``; a
    label column (``label``, ``labels`` or ``fine_label``) holds integers or text. Class names come from the schema's
    ``huggingface`` metadata. Where it names none they are the labels themselves: of text those of the training split,
    in alphabetical order, or in that of their numbers if all are numbers.

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
    image_column, label_column : str or None
        Names of the columns, if not those above.
    records : dict of Record, optional
        Of ``train`` and ``test``: what was converted, and which files are of no split that is read.

    Raises
    ------
    ElfError
        If a file, a column, an image or a label is missing or unusable, or several columns could be the labels.
    """
    records = records or new_records()
    base = _base(location, name)
    columns = _Columns(image_column, label_column)
    train_files = _files(base, name, ("train",))
    test_files = _files(base, name, _test_splits(base, columns))
    read_here = {*train_files, *test_files}
    unread = sorted(path for path in base.rglob("*.parquet") if path not in read_here)
    records["test"].leave_out(path.relative_to(base).as_posix() for path in unread)
    named = {file: names for file in train_files + test_files if (names := _class_names(file, columns))}
    if len(set(named.values())) > 1:
        first, *others = named
        other = next(file for file in others if named[file] != named[first])
        raise ElfError(f"{name}: {other} names other classes than {first}; the files of a data set must agree")
    class_names = next(iter(named.values()), None) or _names_of_text(train_files, columns, name)
    columns = replace(columns, class_names=class_names)
    train = _read_split(train_files, side, columns, allocate, workers, records["train"])
    if class_names is None:
        class_names = tuple(str(label) for label in range(int(train.labels.max()) + 1 if len(train) else 0))
    columns = replace(columns, class_names=class_names)
    test = _read_split(test_files, side, columns, allocate, workers, records["test"])
    return Dataset(name, class_names, train, test, alphabetical(class_names, "labels of the parquet files"))


def _base(location: Path, name: str) -> Path:
    """Return the folder with the splits: this one, or the only one in it that has any."""
    if not location.is_dir() or any(_of_split(location, split) for split in PARQUET_SPLITS):
        return location
    inner = [folder for folder in sorted(location.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    holding = [folder for folder in inner if any(_of_split(folder, split) for split in PARQUET_SPLITS)]
    if len(holding) > 1:
        found = ", ".join(folder.name for folder in holding)
        raise ElfError(f"{name}: {location} holds several data sets ({found}); name the folder of one as its location")
    return holding[0] if holding else location


def _of_split(folder: Path, split: str) -> list[Path]:
    """Return the files of a split in order."""
    alone = folder / f"{split}.parquet"
    return (
        sorted(folder.glob(f"{split}-*.parquet"))
        or ([alone] if alone.is_file() else [])
        or sorted((folder / split).glob("[0-9]*.parquet"))
    )


def _test_splits(base: Path, columns: _Columns) -> tuple[str, ...]:
    """Return the names that the test split may have, without those of a split whose labels are secret."""
    present = [split for split in TEST_SPLITS if _of_split(base, split)]
    secret = {split for split in present[:-1] if _is_secret(_of_split(base, split)[0], columns)}
    return tuple(split for split in TEST_SPLITS if split not in secret)


def _is_secret(file: Path, columns: _Columns) -> bool:
    with _open(file) as parquet:
        try:
            labels = parquet.read([_label_column(parquet.schema_arrow, file, columns)]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise ElfError(f"{file}: damaged ({_line(error)}); download it again") from error
    return len(labels) > 0 and all(label.as_py() == -1 for label in labels)


def _files(base: Path, name: str, splits: tuple[str, ...]) -> list[Path]:
    for split in splits:
        files = _of_split(base, split)
        if files:
            numbered = re.fullmatch(r".*-of-(\d+)", files[0].stem)
            if numbered and int(numbered[1]) != len(files):
                raise ElfError(
                    f"{name}: {base} has {len(files)} of the {int(numbered[1])} {split} files; download the missing "
                    "ones"
                )
            return files
    found = ", ".join(sorted(path.name for path in base.iterdir())[:8]) if base.is_dir() else "no such folder"
    wanted = " or ".join(f"{split}-*.parquet" for split in splits)
    raise ElfError(f"{name}: no {wanted} in {base} (found: {found or 'nothing'})")


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise ElfError(f"{file}: not a readable parquet file ({_line(error)}); download it again") from error


def _class_names(file: Path, columns: _Columns) -> tuple[str, ...] | None:
    with _open(file) as parquet:
        schema = parquet.schema_arrow
    column = _label_column(schema, file, columns)
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None or _is_text(schema.field(column).type):
        return None
    try:
        names = (json.loads(text)["info"]["features"].get(column) or {}).get("names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElfError(f"{file}: the schema's huggingface metadata is not of the hub's form") from error
    return checked_class_names(map(str, names), str(file)) if names else None


def _names_of_text(files: list[Path], columns: _Columns, name: str) -> tuple[str, ...] | None:
    """Return the classes of labels that are text, None if they are integers."""
    found: set[str] = set()
    for file in files:
        with _open(file) as parquet:
            column = _label_column(parquet.schema_arrow, file, columns)
            if not _is_text(parquet.schema_arrow.field(column).type):
                return None
            try:
                found |= {str(label) for label in parquet.read([column]).column(0).unique().to_pylist() if label}
            except (pa.ArrowException, OSError) as error:
                raise ElfError(f"{file}: damaged ({_line(error)}); download it again") from error
    numbers = all(label.isascii() and label.isdecimal() for label in found)
    return checked_class_names(sorted(found, key=int) if numbers else sorted(found), name)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_images(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return binary or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _holds_labels(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or _is_text(kind)


def _image_column(schema: pa.Schema, file: Path, columns: _Columns) -> str:
    usual = IMAGE_COLUMNS if columns.image is None else (columns.image,)
    return _column(schema, file, "image", usual, "struct<bytes, path> or binary", _holds_images)


def _label_column(schema: pa.Schema, file: Path, columns: _Columns) -> str:
    usual = LABEL_COLUMNS if columns.label is None else (columns.label,)
    return _column(schema, file, "label", usual, "an integer type or text", _holds_labels)


def _column(
    schema: pa.Schema, file: Path, what: str, names: tuple[str, ...], kinds: str, fits: Callable[[pa.DataType], bool]
) -> str:
    found = [name for name in names if schema.names.count(name) == 1 and fits(schema.field(name).type)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ElfError(f"{file}: {' and '.join(found)} could be the {what}s; say which with {what}_column in its entry")
    raise ElfError(
        f"{file}: no {what} column; allowed is {' or '.join(names)} of type {kinds}, found {_shown(schema)}; name "
        f"another with {what}_column in the entry of config/datasets.yaml"
    )


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no column"


def _read_split(
    files: list[Path], side: int, columns: _Columns, allocate: Allocate, workers: int, record: Record
) -> LabelledImages:
    rows = []
    for file in files:
        with _open(file) as parquet:
            rows.append(parquet.metadata.num_rows)
    # One array for all files: joining them afterwards would take twice the memory of ImageNet.
    images = torch.from_numpy(allocate(sum(rows), side))
    labels = torch.empty(sum(rows), dtype=torch.int64)
    for file, file_images, file_labels in zip(files, images.split(rows), labels.split(rows), strict=True):
        _read_file(file, columns, file_images.numpy(), file_labels.numpy(), workers, record)
    return LabelledImages(images, labels)


def _read_file(
    file: Path, columns: _Columns, images: np.ndarray, labels: np.ndarray, workers: int, record: Record
) -> None:
    """Decode all rows of one file into ``images`` (n, 3, side, side) and ``labels`` (n,)."""
    row, places = 0, columns.places()
    with _open(file) as parquet:
        schema = parquet.schema_arrow
        wanted = [_image_column(schema, file, columns), _label_column(schema, file, columns)]
        try:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=wanted):
                where = [f"{file}, row {row + place} (counted from 0)" for place in range(len(batch))]
                files = batch.column(wanted[0])
                files = files.field("bytes") if pa.types.is_struct(files.type) else files
                encoded = [_bytes(*pair) for pair in zip(files, where, strict=True)]
                decode_all(encoded, images[row : row + len(batch)], workers, record)
                for place, label in enumerate(batch.column(wanted[1])):
                    labels[row + place] = _label(label.as_py(), columns.class_names, places, where[place])
                row += len(batch)
            if row != len(labels):
                raise ElfError(f"{file}: damaged: holds {row} rows instead of {len(labels)}; download it again")
        except (pa.ArrowException, OSError) as error:
            raise ElfError(f"{file}: damaged after row {row} ({_line(error)}); download it again") from error


def _bytes(encoded: pa.Scalar, where: str) -> tuple[bytes, str]:
    if not encoded.is_valid:
        raise ElfError(f"{where}: no image bytes, only files with embedded images can be read")
    return encoded.as_py(), where


def _label(label: int | str | None, class_names: tuple[str, ...] | None, places: dict[str, int], where: str) -> int:
    if isinstance(label, str) and label not in places:
        raise ElfError(f"{where}: the class {label!r} is none of the training split; is this split labelled?")
    if isinstance(label, str):
        return places[label]
    classes = len(class_names) if class_names else MOST_UNNAMED_CLASSES
    if label is None or not 0 <= label < classes:
        raise ElfError(f"{where}: label {label}, allowed are 0 to {classes - 1}; is this split labelled?")
    return label


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
