"""The training protocol against stochastic gradient descent written down in NumPy."""

import math

import numpy
import pytest
import torch
from helpers import Killed, MemoryCheckpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from elf.artifacts.checkpoints import Checkpoint
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.split import SplitNetwork
from elf.objectives import elf, kd, task
from elf.specs.training import TrainingRecipe
from elf.training.protocol import accuracy, train

DSA = "color_crop_cutout_flip_scale_rotate"
CLASSES = 3


def recipe(**changes) -> TrainingRecipe:
    values = dict(
        epochs=6, final_pass=True, lr=0.05, momentum=0.9, weight_decay=5e-4, batch_size=4, lr_drop=True,
        augmentation="none",
    )  # fmt: skip
    return TrainingRecipe(**(values | changes))


def small_set(count: int = 9, side: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.randn(count, 3, side, side, generator=generator(0, "images"))
    features = torch.rand(count, 4, side // 2, side // 2, generator=generator(0, "features"))
    return images, torch.arange(count) % CLASSES, features


def small_network() -> SplitNetwork:
    front = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2))
    rear = nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, CLASSES))
    network = SplitNetwork(front, rear)
    for index, parameter in enumerate(network.parameters()):
        nn.init._no_grad_normal_(parameter, 0, 0.5, generator=generator(index, "weights"))
    return network


def streams(seed: int = 0) -> dict[str, torch.Generator]:
    return {
        "order_generator": generator(seed, "order"),
        "augmentation_generator": generator(seed, "augmentation"),
    }


def assert_same_weights(ours: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(ours.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


def softmax_regression(x, y, weight, bias, training, passes_at_full_rate, forget=True):
    """Gradient descent on a linear classifier, from the definitions, in float64."""
    order, lr = generator(0, "order"), training.lr
    speed_weight, speed_bias = numpy.zeros_like(weight), numpy.zeros_like(bias)
    for pass_number in range(training.passes):
        if pass_number == passes_at_full_rate:
            lr = lr / 10
            if forget:
                speed_weight, speed_bias = speed_weight * 0, speed_bias * 0
        shuffled = torch.randperm(len(x), generator=order).numpy()
        for start in range(0, len(x), training.batch_size):
            batch = shuffled[start : start + training.batch_size]
            exponentials = numpy.exp(x[batch] @ weight.T + bias)
            error = exponentials / exponentials.sum(1, keepdims=True) - numpy.eye(CLASSES)[y[batch]]
            gradient = error.T @ x[batch] / len(batch) + training.weight_decay * weight
            speed_weight = training.momentum * speed_weight + gradient
            speed_bias = training.momentum * speed_bias + error.mean(0) + training.weight_decay * bias
            weight, bias = weight - lr * speed_weight, bias - lr * speed_bias
    return weight, bias


@pytest.mark.parametrize(
    ("changes", "passes", "passes_at_full_rate"),
    [
        ({"epochs": 1000, "lr": 0.01}, 1001, 502),
        ({"epochs": 200, "final_pass": False, "lr": 0.01}, 200, 102),
        ({"epochs": 50, "final_pass": False, "lr_drop": False, "momentum": 0, "weight_decay": 0}, 50, 50),
    ],
    ids=["evaluation", "teacher", "expert"],
)
def test_protocol_against_gradient_descent_by_hand(changes, passes, passes_at_full_rate):
    # Five images in batches of two: the last batch of each pass holds one image.
    training = recipe(batch_size=2, **changes)
    images, labels, _ = (tensor[:5] for tensor in small_set(side=2))
    images = images.double()
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES)).double()
    nn.init._no_grad_normal_(network[1].weight, 0, 1, generator=generator(0, "weights"))
    arrays = images.flatten(1).numpy(), labels.numpy(), *(p.detach().numpy().copy() for p in network.parameters())
    batch_sizes, seen = [], []

    def objective(network, images, labels, targets):
        batch_sizes.append(len(images))
        return task.loss(network, images, labels)

    train(network, images, labels, training, objective=objective, after_pass=seen.append, **streams())
    assert seen == list(range(passes))
    assert batch_sizes == [2, 2, 1] * passes
    weight, bias = softmax_regression(*arrays, training, passes_at_full_rate)
    numpy.testing.assert_allclose(network[1].weight.detach(), weight, rtol=1e-9, atol=1e-12)
    numpy.testing.assert_allclose(network[1].bias.detach(), bias, rtol=1e-9, atol=1e-12)
    if training.lr_drop:
        for wrong in ({"passes_at_full_rate": passes_at_full_rate + 1}, {"forget": False}):
            settings = {"passes_at_full_rate": passes_at_full_rate} | wrong
            other, _ = softmax_regression(*arrays, training, **settings)
            assert numpy.abs(other - weight).max() > 1e-8


