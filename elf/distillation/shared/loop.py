"""The loop around every iterative method: it continues where it was killed, watches, and keeps the right state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elf.distillation.shared.synthetic import SyntheticSet
from elf.distillation.shared.watching import FINITE, Watch
from elf.training.course import Checkpoint, Course

UPDATES_BETWEEN_CHECKS = 50
"""How often the host looks at what the device has noticed; each look makes a GPU wait."""

Progress = Callable[[int, int, Tensor | None], None]


@dataclass(frozen=True, eq=False)
class State:
    """Everything that an update changes; all tensors are changed in place.

    Attributes
    ----------
    learned : dict of str to Tensor
        What the synthetic set consists of, on one device; it is watched.
    memory : dict of str to Tensor
        Everything else: momenta, networks, counters.
    streams : dict of str to torch.Generator
        On the CPU; all that is random is drawn from them.
    """

    learned: dict[str, Tensor]
    memory: dict[str, Tensor]
    streams: dict[str, torch.Generator]


@dataclass(frozen=True)
class Selection:
    """How the state to keep is chosen among several; without one it is the state after the last update.

    Attributes
    ----------
    rule : {"validation", "best_on_test"}
        What the score is measured on: images held out from the training set, or the test set, as the official
        scripts do, which makes the accuracy on the test set optimistic.
    every : int
        Updates between two candidates; the first is the state after this many updates.
    score : callable (SyntheticSet) -> float
        The larger the better. The same set gives the same score.
    """

    rule: str
    every: int
    score: Callable[[SyntheticSet], float]


def run(
    update: Callable[[int], dict[str, Tensor]],
    *,
    total: int,
    state: State,
    result: Callable[[], SyntheticSet],
    progress: Progress,
    checkpoint: Checkpoint | None = None,
    selection: Selection | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    hint: str,
) -> SyntheticSet:
    """Repeat an update and return the synthetic set.

    Parameters
    ----------
    update : callable (index of the update) -> dict of str to Tensor of shape ()
        Changes `state` in place and returns what is watched, on the device and detached: ``loss``, and
        others such as ``step size``.
    total : int
        Number of updates.
    state : State
        Complete: an update depends on nothing else that changes.
    result : callable () -> SyntheticSet
        Makes a set from the current state; its tensors may be those of the state.
    progress : callable (finished updates, total, loss)
        Called after every update. Reading the loss makes a GPU wait; the callback decides when.
    checkpoint : Checkpoint or None
        A run that is killed and started again continues bit for bit.
    selection : Selection or None
        Candidates are the states after ``every``, ``2 * every``, ... updates; None keeps the last state.
    limits : dict of str to (float, float), optional
        Open interval in which a watched value must stay; without one it must be finite.
    hint : str
        What to do when the run has to be stopped.

    Returns
    -------
    SyntheticSet
        Copies of the last state, or of the best candidate (the earlier of equal ones).

    Raises
    ------
    Diverged
        If a watched value leaves its limits or a learned tensor is not finite; looked at every 50 updates,
        before a checkpoint and at the end, and named with the first update at which it happened.
    """
    watch = Watch(state.learned, FINITE if limits is None else FINITE | dict(limits), total, hint)
    best = _Best(selection, total)
    course = Course(
        tensors=state.learned | state.memory,
        streams=state.streams,
        total=total,
        every=UPDATES_BETWEEN_CHECKS,
        check=lambda index, loss: watch.check(),
        progress=progress,
        checkpoint=checkpoint,
    )
    finished = 0
    if saved := course.resume():
        best.restore(saved)
        finished = int(saved["finished"])
        watch.restart(finished)

    while finished < total:
        values = update(finished)
        finished += 1
        watch.observe(finished, values)
        course.advance(finished, values["loss"], look=best.is_due(finished))
        best.consider(finished, result)
        course.keep(finished, values["loss"], best.save)
    return best.chosen(result)


@torch.no_grad()
def descend(tensor: Tensor, gradient: Tensor, velocity: Tensor, *, lr: float, momentum: float) -> None:
    """Change a tensor and its velocity in place by one step of SGD with momentum, as ``torch.optim.SGD`` does."""
    velocity.mul_(momentum).add_(gradient)
    tensor.add_(velocity, alpha=-lr)


class _Best:
    """The best candidate so far."""

    def __init__(self, selection: Selection | None, total: int) -> None:
        self._selection = selection
        self._scores: list[tuple[int, float]] = []
        self._set: SyntheticSet | None = None
        if selection is not None and not 1 <= selection.every <= total:
            raise ValueError(f"selection every {selection.every} updates of {total}")

    def is_due(self, finished: int) -> bool:
        return self._selection is not None and finished % self._selection.every == 0

    def consider(self, finished: int, result: Callable[[], SyntheticSet]) -> None:
        if not self.is_due(finished):
            return
        candidate = _copy(result())
        score = self._selection.score(candidate)
        if self._set is None or score > max(score for _, score in self._scores):
            self._set = candidate
        self._scores.append((finished, score))

    def chosen(self, result: Callable[[], SyntheticSet]) -> SyntheticSet:
        if self._selection is None:
            return _copy(result())
        update = max(self._scores, key=lambda entry: entry[1])[0]
        chosen = {"rule": self._selection.rule, "update": update, "scores": self._scores}
        return replace(self._set, selection=chosen)

    def save(self) -> dict[str, Tensor]:
        if self._set is None:
            return {}
        tensors = {"best.images": self._set.images, "best.labels": self._set.labels}
        tensors |= {f"best.extra.{k}": torch.tensor(v, dtype=torch.float64) for k, v in self._set.extra.items()}
        return tensors | {"best.scores": torch.tensor(self._scores, dtype=torch.float64)}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        if "best.scores" not in saved:
            return
        prefix = "best.extra."
        extra = {name.removeprefix(prefix): t.item() for name, t in saved.items() if name.startswith(prefix)}
        self._scores = [(int(update), score) for update, score in saved["best.scores"].tolist()]
        self._set = SyntheticSet(saved["best.images"], saved["best.labels"], extra)


def _copy(synthetic: SyntheticSet) -> SyntheticSet:
    return replace(synthetic, images=synthetic.images.detach().clone(), labels=synthetic.labels.detach().clone())
