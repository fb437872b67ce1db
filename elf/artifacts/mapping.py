"""Tensors of a safetensors file that stay in the file: nothing is read but what is used."""

import json
import mmap
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from elf.artifacts.manifest import Manifest, damaged, read_manifest
from elf.artifacts.tensors import verify
from elf.errors import ElfError

FORMATS = {
    "U8": torch.uint8,
    "I64": torch.int64,
    "F32": torch.float32,
    "F64": torch.float64,
}


def map_tensors(path: Path, kind: str, names: Iterable[str]) -> tuple[dict[str, torch.Tensor], Manifest]:
    """Map and verify tensors of a file; they must not be written to.

    ``safetensors.safe_open`` maps files, too, but so that they may be written to in memory, which the system refuses
    for a file that is larger than its memory.

    Parameters
    ----------
    path : Path
        File written by `elf.artifacts.tensors.write_tensors`.
    kind : str
        Kind of artifact that is expected.
    names : iterable of str
        Tensors of uint8, int64, float32 or float64.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU.
    manifest : dict

    Raises
    ------
    ElfError
        If the file is missing, damaged, altered, of another kind or without a tensor.
    """
    manifest = read_manifest(path, kind)
    try:
        with open(path, "rb") as stream:
            start = 8 + struct.unpack("<Q", stream.read(8))[0]
            header = json.loads(stream.read(start - 8))
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        missing = sorted(set(names := list(names)) - header.keys())
        if missing:
            found = ", ".join(sorted(header.keys() - {"__metadata__"}))
            raise ElfError(f"{path}: holds no {', '.join(missing)}; found {found}")
        tensors = {name: _tensor(content, start, **header[name]) for name in names}
    except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
        raise damaged(path, error) from error
    verify(path, tensors, manifest)
    return tensors, manifest


def _tensor(content: mmap.mmap, start: int, *, dtype: str, shape: list[int], data_offsets: list[int]) -> torch.Tensor:
    begin, end = data_offsets
    array = np.frombuffer(content, np.uint8, end - begin, start + begin)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array).view(FORMATS[dtype]).view(shape)
