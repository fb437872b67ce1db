"""The images of a manifest are those that really went through networks, and its speed is theirs."""

from contextlib import contextmanager

import pytest
import torch
from small_jobs import (
    BATCH_NORM,
    CLASSES,
    FREPO,
    NETWORK,
    TEST_PER_CLASS,
    TRAIN_PER_CLASS,
    SmallJobs,
)

from elf.artifacts.manifest import read_manifest
from elf.cli import main
from elf.distillation.shared.images_distilled import METHODS

pytestmark = pytest.mark.usefixtures("small_process")

SCORED = {"selection_every": 2, "selection_networks": 2, "validation_per_class": 4}
TRAJECTORIES = {"iterations": 1, "synthetic_steps": 5, "batch_syn": 7, "expert_epochs": 1, "max_start_epoch": 2}
# More updates than a network of the pool may be old, so that some are replaced instead of trained.
POOL = {"iterations": 20, "pool_size": 3, "online_steps": 4, "batch_real": 30}
DSA = {"iterations": 1, "outer_loop": 3, "inner_loop": 2, "batch_inner": 16}
DISTILLATIONS = {
    "dm, fewer real images than asked for": ("dm", NETWORK, {"iterations": 2, "batch_real": 50}),
    "dm, batch norm": ("dm", BATCH_NORM, {"iterations": 2, "batch_real": 8}),
    "dm, validated": (
        "dm",
        NETWORK,
        {"iterations": 4, "batch_real": 10, "selection": "validation", "selection_epochs": 3} | SCORED,
    ),
    "dsa": ("dsa", NETWORK, DSA | {"batch_real": 8}),
    "dsa, batch norm": ("dsa", BATCH_NORM, DSA | {"batch_real": 8, "bn_real": 5}),
    "dsa, tested": (
        "dsa",
        NETWORK,
        DSA | {"iterations": 3, "batch_real": 5, "selection": "best_on_test", "selection_epochs": 1} | SCORED,
    ),
    "mtt": ("mtt", NETWORK, TRAJECTORIES | {"experts": 2}),
    "mtt, one step at once": ("mtt", NETWORK, TRAJECTORIES | {"experts": 2, "memory_budget_gb": 0.0}),
    "mtt, constant memory": ("mtt", NETWORK, TRAJECTORIES | {"experts": 1, "gradient": "constant-memory"}),
    "tesla, soft labels": (
        "tesla",
        NETWORK,
        TRAJECTORIES | {"experts": 1, "soft_labels": True, "pixel_step": "official"},
    ),
    "tesla, hard labels": (
        "tesla",
        NETWORK,
        TRAJECTORIES | {"experts": 1, "soft_labels": False, "pixel_step": "official"},
    ),
    "frepo": ("frepo", FREPO, POOL | {"batch_online": 7, "mirror": False}),
    "frepo, mirrored": ("frepo", FREPO, POOL | {"batch_online": 1000, "mirror": True}),
    "frepo, validated": (
        "frepo",
        FREPO,
        POOL | SCORED | {"selection": "validation", "selection_every": 15, "selection_steps": 501},
    ),
}
EVALUATIONS = {
    "task": ({"name": "task"}, {"epochs": 3, "batch_size": 8}),
    "elf": (
        {"name": "elf", "terms": "front+rear+task", "distance": "ce", "variant": "official"}
        | {"lambda_front": 1.0, "lambda_rear": 1.0},
        {"epochs": 2, "batch_size": 256},
    ),
    "kd": ({"name": "kd", "temperature": 4.0, "weight": 1.0}, {"epochs": 2, "batch_size": 8}),
    "frepo": ({"name": "frepo"}, {"steps": 5, "warmup_steps": 2, "batch_size": 8}),
}


@contextmanager
def images_entering():
    """Collect the numbers of images that enter a network, seen at its first convolution: the one of three channels."""
    entered: list[int] = []

    def look(module, arguments) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
            entered.append(len(arguments[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield entered
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> SmallJobs:
    jobs = SmallJobs(tmp_path_factory.mktemp("inputs"))
    jobs.make_inputs()
    return jobs


def check(command: list[str], out) -> None:
    """Run a command and compare its manifest with what went through networks meanwhile."""
    with images_entering() as entered:
        assert main(command) == 0
    measured = read_manifest(out)["measured"]
    assert measured["images"] == sum(entered) > 0
    # The wall seconds are rounded to milliseconds.
    assert measured["images"] / (measured["wall_seconds"] + 0.0006) <= measured["images_per_second"]
    assert measured["images_per_second"] <= measured["images"] / (measured["wall_seconds"] - 0.0006)


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_images_of_a_distillation(jobs, name, tmp_path):
    out = tmp_path / "images.safetensors"
    method, network, changes = DISTILLATIONS[name]
    check(jobs.distill(out, method, network, changes), out)


def test_every_method_that_counts_images_is_tested():
    assert {method for method, _, _ in DISTILLATIONS.values()} == set(METHODS)


@pytest.mark.parametrize("method", ["random", "herding", "k-center", "k-means"])
def test_what_no_network_looked_at_has_no_speed(jobs, method, tmp_path):
    out = tmp_path / "images.safetensors"
    with images_entering() as entered:
        assert main(jobs.distill(out, method, None)) == 0
    assert not entered
    measured = read_manifest(out)["measured"]
    assert measured["device_seconds"] > 0 and not {"images", "images_per_second"} & set(measured)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_images_of_an_evaluation(jobs, name, tmp_path):
    out = tmp_path / "shard.parquet"
    check(jobs.evaluate(out, *EVALUATIONS[name]), out)


def test_images_of_an_expert_a_teacher_and_features(jobs, tmp_path):
    for stage in ("train_expert", "train_teacher", "extract_features"):
        out = tmp_path / f"{stage}.safetensors"
        check(getattr(jobs, stage)(out), out)


def test_images_of_a_dataset_are_those_prepared(jobs):
    measured = read_manifest(jobs.dataset)["measured"]
    assert measured["images"] == CLASSES * (TRAIN_PER_CLASS + TEST_PER_CLASS)
