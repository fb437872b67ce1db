"""Matching training trajectories against a naive unroll, finite differences, and updates written out by hand."""

from collections import Counter
from functools import partial

import pytest
import torch
from helpers import ignore, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_trajectories import (
    CLASSES,
    COUNT,
    IPC,
    SETTINGS,
    SIDE,
    FakeExperts,
    finish_after_kills,
    naive,
    naive_logits,
    naive_unrolled_loss,
    network,
    one_update,
    ours,
    peak_bytes,
    random_dataset,
)

from elf.data import augmentation
from elf.data.augmentation import STRATEGY
from elf.distillation import mtt
from elf.distillation.mtt import segments, unrolled
from elf.distillation.shared.loop import Selection
from elf.distillation.shared.synthetic import real_initialisation
from elf.distillation.shared.trajectories import Step, draw_segment, draw_steps
from elf.distillation.shared.watching import Diverged
from elf.distillation.tesla import constant_memory
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork, flatten
from elf.specs.unrolling import redone


def distil(changes=None, *, experts=None, norm="in", name=None, **others):
    arguments = {"dataset": random_dataset(), "ipc": IPC, "seed": 0, "progress": ignore} | others
    return mtt.distill(
        settings=SETTINGS | {"gradient": "unrolled"} | (changes or {}),
        network=name or f"convnet-w4-d2-{norm}",
        experts=experts or FakeExperts(norm=norm),
        **arguments,
    )


# --- a network as a function of its parameters -----------------------------------------------------------


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_flat_network_is_the_network(norm):
    module, images = network(norm).double(), torch.randn(5, 3, SIDE, SIDE, generator=stream(0)).double()
    vector = flatten(module)
    expected = module(images)
    flat = FlatNetwork(network(norm, seed=7).double())
    assert flat.size == len(vector) == sum(p.numel() for p in module.parameters())
    torch.testing.assert_close(flat(vector, images), expected)
    torch.testing.assert_close(naive_logits(vector, images, norm), expected)


def test_batch_normalisation_uses_the_batch_in_either_mode_and_keeps_nothing():
    images = torch.randn(5, 3, SIDE, SIDE, generator=stream(0)).double()
    vector = flatten(network("bn").double())
    module = network("bn").double()
    flat = FlatNetwork(module)
    for training in (True, False):
        torch.testing.assert_close(flat(vector, images, training=training), naive_logits(vector, images, "bn"))
    assert list(module.buffers()) == []


def test_flattened_parameters_are_a_copy():
    module = network()
    before = flatten(module)
    kept = before.clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert torch.equal(before, kept)


def test_network_with_dropout_is_refused():
    dropout = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))
    with pytest.raises(ElfError, match="without dropout"):
        FlatNetwork(dropout)


# --- loss and gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["in", "bn"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 4), batch=st.integers(2, COUNT), soft=st.booleans())
def test_loss_and_gradients_equal_a_naive_unroll(norm, seed, steps, batch, soft):
    update = one_update(norm, seed, steps, batch, soft)
    found = ours(unrolled, norm, update)
    loss, images, step_size = naive(naive_unrolled_loss, norm, update)
    torch.testing.assert_close(found.loss, loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.images, images, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found.step_size, step_size, rtol=1e-8, atol=0)
    assert found.images.abs().max() > 0
    assert not any(t.requires_grad for t in (found.loss, found.images, found.step_size))


@pytest.mark.parametrize(("norm", "splits"), [("in", 1), ("bn", 1), ("bn", 4)])
@settings(max_examples=6)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 6),
    at_once=st.integers(1, 7),
    batch=st.integers(4, COUNT),
    soft=st.booleans(),
)
def test_gradients_of_segments_are_those_of_the_whole_unroll(norm, splits, seed, steps, at_once, batch, soft):
    """Each step draws its images from the whole set, so that most are in several steps."""
    update = one_update(norm, seed, steps, batch, soft)

    def gradients(**how):
        module = network(norm).double()
        split_batch_norm(module, splits)
        return unrolled(FlatNetwork(module), **update, align_corners=True, **how)

    whole, cut = gradients(), gradients(at_once=at_once)
    assert torch.equal(cut.loss, whole.loss)
    assert (cut.images - whole.images).abs().max() <= 4e-15 * whole.images.abs().max()
    assert abs(cut.step_size - whole.step_size) <= 4e-15 * abs(whole.step_size) + 1e-18


