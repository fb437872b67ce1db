"""Every stage through the command line, on a tiny study: what it makes, from what, and what stops it."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import PROJECT
from PIL import Image

from elf.artifacts import code
from elf.artifacts.fingerprint import code_id
from elf.artifacts.manifest import read_manifest
from elf.artifacts.tensors import write_tensors
from elf.cli import main
from elf.data.sources import digits
from elf.distillation import dm
from elf.distillation.shared.synthetic import RealImages
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives import elf, kd, task
from elf.specs.evaluation import EvaluationSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.stages.extract_features import BATCH, extract_features
from elf.stages.report import content
from elf.study.cells import FullDataCell
from elf.study.plan import Plan, make_plan
from elf.training.protocol import accuracy, train

pytestmark = pytest.mark.usefixtures("small_process")

SCALE = """\
description: tiny scale of the tests
methods: [dm, random]
experiments: [table05, figure4]
stand_ins: {cifar10: digits, cifar100: digits}
width: 0.015625
seeds: 2
seeds_per_job: 2
datasets:
  digits: {train_per_class: 12, test_per_class: 5}
recipes:
  dm: {iterations: 3, batch_real: 8, constants: dataset}
  teacher: {epochs: 2, batch_size: 40}
  evaluation: {epochs: 2, batch_size: 60}
changes:
  table05:
    blocks:
      aligned: {method: [dm, random]}
      baseline: {method: [dm, random], eval_network: [vgg11-bn]}
      elf: {method: [dm], eval_network: [vgg11-bn], teacher_epoch: 1, lr: 0.01}
      kd: {method: [dm], eval_network: [convnet-w128-d3-bn], teacher_epoch: 2, lr: 0.01, enabled: true}
      full-data: {eval_network: [convnet-w128-d3-in]}
  figure4:
    blocks:
      baseline: {method: [dm], eval_network: [vgg11-bn]}
      elf: {method: [dm], eval_network: [vgg11-bn], teacher_epoch: [1, 2]}
"""
DM, RANDOM = "synthetic/digits/dm-convnet-w2-d3-in-ipc10-seed0", "synthetic/digits/random-ipc10-seed0"
DATASET = "datasets/digits/images.safetensors"
ENDINGS = (".safetensors", ".parquet")
WIDE, NARROW = "convnet-w8-d3-in", "convnet-w2-d3-in"


@dataclass(frozen=True)
class Study:
    """A tiny study: its configuration, and results that lie anywhere."""

    config: Path
    results: Path

    @property
    def plan(self) -> Plan:
        return make_plan(self.config, "tiny", self.results)

    @property
    def folder(self) -> Path:
        return self.results / "tiny"

    def whole_scale(self, stage: str, *more) -> list:
        return [stage, "--scale", "tiny", "--config", self.config, "--results-folder", self.results, *more]

    def evaluate(self, path: str, spec: EvaluationSpec | None = None) -> list:
        """Return the command that makes a shard of the grid, or another one from the same inputs."""
        planned = self.plan.grid.evaluations[path]
        spec = spec or planned
        name = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
        features = self.folder / "features" / planned.dataset / planned.synthetic_set / name
        return [
            *("evaluate", "--settings", spec.canonical(), "--code", code_id(code.evaluate_code(spec))),
            *("--images", self.folder / "synthetic" / planned.dataset / planned.synthetic_set / "images.safetensors"),
            *("--dataset", self.folder / DATASET, "--shard", self.folder / path, "--features"),
            *([features] if spec.objective.needs_teacher else []),
        ]

    def distill(self, path: str, spec: SyntheticSpec | None = None) -> list:
        spec = spec or self.plan.grid.synthetic_sets[path]
        files = ["--dataset", self.folder / DATASET, "--images", self.folder / path / "images.safetensors"]
        return ["distill", "--settings", spec.canonical(), "--code", code_id(code.distill_code(spec)), *files]

    def train_teacher(self, path: str, epochs, spec: TeacherSpec | None = None) -> list:
        spec = spec or self.plan.grid.teachers[path]
        files = ["--dataset", self.folder / DATASET, "--training", self.folder / path / "training.safetensors"]
        told = ["--settings", spec.canonical(), "--code", code_id(code.train_teacher_code(spec))]
        return ["train-teacher", *told, *files, "--epochs", *epochs]

    def extract_features(self, path: str) -> list:
        spec = self.plan.grid.features[path]
        checkpoint = f"teachers/{spec.dataset}/{spec.teacher_network}/epoch{spec.teacher_epoch}.safetensors"
        synthetic = f"synthetic/{spec.dataset}/{spec.synthetic_set}/images.safetensors"
        files = ["--images", self.folder / synthetic, "--teacher", self.folder / checkpoint]
        told = ["--settings", spec.canonical(), "--code", code_id(code.extract_features_code(spec))]
        return ["extract-features", *told, *files, "--features", self.folder / path]

    def commands(self):
        """Yield every command of the workflow, in an order in which each finds its inputs."""
        plan, grid = self.plan, self.plan.grid
        for path, spec in grid.datasets.items():
            folder = self.folder / path
            files = ["--images", folder / "images.safetensors", "--card", folder / "card.json"]
            told = ["--settings", spec.canonical(), "--code", code_id(code.prepare_dataset_code(spec))]
            yield ["prepare-dataset", *told, "--data-folder", "absent", *files]
        for path in grid.synthetic_sets:
            yield self.distill(path)
            files = ["--images", self.folder / path / "images.safetensors", "--dataset", self.folder / DATASET]
            yield ["contact-sheet", *files, "--picture", self.folder / path / "contact_sheet.png"]
        for path in grid.teachers:
            yield self.train_teacher(path, sorted(grid.checkpoints[path]))
            for epoch in grid.checkpoints[path]:
                out = self.folder / path / f"epoch{epoch}.safetensors"
                training = self.folder / path / "training.safetensors"
                yield ["keep-checkpoint", "--training", training, "--epoch", epoch, "--out", out]
        for path in grid.features:
            yield self.extract_features(path)
        for path in grid.evaluations:
            yield self.evaluate(path)
        results = self.folder / "results.parquet"
        yield self.whole_scale("collect", "--digest", plan.results_digest(), "--results", results)
        for name in grid.cells:
            files = ["--experiment", name, "--results", self.folder / "collected" / f"{name}.parquet"]
            yield self.whole_scale("collect", "--digest", plan.results_digest(name), *files)
            kind = plan.settings.experiments[name].kind
            files = ["--results", results, "--folder", self.folder / f"{kind}s"]
            yield self.whole_scale(kind, name, "--digest", plan.experiment_digest(name), *files)
        yield self.whole_scale("report", "--digest", plan.report_digest)


def run(arguments) -> int:
    return main([str(argument) for argument in arguments])


def identifiers(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".parquet")]
    return {str(path.relative_to(folder)): read_manifest(path)["id"] for path in files}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Every command of the workflow has run."""
    folder = tmp_path_factory.mktemp("it's a study")
    shutil.copytree(PROJECT / "config", folder / "config")
    (folder / "config" / "scales" / "tiny.yaml").write_text(SCALE)
    study = Study(folder / "config", folder / "results")
    for command in study.commands():
        assert run(command) == 0, command
    return study


