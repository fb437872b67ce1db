"""Checkpoints: where an interrupted job continues; private to the job and thrown away after it."""

import glob
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from elf.files import write_bytes

log = logging.getLogger(__name__)


class Checkpoint:
    """One safetensors file that holds the latest state of a job.

    Parameters
    ----------
    path : Path
        File of the checkpoint; its folder is made when needed.
    key : str
        Digest of all that determines the job: its specification, its inputs and its code. A file that
        carries another key is not loaded.
    interval_seconds : float
        Least time between two saves by :meth:`save_if_due`.
    """

    def __init__(self, path: Path, key: str, interval_seconds: float = 300) -> None:
        self.path = Path(path)
        self.key = key
        self.interval_seconds = interval_seconds
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Tensor] | None:
        """Return the saved tensors, on the CPU; None where there is no intact file with the same key.

        A damaged or foreign file costs the time it stands for, never the job: it is logged and ignored.
        """
        if not self.path.is_file():
            return None
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            log.warning("starting afresh: the checkpoint %s cannot be read (%s)", self.path, error)
            return None
        if metadata.get("key") != self.key:
            log.warning("starting afresh: the checkpoint %s belongs to other settings or code", self.path)
            return None
        if metadata.get("digest") != _digest(state):
            log.warning("starting afresh: the checkpoint %s is damaged", self.path)
            return None
        log.info("continuing from the checkpoint %s", self.path)
        return state

    def save_if_due(self, make_state: Callable[[], dict[str, Tensor]]) -> None:
        """Save what ``make_state`` returns if the last save, or the start, is long enough ago.

        Raises
        ------
        ElfError
            If the file cannot be written.
        """
        if time.monotonic() - self._saved_at >= self.interval_seconds:
            self.save_now(make_state)

    def save_now(self, make_state: Callable[[], dict[str, Tensor]]) -> None:
        """Save what ``make_state`` returns; the former file stays in place until the new one is complete.

        Raises
        ------
        ElfError
            If the file cannot be written.
        """
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in make_state().items()}
        metadata = {"key": self.key, "digest": _digest(state)}
        # In memory first: safetensors' own writer hides a full disk behind an error of its own.
        write_bytes(self.path, safetensors.torch.save(state, metadata=metadata))
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file and what killed jobs left half-written; do nothing where there is none."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
            partial.unlink(missing_ok=True)


def _digest(state: dict[str, Tensor]) -> str:
    # Safetensors notices a truncated file but not an altered one.
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
