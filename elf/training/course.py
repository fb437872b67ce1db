"""What every long run shares: it continues where it was killed, stops where it diverges, and says how far it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Checkpoint(Protocol):
    """What a run needs of :class:`elf.artifacts.checkpoints.Checkpoint`."""

    def load(self) -> dict[str, Tensor] | None: ...

    def save_if_due(self, make_state: Callable[[], dict[str, Tensor]]) -> None: ...


@dataclass(frozen=True, eq=False)
class Course:
    """A run of many parts (passes, steps, updates).

    Attributes
    ----------
    tensors : dict of str to Tensor
        All that the parts change, in place.
    streams : dict of str to torch.Generator, or to a sequence of them
        On the CPU; what is drawn from.
    total : int
        Number of parts.
    every : int
        How often a diverged run is looked for; each look makes a GPU wait for the host.
    check : callable (index of a part, its loss)
        Raises an error if the run has diverged.
    progress : callable (finished parts, total, loss of the last one) or None
        The loss is a tensor on the device; reading it makes a GPU wait.
    checkpoint : Checkpoint or None
        Where to continue from and to save to.
    """

    tensors: Mapping[str, Tensor]
    streams: Mapping[str, torch.Generator | Sequence[torch.Generator]]
    total: int
    every: int
    check: Callable[[int, Tensor], None]
    progress: Callable[[int, int, Tensor], None] | None = None
    checkpoint: Checkpoint | None = None

    @torch.no_grad()
    def resume(self) -> dict[str, Tensor]:
        """Put everything back as it was saved, and return the saved state, with ``finished``; empty for a new run."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return {}
        for name, tensor in self.tensors.items():
            tensor.copy_(saved[name])
        for name in self.streams:
            states = saved[f"stream.{name}"].cpu()
            for stream, state in zip(self._streams(name), states.reshape(-1, states.shape[-1]), strict=True):
                stream.set_state(state.clone())
        return saved

    def drawn(self) -> dict[str, Tensor]:
        """Return the states of the streams."""
        states = {name: [stream.get_state() for stream in self._streams(name)] for name in self.streams}
        return {f"stream.{name}": torch.stack(own).squeeze(0) for name, own in states.items()}

    def advance(self, finished: int, loss: Tensor, *, look: bool = False) -> None:
        """Look whether the run has diverged, where it is time, at the end and if asked to; and say how far it is."""
        if look or finished % self.every == 0 or finished == self.total:
            self.check(finished - 1, loss)
        if self.progress is not None:
            self.progress(finished, self.total, loss)

    def keep(
        self,
        finished: int,
        loss: Tensor,
        more: Callable[[], Mapping[str, Tensor]] = dict,
        *,
        inside: bool = False,
    ) -> None:
        """Save where it is time, after a look at whether the state is worth it.

        Parameters
        ----------
        finished : int
            Parts that are complete.
        loss : Tensor
            Of the last part.
        more : callable () -> dict of str to Tensor
            What else a continued run needs; it has the last word.
        inside : bool
            Whether the next part has begun, and the loss is its.
        """
        if self.checkpoint is None:
            return

        def make_state() -> dict[str, Tensor]:
            self.check(finished if inside else finished - 1, loss)
            tensors = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
            return tensors | self.drawn() | {"finished": torch.tensor(finished)} | more()

        self.checkpoint.save_if_due(make_state)

    def _streams(self, name: str) -> Sequence[torch.Generator]:
        own = self.streams[name]
        return [own] if isinstance(own, torch.Generator) else own
