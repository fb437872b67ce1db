"""Expert trajectories, read snapshot by snapshot from files that stay on the disk."""

from collections.abc import Iterable
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from elf.artifacts.manifest import damaged, read_manifest
from elf.artifacts.tensors import tensor_checksum
from elf.errors import ElfError
from elf.machine.device import to_device

SHARED = ("dataset", "network", "classes", "side", "held_out_per_class")
"""What the experts of one buffer have in common."""


class ExpertBuffer:
    """The trajectories of some experts, one file an expert.

    Opening reads the manifests alone. Files are memory-mapped: of a file only the snapshots that are asked for
    come into memory, and the system can drop them again. Each is verified when it is read for the first time.

    Parameters
    ----------
    paths : iterable of Path
        One for each expert; the position is its index in the buffer.

    Attributes
    ----------
    manifests : list of dict
        One for each expert.
    ids : list of str
        Identifiers of the content, from the manifests.
    epochs : tuple of int
        Those of which every expert has a snapshot.

    Raises
    ------
    ElfError
        If there is no file, one is missing, damaged, of another kind, or does not belong to the first.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = [Path(path) for path in paths]
        if not self._paths:
            raise ElfError("a buffer needs the file of one expert at least; train some with 'elf train-expert'")
        self.manifests = [read_manifest(path, "expert trajectory") for path in self._paths]
        self.ids = [manifest["id"] for manifest in self.manifests]
        self._check_one_buffer()
        each = [set(manifest["spec"]["epochs"]) for manifest in self.manifests]
        self.epochs = tuple(sorted(set.intersection(*each)))
        self._files: dict[int, safetensors.safe_open] = {}
        self._verified: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._paths)

    def snapshot(self, index: int, epoch: int, device: torch.device | str = "cpu") -> Tensor:
        """Return the parameters of one expert after ``epoch`` completed epochs.

        Parameters
        ----------
        index : int
            Position of the expert in the buffer.
        epoch : int
        device : torch.device or str

        Returns
        -------
        Tensor of shape (P,)
            A float32 copy, whatever the file holds.

        Raises
        ------
        ElfError
            If the expert has no such snapshot, or the file is damaged.
        """
        path, manifest, name = self._paths[index], self.manifests[index], f"epoch{epoch}"
        if name not in manifest["checksums"]:
            found = ", ".join(map(str, sorted(manifest["spec"]["epochs"])))
            raise ElfError(f"{path}: holds no snapshot of epoch {epoch}; found the epochs {found}")
        try:
            if index not in self._files:
                self._files[index] = safetensors.safe_open(path, framework="pt")
            stored = self._files[index].get_tensor(name)
        except (OSError, safetensors.SafetensorError) as error:
            raise damaged(path, error) from error
        if (index, epoch) not in self._verified:
            if manifest["checksums"][name] != tensor_checksum(stored):
                raise damaged(path, f"the checksum of {name} does not fit")
            self._verified.add((index, epoch))
        return to_device(stored.to(torch.float32, copy=True), torch.device(device))

    def _check_one_buffer(self) -> None:
        first, paths = self.manifests[0], {}
        for path, manifest in zip(self._paths, self.manifests, strict=True):
            for key in SHARED:
                own, expected = manifest["spec"][key], first["spec"][key]
                if own != expected:
                    raise ElfError(f"{path}: is an expert of {key} {own!r}, but {self._paths[0]} of {expected!r}")
            if manifest["inputs"]["dataset"]["id"] != first["inputs"]["dataset"]["id"]:
                raise ElfError(f"{path}: was trained on another dataset than {self._paths[0]}; train one of them anew")
            if (same := paths.setdefault(manifest["spec"]["index"], path)) != path:
                raise ElfError(f"{path}: is expert {manifest['spec']['index']}, as {same}; give each expert once")
