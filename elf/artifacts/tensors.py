"""Tensors and their manifest in one safetensors file; nothing is ever unpickled."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from elf.artifacts.files import atomic
from elf.artifacts.manifest import MANIFEST, Manifest, damaged, is_made, read_manifest, sealed
from elf.errors import ElfError
from elf.specs.base import canonical_json


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], manifest: Manifest) -> Manifest:
    """Write tensors and their manifest into one safetensors file; return the manifest with its identifier.

    An intact file of the same job with the same content stays as it is.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksums = {name: tensor_checksum(tensor) for name, tensor in tensors.items()}
    manifest = sealed(manifest, checksums)
    if is_made(path, manifest) and _is_intact(path, manifest):
        return manifest
    with atomic(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata={MANIFEST: canonical_json(manifest)})
        except safetensors.SafetensorError as error:
            # The library wraps what the system said, for example that no space is left.
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise ElfError(f"{path}: cannot be written: {error}") from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    return manifest


def read_tensors(path: Path, kind: str, names: Iterable[str] | None = None) -> tuple[dict[str, torch.Tensor], Manifest]:
    """Read and verify tensors.

    Parameters
    ----------
    path : Path
        File written by `write_tensors`.
    kind : str
        Kind of artifact that is expected.
    names : iterable of str, optional
        Tensors to read; by default all.

    Returns
    -------
    tensors : dict of str to Tensor
    manifest : dict

    Raises
    ------
    ElfError
        If the file is missing, damaged, altered, of another kind or without a tensor.
    """
    manifest = read_manifest(path, kind)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            wanted = list(manifest["checksums"] if names is None else names)
            missing = sorted(set(wanted) - set(file.keys()))
            if missing:
                raise ElfError(f"{path}: holds no {', '.join(missing)}; found {', '.join(sorted(file.keys()))}")
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (OSError, safetensors.SafetensorError) as error:
        raise damaged(path, error) from error
    verify(path, tensors, manifest)
    return tensors, manifest


def _is_intact(path: Path, manifest: Manifest) -> bool:
    try:
        read_tensors(path, manifest["kind"])
    except ElfError:
        return False
    return True


def verify(path: Path, tensors: Mapping[str, torch.Tensor], manifest: Manifest) -> None:
    """Raise an error if a tensor of a file is not the one that its manifest has the checksum of."""
    for name, tensor in tensors.items():
        if manifest["checksums"].get(name) != tensor_checksum(tensor):
            raise damaged(path, f"the checksum of {name} does not fit")


def tensor_checksum(tensor: torch.Tensor) -> str:
    """Return a digest of the content, the shape and the number format of a tensor on the CPU."""
    array = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(array)
    return digest.hexdigest()
