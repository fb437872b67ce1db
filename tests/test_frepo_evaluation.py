"""FrePo's own evaluation: its augmentation, its schedule, and training against an optimiser of PyTorch."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Killed, MemoryCheckpoint, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from elf.artifacts.code import evaluate_code
from elf.data.frepo_augmentation import CATEGORIES, STRATEGY, apply, augment, draw
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives.frepo import loss
from elf.running.inputs import Split
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.stages.evaluate import evaluate
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid
from elf.training.frepo import STEPS, learning_rate, steps_for, train

PROJECT = Path(__file__).resolve().parent.parent
SIDE = 8
RECIPE = FrepoRecipe(steps=7, lr=0.01, warmup_steps=2, lr_final_fraction=0.01, batch_size=4, augmentation=STRATEGY)
OFFICIAL = RECIPE.model_copy(update={"steps": 0, "lr": 3e-4, "warmup_steps": 500, "batch_size": 500})


def random_images(count: int = 6, side: int = SIDE, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=stream(seed), dtype=torch.float64)


# --- augmentation ----------------------------------------------------------------------------------------


def sampled(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear interpolation at pixel coordinates; beyond the centres of the edge pixels the edge goes on."""
    side = image.shape[-1]
    rows, columns = np.clip(rows, 0, side - 1), np.clip(columns, 0, side - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    below, right = np.minimum(top + 1, side - 1), np.minimum(left + 1, side - 1)
    down, along = rows - top, columns - left
    upper = image[:, top, left] * (1 - along) + image[:, top, right] * along
    lower = image[:, below, left] * (1 - along) + image[:, below, right] * along
    return upper * (1 - down) + lower * down


def reference(image: np.ndarray, category: str, values: dict) -> np.ndarray:
    """One image, in NumPy."""
    side = image.shape[-1]
    # Centres of the pixels, in units of half the side, from the middle of the image.
    y, x = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1] * 2, indexing="ij")

    def warped(new_x, new_y):
        return sampled(image, (new_y + 1) / 2 * side - 0.5, (new_x + 1) / 2 * side - 0.5)

    match category:
        case "flip":
            return image[:, :, ::-1] if values["mirrored"] else image
        case "color":
            image = image + values["brightness"]
            image = (image - image.mean(0)) * values["saturation"] + image.mean(0)
            return (image - image.mean()) * values["contrast"] + image.mean()
        case "zoom":
            return warped(values["size"] * x + values["x"], values["size"] * y + values["y"])
        case "rotate":
            cosine, sine = math.cos(values["angle"]), math.sin(values["angle"])
            return warped(cosine * x - sine * y, sine * x + cosine * y)
        case "translate":
            return warped(x + values["x"], y + values["y"])
        case "cutout":
            image = image.copy()
            top, left = values["row"] - side // 8, values["column"] - side // 8
            for row in range(top, top + side // 4):
                for column in range(left, left + side // 4):
                    if 0 <= row < side and 0 <= column < side:
                        image[:, row, column] = 0
            return image


@pytest.mark.parametrize("category", CATEGORIES)
@given(seed=st.integers(0, 10_000), side=st.sampled_from([8, 9, 16]))
def test_every_category_against_numpy_image_by_image(category, seed, side):
    images = random_images(3, side, seed)
    drawn = draw(category, len(images), side, stream(seed))
    assert drawn[0] == category
    found = apply(images, drawn).numpy()
    for index, image in enumerate(images.numpy()):
        values = {name: value[index].item() for name, value in drawn[1].items()}
        np.testing.assert_allclose(found[index], reference(image, category, values), atol=1e-5)


def test_parameters_fill_their_ranges_and_differ_between_images():
    """Ranges of the method sheet, uniform or log-uniform."""
    count, draws = 4000, stream(0)
    drawn = {category: draw(category, count, 32, draws)[1] for category in CATEGORIES}

    def uniform(values, low, high):
        values = (values.double() - low) / (high - low)
        assert 0 <= values.min() < 0.01 and 0.99 < values.max() <= 1
        torch.testing.assert_close(values.mean().item(), 0.5, atol=0.02, rtol=0)
        torch.testing.assert_close(values.var().item(), 1 / 12, atol=0.005, rtol=0)

    assert 0.45 < drawn["flip"]["mirrored"].double().mean() < 0.55
    uniform(drawn["color"]["brightness"], -0.25, 0.25)
    uniform(drawn["color"]["contrast"].log(), -0.25, 0.25)
    uniform(drawn["color"]["saturation"].log(), -0.25, 0.25)
    size = drawn["zoom"]["size"]
    uniform(size.log(), math.log(0.8), math.log(1.25))
    for axis in "xy":
        uniform(drawn["zoom"][axis] / (1 - size).abs(), -1, 1)
        uniform(drawn["translate"][axis], -0.25, 0.25)  # an eighth of a side whose half is 1
    uniform(drawn["rotate"]["angle"], -math.pi / 12, math.pi / 12)
    for axis in ("row", "column"):
        assert drawn["cutout"][axis].unique().tolist() == list(range(32))


def test_a_constant_image_is_changed_by_colour_and_cutout_alone():
    """What geometric operators show outside an image continues its edge."""
    images = torch.full((5, 3, SIDE, SIDE), 2.0)
    changed = {c for c in CATEGORIES if not torch.allclose(apply(images, draw(c, 5, SIDE, stream(0))), images)}
    assert changed == {"color", "cutout"}


def test_one_category_a_batch_from_all_with_equal_probability():
    draws = stream(0)
    found = [draw(STRATEGY, 2, SIDE, draws)[0] for _ in range(1200)]
    assert all(150 < found.count(category) < 250 for category in CATEGORIES)


def test_without_augmentation_nothing_is_drawn_and_unknown_categories_are_named():
    images, draws = random_images(), stream(0)
    assert augment(images, "none", draws) is images
    assert torch.equal(draws.get_state(), stream(0).get_state())
    with pytest.raises(ElfError, match="unknown category 'crop'; allowed are flip, color"):
        draw("flip_crop", 2, SIDE, draws)


# --- schedule --------------------------------------------------------------------------------------------


def test_steps_of_the_official_script_and_no_others():
    expected = {10: 1000, 100: 2000, 200: 20000, 400: 5000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000}
    assert expected == STEPS == {count: steps_for(OFFICIAL, count) for count in STEPS}
    assert steps_for(RECIPE, 123) == 7
    with pytest.raises(ElfError, match=r"no number of steps for a set of 150 images, only for 10, 100, .* give steps"):
        steps_for(OFFICIAL, 150)


def test_learning_rate_rises_linearly_and_falls_along_a_cosine():
    rates = np.array([learning_rate(OFFICIAL, step, 2000) for step in range(2000)])
    np.testing.assert_allclose(rates[:501], np.linspace(0, 3e-4, 501))
    part = np.arange(1500) / 1500
    np.testing.assert_allclose(rates[500:], 3e-4 * (0.01 + 0.99 * np.cos(part * np.pi / 2) ** 2))
    assert rates.argmax() == 500 and rates[-1] == pytest.approx(3e-6, rel=1e-3)


# --- training --------------------------------------------------------------------------------------------


def trained(recipe=RECIPE, *, labels=None, name="frepoconv-w2-bn", count=10, **others):
    network = build_network(name, classes=3, side=SIDE, generator=stream(0))
    images = random_images(count).float()
    labels = torch.randn(count, 3, generator=stream(1)) if labels is None else labels
    train(
        network,
        images,
        labels,
        recipe,
        objective=loss,
        order_generator=stream(2),
        augmentation_generator=stream(3),
        **others,
    )
    return network


def test_training_equals_a_plain_loop_with_the_optimiser_of_pytorch():
    """Batches of 4 of 10 images: two a pass, and 2 images wait for the next order."""
    network = build_network("frepoconv-w2-bn", classes=3, side=SIDE, generator=stream(0))
    images, labels = random_images(10).float(), torch.randn(10, 3, generator=stream(1))
    order, augmentation = stream(2), stream(3)
    optimiser = torch.optim.Adam(network.parameters())
    rates = [0, 0.005, *(0.01 * (0.01 + 0.99 * math.cos(i * math.pi / 10) ** 2) for i in range(5))]
    for step in range(7):
        if step % 2 == 0:
            positions = torch.randperm(10, generator=order).tolist()
        batch, positions = positions[:4], positions[4:]
        shown = augment(images[batch], STRATEGY, augmentation)
        optimiser.zero_grad()
        (0.5 * (network(shown) - labels[batch]) ** 2).sum(1).mean().backward()
        optimiser.param_groups[0]["lr"] = rates[step]
        optimiser.step()
    for name, tensor in trained().state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_progress_sees_every_step_and_hard_labels_are_centred():
    seen = []
    hard = torch.arange(10) % 3
    network = trained(labels=hard, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(step, 7) for step in range(1, 8)]
    centred = torch.nn.functional.one_hot(hard, 3) - 1 / 3
    for one, other in zip(network.parameters(), trained(labels=centred).parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_small_set_is_one_batch_that_is_learned():
    losses = []
    recipe = RECIPE.model_copy(update={"steps": 200, "batch_size": 500, "augmentation": "none"})
    trained(recipe, progress=lambda *call: losses.append(call[2].item()))
    assert losses[-1] < 0.05 * losses[0]


@settings(max_examples=12)
@given(kill_after=st.integers(1, 13), every=st.integers(1, 3), batch=st.sampled_from([3, 4, 500]))
def test_killed_and_started_again_is_bit_identical(kill_after, every, batch):
    recipe = RECIPE.model_copy(update={"steps": 13, "batch_size": batch})
    checkpoint = MemoryCheckpoint(every)

    def die(finished, total, loss):
        if finished == kill_after:
            raise Killed

    with pytest.raises(Killed):
        trained(recipe, progress=die, checkpoint=checkpoint)
    resumed, whole = trained(recipe, checkpoint=checkpoint), trained(recipe)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_global_state_is_given_back_and_does_not_matter():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = trained()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), trained().parameters(), strict=True))