def test_until_pass_is_a_prefix_of_the_whole_run():
    images, labels, _ = small_set()
    snapshots, whole, stopped = {}, small_network(), small_network()

    def keep(pass_index):
        snapshots[pass_index + 1] = {name: value.clone() for name, value in whole.state_dict().items()}

    train(whole, images, labels, recipe(), after_pass=keep, **streams())
    train(stopped, images, labels, recipe(), until_pass=5, **streams())
    for name, value in stopped.state_dict().items():
        assert torch.equal(value, snapshots[5][name])
        assert value.dtype == torch.int64 or not torch.equal(value, snapshots[7][name])


def test_paired_objectives_see_the_same_batches():
    images, labels, features = small_set()
    logits = torch.randn(9, CLASSES, generator=generator(0, "logits"))
    seen = {"task": [], "elf": [], "kd": []}

    def recorded(name, loss):
        def objective(network, images, labels, targets):
            seen[name].append((images.clone(), labels))
            return loss(network, images, labels, targets)

        return objective

    for name, loss, targets in [("task", task.loss, None), ("elf", elf.loss, features), ("kd", kd.loss, logits)]:
        train(
            small_network(), images, labels, recipe(augmentation=DSA), objective=recorded(name, loss),
            targets=targets, **streams(),
        )  # fmt: skip
    assert len(seen["task"]) == 7 * 3
    for name in ("elf", "kd"):
        for (ours, our_labels), (other, other_labels) in zip(seen["task"], seen[name], strict=True):
            assert torch.equal(ours, other)
            assert torch.equal(our_labels, other_labels)
    # Augmented anew in each pass.
    assert not torch.equal(seen["task"][0][0], seen["task"][3][0])


def test_labels_and_targets_stay_with_their_images_and_are_not_augmented():
    images, labels, features = small_set()
    images[:, 0, 0, 0] = torch.arange(9.0)

    def objective(network, batch, batch_labels, batch_targets):
        index = batch[:, 0, 0, 0].long()
        assert torch.equal(batch_labels, labels[index])
        assert torch.equal(batch_targets, features[index])
        return task.loss(network, batch, batch_labels)

    train(small_network(), images, labels, recipe(), objective=objective, targets=features, **streams())


STEPS = 21
"""Of the run below: 7 passes of 3 batches."""


def run_with_kills(kills, checkpoint, seed=0) -> SplitNetwork:
    """Train, die before each of the given steps, and start again from nothing but the checkpoint."""
    images, labels, features = small_set()
    pending, done = list(kills), 0

    def objective(*batch):
        nonlocal done
        if done in pending:
            pending.remove(done)
            raise Killed
        done += 1
        # Noise of dropout: its masks must be those of the uninterrupted run, too.
        return elf.loss(*batch, distance="mse") * nn.functional.dropout(torch.ones(50), 0.2).mean()

    def find_out_where_it_continues():
        state = checkpoint.load() if checkpoint else None
        return 0 if state is None else 3 * int(state["finished"]) + int(state.get("step", 0))

    while True:
        network, done = small_network(), find_out_where_it_continues()
        try:
            train(
                network, images, labels, recipe(augmentation=DSA), objective=objective,
                targets=features, checkpoint=checkpoint, **streams(seed),
            )  # fmt: skip
        except Killed:
            torch.manual_seed(len(pending))
            continue
        assert done == STEPS
        return network


@settings(max_examples=15)
@given(st.lists(st.integers(0, STEPS - 1), max_size=4), st.integers(1, 5))
def test_a_killed_and_continued_run_is_bit_identical(kills, every):
    assert_same_weights(run_with_kills(kills, MemoryCheckpoint(every)), run_with_kills([], None))


@pytest.mark.parametrize("around_drop", [11, 12, 13, 15, 16])
def test_a_run_killed_around_the_drop_continues_from_a_file(tmp_path, around_drop):
    assert recipe().drop_after == 4
    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=0)
    assert_same_weights(run_with_kills([around_drop], checkpoint), run_with_kills([], None))
    assert checkpoint.load()["finished"] == 7


def test_no_more_than_a_step_is_lost_where_every_step_is_saved(tmp_path):
    images, labels, features = small_set()
    steps = []

    def objective(*batch):
        steps.append(None)
        if len(steps) % 2 == 0:
            raise Killed
        return elf.loss(*batch, distance="mse")

    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=0)
    for _ in range(STEPS):
        try:
            train(small_network(), images, labels, recipe(), objective=objective, targets=features,
                  checkpoint=checkpoint, **streams())  # fmt: skip
        except Killed:
            continue
        break
    # Every start but the last does one step and loses one.
    assert len(steps) == 2 * STEPS - 1


