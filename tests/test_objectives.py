"""Losses and gradients against closed forms and loops written down from the definitions."""

import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork
from elf.objectives import elf, kd, task

TERMS = ("front+rear+task", "rear+task", "front+task", "front+rear")
DISTANCES = ("ce", "mae", "mse", "cos")
CLASSES = 3

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
seeds = st.integers(0, 1000)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def small_network(norm: bool = False) -> SplitNetwork:
    front = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    middle = [nn.BatchNorm2d(4)] if norm else []
    network = SplitNetwork(front, nn.Sequential(*middle, nn.Flatten(), nn.Linear(16, CLASSES))).double()
    for index, parameter in enumerate(network.parameters()):
        nn.init._no_grad_normal_(parameter, 0, 0.5, generator=generator(index, "weights"))
    return network.train()


def small_batch(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.randint(CLASSES, (batch,), generator=generator(0, "labels"))
    return normal(1, batch, 3, 4, 4), labels, 3 * normal(2, batch, 4, 2, 2).relu()


def naive_cross_entropy(logits: numpy.ndarray, rows: numpy.ndarray) -> float:
    total = 0.0
    for one, row in zip(logits, rows, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in one))
        total -= sum(weight * (value - log_sum) for weight, value in zip(row, one, strict=True))
    return total / len(logits)


def naive_distance(z: numpy.ndarray, f: numpy.ndarray, distance: str) -> float:
    if distance == "ce":
        positions = [(z[b, :, h, w], f[b, :, h, w]) for b, h, w in numpy.ndindex(z.shape[0], z.shape[2], z.shape[3])]
        return naive_cross_entropy(*map(numpy.array, zip(*positions, strict=True)))
    pairs = list(zip(z.ravel().tolist(), f.ravel().tolist(), strict=True))
    if distance == "mae":
        return sum(abs(a - b) for a, b in pairs) / len(pairs)
    if distance == "mse":
        return sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    lengths = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
    return 1 - sum(a * b for a, b in pairs) / (lengths + 1e-6)


def closed_form_gradient(z: torch.Tensor, f: torch.Tensor, distance: str) -> torch.Tensor:
    if distance == "ce":
        return (f.sum(1, keepdim=True) * z.softmax(1) - f) / (z.shape[0] * z.shape[2] * z.shape[3])
    if distance == "mae":
        return (z - f).sign() / z.numel()
    if distance == "mse":
        return 2 * (z - f) / z.numel()
    length_z, length_f = z.square().sum().sqrt(), f.square().sum().sqrt()
    denominator = length_z * length_f + 1e-6
    return -f / denominator + (z * f).sum() * length_f / length_z * z / denominator**2


@given(sizes, seeds, st.sampled_from(DISTANCES))
def test_feature_distances_and_their_gradients(size, seed, distance):
    z = normal(seed, *size).requires_grad_()
    f = 4 * normal(seed + 1, *size).relu()
    value = elf.feature_distance(z, f, distance)
    assert value.item() == pytest.approx(naive_distance(z.detach().numpy(), f.numpy(), distance), rel=1e-10)
    value.backward()
    torch.testing.assert_close(z.grad, closed_form_gradient(z.detach(), f, distance), rtol=1e-9, atol=1e-12)


def test_cross_entropy_of_features_grows_with_the_teachers_activations():
    z, f = normal(0, 2, 4, 3, 3), normal(1, 2, 4, 3, 3).relu()
    torch.testing.assert_close(elf.feature_distance(z, 7 * f, "ce"), 7 * elf.feature_distance(z, f, "ce"))


def test_cosine_is_one_number_for_the_whole_batch():
    z = torch.tensor([[3.0, 0.0], [4.0, 0.0]], dtype=torch.float64)[:, :, None, None]
    f = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)[:, :, None, None]
    # One image agrees and one is orthogonal, so the mean over images would be 0.5.
    assert elf.feature_distance(z, f, "cos").item() == pytest.approx(1 - 9 / (25 + 1e-6), abs=1e-12)


@given(st.integers(1, 6), seeds)
def test_task_loss_with_hard_labels(batch, seed):
    logits = normal(seed, batch, CLASSES).requires_grad_()
    labels = torch.randint(CLASSES, (batch,), generator=generator(seed, "labels"))
    rows = torch.eye(CLASSES, dtype=torch.float64)[labels]
    value = task.task_loss(logits, labels)
    assert value.item() == pytest.approx(naive_cross_entropy(logits.detach().numpy(), rows.numpy()), rel=1e-10)
    value.backward()
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(1) - rows) / batch)