def test_recomputed_states_are_those_of_the_first_walk(monkeypatch):
    """In float32, where another kernel would show; the states are what the network is called with."""
    seen, call = [], FlatNetwork.__call__

    def spy(self, parameters, images, **more):
        seen.append(torch.cat([parameters.detach().flatten(), images.detach().flatten()]))
        return call(self, parameters, images, **more)

    monkeypatch.setattr(FlatNetwork, "__call__", spy)
    update = one_update("in", 0, 5, 4)
    update |= {name: update[name].float() for name in ("start", "target", "images", "step_size")}
    unrolled(FlatNetwork(network()), **update, align_corners=True, at_once=2)
    # Segments of one, two and two steps; the last is computed once, the others again from the back.
    again = [seen[1], seen[2], seen[0]]
    assert len(seen) == 5 + 3 and all(torch.equal(one, other) for one, other in zip(seen[5:], again, strict=True))
    assert not torch.equal(seen[0], seen[1])


@given(count=st.integers(1, 30), at_once=st.integers(1, 35))
def test_segments_are_all_steps_in_order_and_the_last_is_full(count, at_once):
    cut = segments(range(count), at_once)
    assert [step for segment in cut for step in segment] == list(range(count))
    assert len(cut[-1]) == min(count, at_once)
    assert all(len(segment) == at_once for segment in cut[1:])
    assert count - len(cut[-1]) == redone(count, at_once)


def test_gradients_equal_finite_differences():
    update = one_update("in", 3, 3, 4)
    found = ours(unrolled, "in", update)
    small = 1e-6

    def loss_at(**changed):
        return ours(unrolled, "in", update | changed).loss.item()

    above, below = (loss_at(step_size=update["step_size"] + sign * small) for sign in (1, -1))
    assert found.step_size.item() == pytest.approx((above - below) / (2 * small), rel=1e-5)
    largest = found.images.abs().flatten().topk(4).indices
    for position in largest.tolist():
        moved = []
        for sign in (1, -1):
            images = update["images"].clone()
            images.view(-1)[position] += sign * small
            moved.append(loss_at(images=images))
        assert found.images.view(-1)[position].item() == pytest.approx((moved[0] - moved[1]) / (2 * small), rel=1e-4)


def test_arguments_of_a_gradient_are_left_alone():
    update = one_update("in", 0, 2, 4)
    tensors = [update[name] for name in ("start", "target", "images", "step_size")]
    copies = [tensor.clone() for tensor in tensors]
    for gradient in (unrolled, constant_memory):
        ours(gradient, "in", update)
    assert all(torch.equal(tensor, copied) for tensor, copied in zip(tensors, copies, strict=True))
    assert not any(tensor.requires_grad for tensor in tensors)


def test_student_that_stands_still_has_the_loss_one_and_one_that_arrives_has_none():
    update = one_update("in", 0, 2, 4)
    assert ours(unrolled, "in", update | {"step_size": torch.zeros(()).double()}).loss == 1
    step = Step(torch.arange(COUNT), augmentation.draw("none", 1, SIDE, stream(0)))
    flat, start = FlatNetwork(network().double()), update["start"].clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(flat(start, update["images"]), update["labels"])
    arrived = update["start"] - 0.05 * torch.autograd.grad(loss, start)[0]
    for gradient in (unrolled, constant_memory):
        assert ours(gradient, "in", update | {"steps": [step], "target": arrived}).loss < 1e-20