@pytest.fixture
def copy(study, tmp_path) -> Study:
    """The same results, to be broken."""
    shutil.copytree(study.results, tmp_path / "results")
    return Study(study.config, tmp_path / "results")


def only(study: Study, **wanted) -> str:
    """Return the path of the one evaluation with such a specification."""
    (found,) = [
        path
        for path, spec in study.plan.grid.evaluations.items()
        if all(
            value == (spec.objective.name if key == "objective" else getattr(spec, key))
            for key, value in wanted.items()
        )
    ]
    return found


def failing(arguments, capsys) -> str:
    """Run a command that has to fail, and return its one line."""
    capsys.readouterr()
    assert run(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if "error: " in line]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    return errors[0]


# What comes out.


def test_every_artifact_is_that_of_the_grid_and_nothing_is_left_over(study):
    grid = study.plan.grid
    expected = {f"{path}/{name}" for path in grid.datasets for name in ("images.safetensors", "card.json")}
    expected |= {
        f"{path}/{name}" for path in grid.synthetic_sets for name in ("images.safetensors", "contact_sheet.png")
    }
    for path, epochs in grid.checkpoints.items():
        expected |= {f"{path}/training.safetensors"} | {f"{path}/epoch{epoch}.safetensors" for epoch in epochs}
    expected |= {*grid.features, *grid.evaluations, "results.parquet"}
    expected |= {f"report/{name}" for name in ("contents.txt", *contents(study.folder / "report"))}
    expected |= {f"collected/{name}.parquet" for name in grid.cells}
    expected |= {f"tables/table05.{ending}" for ending in ("md", "tex", "csv", "html")}
    expected |= {f"figures/figure4.{ending}" for ending in ("pdf", "png", "svg", "csv")}
    found = {str(path.relative_to(study.folder)) for path in study.folder.rglob("*") if path.is_file()}
    assert {file for file in found if not file.endswith(".lock")} == expected
    assert len(grid.evaluations) == 7


def test_lineage_leads_from_every_shard_back_to_the_dataset(study):
    ids = identifiers(study.folder)
    grid = study.plan.grid

    def inputs_of(path):
        return {role: source["id"] for role, source in read_manifest(study.folder / path)["inputs"].items()}

    assert inputs_of(DATASET) == {}
    for path in grid.synthetic_sets:
        assert inputs_of(f"{path}/images.safetensors") == {"dataset": ids[DATASET]}
    for path, epochs in grid.checkpoints.items():
        for epoch in epochs:
            assert inputs_of(f"{path}/epoch{epoch}.safetensors") == {"dataset": ids[DATASET]}
    for path, spec in grid.features.items():
        assert inputs_of(path) == {
            "synthetic set": ids[f"synthetic/digits/{spec.synthetic_set}/images.safetensors"],
            "teacher": ids[f"teachers/digits/{spec.teacher_network}/epoch{spec.teacher_epoch}.safetensors"],
        }
    for path, spec in grid.evaluations.items():
        made_from = {
            "dataset": ids[DATASET],
            "synthetic set": ids[f"synthetic/digits/{spec.synthetic_set}/images.safetensors"],
        }
        teacher = None
        if spec.objective.needs_teacher:
            name = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
            made_from["features"] = ids[f"features/digits/{spec.synthetic_set}/{name}"]
            teacher = ids[f"teachers/digits/{spec.teacher_network}/epoch{spec.teacher_epoch}.safetensors"]
        assert inputs_of(path) == made_from
        rows = pd.read_parquet(study.folder / path)
        assert set(rows["dataset_id"]) == {made_from["dataset"]}
        assert set(rows["synthetic_set_id"]) == {made_from["synthetic set"]}
        for column, wanted in (("features_id", made_from.get("features")), ("teacher_id", teacher)):
            assert rows[column].isna().all() if wanted is None else set(rows[column]) == {wanted}


def test_manifests_hold_specification_code_and_measurements(study):
    grid = study.plan.grid
    of_files = {path: (spec, code.evaluate_code(spec)) for path, spec in grid.evaluations.items()}
    of_files |= {path: (spec, code.extract_features_code(spec)) for path, spec in grid.features.items()}
    of_files |= {
        f"{path}/images.safetensors": (spec, code.distill_code(spec)) for path, spec in grid.synthetic_sets.items()
    }
    for path, spec in grid.teachers.items():
        for epoch in grid.checkpoints[path]:
            of_files[f"{path}/epoch{epoch}.safetensors"] = (spec, code.train_teacher_code(spec))
    for path, (spec, fingerprint) in of_files.items():
        manifest = read_manifest(study.folder / path)
        planned = spec.model_dump(mode="json")
        assert {key: manifest["spec"][key] for key in planned} == planned
        assert manifest["code"] == json.loads(fingerprint)
        assert manifest["measured"]["device"].startswith("cpu")
        assert manifest["measured"]["wall_seconds"] >= 0
        assert manifest["measured"]["peak_memory_bytes"] > 2**20
    for path in (DATASET, "results.parquet", "collected/table05.parquet"):
        measured = read_manifest(study.folder / path)["measured"]
        assert measured["wall_seconds"] > 0 and measured["device_seconds"] > 0
        assert measured["peak_memory_bytes"] > 2**20