def test_diverged_training_is_an_error():
    with pytest.raises(ElfError, match=r"training diverged: after step 7 .* \(lr 1e\+30\)"):
        trained(RECIPE.model_copy(update={"lr": 1e30}))
    with pytest.raises(ElfError, match="500 warm-up steps leave none of 400; lower them"):
        trained(OFFICIAL.model_copy(update={"steps": 400}))


# --- specification ---------------------------------------------------------------------------------------

SGD = TrainingRecipe(
    epochs=3, final_pass=True, lr=0.01, momentum=0.9, weight_decay=0, batch_size=8, lr_drop=True, augmentation="none"
)


def evaluation(objective: str, recipe) -> EvaluationSpec:
    return EvaluationSpec(
        dataset="cifar10",
        synthetic_set="frepo-frepoconv-w128-bn-ipc10-seed0",
        network="vgg11-in",
        objective=Objective(name=objective),
        recipe=recipe,
        seeds=(0, 1),
    )


def test_the_objective_and_the_protocol_belong_together():
    spec = evaluation("frepo", RECIPE)
    assert EvaluationSpec.model_validate_json(spec.canonical()) == spec
    assert (
        evaluation("task", SGD).recipe == EvaluationSpec.model_validate_json(evaluation("task", SGD).canonical()).recipe
    )
    assert spec.path.parts[-2:] == ("frepo-lr0.01", "seeds0-1.parquet")
    assert (spec.recipe.epochs, spec.objective.label, spec.objective.needs_teacher) == (None, "frepo", False)
    for objective, recipe in (("frepo", SGD), ("task", RECIPE)):
        with pytest.raises(ValidationError, match=f"objective {objective} cannot be trained with a "):
            evaluation(objective, recipe)
    with pytest.raises(ValidationError, match="warmup_steps must be fewer than steps, found 9 of 9"):
        FrepoRecipe(**RECIPE.model_dump() | {"steps": 9, "warmup_steps": 9})


