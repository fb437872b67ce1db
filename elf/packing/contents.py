"""What a pack holds: one JSON file that names every file with its checksum, its time and its record."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from elf.artifacts.files import atomic, read_json, write_json
from elf.artifacts.manifest import Manifest, seal_of
from elf.errors import ElfError
from elf.study.config import NAME
from elf.study.config_reading import validated

CONTENTS = "pack.json"
FORMAT = 1
STATE, CARD, IMPORTED, RECIPE = "state of a job", "card", "imported set", "recipe"
"""Kinds of files without a record of Snakemake."""
ENDINGS = (".safetensors", ".parquet", ".json", ".yaml", ".resume")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """From where the workflow runs."""

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        hidden = any(part.startswith(".") for part in parts[:-1])
        if path.startswith("/") or hidden or not path.isprintable() or not path.endswith(ENDINGS):
            raise ValueError("allowed is a file of results below the folder of the project")
        return path


class Entry(_Strict):
    """A file of the pack."""

    kind: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    modified_ns: int = Field(ge=0)
    """When the file was last written, in nanoseconds since 1970: the order of times is Snakemake's."""
    record: dict[str, Any] = {}
    """What Snakemake's record says besides the manifest."""


class LeftOut(_Strict):
    """A finished file that is too large for the pack. Its manifest says what was made from it."""

    bytes: int = Field(ge=0)
    modified_ns: int = Field(ge=0)
    manifest: Manifest
    record: dict[str, Any] = {}


class Contents(BaseModel):
    """Everything in a pack, inputs before what is made from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    scale: str = Field(pattern=f"^{NAME.pattern}$")
    files: list[Entry]
    left_out: list[LeftOut]

    @model_validator(mode="after")
    def _in_place(self) -> Self:
        results = f"results/{re.escape(self.scale)}/.+"
        places = {
            RECIPE: r"config/recipes/[^/]+\.yaml",
            IMPORTED: r".+\.safetensors",
            STATE: rf"{results}/\.[^/]+\.(safetensors|parquet)\.([^/]+\.)?resume",
        }
        for file in (*self.files, *self.left_out):
            if not re.fullmatch(places.get(getattr(file, "kind", ""), results), file.path):
                raise ValueError(f"{file.path} is no place for a file of this kind")
        return self

    @property
    def bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(entry.bytes for entry in self.files)


def write_contents(folder: Path, contents: Contents) -> None:
    """Write the list of a pack, with a seal over itself."""
    text = contents.model_dump(mode="json")
    write_json(folder / CONTENTS, text | {"seal": seal_of(text)})


def read_contents(folder: Path) -> Contents:
    """Read the list of a pack.

    Raises
    ------
    ElfError
        If there is none, if it was altered, if it is of another version, or if a path leads out of the project.
    """
    file = folder / CONTENTS
    if not file.is_file():
        raise ElfError(f"{folder}: holds no {CONTENTS}, so it is no pack; 'elf pack --scale SCALE FOLDER' makes one")
    content = read_json(file)
    if not isinstance(content, dict) or content.get("seal") != seal_of(content):
        raise ElfError(f"{file}: is damaged or was altered (it does not fit its seal); pack the study again")
    if content.get("format") != FORMAT:
        raise ElfError(f"{file}: is of format {content.get('format')}, this version reads {FORMAT}; pack it again")
    return validated(Contents, {key: value for key, value in content.items() if key != "seal"}, file)


def copy(source: Path, target: Path) -> tuple[str, int, int]:
    """Copy a file atomically, with its time; return its sha256, bytes, and time of writing in nanoseconds.

    All are of the state that was copied, also if a job writes the file anew meanwhile.
    """
    digest = hashlib.sha256()
    with atomic(target) as temporary, open(source, "rb") as reading, open(temporary, "wb") as writing:
        status = os.fstat(reading.fileno())
        while part := reading.read(1 << 20):
            digest.update(part)
            writing.write(part)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    return digest.hexdigest(), status.st_size, status.st_mtime_ns


def checksum(file: Path) -> str:
    """Return the sha256 of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
