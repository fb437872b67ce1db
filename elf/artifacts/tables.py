"""Rows and their manifest in one parquet file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from elf.artifacts.files import atomic
from elf.artifacts.manifest import MANIFEST, Manifest, damaged, is_made, read_manifest, sealed
from elf.errors import ElfError
from elf.specs.base import canonical_json


def write_table(
    path: Path, rows: list[dict], schema: pyarrow.Schema, manifest: Manifest, measured: Iterable[str] = ()
) -> Manifest:
    """Write rows and their manifest into one parquet file; return the manifest with its identifier.

    The columns named in ``measured`` differ each time the same rows are made, so the identifier leaves them out.
    An intact file of the same job with the same content stays as it is.
    """
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    checksums = {"rows": _rows_checksum(table)}
    manifest = sealed(manifest, checksums, {"rows": _rows_checksum(table.drop_columns(list(measured)))})
    if is_made(path, manifest) and _is_intact(path, manifest, schema):
        return manifest
    table = table.replace_schema_metadata({MANIFEST: canonical_json(manifest)})
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
    return manifest


def read_table(
    path: Path, kind: str, schema: pyarrow.Schema, optional: Iterable[str] = ()
) -> tuple[pyarrow.Table, Manifest]:
    """Read and verify a table; its columns must be those of the schema.

    Those named in ``optional`` may be missing, as they are in tables of before the column was added: they are then
    filled with nulls.

    Raises
    ------
    ElfError
        If the file is missing, damaged, altered, of another kind or lacks a column.
    """
    manifest = read_manifest(path, kind)
    try:
        table = pyarrow.parquet.read_table(path)
        checksum = _rows_checksum(table)
    except (OSError, TypeError, ValueError, pyarrow.ArrowException) as error:
        # Altered bytes can turn into numbers, texts and types that no table of ours holds.
        raise damaged(path, error) from error
    absent = [name for name in schema.names if name not in table.column_names]
    missing = [name for name in absent if name not in set(optional)]
    if missing:
        raise ElfError(f"{path}: the column {missing[0]!r} is missing; delete the file and start again")
    if manifest["checksums"].get("rows") != checksum:
        raise damaged(path, "the checksum of its rows does not fit")
    for name in absent:
        table = table.append_column(schema.field(name), pyarrow.nulls(len(table), schema.field(name).type))
    return table.select(schema.names), manifest


def _is_intact(path: Path, manifest: Manifest, schema: pyarrow.Schema) -> bool:
    try:
        read_table(path, manifest["kind"], schema)
    except ElfError:
        return False
    return True


def _rows_checksum(table: pyarrow.Table) -> str:
    return hashlib.sha256(canonical_json(table.to_pylist()).encode()).hexdigest()