def test_the_same_commands_give_the_same_content(study, tmp_path, monkeypatch):
    """Somewhere else, and with a checkpoint after every pass."""
    monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", "0")
    again = Study(study.config, tmp_path / "again")
    for command in again.commands():
        if command[0] in (
            "prepare-dataset",
            "distill",
            "train-teacher",
            "keep-checkpoint",
            "extract-features",
            "evaluate",
        ):
            assert run(command) == 0
    found = identifiers(again.folder)
    assert found == {path: identifiers(study.folder)[path] for path in found}
    assert set(found) >= set(study.plan.grid.evaluations)
    assert not [path for path in again.folder.rglob(".*") if path.suffix != ".lock"]


def load(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def normalised(images: torch.Tensor, tensors: dict) -> torch.Tensor:
    mean, std = (tensors[name].reshape(1, 3, 1, 1) for name in ("mean", "std"))
    return ((images / 255 - mean) / std).float()


def test_dataset_is_the_first_images_of_each_class(study):
    tensors = load(study.folder / DATASET)
    real = digits.read(side=32)
    for split, kept in (("train", 12), ("test", 5)):
        images, labels = getattr(real, split).images, getattr(real, split).labels
        seen = [0] * 10
        chosen = []
        for index, label in enumerate(labels.tolist()):
            if seen[label] < kept:
                chosen.append(index)
            seen[label] += 1
        assert torch.equal(tensors[f"{split}_images"], images[chosen])
        assert torch.equal(tensors[f"{split}_labels"], labels[chosen])
    card = json.loads((study.folder / "datasets/digits/card.json").read_text())
    assert card["id"] == read_manifest(study.folder / DATASET)["id"]
    assert card["train"]["images_per_class"] == [12] * 10


def test_random_set_is_distinct_real_images_of_their_classes(study):
    data, synthetic = load(study.folder / DATASET), load(study.folder / RANDOM / "images.safetensors")
    real = normalised(data["train_images"], data)
    assert synthetic["labels"].tolist() == [label for label in range(10) for _ in range(10)]
    places = []
    for image, label in zip(synthetic["images"], synthetic["labels"], strict=True):
        same = (real - image).abs().amax(dim=(1, 2, 3)) < 1e-6
        assert data["train_labels"][same].tolist() == [label.item()]
        places.append(same.nonzero().item())
    assert len(set(places)) == 100


def test_distilled_set_is_what_the_method_returns(study):
    data, found = load(study.folder / DATASET), load(study.folder / DM / "images.safetensors")
    spec = study.plan.grid.synthetic_sets[DM]
    assert spec.recipe["iterations"] == 3
    wanted = dm.distill(
        RealImages(normalised(data["train_images"], data), data["train_labels"], 10),
        settings=spec.recipe,
        ipc=10,
        network=NARROW,
        seed=0,
        progress=lambda *_: None,
    )
    torch.testing.assert_close(found["images"], wanted.images)
    assert torch.equal(found["labels"], wanted.labels)
    assert not torch.equal(found["images"], load(study.folder / RANDOM / "images.safetensors")["images"])


def test_contact_sheet_is_a_picture_of_all_images(study):
    for path in (DM, RANDOM):
        picture = Image.open(study.folder / path / "contact_sheet.png")
        assert picture.format == "PNG"
        assert picture.width * picture.height >= 100 * 32 * 32


def test_contact_sheet_of_soft_labels_shows_each_image_under_its_largest_entry(copy):
    file = copy.folder / DM / "images.safetensors"
    tensors, manifest = load(file), read_manifest(file)
    softened = torch.nn.functional.one_hot(tensors["labels"], 10) * 0.7 + 0.03
    write_tensors(file, tensors | {"labels": softened}, manifest)
    picture = copy.folder / "soft.png"
    assert run(["contact-sheet", "--images", file, "--dataset", copy.folder / DATASET, "--picture", picture]) == 0
    assert picture.read_bytes() == (copy.folder / DM / "contact_sheet.png").read_bytes()


def loaded(network: str, state: dict):
    model = build_network(network, classes=10, side=32, generator=generator(99))
    model.load_state_dict(state)
    return model.eval()


def test_teachers_are_what_training_gives_after_each_epoch(study):
    data = load(study.folder / DATASET)
    images, test_images = (normalised(data[f"{split}_images"], data) for split in ("train", "test"))
    for path, spec in study.plan.grid.teachers.items():
        seed = spec.seed
        network = build_network(
            spec.network, classes=10, side=32, generator=generator(seed, "teacher", "initialisation")
        )
        states = {}
        train(
            network,
            images,
            data["train_labels"],
            spec.recipe,
            order_generator=generator(seed, "teacher", "order"),
            augmentation_generator=generator(seed, "teacher", "augmentation"),
            after_pass=lambda index, network=network, states=states: states.update(
                {index + 1: {name: tensor.clone() for name, tensor in network.state_dict().items()}}
            ),
        )
        assert set(states) == {1, 2}
        for epoch in study.plan.grid.checkpoints[path]:
            file = study.folder / path / f"epoch{epoch}.safetensors"
            found = load(file)
            assert found.keys() == states[epoch].keys()
            torch.testing.assert_close(found, states[epoch])
            with torch.no_grad():
                guesses = loaded(spec.network, found)(test_images).argmax(1)
            fraction = (guesses == data["test_labels"]).double().mean().item()
            assert read_manifest(file)["spec"]["test_accuracy"] == pytest.approx(fraction)
            assert read_manifest(file)["spec"]["epoch"] == epoch


def test_a_teacher_is_trained_once_for_all_its_checkpoints(copy):
    path = f"teachers/digits/{WIDE}"
    training = copy.folder / path / "training.safetensors"
    made = training.stat().st_mtime_ns
    assert run(copy.train_teacher(path, [1])) == 0
    assert training.stat().st_mtime_ns == made

    def trained_anew(epochs, spec=None):
        nonlocal made
        before, made = made, None
        assert run(copy.train_teacher(path, epochs, spec)) == 0
        made = training.stat().st_mtime_ns
        return made != before

    assert trained_anew([0, 1])
    assert not trained_anew([0])
    spec = copy.plan.grid.teachers[path]
    assert trained_anew([0], spec.model_copy(update={"seed": 1}))
    training.write_bytes(training.read_bytes()[:100])
    assert trained_anew([0, 1])


def test_a_teacher_asked_for_less_gives_the_same_states(study, tmp_path):
    """Epochs may be added to a study without making anything stale that is there."""
    shorter = Study(study.config, tmp_path / "results")
    shutil.copytree(study.folder / "datasets", shorter.folder / "datasets")
    assert run(shorter.train_teacher(f"teachers/digits/{WIDE}", [0, 1])) == 0
    short = load(shorter.folder / "teachers/digits" / WIDE / "training.safetensors")
    long = load(study.folder / "teachers/digits" / WIDE / "training.safetensors")
    names = [name for name in short if name.startswith("epoch1/")]
    assert names
    assert all(torch.equal(short[name], long[name]) for name in names)
    first = {name.removeprefix("epoch0/"): short[name] for name in short if name.startswith("epoch0/")}
    seed = study.plan.grid.teachers[f"teachers/digits/{WIDE}"].seed
    drawn = build_network(WIDE, classes=10, side=32, generator=generator(seed, "teacher", "initialisation"))
    assert first.keys() == drawn.state_dict().keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in drawn.state_dict().items())


