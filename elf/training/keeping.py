"""A checkpoint of a training that also holds what the training has kept so far."""

from collections.abc import Callable

from torch import Tensor

from elf.training.course import Checkpoint

PREFIX = "kept."


class Keeping:
    """What :func:`elf.training.protocol.train` takes for a checkpoint, with the kept tensors in the same file.

    A training that continues after an interruption then still has those of the passes before it.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        Where to save to; None saves nothing.

    Attributes
    ----------
    kept : dict of int to dict of str to Tensor
        By completed epochs; add to it as the training goes on.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self.kept: dict[int, dict[str, Tensor]] = {}
        self._checkpoint = checkpoint

    def load(self) -> dict[str, Tensor] | None:
        """Return the state of the training, and take back what had been kept."""
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return None
        for key in [key for key in state if key.startswith(PREFIX)]:
            epoch, name = key.removeprefix(PREFIX).split(".", 1)
            self.kept.setdefault(int(epoch), {})[name] = state.pop(key)
        return state

    def save_if_due(self, make_state: Callable[[], dict[str, Tensor]]) -> None:
        """Save the state of the training together with what has been kept."""
        if self._checkpoint:
            self._checkpoint.save_if_due(lambda: make_state() | self._flat())

    def _flat(self) -> dict[str, Tensor]:
        return {
            f"{PREFIX}{epoch}.{name}": tensor
            for epoch, tensors in self.kept.items()
            for name, tensor in tensors.items()
        }
