"""TESLA against automatic differentiation of its stop-gradient objective, its soft labels, and its memory."""

import pytest
import torch
from helpers import MemoryCheckpoint, ignore, stream
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
    naive_cross_entropy,
    naive_logits,
    naive_stopped_loss,
    network,
    one_update,
    ours,
    peak_bytes,
    random_dataset,
)

from elf.data import augmentation
from elf.data.augmentation import STRATEGY
from elf.distillation import tesla
from elf.distillation.shared.loop import Selection
from elf.distillation.shared.synthetic import real_initialisation
from elf.distillation.shared.trajectories import Step
from elf.distillation.shared.watching import Diverged
from elf.distillation.tesla import constant_memory, label_softly
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.flat import FlatNetwork, flatten


def distil(changes=None, *, soft=True, experts=None, norm="in", **others):
    arguments = {"dataset": random_dataset(), "ipc": IPC, "seed": 0, "progress": ignore} | others
    return tesla.distill(
        settings=SETTINGS | {"soft_labels": soft, "pixel_step": "official", "lr_img": 20.0} | (changes or {}),
        network=f"convnet-w4-d2-{norm}",
        experts=experts or FakeExperts(norm=norm),
        **arguments,
    )


# --- loss and gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["in", "bn"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 4), batch=st.integers(2, COUNT), soft=st.booleans())
def test_loss_and_gradients_equal_those_of_the_stop_gradient_objective(norm, seed, steps, batch, soft):
    update = one_update(norm, seed, steps, batch, soft)
    found = ours(constant_memory, norm, update)
    loss, images, step_size = naive(naive_stopped_loss, norm, update)
    torch.testing.assert_close(found.loss, loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.images, images, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found.step_size, step_size, rtol=1e-8, atol=1e-12)
    assert found.images.abs().max() > 0
    assert not any(t.requires_grad for t in (found.loss, found.images, found.step_size))


def test_step_size_gradient_has_the_closed_form_of_the_fact_sheet():
    """With gradients from the unsplit network by backward(), step by step."""
    update = one_update("in", 5, 3, 4)
    start, target, step_size = (update[name] for name in ("start", "target", "step_size"))
    module = network().double()
    total, student = torch.zeros_like(start), start
    for step in update["steps"]:
        torch.nn.utils.vector_to_parameters(student, module.parameters())
        batch = augmentation.apply(update["images"][step.indices], step.draw, align_corners=True)
        module.zero_grad()
        naive_cross_entropy(module(batch), update["labels"][step.indices]).backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
        total, student = total + gradient, student - step_size * gradient
    squared = (target - start).square().sum()
    expected = 2 / squared * ((start - step_size * total - target) @ -total)
    found = ours(constant_memory, "in", update)
    torch.testing.assert_close(found.step_size, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.loss, (start - step_size * total - target).square().sum() / squared)


def pixel_gradient_of_the_official_code(start, target, images, labels, step_size, steps, norm):
    """Its two walks as it writes them, down to the product of a number and the tuple that autograd returns."""
    shown = [images[step.indices].requires_grad_() for step in steps]
    augmented = [augmentation.apply(x, s.draw, align_corners=True) for x, s in zip(shown, steps, strict=True)]
    states, summed = [start.clone().requires_grad_()], torch.zeros_like(start)

    def gradient(index):
        loss = naive_cross_entropy(naive_logits(states[index], augmented[index], norm), labels[steps[index].indices])
        return torch.autograd.grad(loss, states[index], create_graph=True)[0]

    for index in range(len(steps)):
        found = gradient(index).detach()
        states.append((states[-1] - step_size.item() * found).detach().requires_grad_())
        summed += found
    collected = torch.zeros_like(images)
    for index, step in enumerate(steps):
        direction = step_size.item() * (target - start) + step_size.item() ** 2 * summed
        scalar = direction @ gradient(index) / (start - target).square().sum()
        doubled = 2 * torch.autograd.grad(scalar, shown[index])
        collected[step.indices] += doubled[0]
    return collected