def test_features_are_what_the_teacher_gives_for_clean_images(study):
    for path, spec in study.plan.grid.features.items():
        epoch = f"epoch{spec.teacher_epoch}.safetensors"
        teacher = loaded(spec.teacher_network, load(study.folder / "teachers/digits" / spec.teacher_network / epoch))
        images = load(study.folder / "synthetic/digits" / spec.synthetic_set / "images.safetensors")["images"]
        found = load(study.folder / path)
        with torch.no_grad():
            # One by one: batches must not matter.
            wanted = torch.cat([teacher.front(image[None]) for image in images])
            logits = torch.cat([teacher(image[None]) for image in images])
        assert found["features"].shape == (100, int(spec.teacher_network.split("-")[1][1:]), 4, 4)
        torch.testing.assert_close(found["features"], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-5)


def test_features_depend_on_no_other_image():
    """Also with batch normalisation, and with more images than are shown to the teacher at once."""
    teacher = build_network("convnet-w2-d3-bn", classes=3, side=8, generator=generator(1))
    images = torch.randn(2 * BATCH + 3, 3, 8, 8, generator=generator(2))
    with torch.no_grad():
        teacher(images)
    found = extract_features(teacher, images)
    teacher.eval()
    some = [0, BATCH - 1, BATCH, 2 * BATCH + 2]
    with torch.no_grad():
        torch.testing.assert_close(found["features"][some], torch.cat([teacher.front(images[i : i + 1]) for i in some]))
        torch.testing.assert_close(found["logits"][some], torch.cat([teacher(images[i : i + 1]) for i in some]))
    assert len(found["features"]) == len(found["logits"]) == len(images)


@pytest.mark.parametrize(
    ("wanted", "loss", "target"),
    [
        ({"objective": "task", "network": "vgg11-w1-bn", "synthetic_set": "random-ipc10-seed0"}, task.loss, None),
        (
            {"objective": "elf", "teacher_epoch": 1},
            partial(elf.loss, terms="front+rear+task", distance="ce", lambda_front=1, lambda_rear=1),
            "features",
        ),
        ({"objective": "kd"}, partial(kd.loss, temperature=4, weight=1), "logits"),
    ],
)
def test_accuracies_are_those_of_training_and_testing(study, wanted, loss, target):
    path = only(study, **wanted)
    spec = study.plan.grid.evaluations[path]
    data = load(study.folder / DATASET)
    synthetic = load(study.folder / "synthetic/digits" / spec.synthetic_set / "images.safetensors")
    targets = None
    if target:
        name = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
        targets = load(study.folder / "features/digits" / spec.synthetic_set / name)[target]
    rows = pd.read_parquet(study.folder / path)
    assert rows["seed"].tolist() == [0, 1]
    for seed, found in zip(rows["seed"], rows["accuracy"], strict=True):
        network = build_network(
            spec.network, classes=10, side=32, generator=generator(seed, "evaluation", "initialisation")
        )
        train(
            network,
            synthetic["images"],
            synthetic["labels"],
            spec.recipe,
            objective=loss,
            targets=targets,
            order_generator=generator(seed, "evaluation", "order"),
            augmentation_generator=generator(seed, "evaluation", "augmentation"),
        )
        assert found == accuracy(network, normalised(data["test_images"], data), data["test_labels"])


def test_results_hold_a_row_for_each_seed_of_each_evaluation(study):
    results = pd.read_parquet(study.folder / "results.parquet")
    grid = study.plan.grid
    assert len(results) == 2 * len(grid.evaluations) + len(grid.full_data)
    assert set(results["shard"]) == {*grid.evaluations, *grid.full_data}
    ((path, teacher),) = grid.full_data.items()
    (row,) = results[results["method"] == "full-data"].to_dict("records")
    manifest = read_manifest(study.folder / path)
    assert row["accuracy"] == manifest["spec"]["test_accuracy"]
    assert (row["teacher_id"], row["eval_network"], row["seed"]) == (manifest["id"], teacher.network, teacher.seed)
    assert pd.isna(row["ipc"]) and pd.isna(row["synthetic_set_id"])
    assert set(results["scale"]) == {"tiny"}
    assert set(results["data_source"]) == {"digits"}
    for path, spec in grid.evaluations.items():
        rows = results[results["shard"] == path].sort_values("seed")
        shard = pd.read_parquet(study.folder / path).sort_values("seed")
        for column in shard:
            assert rows[column].tolist() == shard[column].tolist() or shard[column].isna().all()
        row = rows.iloc[0]
        assert (row["dataset"], row["eval_network"], row["ipc"]) == ("digits", spec.network, 10)
        assert (row["lr"], row["epochs"]) == (spec.recipe.lr, spec.recipe.epochs)
        assert row["objective"] == spec.objective.name
        assert row["method"] == spec.synthetic_set.split("-")[0]
        if spec.objective.needs_teacher:
            assert (row["teacher_network"], row["teacher_epoch"]) == (spec.teacher_network, spec.teacher_epoch)
        else:
            assert pd.isna(row["teacher_network"]) and pd.isna(row["teacher_epoch"])


