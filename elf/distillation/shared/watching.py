"""Guards of a distillation: what goes wrong is noticed on the device, without making it wait for the host."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from elf.errors import ElfError

FINITE = {"loss": (-math.inf, math.inf)}
"""The open interval in which every watched value must stay unless it has one of its own."""


class Diverged(ElfError):
    """A run that must not go on.

    Attributes
    ----------
    learned : dict of str to Tensor
        What it had learned after the last update at which all was well.
    update : int
        Number of that update; 0 is the start.
    """

    def __init__(self, message: str, learned: dict[str, Tensor], update: int) -> None:
        super().__init__(message)
        self.learned = learned
        self.update = update


class Watch:
    """Notices the first update after which a value has left its limits or a learned tensor is not finite.

    Nothing is clamped or repaired. The last good state is kept, at the price of one copy of what is learned.

    Parameters
    ----------
    learned : dict of str to Tensor
        Changed in place by the updates.
    limits : dict of str to (float, float)
        Open interval for each watched value that has one; others must be finite.
    total : int
        Number of updates, for the message.
    hint : str
        What to do, for the message.
    """

    def __init__(
        self, learned: Mapping[str, Tensor], limits: Mapping[str, tuple[float, float]], total: int, hint: str
    ) -> None:
        self._learned = learned
        self._limits = limits
        self._total = total
        self._hint = hint
        self._values: dict[str, Tensor] = {}
        self._former: dict[str, Tensor] = {}
        self.restart(0)

    def restart(self, update: int) -> None:
        """Take the present state for good; it is that after ``update`` updates."""
        device = next(iter(self._learned.values())).device
        self._kept = {name: tensor.detach().clone() for name, tensor in self._learned.items()}
        self._good = torch.ones((), dtype=torch.bool, device=device)
        self._update = torch.tensor(update, device=device)
        self._values, self._former = {}, {}
        self._finite = dict.fromkeys(self._learned, self._good)

    @torch.no_grad()
    def observe(self, update: int, values: Mapping[str, Tensor]) -> None:
        """Look at the state after an update, on the device; the host is not told until :meth:`check`."""
        was_good = self._good
        for name, value in values.items():
            low, high = self._limits.get(name, FINITE["loss"])
            self._good = self._good & (value > low) & (value < high)
        for name, tensor in self._learned.items():
            # As with the values: what counts is the first bad update, not the state when the host looks.
            self._finite[name] = torch.where(was_good, tensor.isfinite().all(), self._finite[name])
            self._good = self._good & self._finite[name]
        for name, value in values.items():
            # The first bad values stay, whatever comes after them.
            former = self._values.get(name, torch.full_like(value, math.nan))
            self._former[name] = torch.where(was_good, former, self._former.get(name, former))
            self._values[name] = torch.where(was_good, value, former)
        for name, tensor in self._learned.items():
            self._kept[name].copy_(torch.where(self._good, tensor, self._kept[name]))
        self._update = torch.where(self._good, update, self._update)

    def check(self) -> None:
        """Raise an error if something went wrong since the last check.

        Raises
        ------
        Diverged
            With the first bad update, its values, the values before it and the last good state.
        """
        if self._good:
            return
        update = int(self._update)
        text = f"stopped after update {update + 1} of {self._total}: {_list(self._values)}"
        before = f" (after update {update}: {_list(self._former)})" if update else ""
        wrong = [name for name, finite in self._finite.items() if not finite]
        lost = f", {' and '.join(wrong)} not finite" if wrong else ""
        raise Diverged(f"{text}{lost}{before}; {self._hint}", self._kept, update)


def _list(values: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {value.item():.6g}" for name, value in values.items())
