"""Every distillation, expert and teacher killed for real, at random moments, ends as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.artifacts import code
from elf.artifacts.fingerprint import code_id
from elf.artifacts.manifest import read_manifest
from elf.cli import main
from elf.specs.dataset import DatasetSpec
from elf.specs.expert import ExpertRecipe, ExpertSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import TrainingRecipe
from elf.study.config_reading import load_settings

NETWORK, BATCH_NORM, FREPO = "convnet-w4-d3-in", "convnet-w4-d3-bn", "frepoconv-w2-bn"
EXPERTS = 2
# Long enough to be hit in the middle: a job ends some tenths of a second after it could first be killed.
TRAJECTORIES = {"iterations": 40, "synthetic_steps": 4, "expert_epochs": 1, "max_start_epoch": 2, "experts": EXPERTS}
DISTILLATIONS = {
    "dm": ("dm", NETWORK, {"iterations": 60, "batch_real": 8}),
    "dm, batch norm": ("dm", BATCH_NORM, {"iterations": 60, "batch_real": 8}),
    "dsa": ("dsa", NETWORK, {"iterations": 6, "outer_loop": 3, "inner_loop": 2, "batch_real": 8}),
    "dsa, batch norm": ("dsa", BATCH_NORM, {"iterations": 6, "outer_loop": 3, "inner_loop": 2, "batch_real": 8}),
    "mtt": ("mtt", NETWORK, TRAJECTORIES),
    "mtt, constant memory": ("mtt", NETWORK, TRAJECTORIES | {"gradient": "constant-memory"}),
    "tesla": ("tesla", NETWORK, TRAJECTORIES | {"soft_labels": True, "pixel_step": "official"}),
    "frepo": ("frepo", FREPO, {"iterations": 60, "batch_real": 20}),
    "dm, selected": (
        "dm",
        NETWORK,
        {
            **{"iterations": 30, "batch_real": 8, "selection": "validation", "validation_per_class": 3},
            **{"selection_every": 10, "selection_networks": 1, "selection_epochs": 2},
        },
    ),
}


@dataclass(frozen=True)
class Job:
    """A command, the file that it makes and the one that it would continue from."""

    arguments: list[str]
    result: Path

    @property
    def checkpoint(self) -> Path:
        return self.result.with_name(f".{self.result.name}.resume")


@pytest.fixture(scope="module")
def processes(other_processes):
    """Processes that start within a moment, because the one they are forked from has already read PyTorch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["elf.stages.distill", "elf.stages.train_expert", "elf.stages.train_teacher"])
    return context


@pytest.fixture(scope="module")
def settings():
    return load_settings(PROJECT / "config", "smoke")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, settings) -> Path:
    """A folder with a small dataset and experts, made by the commands."""
    folder = tmp_path_factory.mktemp("inputs")
    spec = DatasetSpec(
        name="digits", source="digits", side=32, normalisation="digits", train_per_class=12, test_per_class=2
    )
    told = ["--settings", spec.canonical(), "--data-folder", "absent", "--device", "cpu"]
    files = ["--images", f"{folder}/dataset.safetensors", "--card", f"{folder}/card.json"]
    assert main(["prepare-dataset", *told, *files]) == 0
    for index in range(EXPERTS):
        assert main(expert(settings, folder, folder / f"expert{index}.safetensors", index).arguments) == 0
    return folder


def values(settings, recipe: str) -> dict:
    return {key: entry.value for key, entry in settings.recipes[recipe].values.items()}


def distillation(settings, inputs: Path, result: Path, name: str) -> Job:
    method, network, changes = DISTILLATIONS[name]
    recipe = values(settings, method) | changes
    unknown = set(changes) - set(values(settings, method))
    assert not unknown, unknown
    spec = SyntheticSpec(dataset="digits", method=method, module=method, network=network, ipc=1, seed=0, recipe=recipe)
    told = ["--settings", spec.canonical(), "--code", code_id(code.distill_code(spec)), "--device", "cpu"]
    experts = [f"{inputs}/expert{index}.safetensors" for index in range(EXPERTS)] if "experts" in recipe else []
    files = ["--dataset", f"{inputs}/dataset.safetensors", "--images", str(result), "--experts", *experts]
    return Job(["distill", *told, *files], result)


def expert(settings, inputs: Path, result: Path, index: int, epochs: int = 3) -> Job:
    recipe = ExpertRecipe(**values(settings, "expert") | {"epochs": epochs, "batch_size": 20})
    spec = ExpertSpec(
        dataset="digits", network=NETWORK, index=index, epochs=tuple(range(min(epochs, 3) + 1)), recipe=recipe
    )
    if epochs > 3:
        spec = spec.model_copy(update={"epochs": (0, 1, epochs // 2, epochs)})
    told = ["--settings", spec.canonical(), "--code", code_id(code.train_expert_code(spec)), "--device", "cpu"]
    files = ["--dataset", f"{inputs}/dataset.safetensors", "--expert", str(result)]
    return Job(["train-expert", *told, *files], result)


def teacher(settings, inputs: Path, result: Path) -> Job:
    recipe = TrainingRecipe(**values(settings, "teacher") | {"epochs": 40, "batch_size": 20})
    spec = TeacherSpec(dataset="digits", network=NETWORK, seed=0, recipe=recipe)
    told = ["--settings", spec.canonical(), "--code", code_id(code.train_teacher_code(spec)), "--device", "cpu"]
    files = ["--dataset", f"{inputs}/dataset.safetensors", "--training", str(result), "--epochs", "0", "15", "40"]
    return Job(["train-teacher", *told, *files], result)


def run(arguments: list[str], seconds_between_checkpoints: str) -> None:
    os.environ["ELF_CHECKPOINT_SECONDS"] = seconds_between_checkpoints
    raise SystemExit(main(arguments))


def finish_after_kills(processes, job: Job, kills: int, moments: random.Random) -> int:
    """Start the job again and again, killing it at random moments, then let it end; return how often it was hit."""
    hit = 0
    for _ in range(kills):
        process = processes.Process(target=run, args=(job.arguments, "0"))
        process.start()
        while process.is_alive() and not job.checkpoint.exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.25))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        hit += process.exitcode != 0 and job.checkpoint.exists()
    process = processes.Process(target=run, args=(job.arguments, "300"))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not job.checkpoint.exists()
    return hit


@pytest.mark.parametrize("name", [*DISTILLATIONS, "expert", "teacher"])
def test_killed_at_random_moments_the_result_is_bit_identical(processes, settings, inputs, tmp_path, name):
    def job(result: Path) -> Job:
        if name == "expert":
            return expert(settings, inputs, result, 0, epochs=40)
        if name == "teacher":
            return teacher(settings, inputs, result)
        return distillation(settings, inputs, result, name)

    killed, whole = job(tmp_path / "killed.safetensors"), job(tmp_path / "whole.safetensors")
    # The moments are the same in every run of the tests, the iterations that they hit are not.
    assert finish_after_kills(processes, killed, kills=3, moments=random.Random(name)) > 0
    assert finish_after_kills(processes, whole, kills=0, moments=random.Random(name)) == 0
    ours, theirs = read_manifest(killed.result), read_manifest(whole.result)
    assert ours["id"] == theirs["id"]
    assert ours["checksums"] == theirs["checksums"]
    assert ours["spec"] == theirs["spec"]