def test_table_figure_report_and_summary_show_the_results(study, capsys):
    capsys.readouterr()
    assert run(study.whole_scale("summary")) == 0
    summary = capsys.readouterr().out
    results = pd.read_parquet(study.folder / "results.parquet")
    by_shard = results.groupby("shard")["accuracy"].agg(["mean", "std"])
    table = (study.folder / "tables/table05.md").read_text()
    page = (study.folder / "report/tables/table05.html").read_text()
    for cell in study.plan.grid.cells["table05"]:
        if isinstance(cell, FullDataCell):
            assert f"{100 * by_shard.loc[cell.checkpoint, 'mean']:.2f}" in table
            continue
        mean, std = by_shard.loc[str(cell.evaluation.path)]
        # Two seeds: the population's deviation is that of the sample divided by the square root of two.
        text = f"{100 * mean:.2f} ± {100 * std / 2**0.5:.2f}"
        assert text in table
        assert text in page
    figure = pd.read_csv(io.StringIO((study.folder / "figures/figure4.csv").read_text()), comment="#")
    shown = {round(value, 6) for column in figure.select_dtypes("number") for value in figure[column]}
    for epoch in (1, 2):
        mean = by_shard.loc[only(study, objective="elf", teacher_epoch=epoch), "mean"]
        assert round(mean, 6) in shown or round(100 * mean, 6) in shown
    assert str(study.folder / "results.parquet") in summary
    assert "15 rows" in summary
    assert str(study.folder / "report/index.html") in summary


def test_settings_and_show_say_what_a_file_is_made_of(study, capsys):
    capsys.readouterr()
    assert run(study.whole_scale("settings")) == 0
    paths = capsys.readouterr().out.split()
    grid = study.plan.grid
    assert paths == [*grid.datasets, *grid.synthetic_sets, *grid.teachers, *grid.features, *grid.evaluations]
    path = only(study, objective="kd")
    assert run([*study.whole_scale("settings"), path]) == 0
    assert capsys.readouterr().out == grid.evaluations[path].canonical() + "\n"
    assert run(["show", study.folder / path]) == 0
    assert json.loads(capsys.readouterr().out) == read_manifest(study.folder / path)
    assert "is not part of the grid" in failing([*study.whole_scale("settings"), "evaluations/none"], capsys)


# What stops a job.


def test_a_job_that_was_planned_with_other_code_stops(copy, capsys):
    path = only(copy, objective="kd")
    (copy.folder / path).unlink()
    command = copy.evaluate(path)
    command[command.index("--code") + 1] = "0" * 16
    message = failing(command, capsys)
    assert "the code changed after this job was planned (--code 0000000000000000, now " in message
    assert "start the workflow again" in message
    assert not (copy.folder / path).exists()


@pytest.mark.parametrize("stage", ["collect", "table", "figure", "report"])
def test_a_stage_that_was_planned_with_another_configuration_stops(copy, stage, capsys):
    command = next(command for command in copy.commands() if command[0] == stage)
    command[command.index("--digest") + 1] = "0" * 16
    assert "changed after this job was planned; start the workflow again" in failing(command, capsys)


def test_wrong_settings_are_named(copy, capsys):
    command = copy.evaluate(only(copy, objective="kd"))

    def told(text: str) -> str:
        return failing([*command[:2], text, *command[3:]], capsys)

    spec = json.loads(command[2])
    assert "--settings: : found" in told("{nonsense")
    assert "--settings: recipe.lr: found -1.0: Input should be greater than 0" in told(
        json.dumps(spec | {"recipe": spec["recipe"] | {"lr": -1.0}})
    )
    assert "--settings: surprise: found 1: Extra inputs are not permitted" in told(json.dumps(spec | {"surprise": 1}))
    assert "unknown network 'vgg'" in told(json.dumps(spec | {"network": "vgg"}))


def test_an_unknown_method_is_named(copy, capsys):
    command = copy.distill(DM)
    spec = json.loads(command[2]) | {"module": "magic"}
    assert "there is no module elf.distillation.magic" in failing(
        [*command[:2], json.dumps(spec), *command[3:]], capsys
    )


@pytest.mark.parametrize("threads", ["0", "-1"])
def test_no_threads_are_refused(copy, threads, capsys):
    message = failing([*copy.distill(DM), "--threads", threads], capsys)
    assert f"--threads: found {threads}, allowed are 1 and more" in message


def test_a_wrong_time_between_checkpoints_is_named(copy, capsys, monkeypatch):
    monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", "often")
    assert "ELF_CHECKPOINT_SECONDS: found 'often', expected a number" in failing(copy.distill(DM), capsys)


def test_a_class_with_fewer_images_than_asked_for_is_named(copy, capsys):
    for path in (DM, RANDOM):
        spec = copy.plan.grid.synthetic_sets[path].model_copy(update={"ipc": 13})
        command = copy.distill(str(spec.folder), spec)
        message = failing(command, capsys)
        assert f"{spec.dataset}/{spec.name}: class 0 has 12 training images, fewer than ipc = 13" in message
        assert not list((copy.folder / spec.folder).glob("*"))


def test_training_that_diverges_leaves_nothing_behind(copy, capsys):
    path = only(copy, objective="elf", teacher_epoch=1)
    spec = copy.plan.grid.evaluations[path]
    wild = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"lr": 1e30})})
    (copy.folder / path).unlink()
    message = failing(copy.evaluate(path, wild), capsys)
    assert f"{wild.path}, seed 0: training diverged" in message
    assert "lower the learning rate" in message
    assert not (copy.folder / path).exists()

    path = f"teachers/digits/{WIDE}"
    teacher = copy.plan.grid.teachers[path]
    wild = teacher.model_copy(update={"recipe": teacher.recipe.model_copy(update={"lr": 1e30})})
    (copy.folder / path / "training.safetensors").unlink()
    assert f"{path}: training diverged" in failing(copy.train_teacher(path, [2], wild), capsys)
    assert not (copy.folder / path / "training.safetensors").exists()

    synthetic = copy.plan.grid.synthetic_sets[DM]
    wild = synthetic.model_copy(update={"recipe": synthetic.recipe | {"lr": 1e38}})
    (copy.folder / DM / "images.safetensors").unlink()
    message = failing(copy.distill(DM, wild), capsys)
    lost = copy.folder / DM / "last-finite-images.safetensors"
    assert "digits/dm-convnet-w2-d3-in-ipc10-seed0: stopped after update 2 of 4: loss nan" in message
    assert message.rstrip().endswith(f"the last finite state is kept in {lost}")
    assert not (copy.folder / DM / "images.safetensors").exists()
    kept, manifest = load(lost), read_manifest(lost, "diverged synthetic set")
    assert kept["images"].isfinite().all()
    assert (manifest["spec"]["update"], manifest["spec"]["recipe"]["lr"]) == (1, 1e38)
    # Started again with a rate that works, nothing of the accident is left.
    assert run(copy.distill(DM)) == 0
    assert not lost.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_give_no_result(copy, value, capsys):
    file = copy.folder / DM / "images.safetensors"
    tensors, manifest = load(file), read_manifest(file)
    tensors["images"][17, 1, 2, 3] = value
    write_tensors(file, tensors, manifest)
    path = only(copy, objective="task", network="vgg11-w1-bn", synthetic_set=DM.rsplit("/", 1)[1])
    (copy.folder / path).unlink()
    assert "training diverged" in failing(copy.evaluate(path), capsys)
    assert not (copy.folder / path).exists()