@given(st.integers(1, 6), seeds)
def test_task_loss_takes_label_rows_as_they_are(batch, seed):
    logits = normal(seed, batch, CLASSES).requires_grad_()
    rows = 2 * normal(seed + 1, batch, CLASSES)
    value = task.task_loss(logits, rows)
    assert value.item() == pytest.approx(
        naive_cross_entropy(logits.detach().numpy(), rows.numpy()), rel=1e-9, abs=1e-12
    )
    value.backward()
    expected = (rows.sum(1, keepdim=True) * logits.detach().softmax(1) - rows) / batch
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("terms", TERMS)
def test_elf_terms_and_weights(terms, distance, variant, soft):
    network, (images, labels, targets) = small_network(), small_batch()
    labels = normal(3, len(labels), CLASSES) if soft else labels
    lambda_front, lambda_rear = 0.3, 0.7
    value = elf.loss(
        network, images, labels, targets,
        terms=terms, distance=distance, lambda_front=lambda_front, lambda_rear=lambda_rear, variant=variant,
    )  # fmt: skip
    gradients = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)

    rows = labels if soft else torch.eye(CLASSES, dtype=torch.float64)[labels]
    z = network.front(images)

    def cross_entropy(logits):
        return -(rows * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).mean()

    l_task, l_rear = cross_entropy(network.rear(z)), cross_entropy(network.rear(targets))
    if distance == "ce" or (variant == "official" and terms == "front+task"):
        log_softmax = z - z.exp().sum(1, keepdim=True).log()
        l_front = -(targets * log_softmax).sum(1).mean()
    elif distance == "mae":
        l_front = (z - targets).abs().mean()
    elif distance == "mse":
        l_front = (z - targets).pow(2).mean()
    else:
        lengths = z.square().sum().sqrt() * targets.square().sum().sqrt()
        l_front = 1 - (z * targets).sum() / (lengths + 1e-6)
    expected = {
        ("front+rear+task", "official"): lambda_front * l_front + lambda_rear * l_rear + l_task,
        ("front+rear+task", "paper"): lambda_front * l_front + lambda_rear * l_rear + l_task,
        ("rear+task", "official"): lambda_rear * l_rear + l_task,
        ("rear+task", "paper"): lambda_rear * l_rear + l_task,
        ("front+task", "official"): lambda_front * l_front + l_task,
        ("front+task", "paper"): lambda_front * l_front + l_task,
        ("front+rear", "official"): lambda_front * l_front + l_rear,
        ("front+rear", "paper"): lambda_front * l_front + lambda_rear * l_rear,
    }[terms, variant]
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, list(network.parameters()), allow_unused=True))


def test_the_default_is_the_method_of_the_paper():
    network, batch = small_network(), small_batch()
    expected = elf.loss(
        network, *batch, terms="front+rear+task", distance="ce", lambda_front=1, lambda_rear=1, variant="paper"
    )
    torch.testing.assert_close(elf.loss(network, *batch), expected)


@pytest.mark.parametrize("terms", TERMS)
def test_running_statistics_move_twice_teacher_last_whatever_the_terms(terms):
    network, (images, labels, targets) = small_network(norm=True), small_batch()
    elf.loss(network, images, labels, targets, terms=terms)
    norm = network.rear[0]
    assert norm.num_batches_tracked == 2
    student = network.front(images).detach().mean(dim=(0, 2, 3))
    teacher = targets.mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.9 * 0.1 * student + 0.1 * teacher)


@pytest.mark.parametrize("objective", [task.loss, kd.loss])
def test_running_statistics_move_once_without_a_feature_pass(objective):
    network, (images, labels, _) = small_network(norm=True), small_batch()
    objective(network, images, labels, normal(4, len(labels), CLASSES))
    assert network.rear[0].num_batches_tracked == 1


@given(st.integers(1, 6), seeds, st.floats(0.5, 8), st.floats(0, 3))
def test_knowledge_distillation(batch, seed, temperature, weight):
    logits = normal(seed, batch, CLASSES).requires_grad_()
    teacher = 5 * normal(seed + 1, batch, CLASSES)
    labels = torch.randint(CLASSES, (batch,), generator=generator(seed, "labels"))
    value = kd.loss(nn.Identity(), logits, labels, teacher, temperature=temperature, weight=weight)

    rows = torch.eye(CLASSES, dtype=torch.float64)[labels]
    p, q = (teacher / temperature).softmax(1), (logits.detach() / temperature).softmax(1)
    divergence = (p * (p / q).log()).sum() / batch
    hard = naive_cross_entropy(logits.detach().numpy(), rows.numpy())
    assert value.item() == pytest.approx(hard + weight * temperature**2 * divergence.item(), rel=1e-9)
    value.backward()
    expected = (logits.detach().softmax(1) - rows) / batch + weight * temperature * (q - p) / batch
    torch.testing.assert_close(logits.grad, expected)


def test_knowledge_distillation_defaults_to_temperature_four_and_weight_one():
    logits, teacher, labels = normal(0, 4, CLASSES), normal(1, 4, CLASSES), torch.tensor([0, 1, 2, 0])
    expected = kd.loss(nn.Identity(), logits, labels, teacher, temperature=4.0, weight=1.0)
    assert kd.loss(nn.Identity(), logits, labels, teacher) == expected


def test_front_loss_has_the_size_that_untrained_128_channel_features_give():
    # Measured with the official modules: the features of a position sum to about 51, the loss is about 250.
    images = torch.randn(16, 3, 32, 32, generator=generator(0, "images"))
    student, teacher = (
        build_network("convnet-w128-d3-in", classes=10, side=32, generator=generator(seed, "init")) for seed in range(2)
    )
    with torch.no_grad():
        features, targets = student.front(images), teacher.front(images)
    assert targets.sum(dim=1).mean().item() == pytest.approx(51, rel=0.03)
    assert elf.feature_distance(features, targets, "ce").item() == pytest.approx(250, rel=0.03)


@pytest.mark.parametrize("setting", [{"terms": "rear"}, {"distance": "kl"}, {"variant": "code"}])
def test_unknown_settings_are_named_with_what_is_allowed(setting):
    (value,) = setting.values()
    with pytest.raises(ElfError, match=rf"'{value}'.*allowed: "):
        elf.loss(small_network(), *small_batch(), **setting)


def test_features_of_another_width_are_refused():
    images, labels, targets = small_batch()
    with pytest.raises(ElfError, match=r"\(5, 1, 2, 2\).*\(5, 4, 2, 2\)"):
        elf.loss(small_network(), images, labels, targets[:, :1], distance="mse")


def test_logits_of_other_classes_are_refused():
    images, labels, _ = small_batch()
    with pytest.raises(ElfError, match=r"\(5, 10\).*\(5, 3\)"):
        kd.loss(small_network(), images, labels, normal(0, 5, 10))
