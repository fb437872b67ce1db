"""The loop of the iterative methods and its guards, with an update whose every step is known."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers import Killed, MemoryCheckpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from elf.distillation.shared import loop
from elf.distillation.shared.loop import Selection, State
from elf.distillation.shared.synthetic import SyntheticSet
from elf.distillation.shared.watching import Diverged, Watch

BETWEEN = loop.UPDATES_BETWEEN_CHECKS


class Walk:
    """A random walk of two images, with a momentum and a counter, that can be made to fail at an update."""

    def __init__(self, *, nan_loss_at=(), lost_at=(), step_size=None) -> None:
        self.images = torch.zeros(2, 3, 4, 4)
        self.step = torch.tensor(0.5)
        self.velocity = torch.zeros_like(self.images)
        self.counter = torch.tensor(0)
        self.stream = torch.Generator().manual_seed(7)
        self.nan_loss_at, self.lost_at = nan_loss_at, lost_at
        self.step_size = step_size
        self.state = State(
            {"images": self.images, "step": self.step},
            {"velocity": self.velocity, "counter": self.counter},
            {"noise": self.stream},
        )

    def update(self, index):
        self.velocity.mul_(0.5).add_(torch.randn(self.images.shape, generator=self.stream))
        self.images.add_(self.velocity)
        self.step.mul_(0.9)
        self.counter.add_(1)
        if index + 1 in self.lost_at:
            self.images[1, 0, 2, 3] = math.nan
        loss = math.nan if index + 1 in self.nan_loss_at else index + 0.5
        values = {"loss": torch.tensor(loss)}
        if self.step_size is not None:
            values["step size"] = torch.tensor(self.step_size(index + 1))
        return values

    def result(self):
        return SyntheticSet(self.images, torch.tensor([0, 1]), {"step_size": self.step.item()})

    def run(self, total, **others):
        others.setdefault("progress", lambda finished, total, loss: None)
        return loop.run(self.update, total=total, state=self.state, result=self.result, hint="lower the lr", **others)


def killing(last):
    def progress(finished, total, loss):
        if finished == last:
            raise Killed

    return progress


def score_of(candidate: SyntheticSet) -> float:
    """Depends on the images alone, and goes up and down along the walk."""
    return candidate.images.sum().item()


# --- the loop --------------------------------------------------------------------------------------------


def test_every_update_is_made_once_and_seen_in_order():
    seen, walk = [], Walk()
    result = walk.run(5, progress=lambda finished, total, loss: seen.append((finished, total, loss.item())))
    assert seen == [(1, 5, 0.5), (2, 5, 1.5), (3, 5, 2.5), (4, 5, 3.5), (5, 5, 4.5)]
    assert walk.counter == 5 and result.selection is None
    walk.images.zero_()
    assert result.images.abs().sum() > 0


def test_checkpoint_holds_everything_that_an_update_changes():
    walk, checkpoint = Walk(), MemoryCheckpoint()
    walk.run(3, checkpoint=checkpoint)
    expected = {
        "images": walk.images,
        "step": walk.step,
        "velocity": walk.velocity,
        "counter": walk.counter,
        "stream.noise": walk.stream.get_state(),
        "finished": torch.tensor(3),
    }
    assert checkpoint.state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.state.items())


def test_saved_state_is_a_copy():
    walk, saved = Walk(), {}
    walk.run(
        1, checkpoint=SimpleNamespace(load=lambda: None, save_if_due=lambda make_state: saved.update(make_state()))
    )
    images = walk.images.clone()
    walk.update(1)
    assert not torch.equal(walk.images, images) and torch.equal(saved["images"], images)
    assert saved["counter"] == 1 and walk.counter == 2


@given(total=st.integers(1, 12), kill_after=st.lists(st.integers(1, 12), max_size=4), every=st.integers(1, 4))
def test_killed_and_started_again_continues_bit_for_bit(total, kill_after, every):
    every_third = Selection("validation", min(3, total), score_of)
    whole = Walk().run(total, selection=every_third)
    checkpoint = MemoryCheckpoint(every)
    for last in kill_after:
        try:
            Walk().run(total, selection=every_third, checkpoint=checkpoint, progress=killing(last))
        except Killed:
            continue
    resumed = Walk().run(total, selection=every_third, checkpoint=checkpoint)
    assert torch.equal(resumed.images, whole.images) and torch.equal(resumed.labels, whole.labels)
    assert resumed.extra == whole.extra and resumed.selection == whole.selection


def test_finished_run_is_not_repeated():
    checkpoint, seen = MemoryCheckpoint(), []
    first = Walk().run(4, checkpoint=checkpoint)
    again = Walk().run(4, checkpoint=checkpoint, progress=lambda *call: seen.append(call))
    assert seen == [] and torch.equal(again.images, first.images)


@settings(max_examples=10)
@given(lr=st.floats(0.01, 2), momentum=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_descend_is_sgd_with_momentum(lr, momentum, seed):
    stream = torch.Generator().manual_seed(seed)
    ours = torch.randn(5, generator=stream)
    theirs = torch.nn.Parameter(ours.clone())
    velocity = torch.zeros(5)
    optimiser = torch.optim.SGD([theirs], lr=lr, momentum=momentum)
    for _ in range(4):
        gradient = torch.randn(5, generator=stream)
        loop.descend(ours, gradient, velocity, lr=lr, momentum=momentum)
        theirs.grad = gradient.clone()
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach())


# --- guards ----------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(bad=st.integers(1, 2 * BETWEEN + 10), later=st.integers(1, 30), lost=st.booleans())
def test_first_bad_update_is_named_and_the_state_before_it_kept(bad, later, lost):
    """Looked at every 50 updates, after which the images have moved on or are lost for good."""
    total = bad + later
    failing = Walk(lost_at=[bad]) if lost else Walk(nan_loss_at=[bad, bad + 1])
    with pytest.raises(Diverged) as stopped:
        failing.run(total)
    value = f"loss {bad - 0.5:.6g}, images not finite" if lost else "loss nan"
    before = f" (after update {bad - 1}: loss {bad - 1.5:.6g})" if bad > 1 else ""
    assert str(stopped.value) == f"stopped after update {bad} of {total}: {value}{before}; lower the lr"
    assert stopped.value.update == bad - 1
    good = Walk()
    for index in range(bad - 1):
        good.update(index)
    assert stopped.value.learned.keys() == {"images", "step"}
    assert torch.equal(stopped.value.learned["images"], good.images)
    assert torch.equal(stopped.value.learned["step"], good.step)


def test_guards_are_looked_at_every_50_updates_and_at_the_end():
    for bad, total, looked_at in ((3, 200, BETWEEN), (BETWEEN + 1, 200, 2 * BETWEEN), (3, 20, 20), (20, 20, 20)):
        walk = Walk(nan_loss_at=[bad])
        with pytest.raises(Diverged, match=f"^stopped after update {bad} of {total}: loss nan"):
            walk.run(total)
        assert walk.counter == looked_at


def test_nothing_bad_is_saved_or_scored():
    checkpoint, candidates = MemoryCheckpoint(every=5), []

    def score(candidate):
        candidates.append(candidate)
        return 0.0

    with pytest.raises(Diverged, match=r"^stopped after update 8 of 40") as stopped:
        Walk(nan_loss_at=[8]).run(40, checkpoint=checkpoint)
    assert checkpoint.state["finished"] == 5 and stopped.value.update == 7
    with pytest.raises(Diverged, match=r"^stopped after update 8 of 40"):
        Walk(nan_loss_at=[8]).run(40, selection=Selection("validation", 9, score))
    assert candidates == []


def test_continued_run_counts_from_where_it_continues():
    """The first update after the restart is bad: what was loaded is what is kept."""
    checkpoint = MemoryCheckpoint(every=4)
    with pytest.raises(Killed):
        Walk().run(20, checkpoint=checkpoint, progress=killing(6))
    with pytest.raises(Diverged, match=r"^stopped after update 5 of 20: loss nan \(after update 4: ") as stopped:
        Walk(nan_loss_at=[5]).run(20, checkpoint=checkpoint)
    assert stopped.value.update == 4
    assert torch.equal(stopped.value.learned["images"], checkpoint.state["images"])


@pytest.mark.parametrize(
    ("limits", "bad", "value"),
    [
        ({"step size": (0.0, 1.0)}, 3, "-0.125"),
        ({"step size": (0.25, 1.0)}, 2, "0.25"),  # the interval is open
        ({"step size": (-1.0, 0.625)}, 1, "0.625"),
        (None, None, None),
    ],
)
def test_watched_value_stays_within_its_limits(limits, bad, value):
    walk = Walk(step_size=lambda update: (8 - 3 * update) / 8)
    if bad is None:
        assert walk.run(30, limits=limits).images.isfinite().all()
        return
    with pytest.raises(Diverged, match=f"^stopped after update {bad} of 30: loss {bad - 0.5}, step size {value}"):
        walk.run(30, limits=limits)


def test_value_without_limits_must_be_finite():
    walk = Walk(step_size=lambda update: math.inf if update == 3 else 1.0)
    message = r"^stopped after update 3 of 9: loss 2\.5, step size inf \(after update 2: loss 1\.5, step size 1\)"
    with pytest.raises(Diverged, match=message):
        walk.run(9)


def test_watch_does_not_touch_what_it_watches():
    images = torch.tensor([1.0, math.nan])
    watch = Watch({"images": images}, {}, 3, "hint")
    watch.observe(1, {"loss": torch.tensor(1.0)})
    assert images[0] == 1 and images[1].isnan()
    with pytest.raises(Diverged, match=r"^stopped after update 1 of 3: loss 1, images not finite; hint$"):
        watch.check()


def test_message_is_about_the_first_bad_update_and_not_about_what_came_after_it():
    images = torch.zeros(2)
    watch = Watch({"images": images}, {}, 9, "hint")
    watch.observe(1, {"loss": torch.tensor(math.nan)})
    images.fill_(math.nan)
    watch.observe(2, {"loss": torch.tensor(1.0)})
    with pytest.raises(Diverged, match=r"^stopped after update 1 of 9: loss nan; hint$"):
        watch.check()


def test_restarted_watch_forgets():
    images = torch.zeros(2)
    watch = Watch({"images": images}, {}, 9, "hint")
    watch.observe(1, {"loss": torch.tensor(math.nan)})
    watch.restart(4)
    watch.check()
    images.fill_(2)
    watch.observe(5, {"loss": torch.tensor(3.0)})
    watch.observe(6, {"loss": torch.tensor(math.inf)})
    images.fill_(7)
    watch.observe(7, {"loss": torch.tensor(1.0)})
    with pytest.raises(Diverged, match=r"^stopped after update 6 of 9: loss inf \(after update 5: loss 3\)") as stopped:
        watch.check()
    assert stopped.value.update == 5 and stopped.value.learned["images"].tolist() == [2, 2]


# --- selection -------------------------------------------------------------------------------------------


def scored(scores):
    """Return a score that gives these values one after the other, and the candidates it was given."""
    candidates, given = [], iter(scores)

    def score(candidate):
        candidates.append(candidate)
        return next(given)

    return score, candidates


def test_best_candidate_is_returned_and_not_the_last_state():
    score, candidates = scored([0.2, 0.7, 0.4])
    result = Walk().run(7, selection=Selection("best_on_test", 2, score))
    assert result.selection == {"rule": "best_on_test", "update": 4, "scores": [(2, 0.2), (4, 0.7), (6, 0.4)]}
    at_4 = Walk().run(4)
    assert torch.equal(result.images, at_4.images) and torch.equal(candidates[1].images, at_4.images)
    assert result.extra == at_4.extra and torch.equal(result.labels, at_4.labels)


def test_earlier_one_of_equal_candidates_is_kept():
    score, _ = scored([0.1, 0.5, 0.5])
    result = Walk().run(3, selection=Selection("validation", 1, score))
    assert result.selection["update"] == 2 and result.selection["rule"] == "validation"
    assert torch.equal(result.images, Walk().run(2).images)


@pytest.mark.parametrize("saved_after", [3, 4, 5, 9])
def test_candidates_survive_an_interruption(saved_after):
    """Best of updates 2, 4, 6, 8, 10 is the second; the score of a candidate is not asked for again."""
    values = {2: 0.1, 4: 0.8, 6: 0.3, 8: 0.8, 10: 0.2}
    checkpoint = MemoryCheckpoint(saved_after)
    with pytest.raises(Killed):
        first, _ = scored(values.values())
        Walk().run(11, selection=Selection("validation", 2, first), checkpoint=checkpoint, progress=killing(10))
    latest = int(checkpoint.state["finished"])
    rest, candidates = scored([value for update, value in values.items() if update > latest])
    result = Walk().run(11, selection=Selection("validation", 2, rest), checkpoint=checkpoint)
    assert len(candidates) == sum(update > latest for update in values)
    assert result.selection == {"rule": "validation", "update": 4, "scores": list(values.items())}
    at_4 = Walk().run(4)
    assert torch.equal(result.images, at_4.images) and result.extra == at_4.extra


def test_checkpoint_holds_the_best_candidate():
    checkpoint = MemoryCheckpoint()
    score, _ = scored([0.9, 0.1])
    walk = Walk()
    walk.run(5, selection=Selection("validation", 2, score), checkpoint=checkpoint)
    best = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith("best.")}
    assert best.keys() == {"best.images", "best.labels", "best.extra.step_size", "best.scores"}
    assert torch.equal(best["best.images"], Walk().run(2).images)
    assert best["best.scores"].tolist() == [[2, 0.9], [4, 0.1]]


@pytest.mark.parametrize("every", [0, 6])
def test_selection_without_a_candidate_is_refused(every):
    with pytest.raises(ValueError, match=f"every {every} updates of 5"):
        Walk().run(5, selection=Selection("validation", every, score_of))