def test_damaged_inputs_stop_a_job(copy, capsys):
    path = only(copy, objective="kd")
    for file, tensor in ((copy.folder / DATASET, "test_images"), (copy.folder / DM / "images.safetensors", "images")):
        original = file.read_bytes()
        altered = bytearray(original)
        altered[original.index(load(file)[tensor][-1].numpy().tobytes())] ^= 1
        for damage in (original[:-100], altered, b""):
            file.write_bytes(damage)
            assert f"{file}: is damaged or was altered" in failing(copy.evaluate(path), capsys)
        file.write_bytes(original)
    file.unlink()
    assert f"{file}: there is no such file" in failing(copy.evaluate(path), capsys)


def test_inputs_of_other_settings_stop_a_job(copy, capsys):
    path = only(copy, objective="elf", teacher_epoch=1)
    command = copy.evaluate(path)
    images, features = command.index("--images") + 1, command.index("--features") + 1

    def with_input(place: int, file: Path) -> str:
        return failing([*command[:place], file, *command[place + 1 :]], capsys)

    of_epoch_2 = command[features].with_name(f"{WIDE}-epoch2.safetensors")
    assert "is a features of teacher_epoch 2, but the settings of this job say 1" in with_input(features, of_epoch_2)
    of_narrow = command[features].with_name(f"{NARROW}-epoch2.safetensors")
    assert f"teacher_network '{NARROW}'" in with_input(features, of_narrow)
    # The right file, but of other images.
    others = copy.folder / RANDOM / "images.safetensors"
    assert "was made from another synthetic set than the one given" in with_input(images, others)
    assert "is a teacher checkpoint, expected a features" in with_input(
        features, copy.folder / f"teachers/digits/{WIDE}/epoch1.safetensors"
    )
    assert "needs features of a teacher" in failing(command[:features], capsys)

    name = str(next(iter(copy.plan.grid.features)))
    command = copy.extract_features(name)
    teacher = command.index("--teacher") + 1
    other = next(file for file in (copy.folder / "teachers").rglob("epoch*") if file != command[teacher])
    assert "but the settings of this job say" in failing([*command[:teacher], other, *command[teacher + 1 :]], capsys)


def test_images_of_another_dataset_stop_a_job(copy, capsys):
    """Somebody has prepared the dataset anew with other images, and evaluates what was distilled before."""
    dataset = copy.plan.grid.datasets["datasets/digits"].model_copy(update={"train_per_class": 11})
    told = ["--settings", dataset.canonical(), "--data-folder", "absent"]
    files = ["--images", copy.folder / DATASET, "--card", copy.folder / "card.json"]
    assert run(["prepare-dataset", *told, *files]) == 0
    message = failing(copy.evaluate(only(copy, objective="kd")), capsys)
    assert "was made from another dataset than the one given; make it anew" in message


def test_an_epoch_that_is_not_there_is_named(copy, capsys):
    path = f"teachers/digits/{WIDE}"
    for epoch in (3, -1):
        assert f"--epochs: found {epoch}, allowed are 0 to 2" in failing(copy.train_teacher(path, [1, epoch]), capsys)
    training = copy.folder / path / "training.safetensors"
    command = [
        "keep-checkpoint",
        "--training",
        training,
        "--epoch",
        7,
        "--out",
        copy.folder / path / "epoch7.safetensors",
    ]
    assert f"{training}: was not kept at epoch 7; found the epochs 1, 2" in failing(command, capsys)
    assert not (copy.folder / path / "epoch7.safetensors").exists()


def collect(study: Study) -> list:
    return study.whole_scale("collect", "--results", study.folder / "again.parquet")