@settings(max_examples=6)
@given(seed=st.integers(0, 1000))
def test_constant_memory_has_the_same_loss_but_agrees_for_the_last_step_alone(seed):
    """Every step sees images of its own, so that each gradient belongs to one step."""
    update = one_update("in", seed, 3, 2)
    own = torch.arange(COUNT).split(2)
    update["steps"] = [Step(indices, step.draw) for indices, step in zip(own, update["steps"], strict=True)]
    exact, cheap = ours(unrolled, "in", update), ours(constant_memory, "in", update)
    torch.testing.assert_close(cheap.loss, exact.loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(cheap.images[own[-1]], exact.images[own[-1]], rtol=1e-7, atol=1e-12)
    for earlier in own[:-1]:
        difference = (cheap.images[earlier] - exact.images[earlier]).norm() / exact.images[earlier].norm()
        assert difference > 1e-3
    assert cheap.step_size.item() != pytest.approx(exact.step_size.item(), rel=1e-4)


def test_memory_of_the_unroll_grows_with_the_steps():
    few, many = peak_bytes(unrolled, 10), peak_bytes(unrolled, 40)
    assert many > 3 * few


def test_memory_of_one_step_at_once_grows_with_the_states_alone():
    few, many = (peak_bytes(partial(unrolled, at_once=1), steps) for steps in (10, 40))
    # A state more for each step.
    assert many - few <= 1.1 * 30 * 8 * FlatNetwork(network()).size
    assert peak_bytes(partial(unrolled, at_once=2), 10) < 0.5 * peak_bytes(unrolled, 10)


# --- what is drawn ---------------------------------------------------------------------------------------


@given(count=st.integers(1, 12), batch=st.integers(0, 14), steps=st.integers(1, 9), seed=st.integers(0, 99))
def test_batches_are_chunks_of_a_permutation_from_its_end(count, batch, steps, seed):
    changes = {"synthetic_steps": steps, "batch_syn": batch, "augmentation": STRATEGY}
    drawn = draw_steps(count, SIDE, changes, stream(seed), stream(1), torch.device("cpu"))
    assert len(drawn) == steps
    permutations, chunks = stream(seed), []
    for step in drawn:
        if not chunks:
            order = torch.randperm(count, generator=permutations).tolist()
            size = batch or count
            chunks = [order[first : first + size] for first in range(0, count, size)]
        assert step.indices.tolist() == chunks.pop()
        assert {len(values) for values in step.draw.parameters.values()} == {len(step.indices)}


def test_every_step_has_one_category_and_every_image_its_own_parameters():
    changes = {"synthetic_steps": 300, "batch_syn": 0, "augmentation": STRATEGY}
    drawn = [step.draw for step in draw_steps(5, 32, changes, stream(0), stream(1), torch.device("cpu"))]
    assert set(Counter(draw.category for draw in drawn)) == set(augmentation.CATEGORIES)
    angles = torch.stack([draw.parameters["angle"] for draw in drawn if draw.category == "rotate"])
    assert len(angles.unique()) == angles.numel() > 5


def test_segments_start_uniformly_at_every_expert_and_epoch():
    experts = FakeExperts(3)
    changes = {"experts": 3, "max_start_epoch": 2, "expert_epochs": 2}
    source = stream(0)
    for _ in range(600):
        begin, target = draw_segment(experts, changes, source, torch.device("cpu"))
    (index, epoch), (also, end) = experts.asked[-2:]
    assert torch.equal(begin, experts.snapshot(index, epoch, "cpu")) and also == index and end == epoch + 2
    assert torch.equal(target, experts.snapshot(index, end, "cpu"))
    counts = Counter(experts.asked[0:1200:2])
    assert set(counts) == {(index, epoch) for index in range(3) for epoch in range(2)}
    assert all(70 < count < 130 for count in counts.values())


# --- the whole of MTT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_two_updates_written_out_by_hand(norm):
    result = distil({"iterations": 1}, norm=norm)

    experts, dataset = FakeExperts(norm=norm), random_dataset()
    choices, batches, draws = (generator(0, "distillation", name) for name in ("experts", "batches", "augmentation"))
    images = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images")).images
    labels = torch.arange(CLASSES).repeat_interleave(IPC)
    step_size = torch.tensor(0.02)
    velocity, step_size_velocity = torch.zeros_like(images), torch.zeros(())
    for _ in range(2):
        index = torch.randint(2, (), generator=choices).item()
        epoch = torch.randint(2, (), generator=choices).item()
        start, target = (experts.snapshot(index, which, "cpu") for which in (epoch, epoch + 2))
        # Three steps with chunks of 4 of 6 images: the last two of a permutation, its first four, the next one's two.
        first = torch.randperm(COUNT, generator=batches)
        chunks = [first[4:], first[:4], torch.randperm(COUNT, generator=batches)[4:]]
        steps = [Step(chunk, augmentation.draw(STRATEGY, len(chunk), SIDE, draws)) for chunk in chunks]
        images.requires_grad_(), step_size.requires_grad_()
        loss = naive_unrolled_loss(start, target, images, labels, step_size, steps, norm)
        of_images, of_step_size = torch.autograd.grad(loss, (images, step_size))
        velocity = 0.5 * velocity + of_images
        step_size_velocity = 0.5 * step_size_velocity + of_step_size
        images = (images - 10.0 * velocity).detach()
        step_size = (step_size - 1e-4 * step_size_velocity).detach()
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-5)
    assert result.extra["step_size"] == pytest.approx(step_size.item(), rel=1e-5)
    assert result.extra["step_size"] != pytest.approx(0.02, rel=1e-4)
    assert torch.equal(result.labels, labels)


