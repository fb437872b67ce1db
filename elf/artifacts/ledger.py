"""What a job, or a part of it, has spent: over all its attempts, as far as they led to its result."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from elf.machine.memory import peak_resident_bytes


@dataclass(frozen=True)
class Spent:
    """Time and memory.

    Attributes
    ----------
    wall_seconds : float
        By a clock that nobody sets.
    device_seconds : float
        How long the device was held: on a GPU the wall seconds, because a job holds one GPU from its start to its
        end; on a CPU the seconds of all threads of the process together.
    peak_memory_bytes : int
        The most that was in use.
    """

    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def __add__(self, later: "Spent") -> "Spent":
        return Spent(
            self.wall_seconds + later.wall_seconds,
            self.device_seconds + later.device_seconds,
            max(self.peak_memory_bytes, later.peak_memory_bytes),
        )


class Ledger:
    """Counts what is spent from now on, and what earlier attempts had spent on the state that this one goes on from.

    What an earlier attempt computed after its last checkpoint is lost, and its time with it: the job does that again.

    Parameters
    ----------
    on_gpu : bool
        Whether the device is a GPU.
    peak_memory : callable () -> int
        The most memory in use so far, in bytes; that of the process unless told otherwise.
    """

    def __init__(self, *, on_gpu: bool = False, peak_memory: Callable[[], int] = peak_resident_bytes) -> None:
        self._on_gpu = on_gpu
        self._peak_memory = peak_memory
        self._earlier = Spent()
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def go_on_from(self, earlier: Spent) -> None:
        """Take over what had been spent when a checkpoint was saved.

        A job with several checkpoints may load one after the other; each holds what those before it hold, so that the
        largest one counts, not their sum.
        """
        self._earlier = max(self._earlier, earlier, key=lambda spent: spent.wall_seconds)

    def spent(self) -> Spent:
        """Return everything so far."""
        wall = time.monotonic() - self._wall
        device = wall if self._on_gpu else time.process_time() - self._cpu
        return self._earlier + Spent(wall, device, self._peak_memory())
