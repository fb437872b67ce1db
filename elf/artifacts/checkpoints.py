"""Checkpoints: where an interrupted job continues; private to the job and thrown away after it."""

import glob
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from elf.artifacts.files import write_bytes
from elf.artifacts.ledger import Ledger, Spent
from elf.errors import ElfError
from elf.machine.time_limit import TimeLimit

log = logging.getLogger(__name__)

SPENT = "spent."
"""Under names that begin so lies what the ledgers hold: beside the state, of which it is no part."""


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
        Least time between two saves by :meth:`save_if_due`: what a job loses that is killed, but for the step at hand.
    time_limit : TimeLimit, optional
        When the job will be killed.
    ledgers : sequence of Ledger
        Saved with every state, and told by :meth:`load` what had been spent up to the one that it returns.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        interval_seconds: float = 300,
        time_limit: TimeLimit | None = None,
        ledgers: Sequence[Ledger] = (),
    ) -> None:
        self.path = Path(path)
        self.key = key
        self.interval_seconds = interval_seconds
        self.time_limit = time_limit or TimeLimit(None)
        self._ledgers = tuple(ledgers)
        self._saved_at = self._called_at = time.monotonic()
        self._longest_step = 0.0

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
        spent = {name: state.pop(name).tolist() for name in list(state) if name.startswith(SPENT)}
        for index, ledger in enumerate(self._ledgers):
            if f"{SPENT}{index}" in spent:
                wall, device, memory = spent[f"{SPENT}{index}"]
                ledger.go_on_from(Spent(wall, device, int(memory)))
        return state

    def save_if_due(self, make_state: Callable[[], dict[str, Tensor]]) -> None:
        """Save what ``make_state`` returns if the last save, or the start, is long enough ago; call it at every step.

        Raises
        ------
        ElfError
            If the file cannot be written; or if the job's time is nearly up, after a save.
        """
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._called_at)
        if self.time_limit.is_near(self._longest_step):
            self.save_now(make_state)
            raise ElfError(
                f"stopped {self.time_limit.seconds_left:.0f} s before the job's time limit, with everything saved in "
                f"{self.path}; it goes on from there when it is started again"
            )
        if now - self._saved_at >= self.interval_seconds:
            self.save_now(make_state)
        # After the save, whose time is no step's.
        self._called_at = time.monotonic()

    def save_now(self, make_state: Callable[[], dict[str, Tensor]]) -> None:
        """Save what ``make_state`` returns; the former file stays in place until the new one is complete.

        Raises
        ------
        ElfError
            If the file cannot be written.
        """
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in make_state().items()}
        state |= {
            f"{SPENT}{index}": torch.tensor(astuple(ledger.spent()), dtype=torch.float64)
            for index, ledger in enumerate(self._ledgers)
        }
        metadata = {"key": self.key, "digest": _digest(state)}
        # In memory first: safetensors' own writer hides a full disk behind an error of its own.
        content = safetensors.torch.save(state, metadata=metadata)
        try:
            write_bytes(self.path, content)
        except ElfError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # A node that was cut off may still run this job: it ended, and removed the half-written files of both.
            write_bytes(self.path, content)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file and what killed jobs left half-written; do nothing where there is none."""
        if self.path.exists():
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
