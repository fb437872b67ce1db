"""Layouts change a training by rounding alone; fewer digits are computed with where asked for, and then said."""

import shutil
from functools import partial

import pytest
import torch
from conftest import PROJECT
from pydantic import ValidationError
from torch import nn

from elf.data.augmentation import STRATEGY
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.flat import flatten
from elf.objectives import elf, kd, task
from elf.running.drawing import about
from elf.specs.network import feature_shape
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid
from elf.study.plan import Plan
from elf.training.protocol import accuracy, train

CLASSES, SIDE, COUNT = 4, 32, 10
OBJECTIVES = {
    "task": task.loss,
    "kd": kd.loss,
    **{f"elf-{distance}": partial(elf.loss, distance=distance) for distance in ("ce", "mae", "mse", "cos")},
}
NETWORKS = ["convnet-w4-d3-in", "convnet-w4-d3-bn", "resnet18-w2-in", "resnet18-w2-bn", "vgg11-w2-in", "vgg11-w2-bn"]


def recipe(**changes) -> TrainingRecipe:
    values = dict(
        epochs=3, final_pass=False, lr=0.02, momentum=0.9, weight_decay=5e-4, batch_size=4, lr_drop=True,
        augmentation=STRATEGY,
    )  # fmt: skip
    return TrainingRecipe(**(values | changes))


def images(dtype=torch.float32) -> torch.Tensor:
    return torch.randn(COUNT, 3, SIDE, SIDE, generator=generator(0, "images"), dtype=torch.float64).to(dtype)


def targets(name: str, objective: str, dtype=torch.float32) -> torch.Tensor | None:
    if objective == "task":
        return None
    shape = (CLASSES,) if objective == "kd" else feature_shape(name, SIDE)
    return torch.rand(COUNT, *shape, generator=generator(0, "targets"), dtype=torch.float64).to(dtype)


def trained(name: str, objective: str, training: TrainingRecipe, dtype=torch.float32, watch=None):
    """Return the network and the mean loss of each pass."""
    network = build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights")).to(dtype)
    losses = []
    for module in network.modules():
        if watch and isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(watch)
    train(
        network,
        images(dtype),
        torch.arange(COUNT) % CLASSES,
        training,
        objective=OBJECTIVES[objective],
        targets=targets(name, objective, dtype),
        order_generator=generator(0, "order"),
        augmentation_generator=generator(0, "augmentation"),
        progress=lambda _, __, loss: losses.append(loss.item()),
    )
    return network, losses


# --- layout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["task", "kd", "elf-ce"])
@pytest.mark.parametrize("name", NETWORKS)
def test_layouts_agree_up_to_rounding_in_float64(name, objective):
    one, losses = trained(name, objective, recipe(memory_format="channels_last"), torch.float64)
    other, others = trained(name, objective, recipe(memory_format="contiguous"), torch.float64)
    torch.testing.assert_close(losses, others, rtol=1e-9, atol=1e-12)
    for (key, tensor), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-7, atol=1e-10, msg=key)
    assert accuracy(one, images(torch.float64), torch.arange(COUNT) % CLASSES) == accuracy(
        other, images(torch.float64), torch.arange(COUNT) % CLASSES
    )


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_images_and_maps_lie_as_the_recipe_says(name, layout):
    wanted = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    seen = 0

    def watch(module, inputs, output):
        nonlocal seen
        # Where a side or the channels are one, both layouts are the same.
        if isinstance(module, nn.Conv2d) and output.shape[1] > 1 and output.shape[-1] > 1:
            seen += 1
            for tensor in (inputs[0], module.weight, output):
                assert tensor.is_contiguous(memory_format=wanted[layout])
            other = wanted["contiguous" if layout == "channels_last" else "channels_last"]
            assert not output.is_contiguous(memory_format=other)

    trained(name, "task", recipe(memory_format=layout), watch=watch)
    assert seen > 20


# --- precision --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_in_products_alone_and_stays_near_float32(name, objective):
    types = set()

    def watch(module, inputs, output):
        types.add(output.dtype)
        assert module.weight.dtype == torch.float32

    one_step = {"epochs": 1, "batch_size": COUNT, "augmentation": "none"}
    network, losses = trained(name, objective, recipe(precision="bfloat16", **one_step), watch=watch)
    assert types == {torch.bfloat16}
    exact, expected = trained(name, objective, recipe(**one_step))
    # Bfloat16 keeps 8 bits of a number.
    assert losses == pytest.approx(expected, rel=2**-6)
    assert losses != expected
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    start = flatten(build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights")))
    moved, wanted = flatten(network) - start, flatten(exact) - start
    # Steps into unrelated directions have a cosine of nearly 0.
    assert nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.85


def test_float32_is_what_nobody_asks_for():
    assert (recipe().precision, recipe().memory_format) == ("float32", "auto")
    types = set()
    trained(NETWORKS[0], "task", recipe(), watch=lambda module, inputs, output: types.add(output.dtype))
    assert types == {torch.float32}
    with pytest.raises(ValidationError):
        recipe(precision="float16")


# --- names ------------------------------------------------------------------------------------------------


def plan_of(tmp_path, changes: str) -> Plan:
    """Return the plan of the scale smoke with changed recipes."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    scale = tmp_path / "config" / "scales" / "smoke.yaml"
    text = scale.read_text()
    assert "  evaluation: {epochs: " in text
    scale.write_text(text.replace("  evaluation: {epochs: ", f"  evaluation: {{{changes}epochs: "))
    settings = load_settings(tmp_path / "config", "smoke")
    return Plan(settings, build_grid(settings, tmp_path), tmp_path / "results" / "smoke")


def test_reduced_precision_is_said_by_path_specification_row_and_caption(tmp_path):
    plain = plan_of(tmp_path / "plain", "")
    reduced = plan_of(tmp_path / "reduced", "precision: bfloat16, ")
    for path, spec in reduced.grid.evaluations.items():
        frepo = isinstance(spec.recipe, FrepoRecipe)
        assert ("-bfloat16/" in path) == ('"precision":"bfloat16"' in spec.canonical()) == (not frepo)
    assert not any("bfloat16" in path for path in plain.grid.evaluations)
    cells = {cell.columns["precision"] for cell in reduced.grid.cells["table05"]}
    assert "bfloat16" in cells and {cell.columns["precision"] for cell in plain.grid.cells["table05"]} == {"float32"}
    said = "bfloat16 stands in for float32 in the training of evaluation networks"
    assert said in about(reduced, "table05")["stand_ins"]
    assert "float32" not in about(plain, "table05")["stand_ins"]
    assert reduced.experiment_digest("table05") != plain.experiment_digest("table05")
