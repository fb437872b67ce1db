"""The memory that a plan expects of evaluations, against the bytes that are alive while networks are trained."""

import re

import pytest
import torch
from conftest import PROJECT
from naive_trajectories import LiveBytes
from torch import nn

from elf.cli import main
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives import elf, task
from elf.planning.memory import LIBRARY, at_once, evaluation_bytes, training_bytes
from elf.planning.work import Sizes
from elf.specs.counting import counts
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.network import feature_shape
from elf.specs.training import TrainingRecipe
from elf.status.text import space
from elf.study.plan import make_plan
from elf.training import protocol as training
from elf.training import seeds_at_once as seed_batched

CLASSES, SIDE = 10, 32
NETWORKS = ["convnet-w32-d3-in", "convnet-w32-d3-bn", "resnet18-w8-in", "resnet18-w8-bn", "vgg11-w8-in", "vgg11-w8-bn"]
FACTOR = 5 / 3


def recipe(batch: int, splits: int | None = None) -> TrainingRecipe:
    return TrainingRecipe(
        epochs=1, final_pass=False, lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=batch, lr_drop=False,
        augmentation="none", batch_norm_splits=splits,
    )  # fmt: skip


def spec(network: str, seeds: int, objective: str = "task", **changes) -> EvaluationSpec:
    teacher = {"teacher_network": network, "teacher_epoch": 1} if objective == "elf" else {}
    return EvaluationSpec(
        dataset="digits", synthetic_set="random-ipc10-seed0", network=network, objective=Objective(name=objective),
        recipe=recipe(64), seeds=tuple(range(seeds)), **teacher, **changes,
    )  # fmt: skip


def build(network: str, seed: int = 0, side: int = SIDE):
    return build_network(network, classes=CLASSES, side=side, generator=generator(seed, "weights"))


def measured(name: str, networks: int, batch: int, objective: str = "task", splits: int | None = None) -> int:
    """Return the most bytes that were alive besides the data."""
    images = torch.randn(2 * batch, 3, SIDE, SIDE, generator=generator(0, "images"))
    labels = torch.arange(2 * batch) % CLASSES
    elf_targets = torch.rand(2 * batch, *feature_shape(name, SIDE)) if objective == "elf" else None
    given = dict(objective=elf.loss if objective == "elf" else task.loss, targets=elf_targets)
    seeds = range(networks)
    with LiveBytes() as live:
        built = [build(name, seed) for seed in seeds]
        if networks == 1:
            own = {key: generator(0, key) for key in ("order_generator", "augmentation_generator")}
            training.train(built[0], images, labels, recipe(batch, splits), **own, **given)
        else:
            streams = {f"{key}_generators": [generator(s, key) for s in seeds] for key in ("order", "augmentation")}
            seed_batched.train(built, images, labels, recipe(batch, splits), seeds=seeds, **streams, **given)
    return live.peak


def planned(name: str, networks: int, batch: int, objective: str = "task") -> int:
    network = counts(name, classes=CLASSES, side=SIDE)
    return training_bytes(network, batch, networks, rear_sees_features=objective == "elf")


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_the_convolutions(name, side):
    network, sizes = build(name, side=side), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(output[0].numel()))
    features = network.front(torch.zeros(2, 3, side, side))
    front = sum(sizes)
    network.rear(features)
    found = counts(name, classes=CLASSES, side=side)
    assert (found.front.maps, found.rear.maps) == (front, sum(sizes) - front)


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("objective", ["task", "elf"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_planned_memory_is_near_the_measured_one(name, objective, networks):
    needed = measured(name, networks, 48, objective)
    assert needed / FACTOR < planned(name, networks, 48, objective) < needed * FACTOR


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("bn")])
def test_the_plan_holds_for_batch_norms_in_parts(name, networks):
    """Parts are views, so that one network takes as much; for several at once the parts are put together again."""
    needed = measured(name, networks, 32, splits=4)
    assert needed / FACTOR < planned(name, networks, 32, "task") < needed * FACTOR
    if networks == 1:
        assert 0.95 < needed / measured(name, networks, 32) < 1.05


def test_seeds_are_planned_at_once_only_where_they_can_be():
    """CIFAR-10 with one image per class in four parts has a part of one image."""
    for network in ("convnet-w32-d3-bn", "resnet18-w8-bn", "convnet-w32-d3-in"):
        for images in (8, 10):
            own = spec(network, 5).model_copy(update={"recipe": recipe(256, 4)})
            refused = seed_batched.refusal(build(network), images, own.recipe) is not None
            assert at_once(own, SIDE, images) == (not refused)
            assert refused == (images == 10 and network.endswith("bn"))


@pytest.mark.parametrize("name", ["resnet18-w8-bn", "convnet-w32-d3-in"])
def test_memory_grows_with_seeds_as_planned(name):
    grown = measured(name, 4, 32) / measured(name, 2, 32)
    assert grown == pytest.approx(planned(name, 4, 32) / planned(name, 2, 32), rel=0.05)
    assert grown > 1.8


def test_an_evaluation_also_holds_its_images_and_trains_all_seeds_at_once_unless_told_otherwise():
    sizes = Sizes(classes=CLASSES, train=1000, test=500, side=SIDE)
    name = "convnet-w32-d3-in"
    data = LIBRARY + 4 * 3 * SIDE**2 * (100 + 500)
    assert evaluation_bytes(spec(name, 5, seeds_at_once="always"), sizes, 100) == data + planned(name, 5, 64)
    assert evaluation_bytes(spec(name, 5, seeds_at_once="never"), sizes, 100) == data + planned(name, 1, 64)
    assert evaluation_bytes(spec(name, 1), sizes, 100) == data + planned(name, 1, 64)
    # A smaller set is one batch, and few images leave a GPU room for all seeds.
    assert evaluation_bytes(spec(name, 5), sizes, 100) == data + planned(name, 1, 64)
    assert evaluation_bytes(spec(name, 5), sizes, 20) == data - 4 * 3 * SIDE**2 * 80 + planned(name, 1, 20)
    assert evaluation_bytes(spec(name, 5), sizes, 10) == data - 4 * 3 * SIDE**2 * 90 + planned(name, 5, 10)
    assert evaluation_bytes(spec("torchvision:resnet18", 5), sizes, 100) is None


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", [*NETWORKS, "torchvision:resnet18"])
def test_the_plan_knows_which_networks_are_trained_at_once(name, side):
    refused = seed_batched.refusal(build(name, side=side), 64, recipe(64))
    assert at_once(spec(name, 5, seeds_at_once="always"), side, 64) == (refused is None)
    assert at_once(spec(name, 5), side, 16) == (refused is None)
    assert not at_once(spec(name, 5), side, 64)


def test_the_forecast_names_the_evaluation_that_takes_most(capsys, tmp_path):
    assert main(["plan", "table05", "--scale", "smoke", "--results-folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    memory = [index for index, line in enumerate(lines) if line.startswith("Memory of a GPU: about ")]
    (place,) = [index for index in memory if lines[index].endswith("for the largest evaluation,")]
    plan = make_plan(PROJECT / "config", "smoke", tmp_path)
    sizes = Sizes(classes=10, train=1262, test=535, side=32)
    needed = {
        path: evaluation_bytes(spec, sizes, 10 * int(re.search(r"ipc(\d+)", path)[1]))
        for path, spec in plan.collected("table05").evaluations.items()
    }
    largest = max(needed, key=needed.get)
    assert largest.endswith(lines[place + 1].strip().removeprefix("…"))
    assert f"about {space(needed[largest])} for" in lines[place]
