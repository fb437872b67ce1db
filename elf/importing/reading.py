"""Safe readers: a file becomes nested dictionaries and lists of tensors, and nothing in it is ever run."""

import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.unpickling import read_torch, refuse_too_large, usable

NPY, ZIP = b"\x93NUMPY", b"PK"
LARGEST_EXPANSION = 2000
"""How many times larger than in the archive an array may be; zeros compress by a factor of 1030 at most."""


def read(path: Path) -> Any:
    """Read a file by what is in it, whatever its name ends in.

    Parameters
    ----------
    path : Path
        A file of ``torch.save``, a ``.npy``, a ``.npz`` or a ``.safetensors``.

    Returns
    -------
    Tensor, dict, list or number
        Nested as in the file; arrays are tensors on the CPU.

    Raises
    ------
    ElfError
        If the file is missing, empty, damaged, of another kind, or would run code on loading.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            start = stream.read(16)
        if not start:
            raise ElfError(f"{path}: is empty; get an intact copy")
        if start.startswith(NPY):
            return _read_npy(path)
        if start.startswith(ZIP) and _is_npz(path):
            return _read_npz(path)
    except OSError as error:
        raise ElfError(f"{path}: cannot be read: {error.strerror or error}; name a file or a folder") from error
    if start[8:9] == b"{" and not start.startswith(ZIP):
        return _read_safetensors(path)
    return read_torch(path)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    path = Path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest() if path.is_dir() else b"")
            if not path.is_dir():
                return hashlib.file_digest(stream, "sha256").hexdigest()
    return digest.hexdigest()


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except Exception:
        # Damaged archives make their reader raise almost anything; read_torch says what is wrong.
        return False


def _read_npy(path: Path) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except MemoryError as error:
        raise ElfError(f"{path}: does not fit in memory; use a machine with more of it") from error
    except Exception as error:
        raise _unreadable(path, error) from error
    return _tensor(array, path)


def _read_npz(path: Path) -> dict[str, Tensor]:
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_too_large(path, sum(entry.file_size for entry in archive.infolist()))
            for entry in archive.infolist():
                if entry.file_size > LARGEST_EXPANSION * max(entry.compress_size, 1024):
                    raise ElfError(f"{path}: {entry.filename} claims {entry.file_size} bytes; the file is not intact")
                if not entry.filename.endswith(".npy"):
                    continue
                with archive.open(entry) as stream:
                    _check_size(path, entry, stream)
                with archive.open(entry) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                tensors[entry.filename.removesuffix(".npy")] = _tensor(array, path)
    except (ElfError, MemoryError) as error:
        raise ElfError(str(error) or f"{path}: does not fit in memory; use a machine with more of it") from error
    except Exception as error:
        raise _unreadable(path, error) from error
    return tensors


def _check_size(path: Path, entry: zipfile.ZipInfo, stream) -> None:
    """Compare the size that an array claims with the bytes there are, before memory is taken for it."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > entry.file_size:
        raise ElfError(f"{path}: {entry.filename} claims the shape {shape}, more than the file holds; it is cut off")


def _tensor(array: np.ndarray, path: Path) -> Tensor:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ElfError(f"{path}: holds values of type {array.dtype}, expected numbers; save them as float32 or int64")
    return usable(torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C")), path)


def _unreadable(path: Path, error: Exception) -> ElfError:
    if "pickle" in str(error).lower():
        return ElfError(
            f"{path}: refused, because it holds pickled objects, and loading those would run code; nothing of it was "
            "run. Ask whoever made it for plain arrays of numbers"
        )
    return ElfError(f"{path}: cannot be read as NumPy's arrays: it is damaged or cut off; get an intact copy")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:
        raise ElfError(f"{path}: cannot be read as safetensors ({error}); get an intact copy") from error