@pytest.mark.parametrize("norm", ["in", "bn"])
@settings(max_examples=6)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 4), batch=st.integers(2, COUNT), soft=st.booleans())
def test_the_official_step_is_that_of_the_official_code(norm, seed, steps, batch, soft):
    update = one_update(norm, seed, steps, batch, soft)
    found, derivative = ours(tesla.official_step, norm, update), ours(constant_memory, norm, update)
    of_theirs = pixel_gradient_of_the_official_code(**update, norm=norm)
    torch.testing.assert_close(found.images, of_theirs, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(derivative.images, 2 * of_theirs, rtol=1e-7, atol=1e-12)
    assert torch.equal(found.loss, derivative.loss) and torch.equal(found.step_size, derivative.step_size)


@pytest.mark.parametrize("soft", [True, False])
def test_twice_the_rate_with_the_official_step_is_the_derivative_bit_for_bit(soft):
    """The scales smoke and laptop were run with the derivative: their rates were doubled when the step was halved."""
    before = distil({"pixel_step": "derivative", "lr_img": 10.0}, soft=soft)
    after = distil({"pixel_step": "official", "lr_img": 20.0}, soft=soft)
    assert torch.equal(before.images, after.images) and torch.equal(before.labels, after.labels)
    assert before.extra == after.extra
    assert not torch.equal(before.images, distil({"lr_img": 10.0}, soft=soft).images)


def test_images_that_several_steps_use_accumulate():
    update = one_update("in", 1, 3, COUNT)
    update["steps"] = [Step(torch.tensor([0, 1]), update["steps"][0].draw)] * 3
    draws = [augmentation.draw("flip", 2, SIDE, stream(seed)) for seed in range(3)]
    update["steps"] = [Step(torch.tensor([0, 1]), draw) for draw in draws]
    found = ours(constant_memory, "in", update)
    torch.testing.assert_close(found.images, naive(naive_stopped_loss, "in", update)[1], rtol=1e-7, atol=1e-12)
    assert found.images[:2].abs().amax((1, 2, 3)).min() > 0 and not found.images[2:].any()


def test_both_walks_pass_through_the_same_states(monkeypatch):
    """In float32, where another kernel would show; the states are what the network is called with."""
    seen, call = [], FlatNetwork.__call__

    def spy(self, parameters, images, **more):
        seen.append(parameters.detach().clone())
        return call(self, parameters, images, **more)

    monkeypatch.setattr(FlatNetwork, "__call__", spy)
    update = one_update("in", 0, 4, 4)
    update |= {name: update[name].float() for name in ("start", "target", "images", "step_size")}
    constant_memory(FlatNetwork(network()), **update, align_corners=True)
    assert len(seen) == 8
    assert all(torch.equal(first, second) for first, second in zip(seen[:4], seen[4:], strict=True))
    assert not torch.equal(seen[0], seen[1])


def test_memory_stays_flat():
    few, many = peak_bytes(constant_memory, 10), peak_bytes(constant_memory, 40)
    assert many < 1.1 * few


# --- soft labels -----------------------------------------------------------------------------------------


def test_soft_labels_are_the_probabilities_of_the_target_network():
    vector = flatten(network())
    images = torch.randn(120, 3, SIDE, SIDE, generator=stream(0))
    sizes = []

    class Spy(FlatNetwork):
        def __call__(self, parameters, images, *, training=True):
            sizes.append(len(images))
            assert not training and not torch.is_grad_enabled()
            return super().__call__(parameters, images, training=training)

    labels = label_softly(Spy(network(seed=5)), vector, images.requires_grad_())
    exponentials = naive_logits(vector, images.detach(), "in").exp()
    torch.testing.assert_close(labels, exponentials / exponentials.sum(1, keepdim=True))
    assert sizes == [50, 50, 20] and not labels.requires_grad


@pytest.mark.parametrize("soft", [True, False])
def test_two_updates_written_out_by_hand(soft):
    result = distil({"iterations": 1}, soft=soft)

    experts, dataset = FakeExperts(), random_dataset()
    choices, batches, draws = (generator(0, "distillation", name) for name in ("experts", "batches", "augmentation"))
    images = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images")).images
    labels = torch.arange(CLASSES).repeat_interleave(IPC)
    step_size = torch.tensor(0.02)
    velocity, step_size_velocity = torch.zeros_like(images), torch.zeros(())
    for _ in range(2):
        index = torch.randint(2, (), generator=choices).item()
        epoch = torch.randint(2, (), generator=choices).item()
        start, target = (experts.snapshot(index, which, "cpu") for which in (epoch, epoch + 2))
        if soft:
            labels = naive_logits(target, images, "in").softmax(1)
        first = torch.randperm(COUNT, generator=batches)
        chunks = [first[4:], first[:4], torch.randperm(COUNT, generator=batches)[4:]]
        steps = [Step(chunk, augmentation.draw(STRATEGY, len(chunk), SIDE, draws)) for chunk in chunks]
        images.requires_grad_(), step_size.requires_grad_()
        loss = naive_stopped_loss(start, target, images, labels, step_size, steps, "in")
        of_images, of_step_size = torch.autograd.grad(loss, (images, step_size))
        velocity = 0.5 * velocity + of_images
        step_size_velocity = 0.5 * step_size_velocity + of_step_size
        # The official step is half of the derivative.
        images = (images - 20.0 * velocity / 2).detach()
        step_size = (step_size - 1e-4 * step_size_velocity).detach()
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.labels, labels, rtol=1e-4, atol=1e-6)
    assert result.extra["step_size"] == pytest.approx(step_size.item(), rel=1e-5)


