"""What many tests need: streams of randomness, a checkpoint in memory, an end without warning."""

import copy

import torch


def stream(seed: int = 0) -> torch.Generator:
    """Return a generator on the CPU that starts at a seed."""
    return torch.Generator().manual_seed(seed)


def ignore(finished, total, loss) -> None:
    """Take a report of progress and do nothing."""


class Killed(Exception):
    """The end of an attempt."""


class MemoryCheckpoint:
    """Keeps the last state, taken every so many calls, as a file does: later changes of its tensors do not reach it.

    Attributes
    ----------
    every : int
        Calls from one state that is kept to the next.
    die_at : int or None
        The call at which it raises `Killed` instead.
    """

    def __init__(self, every: int = 1) -> None:
        self.every, self.calls, self.state, self.die_at = every, 0, None, None

    def load(self):
        return copy.deepcopy(self.state)

    def save_if_due(self, make_state) -> None:
        self.calls += 1
        if self.calls == self.die_at:
            raise Killed
        if self.calls % self.every == 0:
            with torch.no_grad():
                self.state = {
                    name: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
                    for name, value in make_state().items()
                }
