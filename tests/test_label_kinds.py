"""Which labels an objective takes and how, what is done by name alone, and where it is said."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import PROJECT
from fabricated_results import ABOUT, cell, frames
from hypothesis import given
from hypothesis import strategies as st
from small_jobs import NETWORK, SmallJobs
from torch import nn

from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tables import read_table
from elf.artifacts.tensors import read_tensors, write_tensors
from elf.cli import main
from elf.errors import ElfError
from elf.networks.building import build_network
from elf.objectives import elf, frepo, kd, squared, task
from elf.objectives.labels import entering, label_kind
from elf.results.tables import render
from elf.specs.evaluation import Objective
from elf.specs.labels import KINDS
from elf.specs.shard import SHARD
from elf.specs.synthetic import SyntheticSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.study.cells import cells_of
from elf.study.config import Block, Experiment, ObjectiveConfig
from elf.study.config_reading import load_settings
from elf.training import frepo as frepo_evaluation
from elf.training import seeds_at_once as seed_batched
from elf.training.protocol import train

TAKEN = {
    "task": {"hard", "probabilities", "logits"},
    "elf": {"hard", "probabilities", "logits"},
    "kd": {"hard", "probabilities", "logits"},
    "frepo": {"hard", "regression"},
    "squared": {"hard", "regression"},
}


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_of(kind: str, count: int = 6, classes: int = 3) -> torch.Tensor:
    rows = 5 * torch.randn(count, classes, generator=stream(2))
    one_hot = nn.functional.one_hot(rows.argmax(1), classes)
    return {"hard": rows.argmax(1), "probabilities": rows.softmax(1), "logits": rows, "regression": one_hot - 1 / 3}[
        kind
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TAKEN)
def test_what_each_objective_takes(name, kind):
    labels, objective = labels_of(kind), Objective(name=name)
    by_name = Objective(name=name, labels="unchanged")
    if kind not in TAKEN[name]:
        with pytest.raises(ElfError, match=f"{name} takes no labels of the kind {kind} .*labels: unchanged"):
            entering(labels, objective, kind)
    elif kind == "logits":
        exact = np.exp(labels.double().numpy())
        exact /= exact.sum(1, keepdims=True)
        np.testing.assert_allclose(entering(labels, objective, kind).numpy(), exact, rtol=1e-6)
    else:
        assert entering(labels, objective, kind) is labels
    if kind != "hard":
        assert entering(labels, by_name, kind) is labels


def test_asking_by_name_is_part_of_path_and_name():
    plain, asked = Objective(name="task"), Objective(name="task", labels="unchanged")
    assert (asked.slug, asked.label) == ("task-labels-unchanged", "task, labels unchanged")
    assert "labels" not in plain.model_dump() and "labels" not in plain.canonical()
    assert json.loads(asked.canonical())["labels"] == "unchanged" and asked.settings == plain.settings == {}
    names = {"name": "elf", "terms": ["rear+task"], "labels": "unchanged"}
    assert [entry.label for entry in ObjectiveConfig(**names).expand()] == ["elf[rear+task], labels unchanged"]
    assert ObjectiveConfig(name="squared").expand() == [Objective(name="squared")]


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 100), scale=st.floats(0.1, 50))
def test_no_loss_falls_below_what_is_said_to_be_its_lowest(kind, seed, scale):
    """Whatever the logits: the steepest descent of the official cross-entropy on negative labels has no end."""
    labels = labels_of(kind)
    logits = scale * torch.randn(6, 3, generator=stream(seed))
    features = scale * torch.rand(6, 4, 2, 2, generator=stream(seed))
    network = build_network("convnet-w4-d1-in", classes=3, side=4, generator=stream(seed))
    identity = nn.Identity()
    if kind != "hard" and kind != "regression":
        labels = entering(labels, Objective(name="task"), kind)
    if kind in TAKEN["task"]:
        assert task.lowest(labels) == 0 <= task.loss(identity, logits, labels) + 1e-6
        assert (
            kd.lowest(labels, logits, temperature=2.0) == 0 <= kd.loss(identity, logits, labels, logits.flip(0)) + 1e-5
        )
        images = torch.randn(6, 3, 4, 4, generator=stream(seed))
        for distance in ("ce", "mae", "mse", "cos"):
            settings = {"distance": distance, "lambda_front": 1.0}
            assert elf.lowest(labels, features, **settings) == 0
            assert elf.loss(network, images, labels, features, **settings) >= -1e-4
    else:
        assert squared.loss(identity, logits, labels) >= squared.lowest(labels) == frepo.lowest(labels) == 0
        assert task.lowest(labels) == -math.inf
        assert elf.lowest(labels, features) == elf.lowest(labels, features, terms="front+task") == -math.inf
        assert task.loss(identity, 1e4 * labels, -labels * 0 + labels.roll(1, 1)).isfinite()
    assert elf.lowest(labels_of("hard"), -features) == -math.inf
    assert elf.lowest(labels_of("hard"), -features, distance="mse") == 0


def recipe(**changes) -> TrainingRecipe:
    values = {"epochs": 60, "final_pass": False, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 4}
    return TrainingRecipe(**values | {"lr_drop": False, "augmentation": "none"} | changes)


def small() -> tuple[nn.Module, torch.Tensor, dict]:
    network = build_network("convnet-w4-d1-in", classes=3, side=4, generator=stream(0))
    return network, torch.randn(6, 3, 4, 4, generator=stream(1)), {
        "order_generator": stream(2),
        "augmentation_generator": stream(3),
    }  # fmt: skip


def test_a_loss_that_its_formula_does_not_allow_stops_the_training():
    network, images, streams = small()
    with pytest.raises(ElfError, match=r"the loss of pass 49 is -.*, below 0, the lowest that its formula allows"):
        train(network, images, labels_of("logits"), recipe(lr=1e-3), **streams)
    network, images, streams = small()
    train(network, images, labels_of("regression"), recipe(epochs=2), **streams, lowest=-math.inf)
    several = {f"{name}s": [value, value] for name, value in streams.items()}
    twins = [small()[0], small()[0]]
    with pytest.raises(ElfError, match=r"seed 7: training diverged: the loss of pass 49 is -.*, below 0"):
        seed_batched.train(
            twins, images, labels_of("logits"), recipe(lr=1e-3), objective=task.loss, seeds=[7, 8], **several
        )
    protocol = FrepoRecipe(
        steps=3, lr=0.01, warmup_steps=1, lr_final_fraction=0.1, batch_size=4, augmentation="none"
    )  # fmt: skip
    negative = {"objective": lambda *batch: task.loss(*batch) - 5}
    with pytest.raises(ElfError, match=r"the loss of step 3 is -.*, below 0"):
        frepo_evaluation.train(small()[0], images, labels_of("hard"), protocol, **negative, **small()[2])


def test_the_kind_is_that_of_the_manifest_or_of_the_method(tmp_path):
    path = tmp_path / "set.safetensors"
    for spec, kind in (
        ({"module": "dm"}, "hard"),
        ({"module": "frepo"}, "regression"),
        ({"module": "tesla", "recipe": {"soft_labels": True}}, "probabilities"),
        ({"module": "tesla", "recipe": {"soft_labels": False}}, "hard"),
        ({"module": "imported", "recipe": {"labels": "logits"}}, "logits"),
        ({"labels": "soft"}, "probabilities"),
        ({"labels": "centred"}, "regression"),
    ):
        assert label_kind(path, {"spec": spec}, labels_of(kind)) == kind
    for spec, kind in (
        ({"module": "dm"}, "logits"),
        ({"labels": "real-valued"}, "logits"),
        ({"labels": "logits"}, "hard"),
    ):
        with pytest.raises(ElfError, match="again, with 'elf import --labels'"):
            label_kind(path, {"spec": spec}, labels_of(kind))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> SmallJobs:
    made = SmallJobs(tmp_path_factory.mktemp("jobs"))
    assert main(made.prepare_dataset(made.dataset)) == 0
    return made


def imported(jobs: SmallJobs, rows: torch.Tensor, kind: str, recipe: dict | None = None) -> int:
    """Distil from an imported set with such labels and return the exit code."""
    images = torch.randn(20, 3, 32, 32, generator=stream(1))
    spec = {"space": "normalised", "constants": "digits", "classes": 10, "ipc": 2, "side": 32, "labels": kind}
    made = describe("imported set", spec, inputs={}, code="{}", measured={})
    file = jobs.folder / "imported.safetensors"
    file.unlink(missing_ok=True)
    made = write_tensors(file, {"images": images, "labels": rows}, made)
    values = {"file": str(file), "id": made["id"]} | ({"labels": kind} if recipe is None and kind != "hard" else {})
    told = SyntheticSpec(
        **{"dataset": "digits", "method": "theirs", "module": "imported", "network": None, "ipc": 2, "seed": 0},
        recipe=values | (recipe or {}),
    )
    command = jobs._command("distill", told, dataset=jobs.dataset, images=jobs.folder / "set.safetensors")
    return main([*command, "--imported", str(file)])


def accuracies(jobs: SmallJobs, objective: dict) -> list[float]:
    shard = jobs.folder / "shard.parquet"
    shard.unlink(missing_ok=True)
    assert main(jobs.evaluate(shard, objective, {"epochs": 3})) == 0
    return read_table(shard, "evaluation shard", SHARD)[0]["accuracy"].to_pylist()


def test_logits_train_as_their_softmax_from_import_to_shard(jobs, capsys):
    rows = 8 * torch.eye(10).repeat_interleave(2, 0) + torch.randn(20, 10, generator=stream(5))
    assert imported(jobs, rows.double().softmax(1).float(), "probabilities") == 0
    wanted = accuracies(jobs, {"name": "task"})
    assert imported(jobs, rows, "logits") == 0
    assert read_manifest(jobs.folder / "set.safetensors")["spec"]["labels"] == "logits"
    assert torch.equal(read_tensors(jobs.folder / "set.safetensors", "synthetic set")[0]["labels"], rows)
    assert accuracies(jobs, {"name": "task"}) == wanted
    capsys.readouterr()
    assert imported(jobs, rows, "logits", recipe={}) == 1
    assert "its labels are logits, the recipe of theirs says hard" in capsys.readouterr().err
    assert imported(jobs, rows.argmax(1), "hard") == 0
    assert "labels" not in read_manifest(jobs.folder / "set.safetensors")["spec"]


def test_regression_targets_are_refused_by_a_cross_entropy_unless_asked_for(jobs, capsys):
    rows = torch.eye(10).repeat_interleave(2, 0) - 0.1
    assert imported(jobs, rows, "regression") == 0
    shard = jobs.folder / "shard.parquet"
    shard.unlink(missing_ok=True)
    capsys.readouterr()
    assert main(jobs.evaluate(shard, {"name": "task"}, {"epochs": 3})) == 1
    error = capsys.readouterr().err
    assert "takes no labels of the kind regression" in error and "frepo, squared" in error
    assert all(0 <= value <= 1 for value in accuracies(jobs, {"name": "squared"}))
    assert accuracies(jobs, {"name": "task", "labels": "unchanged"}) != []
    assert NETWORK  # the one that small jobs train


def test_the_grid_refuses_before_anything_runs():
    settings = load_settings(PROJECT / "config", "smoke")
    block = {
        **{"dataset": "cifar10", "ipc": [10], "distill_network": ["convnet-w128-d3-in"]},
        **{"eval_network": ["convnet-w128-d3-in"], "method": ["random", "frepo"]},
    }
    with pytest.raises(ElfError, match="objective: frepo: the objective task takes no labels of the kind regression"):
        list(cells_of(Block(**block, objective=[{"name": "task"}]), settings))
    cells = list(cells_of(Block(**block, objective=[{"name": "task", "labels": "unchanged"}]), settings))
    # Hard labels enter as always, so that they are not marked.
    assert [cell.columns["objective"] for cell in cells] == ["task", "task, labels unchanged"]
    assert "task-labels-unchanged-lr" in str(cells[1].evaluation.path)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_shipped_sets_with_hard_labels_have_the_specifications_that_they_had(scale):
    settings = load_settings(PROJECT / "config", scale)
    for experiment in settings.experiments.values():
        for block in experiment.blocks.values():
            for found in cells_of(block, settings) if block.enabled else ():
                if not block.full_data:
                    assert "labels" not in found.synthetic.recipe
                    assert "labels" not in found.evaluation.model_dump(mode="json")["objective"]


def test_figures_have_no_place_for_the_mark():
    block = {"dataset": "cifar10", "ipc": [10], "method": ["frepo"], "distill_network": ["convnet-w128-d3-in"]}
    block |= {"eval_network": ["convnet-w128-d3-in"], "objective": [{"name": "task", "labels": "unchanged"}]}
    with pytest.raises(ValueError, match=r"blocks\.first\.objective: 'labels' is for tables"):
        Experiment(title="A figure", kind="figure", number=3, blocks={"first": block})


def test_rows_and_captions_say_what_is_not_hard():
    cells, results = frames(
        [
            (cell(method="theirs"), [0.5, 0.6]),
            (cell(method="frepo", objective="task, labels unchanged"), [0.4, 0.3]),
            (cell(method="dm"), [0.5, 0.7]),
        ]
    )
    before = render(cells, results, ABOUT)["md"]
    assert "baseline, labels unchanged" in before and "Labels unchanged: rows of any numbers" in before
    assert "not hard" not in before
    kinds = {"theirs": "logits", "frepo": "regression", "dm": "hard"}
    told = render(cells, results.assign(labels=results["method"].map(kinds)), ABOUT)["md"]
    assert "Labels that are not hard: theirs logits, FrePo regression." in told


def test_the_gain_of_unchanged_labels_is_over_a_baseline_with_unchanged_labels():
    elf_key = cell(objective="elf, labels unchanged")
    elf_key |= {"distance": "ce", "lambda_front": 1.0, "lambda_rear": 1.0, "variant": "official"}
    plain, unchanged = cell(), cell(objective="task, labels unchanged")
    text = render(*frames([(plain, [0.1, 0.2]), (unchanged, [0.5, 0.6]), (elf_key, [0.6, 0.7])]), ABOUT)["csv"]
    gains = [line for line in text.splitlines() if "ELF" in line]
    assert len(gains) == 1 and "10," in gains[0]