def test_results_refuse_shards_that_are_not_those_of_the_grid(copy, capsys):
    path, other = only(copy, objective="elf", teacher_epoch=1), only(copy, objective="elf", teacher_epoch=2)
    file = copy.folder / path
    original = file.read_bytes()

    def refused() -> str:
        message = failing(collect(copy), capsys)
        assert not (copy.folder / "again.parquet").exists()
        return message

    file.unlink()
    assert f"{file}: there is no such file" in refused()
    file.write_bytes(original[: len(original) // 2])
    assert f"{file}: is damaged" in refused()
    shutil.copy(copy.folder / other, file)
    assert f"{file}: was made with other settings" in refused()
    spec = copy.plan.grid.evaluations[path]
    assert run(copy.evaluate(path, spec.model_copy(update={"seeds": (1, 0)}))) == 0
    assert f"{file}: was made with other settings" in refused()
    file.write_bytes(original)
    assert run(collect(copy)) == 0
    assert identifiers(copy.folder)["again.parquet"] == identifiers(copy.folder)["results.parquet"]


def test_a_table_can_be_drawn_from_what_is_there(copy, capsys):
    lost = only(copy, objective="task", network="vgg11-w1-bn", synthetic_set=RANDOM.rsplit("/", 1)[1])
    (copy.folder / lost).unlink()
    shutil.rmtree(copy.folder / "evaluations/digits" / DM.rsplit("/", 1)[1])
    some = copy.folder / "some.parquet"
    command = copy.whole_scale("collect", "--experiment", "table05", "--results", some)
    assert "there is no such file" in failing(command, capsys)
    assert run([*command, "--partial"]) == 0
    rows = pd.read_parquet(some)
    everything = pd.read_parquet(copy.folder / "results.parquet")
    left = everything[everything["method"].isin(["random", "full-data"]) & (everything["shard"] != lost)]
    assert sorted(rows["accuracy"]) == sorted(left["accuracy"])
    assert run(copy.whole_scale("table", "table05", "--results", some, "--folder", copy.folder / "drawn")) == 0
    table = (copy.folder / "drawn/table05.md").read_text()
    assert "— not run." in table
    for accuracies in left.groupby("shard")["accuracy"]:
        assert f"{100 * accuracies[1].mean():.2f} " in table
    # The same in one command, printed.
    capsys.readouterr()
    assert run(copy.whole_scale("table", "5", "--partial")) == 0
    assert capsys.readouterr().out == table


def test_results_refuse_shards_of_another_state_of_the_images(copy, capsys):
    file = copy.folder / DM / "images.safetensors"
    tensors, manifest = load(file), read_manifest(file)
    tensors["images"][0, 0, 0, 0] += 1
    write_tensors(file, tensors, manifest)
    assert f"was trained on another state of {DM.removeprefix('synthetic/')}" in failing(collect(copy), capsys)


def test_drawing_names_what_it_cannot_draw(copy, capsys):
    files = ["--results", copy.folder / "results.parquet", "--folder", copy.folder / "drawn"]
    for stage, name, allowed in (
        ("table", "figure4", "table05"),
        ("table", "table06", "table05"),
        ("figure", "table05", "figure4"),
        ("figure", "figure3", "figure4"),
    ):
        message = failing(copy.whole_scale(stage, name, *files), capsys)
        assert f"{name!r} is not a {stage} of the scale tiny; allowed: {allowed}" in message
    files[1].unlink()
    assert "results.parquet: there is no such file" in failing(copy.whole_scale("table", "table05", *files), capsys)
    shutil.rmtree(copy.folder / "collected")
    assert "no table or figure has been collected yet; run 'snakemake" in failing(copy.whole_scale("summary"), capsys)
    assert not (copy.folder / "drawn").exists()


def test_a_report_names_a_picture_that_is_not_there(copy, capsys):
    (copy.folder / DM / "contact_sheet.png").unlink()
    message = failing(copy.whole_scale("report", "--folder", copy.folder / "pages"), capsys)
    assert "contact_sheet.png: cannot be read: No such file or directory; make it with 'snakemake" in message
    assert not (copy.folder / "pages").exists()


def contents(report: Path) -> list[str]:
    return (report / "contents.txt").read_text().splitlines()


def page_of(report: Path, path: str) -> str:
    """Return the page of a cell whose numbers are in a file, as the command that makes it again says."""
    pages = (page.read_text() for page in sorted((report / "cells").iterdir()))
    return next(text for text in pages if f"results/tiny/{path} --config" in text)


def test_a_report_leads_from_a_number_to_every_file_before_it(study):
    path = only(study, objective="elf", teacher_epoch=1, synthetic_set=Path(DM).name)
    page = page_of(study.folder / "report", path)
    files = [path, f"features/digits/{Path(DM).name}/{WIDE}-epoch1.safetensors"]
    files += [f"teachers/digits/{WIDE}/epoch1.safetensors", f"{DM}/images.safetensors", DATASET]
    for file in files:
        manifest = read_manifest(study.folder / file)
        assert f"<code>{file}</code>" in page
        assert manifest["id"] in page and manifest["code_id"] in page
    for row in pd.read_parquet(study.folder / path).to_dict("records"):
        assert f'<th scope="row">{row["seed"]}</th><td>{100 * row["accuracy"]:.2f}</td>' in page
    ((checkpoint, _),) = study.plan.grid.full_data.items()
    assert f"<code>{checkpoint}</code>" in page_of(study.folder / "report", checkpoint)


def summed(manifests: list[dict]) -> dict:
    """Return what a row of the costs holds, from manifests that all say everything."""
    measured = [manifest["measured"] for manifest in manifests]
    fast = [entry for entry in measured if "images" in entry]
    seconds = sum(entry["wall_seconds"] for entry in fast)
    return {
        "jobs": len(measured),
        "missing": 0,
        "wall": pytest.approx(sum(entry["wall_seconds"] for entry in measured)),
        "on_device": pytest.approx(sum(entry["device_seconds"] for entry in measured)),
        "memory": max(entry["peak_memory_bytes"] for entry in measured),
        "images_per_second": pytest.approx(sum(entry["images"] for entry in fast) / seconds) if fast else None,
    }


def said(cost) -> dict:
    """Return the same of a row of the report."""
    assert cost.wall.unknown == cost.on_device.unknown == 0
    numbers = {key: value for key, value in vars(cost).items() if key not in ("name", "device")}
    return numbers | {"wall": cost.wall.seconds, "on_device": cost.on_device.seconds}


def test_costs_of_a_report_are_those_of_its_files_each_once(study):
    """Against the files on the disk: a teacher is its training, and a table all that its rows lead back to."""
    costs = content(study.plan).costs
    folders = {
        "preparing data": "datasets/*/images.safetensors",
        "making synthetic sets": "synthetic/*/*/images.safetensors",
        "training teachers": "teachers/*/*/training.safetensors",
        "extracting features": "features/*/*/*.safetensors",
        "evaluations": "evaluations/*/*/*/*/*.parquet",
    }
    manifests = {
        stage: [read_manifest(file) for file in study.folder.glob(pattern)] for stage, pattern in folders.items()
    }
    assert {cost.name: said(cost) for cost in costs.stages} == {
        stage: summed(found) for stage, found in manifests.items()
    }
    assert said(costs.all_tables) == summed([manifest for found in manifests.values() for manifest in found])

    by_id = {read_manifest(file)["id"]: file for file in study.folder.rglob("*.*") if file.suffix in ENDINGS}
    for name, cost in zip(study.plan.grid.cells, costs.tables, strict=True):
        shards = pd.read_parquet(study.folder / "collected" / f"{name}.parquet")["shard"].unique()
        waiting, made = [study.folder / shard for shard in shards], set()
        while waiting:
            file = waiting.pop()
            made.add(file.with_name("training.safetensors") if file.match("teachers/*/*/*") else file)
            waiting += [by_id[source["id"]] for source in read_manifest(file)["inputs"].values()]
        assert said(cost) == summed([read_manifest(file) for file in made]), name
    assert costs.all_tables.jobs < sum(cost.jobs for cost in costs.tables)


def test_a_report_says_what_is_stored_beside_the_images(study):
    page = (study.folder / "report/costs.html").read_text()
    tensors = load(study.folder / DM / "images.safetensors")
    features = load(study.folder / f"features/digits/{Path(DM).name}/{WIDE}-epoch1.safetensors")["features"]
    ratio = features.numel() * features.element_size() / (tensors["images"].numel() * 4)
    row = re.search(rf"<tr>.*{Path(DM).name}.*{WIDE}, epoch 1<.*", page)[0]
    assert f"<td>{tensors['images'].numel() * 4 / 2**20:.1f} MiB</td>" in row
    assert f"<td>{ratio:.2f} ×</td>" in row


def test_a_report_can_be_written_while_much_is_missing(copy, capsys):
    assert run(copy.whole_scale("report", "--partial")) == 0
    complete = (copy.folder / "partial-report/tables/table05.html").read_text()
    assert "Unfinished:" in complete and "— not run." not in complete
    lost, damaged = only(copy, objective="kd"), only(copy, objective="elf", teacher_epoch=2)
    (copy.folder / lost).unlink()
    (copy.folder / damaged).write_bytes((copy.folder / damaged).read_bytes()[:-20])
    for path in ("results.parquet", f"{DM}/contact_sheet.png", f"teachers/digits/{WIDE}/epoch1.safetensors"):
        (copy.folder / path).unlink()
    shutil.rmtree(copy.folder / "collected")
    shutil.rmtree(copy.folder / "figures")
    assert run(copy.whole_scale("report", "--partial")) == 0
    report = copy.folder / "partial-report"
    assert "— not run." in (report / "tables/table05.html").read_text()
    index = (report / "index.html").read_text()
    assert "Left out: 1 file<" in index and damaged in index
    assert "<svg" in (report / "figures/figure4.svg").read_text()
    assert "Not made yet." in (report / "images.html").read_text()
    assert "Not run." in page_of(report, lost)
    assert "not on this disk" in page_of(report, only(copy, objective="elf", teacher_epoch=1))
    # Nothing at all is a report, too.
    empty = Study(copy.config, copy.results.parent / "nothing")
    assert run(empty.whole_scale("report", "--partial")) == 0
    assert re.search(r"</b> 0 of \d+ cells have been run", (empty.folder / "partial-report/index.html").read_text())


# Interrupted jobs.


@pytest.fixture
def kill_while_it_runs(other_processes):
    """Function that starts a command and kills it some time after it has first written a checkpoint."""

    def kill(command, checkpoint: Path, pause: float) -> None:
        environment = os.environ | {"ELF_CHECKPOINT_SECONDS": "0"}
        arguments = [sys.executable, "-m", "elf", *map(str, command)]
        job = subprocess.Popen(arguments, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            while not checkpoint.exists() and job.poll() is None:
                time.sleep(0.001)
            time.sleep(pause)
        finally:
            job.kill()
            _, errors = job.communicate()
        assert job.returncode == -signal.SIGKILL, errors

    return kill


def job_of(study: Study, stage: str):
    """Return a long job: its command, the checkpoint to wait for and its result."""
    if stage == "distill":
        spec = study.plan.grid.synthetic_sets[DM]
        spec = spec.model_copy(update={"ipc": 1, "recipe": spec.recipe | {"iterations": 150, "batch_real": 2}})
        path = study.folder / spec.folder / "images.safetensors"
        return study.distill(str(spec.folder), spec), path.with_name(f".{path.name}.resume"), path
    if stage == "train-teacher":
        spec = study.plan.grid.teachers[f"teachers/digits/{NARROW}"]
        spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": 60})})
        path = study.folder / spec.folder / "training.safetensors"
        command = study.train_teacher(str(spec.folder), [0, 1, 30, 60], spec)
        return command, path.with_name(f".{path.name}.resume"), path
    path = only(study, objective="kd")
    spec = study.plan.grid.evaluations[path]
    spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": 40})})
    # The second seed: the first is then finished.
    checkpoint = (study.folder / path).with_name(f".{Path(path).name}.seed1.resume")
    return study.evaluate(path, spec), checkpoint, study.folder / path


@pytest.mark.parametrize(("stage", "pause"), [("distill", 0.03), ("train-teacher", 0.1), ("evaluate", 0.0)])
def test_a_killed_job_continues_and_ends_as_if_nothing_had_happened(copy, kill_while_it_runs, stage, pause, caplog):
    command, checkpoint, result = job_of(copy, stage)
    result.unlink(missing_ok=True)
    kill_while_it_runs(command, checkpoint, pause)
    assert not result.exists()
    assert checkpoint.exists()
    with caplog.at_level("INFO"):
        assert run(command) == 0
    assert f"continuing from the checkpoint {checkpoint}" in caplog.text
    interrupted = identifiers(result.parent)[result.name]
    content = result.read_bytes()
    assert not [path for path in result.parent.glob(".*") if path.suffix != ".lock"]

    result.unlink()
    caplog.clear()
    with caplog.at_level("INFO"):
        assert run(command) == 0
    assert "continuing" not in caplog.text
    assert identifiers(result.parent)[result.name] == interrupted
    if stage == "train-teacher":
        result.with_name("interrupted.safetensors").write_bytes(content)
        accuracies = [read_manifest(path)["spec"]["test_accuracy"] for path in result.parent.glob("*ing.safetensors")]
        interrupted_manifest = read_manifest(result.with_name("interrupted.safetensors"))
        assert [*accuracies, interrupted_manifest["spec"]["test_accuracy"]] == [accuracies[0]] * (len(accuracies) + 1)
        assert set(accuracies[0]) == {"0", "1", "30", "60"}


def test_a_checkpoint_of_another_job_is_not_continued(copy, kill_while_it_runs, caplog):
    """The same file, but other settings: a result must never be half of one and half of the other."""
    command, checkpoint, result = job_of(copy, "train-teacher")
    kill_while_it_runs(command, checkpoint, 0)
    path = f"teachers/digits/{NARROW}"
    wanted = identifiers(copy.folder)[f"{path}/epoch2.safetensors"]
    result.unlink(missing_ok=True)
    with caplog.at_level("INFO"):
        assert run(copy.train_teacher(path, [2])) == 0
    assert "starting afresh" in caplog.text
    out = copy.folder / path / "again.safetensors"
    assert run(["keep-checkpoint", "--training", result, "--epoch", 2, "--out", out]) == 0
    assert read_manifest(out)["id"] == wanted
