"""FrePo against explicit inverses, NumPy and updates written out by hand; its resumption and its guards."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import Killed, MemoryCheckpoint, ignore, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from elf.distillation import frepo
from elf.distillation.frepo import cosine, initial_labels
from elf.distillation.of_frepo import lamb
from elf.distillation.of_frepo.pool import advance, make_pool
from elf.distillation.of_frepo.regression import margin_loss, meta_loss, predict
from elf.distillation.shared.synthetic import RealImages, real_initialisation
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives.frepo import centred_one_hot, loss, squared_loss
from elf.training import adam

SIDE, CLASSES, IPC, NETWORK = 8, 3, 2, "frepoconv-w2-bn"
FREPO = {
    "iterations": 6,
    "lr": 0.01,
    "lr_final_fraction": 0.1,
    "batch_real": 8,
    "ridge": 1e-6,
    "precision": "float64",
    "mirror": True,
    "pool_size": 3,
    "online_steps": 21,
    "lr_network": 0.01,
    "batch_online": 4,
}


def random_dataset() -> RealImages:
    """Images whose mean depends on the class, in shuffled order."""
    labels = torch.arange(CLASSES).repeat_interleave(7)[torch.randperm(7 * CLASSES, generator=stream(0))]
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(1)) + labels[:, None, None, None]
    return RealImages(images, labels, CLASSES)


def distil(*, dataset=None, seed=0, network=NETWORK, progress=ignore, checkpoint=None, **changes):
    return frepo.distill(
        dataset or random_dataset(),
        settings=FREPO | changes,
        ipc=IPC,
        network=network,
        seed=seed,
        progress=progress,
        checkpoint=checkpoint,
    )


# --- labels and losses -----------------------------------------------------------------------------------


def test_labels_of_real_and_synthetic_images():
    labels = torch.tensor([2, 0])
    assert centred_one_hot(labels, 4).tolist() == [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]
    assert torch.equal(initial_labels(labels, 10), centred_one_hot(labels, 10))
    torch.testing.assert_close(initial_labels(labels, 1000)[0, 2].item(), 0.0999, rtol=1e-6, atol=0)


def test_squared_loss_against_numpy_and_for_hard_labels():
    logits = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.random.default_rng(1).normal(size=(5, 4))
    expected = np.mean([0.5 * np.sum((one - other) ** 2) for one, other in zip(logits, labels, strict=True)])
    found = squared_loss(torch.tensor(logits), torch.tensor(labels))
    assert found.item() == pytest.approx(expected, rel=1e-12)

    hard = torch.tensor([0, 3, 1, 1, 2])
    identity = torch.nn.Identity()
    images = torch.tensor(logits, dtype=torch.float32)
    assert torch.equal(loss(identity, images, hard), squared_loss(images, centred_one_hot(hard, 4)))


def test_margin_counts_up_to_the_reciprocal_of_the_classes():
    labels = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.3, 0.2, 0.25, 0.0]], requires_grad=True)
    value = margin_loss(labels)
    assert value.item() == pytest.approx(-(0.25 + 0.05) / 2)
    (gradient,) = torch.autograd.grad(value, labels)
    assert gradient.tolist() == [[0, 0, 0, 0], [-0.5, 0, 0.5, 0]]


# --- regression ------------------------------------------------------------------------------------------


def reference_loss(front, images, labels, real_images, real_labels, *, ridge, mirror):
    """Explicit inverse, kernel of real and synthetic images, loops over the labels; all in float64."""
    if mirror:
        images = torch.cat([images, torch.flip(images, dims=[-1])])
    doubled = torch.cat([labels, labels]) if mirror else labels
    synthetic, real = front(images).reshape(len(images), -1), front(real_images).reshape(len(real_images), -1)
    kernel = torch.einsum("id,jd->ij", synthetic, synthetic)
    ridged = kernel + ridge * torch.trace(kernel) / len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype)
    prediction = torch.einsum("id,jd->ij", real.detach(), synthetic) @ torch.linalg.inv(ridged) @ doubled
    value = 0
    for found, wanted in zip(prediction, real_labels, strict=True):
        value = value + 0.5 * ((found - wanted) ** 2).sum() / len(real_labels)
    for row in labels:
        first, second = sorted(row, reverse=True)[:2]
        value = value - torch.minimum(first - second, torch.tensor(1 / len(row), dtype=row.dtype)) / len(labels)
    return value


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    mirror=st.booleans(),
    norm=st.sampled_from(["bn", "none"]),
    ridge=st.sampled_from([1e-6, 1e-3, 1.0]),
)
def test_loss_and_gradients_equal_the_explicit_inverse(seed, mirror, norm, ridge):
    draws = stream(seed)
    network = build_network(f"frepoconv-w2-{norm}", classes=CLASSES, side=SIDE, generator=draws).double()
    real = torch.randn(7, 3, SIDE, SIDE, generator=draws, dtype=torch.float64)
    network.train()(real)  # running statistics that are not those of a new network
    network.eval()
    real_labels = centred_one_hot(torch.randint(CLASSES, (7,), generator=draws), CLASSES).double()
    # Fewer than the features with their mirror images: at the smallest ridge the inverse itself is exact enough.
    images = torch.randn(3, 3, SIDE, SIDE, generator=draws, dtype=torch.float64)
    labels = torch.randn(3, CLASSES, generator=draws, dtype=torch.float64)

    ours, theirs = ([images.clone().requires_grad_(), labels.clone().requires_grad_()] for _ in range(2))
    found = meta_loss(network.front, *ours, real, real_labels, ridge=ridge, mirror=mirror)
    expected = reference_loss(network.front, *theirs, real, real_labels, ridge=ridge, mirror=mirror)
    torch.testing.assert_close(found.total, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.total, found.regression + found.margin)
    assert found.pivot == 0
    for one, other in zip(torch.autograd.grad(found.total, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7 * other.abs().max().item())
        assert one.abs().max() > 0


def test_regression_reproduces_what_it_was_fitted_on():
    features = torch.randn(4, 9, generator=stream(0), dtype=torch.float64)
    labels = torch.randn(4, CLASSES, generator=stream(1), dtype=torch.float64)
    predictions, _ = predict(features, features, labels, ridge=1e-9)
    torch.testing.assert_close(predictions, labels, rtol=1e-5, atol=1e-5)


def test_an_image_and_its_mirror_predict_the_same_if_both_are_regressed_on():
    """With the mirror images in the set, mirroring the synthetic set changes nothing."""
    network = build_network("frepoconv-w2-none", classes=CLASSES, side=SIDE, generator=stream(0)).double().eval()
    images, real = torch.randn(2, 3, 3, SIDE, SIDE, generator=stream(1), dtype=torch.float64)
    labels = torch.randn(3, CLASSES, generator=stream(2), dtype=torch.float64)

    def value(images, mirror):
        return meta_loss(network.front, images, labels, real, labels, ridge=1e-3, mirror=mirror).total

    torch.testing.assert_close(value(images, True), value(images.flip(3), True))
    assert not torch.isclose(value(images, False), value(images.flip(3), False), rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_low_precision_is_raised_and_high_precision_kept(dtype):
    features, labels = torch.randn(4, 9, generator=stream(0)).to(dtype), torch.randn(4, CLASSES, generator=stream(1))
    expected = dtype if dtype == torch.float64 else torch.float32
    assert predict(features, features, labels, ridge=1e-3)[0].dtype == expected
    assert predict(features, features, labels, ridge=1e-3, precision=torch.float64)[0].dtype == torch.float64


def test_more_images_than_features_need_float64():
    """What the recipe says of narrow networks."""
    features, labels = torch.rand(200, 20, generator=stream(0)), torch.randn(200, CLASSES, generator=stream(1))
    assert predict(features, features, labels, ridge=1e-6, precision=torch.float32)[1] > 0
    assert predict(features, features, labels, ridge=1e-6, precision=torch.float64)[1] == 0


# --- LAMB ------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), steps=st.integers(1, 5), lr=st.sampled_from([1e-4, 0.1]))
def test_lamb_against_numpy(seed, steps, lr):
    random = np.random.default_rng(seed)
    shapes = {"images": (2, 3, 2), "labels": (4,)}
    start = {name: random.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: random.normal(size=shape) for name, shape in shapes.items()} for _ in range(steps)]
    tensors = {name: torch.tensor(value) for name, value in start.items()}
    memory = adam.moments(tensors)
    for gradient in gradients:
        lamb.step(tensors, {name: torch.tensor(value) for name, value in gradient.items()}, memory, lr=lr)
    for name, value in start.items():
        m = v = 0
        for t, gradient in enumerate(gradients, 1):
            m, v = 0.9 * m + 0.1 * gradient[name], 0.999 * v + 0.001 * gradient[name] ** 2
            direction = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
            value = value - lr * np.linalg.norm(value) / np.linalg.norm(direction) * direction
        np.testing.assert_allclose(tensors[name].numpy(), value, rtol=1e-10)
    assert memory["steps"] == steps


def test_lamb_takes_the_plain_step_where_a_norm_is_zero():
    tensors = {"zero": torch.zeros(4), "still": torch.ones(4)}
    lamb.step(tensors, {"zero": torch.ones(4), "still": torch.zeros(4)}, adam.moments(tensors), lr=0.1)
    torch.testing.assert_close(tensors["zero"], torch.full((4,), -0.1))
    assert torch.equal(tensors["still"], torch.ones(4))


@given(seed=st.integers(0, 1000), steps=st.integers(1, 4))
def test_adam_against_the_optimiser_of_pytorch(seed, steps):
    tensors = {name: torch.randn(5, generator=stream(seed)) for name in "ab"}
    reference = [tensor.clone().requires_grad_() for tensor in tensors.values()]
    optimiser = torch.optim.Adam(reference, lr=0.01)
    memory = adam.moments(tensors)
    for step in range(steps):
        gradients = {name: torch.randn(5, generator=stream(seed + step + ord(name))) for name in tensors}
        adam.step(tensors, gradients, memory, lr=0.01)
        for parameter, gradient in zip(reference, gradients.values(), strict=True):
            parameter.grad = gradient
        optimiser.step()
    assert all(torch.equal(one, other) for one, other in zip(tensors.values(), reference, strict=True))


# --- the pool --------------------------------------------------------------------------------------------


def test_networks_start_at_different_ages_with_weights_of_their_own():
    pool = make_pool(4, NETWORK, classes=CLASSES, side=SIDE, generator=stream(0), device=torch.device("cpu"))
    assert [int(online.age) for online in pool] == [0, 10, 20, 30]
    assert all(int(online.moments["steps"]) == 0 for online in pool)
    fresh = [build_network(NETWORK, classes=CLASSES, side=SIDE, generator=draws) for draws in [stream(0)] * 4]
    for online, network in zip(pool, fresh, strict=True):
        assert not online.network.training
        for name, tensor in online.network.state_dict().items():
            assert torch.equal(tensor, network.state_dict()[name])


def test_a_network_is_trained_until_it_is_older_than_allowed_and_then_replaced():
    draws = stream(0)
    (online,) = make_pool(1, NETWORK, classes=CLASSES, side=SIDE, generator=draws, device=torch.device("cpu"))
    images, labels = torch.randn(6, 3, SIDE, SIDE, generator=stream(1)), torch.randn(6, CLASSES, generator=stream(2))
    expected = copy.deepcopy(online.network).train()
    optimiser = torch.optim.Adam(expected.parameters(), lr=0.01)
    ages = []
    for _ in range(4):
        advance(online, images, labels, lr=0.01, oldest=3, generator=draws)
        ages.append(int(online.age))
        optimiser.zero_grad()
        (0.5 * (expected(images) - labels) ** 2).sum(1).mean().backward()
        optimiser.step()
    assert ages == [1, 2, 3, 4] and not online.network.training
    for name, tensor in online.network.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-5, atol=1e-6)

    after = draws.get_state()
    advance(online, images, labels, lr=0.01, oldest=3, generator=draws)
    assert int(online.age) == int(online.moments["steps"]) == 0
    assert all(not tensor.any() for tensor in online.moments.values())
    fresh = build_network(NETWORK, classes=CLASSES, side=SIDE, generator=torch.Generator().set_state(after))
    for name, tensor in online.network.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])


# --- the whole of FrePo ----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["frepoconv-w2-bn", "frepoconv-w2-none"])
def test_updates_equal_those_written_out_by_hand(network):
    """With one network in the pool, that is replaced by the second update, and batches of everything."""
    dataset = random_dataset()
    result = distil(network=network, iterations=3, pool_size=1, online_steps=0, batch_real=99, batch_online=99)

    weights = generator(0, "distillation", "networks")
    start = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images"))
    images = start.images.double()
    labels = (torch.nn.functional.one_hot(start.labels, CLASSES) - 1 / CLASSES).double() / math.sqrt(CLASSES / 10)
    targets = (torch.nn.functional.one_hot(dataset.labels, CLASSES) - 1 / CLASSES).double()
    online = build_network(network, classes=CLASSES, side=SIDE, generator=weights).double()
    averages = {key: [0.0, 0.0] for key in ("images", "labels")}
    for index in range(3):
        images.requires_grad_(), labels.requires_grad_()
        online.eval()
        value = reference_loss(online.front, images, labels, dataset.images.double(), targets, ridge=1e-6, mirror=True)
        gradients = torch.autograd.grad(value, [images, labels])
        lr = 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * index / 3)) / 2)
        moved = []
        for key, old, gradient in zip(averages, [images, labels], gradients, strict=True):
            m, v = averages[key]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            averages[key] = [m, v]
            direction = m / (1 - 0.9 ** (index + 1)) / ((v / (1 - 0.999 ** (index + 1))).sqrt() + 1e-6)
            moved.append((old - lr * old.norm() / direction.norm() * direction).detach())
        images, labels = moved
        if index % 2 == 0:  # age 0: trained; in between it is older than 0: replaced
            optimiser = torch.optim.Adam(online.train().parameters(), lr=0.01)
            (0.5 * (online(images) - labels) ** 2).sum(1).mean().backward()
            optimiser.step()
        else:
            online = build_network(network, classes=CLASSES, side=SIDE, generator=weights).double()
    torch.testing.assert_close(result.images.double(), images, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(result.labels.double(), labels, rtol=1e-3, atol=1e-4)


def test_learning_rate_falls_along_a_cosine_to_a_tenth():
    factors = [cosine(index, 1000, 0.1) for index in range(1001)]
    assert factors[0] == 1 and factors[500] == pytest.approx(0.55) and factors[1000] == pytest.approx(0.1)
    assert factors == sorted(factors, reverse=True)


def test_iterations_counts_the_updates_and_progress_sees_each():
    seen = []
    result = distil(iterations=4, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(count, 4) for count in range(1, 5)]
    assert result.images.shape == (CLASSES * IPC, 3, SIDE, SIDE) and result.images.dtype == torch.float32
    assert result.labels.shape == (CLASSES * IPC, CLASSES) and result.labels.dtype == torch.float32
    assert not result.images.requires_grad and not result.labels.requires_grad
    assert result.labels.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_images_and_labels_are_learned_and_predict_better():
    dataset = random_dataset()
    losses = []
    result = distil(iterations=60, lr=0.05, batch_real=99, progress=lambda *call: losses.append(call[2].item()))
    start = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images"))
    assert not torch.equal(result.images, start.images)
    assert not torch.allclose(result.labels, initial_labels(start.labels, CLASSES), atol=1e-3)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])


def test_seed_determines_the_result_and_global_state_does_not():
    states = []
    torch.manual_seed(0)
    first = distil(seed=3, progress=lambda *call: states.append(torch.get_rng_state()))
    assert all(torch.equal(state, states[0]) for state in states)
    torch.manual_seed(1)
    again, other = distil(seed=3), distil(seed=4)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


@settings(max_examples=8)
@given(
    kill_after=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    every=st.integers(1, 4),
    oldest=st.sampled_from([1, 21]),
)
def test_killed_and_started_again_is_bit_identical(kill_after, every, oldest):
    """With networks that are replaced (ages start at 0, 10 and 20) and batches smaller than the set."""
    changes = {"iterations": 12, "online_steps": oldest}
    whole = distil(**changes)
    checkpoint = MemoryCheckpoint(every)
    resumed = None
    for last in kill_after:

        def die(finished, total, loss, last=last):
            if finished == last:
                raise Killed

        try:
            resumed = distil(**changes, progress=die, checkpoint=checkpoint)
        except Killed:
            resumed = None
    if resumed is None:
        resumed = distil(**changes, checkpoint=checkpoint)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.labels, whole.labels)


def test_a_checkpoint_holds_every_network_of_the_pool():
    checkpoint = MemoryCheckpoint(3)
    distil(iterations=12, online_steps=1, checkpoint=checkpoint)
    names = set(checkpoint.state)
    for part in ("images", "labels", "lamb.first.images", "lamb.steps", "pool.0.age", "pool.2.adam.steps"):
        assert part in names
    for index in range(3):
        for name in build_network(NETWORK, classes=CLASSES, side=SIDE, generator=stream(0)).state_dict():
            assert f"pool.{index}.{name}" in names


# --- what goes wrong -------------------------------------------------------------------------------------


def test_failed_factorisation_names_the_update_and_what_to_do():
    """The same image again and again, without a ridge: the kernel matrix is singular."""
    dataset = random_dataset()
    equal = RealImages(dataset.images[:1].expand_as(dataset.images), dataset.labels, CLASSES)
    message = r"after update 1 of 6: .*failed pivot [2-6].*; frepo with frepoconv-w2-bn .*raise the ridge"
    with pytest.raises(ElfError, match=message):
        distil(dataset=equal, ridge=0.0, precision="float32")


def test_failed_factorisation_ends_the_run_even_if_the_loss_looks_well(monkeypatch):
    factorise = torch.linalg.cholesky_ex

    def failing(kernel):
        return factorise(kernel)[0], torch.tensor(3, dtype=torch.int32)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing)
    with pytest.raises(ElfError, match=r"stopped after update 1 of 6: loss -?\d\S*, failed pivot 3; "):
        distil()


def test_nan_in_a_training_image_is_an_error():
    dataset = random_dataset()
    dataset.images[4] = float("nan")
    with pytest.raises(ElfError, match=r"stopped after update \d of 6: loss nan"):
        distil(dataset=dataset, batch_real=99)


def test_too_large_a_learning_rate_is_an_error():
    with pytest.raises(ElfError, match=r"stopped after update \d of 6: .*lr 1e\+30"):
        distil(lr=1e30)


def test_class_with_too_few_images_is_named():
    few = RealImages(random_dataset().images[:4], torch.tensor([0, 0, 1, 2]), CLASSES)
    with pytest.raises(ElfError, match="class 1 has 1 training images, fewer than ipc = 2"):
        distil(dataset=few)