def labels_of(images, segment, experts):
    index, end = segment
    return naive_logits(experts.snapshot(index, end, "cpu"), images, "in").softmax(1)


@given(updates=st.integers(2, 6))
@settings(max_examples=5)
def test_saved_labels_are_those_that_the_last_update_used(updates):
    """They come from the images before the update, and from the end of the segment that it drew."""
    experts = FakeExperts()
    result = distil({"iterations": updates - 1}, experts=experts)
    before = distil({"iterations": updates - 2}).images
    torch.testing.assert_close(result.labels, labels_of(before, experts.asked[-1], experts), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(result.labels, labels_of(result.images, experts.asked[-2], experts), atol=1e-4)


def test_selected_state_keeps_images_and_labels_together():
    candidates = []

    def score(candidate):
        candidates.append(candidate)
        return {1: 0.1, 2: 0.3, 3: 0.2}[len(candidates)]

    chosen = distil(selection=Selection("validation", 2, score))
    alone = distil({"iterations": 3})
    assert torch.equal(chosen.images, alone.images) and torch.equal(chosen.labels, alone.labels)
    assert not torch.equal(chosen.labels, distil().labels)
    assert chosen.extra == alone.extra


def test_diverged_run_keeps_images_and_labels_together(monkeypatch):
    monkeypatch.setattr("elf.distillation.shared.trajectories.LARGEST_STEP_SIZE", 2)
    wild = {"lr_lr": 5e-3, "iterations": 49}
    with pytest.raises(Diverged, match=r"step size 0\.04\d+ .*tesla with convnet-w4-d2-in") as caught:
        distil(wild)
    learned, update = caught.value.learned, caught.value.update
    assert update > 0
    expected = distil(wild | {"iterations": update - 1})
    assert torch.equal(learned["images"], expected.images) and torch.equal(learned["labels"], expected.labels)


def test_soft_labels_with_batch_normalisation_are_refused_and_hard_ones_are_not():
    with pytest.raises(ElfError, match=r"soft labels .* running statistics"):
        distil(norm="bn")
    assert distil(norm="bn", soft=False).labels.dtype == torch.int64


# --- the loop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("soft", "norm"), [(True, "in"), (False, "bn")])
@settings(max_examples=4)
@given(kill_after=st.lists(st.integers(1, 6), min_size=1, max_size=3), every=st.integers(1, 3))
def test_killed_and_started_again_is_bit_identical(soft, norm, kill_after, every):
    whole = distil(soft=soft, norm=norm)
    resumed = finish_after_kills(lambda **more: distil(soft=soft, norm=norm, **more), kill_after, every)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.labels, whole.labels)
    assert resumed.extra == whole.extra


def test_finished_run_continues_with_the_same_pair():
    checkpoint = MemoryCheckpoint()
    whole = distil(checkpoint=checkpoint)
    again = distil(checkpoint=checkpoint, progress=lambda *_: pytest.fail("an update was made"))
    assert torch.equal(again.images, whole.images) and torch.equal(again.labels, whole.labels)