def test_a_finished_run_is_not_trained_further():
    checkpoint = MemoryCheckpoint(every=1)
    finished = run_with_kills([], checkpoint)
    assert_same_weights(run_with_kills([], checkpoint), finished)


def test_the_global_random_state_is_neither_read_nor_touched():
    images, labels, _ = small_set()
    networks = [small_network(), small_network()]
    for seed, network in enumerate(networks):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train(network, images, labels, recipe(augmentation=DSA), **streams())
        assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(*networks)


def test_dropout_masks_follow_the_seed_and_differ_between_passes():
    images, labels, _ = small_set()
    masks = {}
    for seed in range(2):
        masks[seed] = []

        def objective(network, images, labels, targets, kept=masks[seed]):
            kept.append(nn.functional.dropout(torch.ones(1000)))
            return task.loss(network, images, labels)

        train(small_network(), images, labels, recipe(epochs=2), objective=objective, **streams(seed))
    every = [*masks[0], *masks[1]]
    assert len({tuple(mask.tolist()) for mask in every}) == len(every) == 2 * 3 * 3


def test_progress_gets_the_mean_loss_of_each_pass_as_a_tensor():
    images, labels, _ = small_set()
    steps, reports = [], []

    def objective(network, batch, batch_labels, _):
        loss = task.loss(network, batch, batch_labels)
        steps.append((loss.item(), len(batch)))
        return loss

    training = recipe(epochs=2)
    train(small_network(), images, labels, training, objective=objective,
          progress=lambda *report: reports.append(report), **streams())  # fmt: skip
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    for index, (_, _, loss) in enumerate(reports):
        mean = sum(value * count for value, count in steps[3 * index : 3 * index + 3]) / 9
        assert isinstance(loss, torch.Tensor)
        assert loss.item() == pytest.approx(mean, rel=1e-5)


def diverge_at(pass_index: int, value: float = math.nan):
    steps = iter(range(10**6))

    def objective(network, images, labels, targets):
        factor = value if next(steps) // 3 == pass_index else 1.0
        return factor * task.loss(network, images, labels)

    return objective


@pytest.mark.parametrize(("diverged", "noticed"), [(3, 49), (49, 49), (50, 59), (59, 59)])
def test_divergence_is_noticed_every_fifty_passes_and_at_the_end(diverged, noticed):
    images, labels, _ = small_set()
    finished = []
    with pytest.raises(ElfError, match=rf"the loss of pass {noticed} is nan \(lr 0.05\)"):
        train(small_network(), images, labels, recipe(epochs=60, final_pass=False),
              objective=diverge_at(diverged), after_pass=finished.append, **streams())  # fmt: skip
    assert finished == list(range(noticed))


def test_a_diverged_state_is_never_saved():
    images, labels, _ = small_set()
    checkpoint = MemoryCheckpoint(every=1)
    with pytest.raises(ElfError, match="the loss of pass 3 is inf"):
        train(small_network(), images, labels, recipe(), objective=diverge_at(3, math.inf),
              checkpoint=checkpoint, **streams())  # fmt: skip
    assert checkpoint.state["finished"] == 3 and "step" not in checkpoint.state


def test_a_last_step_that_breaks_the_weights_is_noticed():
    images, labels, _ = small_set()

    def objective(network, images, labels, targets):
        # The square root has an infinite slope at zero: a finite loss with a gradient that is not.
        return (network.rear[3].bias * 0).sum().sqrt() + task.loss(network, images, labels)

    with pytest.raises(ElfError, match="a weight is not finite after pass 0"):
        train(small_network(), images, labels, recipe(epochs=1, final_pass=False, batch_size=9),
              objective=objective, **streams())  # fmt: skip


def test_numbers_of_images_labels_and_targets_must_agree():
    images, labels, features = small_set()
    with pytest.raises(ElfError, match="9 images, 8 labels"):
        train(small_network(), images, labels[:8], recipe(), **streams())
    with pytest.raises(ElfError, match="9 images, 9 labels, 7 teacher targets"):
        train(small_network(), images, labels, recipe(), targets=features[:7], **streams())


@pytest.mark.parametrize("batch_size", [1, 4, 9, 256])
@pytest.mark.parametrize("training", [True, False])
def test_accuracy_counts_hits_in_evaluation_mode(batch_size, training):
    images, _, _ = small_set()
    network = small_network()
    with torch.no_grad():
        network(images)
        predicted = [network.eval()(image[None])[0].tolist() for image in images]
    labels = torch.tensor([max(range(CLASSES), key=row.__getitem__) for row in predicted])
    labels[:4] = (labels[:4] + 1) % CLASSES
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert accuracy(network.train(training), images, labels, batch_size) == 5 / 9
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