def test_other_objectives_do_not_depend_on_the_code_of_frepo():
    assert not {"learning_rate", "squared_loss", "moments", "_ZOOM"} & evaluate_code_definitions("task", SGD)
    own = evaluate_code_definitions("frepo", RECIPE)
    assert {"learning_rate", "squared_loss", "moments", "_ZOOM"} <= own


def evaluate_code_definitions(objective: str, recipe) -> set[str]:
    return set(json.loads(evaluate_code(evaluation(objective, recipe))))


# --- in the project --------------------------------------------------------------------------------------


def test_the_stage_trains_by_this_protocol_and_tests_the_final_state():
    """Same named streams as every evaluation, so that the networks of two objectives start from the same weights."""
    spec = evaluation("frepo", RECIPE).model_copy(update={"network": "frepoconv-w2-none"})
    images, labels = random_images(10).float(), torch.randn(10, 3, generator=stream(1))
    test = Split(
        random_images(50, seed=5).float(), torch.arange(50) % 3, None, {"spec": {"class_names": ["a", "b", "c"]}}
    )
    found = evaluate(spec, 1, images, labels, None, test, None)

    streams = {name: generator(1, "evaluation", name) for name in ("initialisation", "order", "augmentation")}
    network = build_network(spec.network, classes=3, side=SIDE, generator=streams["initialisation"])
    train(
        network,
        images,
        labels,
        RECIPE,
        objective=loss,
        order_generator=streams["order"],
        augmentation_generator=streams["augmentation"],
    )
    assert found == (network.eval()(test.images).argmax(1) == test.labels).double().mean().item()


def test_the_objective_of_a_block_brings_the_recipe_of_its_protocol():
    settings = load_settings(PROJECT / "config", "paper")
    experiment = settings.experiments["table01"]
    block = next(block for block in experiment.blocks.values() if block.objective[0].name == "frepo")
    only = experiment.model_copy(update={"blocks": {"only": block.model_copy(update={"dataset": "cifar10-frepo"})}})
    scale = settings.scale.model_copy(update={"experiments": ["table01"]})
    grid = build_grid(settings.model_copy(update={"experiments": {"table01": only}, "scale": scale}), PROJECT)
    assert {spec.recipe for spec in grid.evaluations.values()} == {OFFICIAL}
    (dataset,) = grid.datasets.values()
    assert dataset.normalisation == "frepo-cifar10-zca"
