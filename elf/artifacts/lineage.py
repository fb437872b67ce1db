"""What a result was made from: its file and those before it, as their manifests say."""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path

import safetensors

from elf.artifacts.manifest import Manifest, damaged, read_manifest
from elf.errors import ElfError

THERE, MISSING, CHANGED, UNREADABLE = "there", "not on this disk", "in another state by now", "unreadable"
"""States of a file that a result was made from."""

BYTES = {"U8": 1, "BOOL": 1, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
"""Of one number, by what safetensors calls its format."""


@dataclass(frozen=True)
class Artifact:
    """One file that a result was made from.

    Attributes
    ----------
    role : str
        What it was to the result, for example ``"teacher"``.
    path : str
        Below the results folder.
    state : str
        ``THERE``, ``MISSING``, ``CHANGED`` (what lies there is not what the result was made from) or ``UNREADABLE``.
    id : str or None
        Identifier that the result was made from; None if nothing says which.
    manifest : dict or None
        Of the file as it lies there.
    """

    role: str
    path: str
    state: str
    id: str | None
    manifest: Manifest | None


@dataclass(frozen=True)
class TensorSize:
    """A tensor as the header of its file describes it."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


class Manifests:
    """Manifests of a results folder, each read once.

    Parameters
    ----------
    folder : Path
        Results folder of a scale.
    lenient : bool
        Whether a damaged file is one that cannot be read, instead of an error.
    """

    def __init__(self, folder: Path, *, lenient: bool = False) -> None:
        self._folder = folder
        self._lenient = lenient
        self._known: dict[str, tuple[str, Manifest | None]] = {}
        self._sizes: dict[str, dict[str, TensorSize]] = {}

    def state(self, path: str) -> str:
        """Return ``THERE``, ``MISSING`` or ``UNREADABLE``."""
        return self._read(path)[0]

    def get(self, path: str) -> Manifest | None:
        """Return the manifest of a file below the folder; None if the file is missing or unreadable."""
        return self._read(path)[1]

    def artifact(self, role: str, path: str, named: Collection[str] = ()) -> Artifact:
        """Return a file in the role that it had for a result; ``named`` are the identifiers that other files name."""
        state, manifest = self._read(path)
        found = manifest and manifest["id"]
        others = [identifier for identifier in named if identifier != found]
        if state == THERE and others:
            state = CHANGED
        return Artifact(role, path, state, others[0] if others else found, manifest)

    def sizes(self, path: str) -> dict[str, TensorSize]:
        """Return the tensors of a safetensors file from its header alone; empty if it is missing or unreadable."""
        if path not in self._sizes:
            there = self.state(path) == THERE
            self._sizes[path] = read_sizes(self._folder / path) if there else {}
        return self._sizes[path]

    def _read(self, path: str) -> tuple[str, Manifest | None]:
        if path not in self._known:
            self._known[path] = self._read_file(self._folder / path)
        return self._known[path]

    def _read_file(self, file: Path) -> tuple[str, Manifest | None]:
        if not file.is_file():
            return MISSING, None
        try:
            return THERE, read_manifest(file)
        except ElfError:
            if not self._lenient:
                raise
            return UNREADABLE, None


def read_sizes(path: Path) -> dict[str, TensorSize]:
    """Return the tensors of a safetensors file; nothing but its header is read.

    Raises
    ------
    ElfError
        If the header is none.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            names = file.keys()
            return {name: _size(file.get_slice(name)) for name in names}
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise damaged(path, error) from error


def _size(part) -> TensorSize:
    shape = tuple(part.get_shape())
    return TensorSize(part.get_dtype(), shape, BYTES[part.get_dtype()] * prod(shape))