def test_setting_chooses_the_gradient(monkeypatch):
    exact, cheap = distil(), distil({"gradient": "constant-memory"})
    assert not torch.allclose(exact.images, cheap.images)
    monkeypatch.setitem(mtt.GRADIENTS, "unrolled", constant_memory)
    assert torch.equal(distil().images, cheap.images)


def test_the_budget_says_how_many_steps_have_a_graph(monkeypatch):
    asked = []

    def spy(*update, at_once, **more):
        asked.append(at_once)
        return unrolled(*update, at_once=at_once, **more)

    whole = distil()
    monkeypatch.setattr(mtt, "unrolled", spy)
    monkeypatch.setitem(mtt.GRADIENTS, "unrolled", spy)
    smallest = distil({"memory_budget_gb": 0.0})
    largest = distil({"memory_budget_gb": 1.0})
    assert asked == [1] * 6 + [3] * 6
    assert torch.equal(largest.images, whole.images) and largest.extra == whole.extra
    torch.testing.assert_close(smallest.images, whole.images, rtol=1e-4, atol=1e-5)


def test_iterations_names_the_last_index_and_progress_sees_every_update():
    seen = []
    distil({"iterations": 3}, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(count, 4) for count in range(1, 5)]
    assert all(not loss.requires_grad and loss.shape == () for *_, loss in seen)


def learning_experts(dataset) -> FakeExperts:
    """One expert that learns from the dataset, with full batches."""
    experts = FakeExperts(1)
    flat, parameters = FlatNetwork(network()), experts.snapshot(0, 0, "cpu")
    for epoch in experts.epochs:
        experts.put(0, epoch, parameters)
        for _ in range(5):
            parameters.requires_grad_()
            loss = torch.nn.functional.cross_entropy(flat(parameters, dataset.images), dataset.labels)
            parameters = (parameters - 0.05 * torch.autograd.grad(loss, parameters)[0]).detach()
    return experts


def test_matching_comes_closer_to_experts_that_learn():
    losses, dataset = [], random_dataset()
    changes = {"iterations": 59, "experts": 1, "augmentation": "none", "batch_syn": 0, "lr_img": 300.0, "lr_lr": 1e-5}
    experts = learning_experts(dataset)
    distil(changes, experts=experts, dataset=dataset, progress=lambda *call: losses.append(call[2].item()))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_seed_determines_the_result_and_global_state_does_not():
    states = []
    torch.manual_seed(0)
    first = distil(seed=3, progress=lambda *call: states.append(torch.get_rng_state()))
    assert all(torch.equal(state, states[0]) for state in states)
    torch.manual_seed(1)
    assert torch.equal(first.images, distil(seed=3).images)
    assert not torch.equal(first.images, distil(seed=4).images)


def test_dataset_is_untouched_and_labels_are_hard():
    dataset = random_dataset()
    copied = dataset.images.clone()
    result = distil(dataset=dataset)
    assert torch.equal(dataset.images, copied)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.images.shape == (COUNT, 3, SIDE, SIDE) and not result.images.requires_grad


@pytest.mark.parametrize(("norm", "gradient"), [("in", "unrolled"), ("bn", "unrolled"), ("in", "constant-memory")])
@settings(max_examples=4)
@given(kill_after=st.lists(st.integers(1, 6), min_size=1, max_size=3), every=st.integers(1, 3))
def test_killed_and_started_again_is_bit_identical(norm, gradient, kill_after, every):
    # One step at once.
    changes = {"gradient": gradient, "memory_budget_gb": 0.0}
    whole = distil(changes, norm=norm)
    resumed = finish_after_kills(lambda **more: distil(changes, norm=norm, **more), kill_after, every)
    assert torch.equal(resumed.images, whole.images)
    assert resumed.extra == whole.extra


def test_selected_state_keeps_images_and_step_size_together():
    candidates = []

    def score(candidate):
        candidates.append(candidate)
        return {1: 0.1, 2: 0.3, 3: 0.2}[len(candidates)]

    chosen = distil(selection=Selection("validation", 2, score))
    alone = distil({"iterations": 3})
    assert torch.equal(chosen.images, alone.images) and chosen.extra == alone.extra
    assert chosen.selection["update"] == 4


# --- guards ----------------------------------------------------------------------------------------------


def test_step_size_that_turns_negative_ends_the_run_with_the_last_good_state():
    wild = {"lr_lr": 1e-3, "iterations": 200}
    seen = []
    with pytest.raises(Diverged, match=r"stopped after update \d+ of 201: .*step size -.*lower lr_lr") as caught:
        distil(wild, progress=lambda *call: seen.append(call))
    learned, update = caught.value.learned, caught.value.update
    assert 0 < update < len(seen) <= 50
    expected = distil(wild | {"iterations": update - 1})
    assert torch.equal(learned["images"], expected.images)
    assert learned["step_size"].item() == expected.extra["step_size"] > 0


def test_step_size_that_explodes_ends_the_run():
    """Experts that have gone far pull up a step size that is too small for the student to follow."""
    wild = {"lr_teacher": 1e-4, "lr_lr": 1e-3, "experts": 1, "iterations": 200}
    with pytest.raises(Diverged, match=r"after update 1 of 201: loss 0.*step size 0.0[1-9]"):
        distil(wild, experts=learning_experts(random_dataset()))


def test_nothing_is_clamped():
    """Within its limits the step size may go anywhere; pixels too."""
    result = distil({"lr_img": 1e4, "iterations": 0})
    assert result.images.abs().max() > 10


def test_expert_that_does_not_move_ends_the_run():
    with pytest.raises(Diverged, match=r"after update 1 of 6: loss inf.*experts that stand still"):
        distil(experts=FakeExperts(step=0.0))


def test_pixels_that_are_lost_end_the_run():
    with pytest.raises(Diverged, match=r"images and step_size not finite.*else lr_img"):
        distil({"lr_img": 1e38, "iterations": 2})


@pytest.mark.parametrize(
    ("changes", "others", "message"),
    [
        ({"experts": 3}, {}, "uses 3 experts, found 2"),
        ({"experts": 0}, {}, "uses 0 experts"),
        ({}, {"experts": FakeExperts(epochs=(0, 1, 2))}, "epochs 0 to 3, but there is none of epoch 3; found 0, 1, 2"),
        ({}, {"name": "convnet-w8-d2-in"}, "parameters, but convnet-w8-d2-in has"),
        ({}, {"ipc": 7}, "fewer than ipc = 7"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_update(changes, others, message):
    with pytest.raises(ElfError, match=message):
        distil(changes, progress=lambda *_: pytest.fail("an update was made"), **others)


def test_network_of_the_recipes_has_the_size_of_the_fact_sheet():
    built = build_network("convnet-w128-d3-in", classes=10, side=32, generator=stream(0))
    assert FlatNetwork(built).size == 320_010
