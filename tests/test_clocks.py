"""A clock that jumps, and files that lie in the future or in 1970: no result changes, and nothing is made in vain."""

import itertools
import os
import time
from pathlib import Path

import pytest
import torch
from commands import commands_of, succeeding, with_file

from elf.artifacts.checkpoints import Checkpoint
from elf.artifacts.manifest import read_manifest

pytest_plugins = ("workflow_copy",)
pytestmark = pytest.mark.usefixtures("small_process")

YEARS = 10 * 365 * 86400
DAY = 86400
DATASET, RANDOM = "datasets/digits/images.safetensors", "synthetic/digits/random-ipc10-seed0"
DM, NETWORK = "dm-convnet-w2-d3-in-ipc10-seed0", "convnet-w2-d3-in"
MADE = {
    "--images": f"synthetic/digits/{DM}/images.safetensors",
    "--training": "teachers/digits/vgg11-w1-bn/epoch3.safetensors",
    "--shard": f"evaluations/digits/{DM}/{NETWORK}/task-lr0.01/seeds0-1.parquet",
}


@pytest.fixture
def jumping(monkeypatch):
    """The time of day leaps to and fro by years, each time that somebody asks for it."""
    now, jumps = time.time, itertools.cycle([YEARS, -YEARS, 0, -2 * YEARS, 2 * YEARS])
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    assert abs(time.time() - time.time()) > DAY


def test_checkpoints_are_saved_by_a_clock_that_nobody_sets(tmp_path, monkeypatch, jumping):
    seconds, saved = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: 1000 + seconds)
    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=300)

    def state():
        saved.append(seconds)
        return {"a": torch.zeros(1)}

    for seconds in range(0, 1000, 50):  # noqa: B007
        checkpoint.save_if_due(state)
    assert saved == [300, 600, 900]


@pytest.mark.parametrize("option", MADE)
def test_results_are_the_same_whatever_the_time_of_day(finished, option, tmp_path, monkeypatch, capsys, jumping):
    made = MADE[option]
    (command, *_) = commands_of(finished, f"results/tiny/{made}")[made]
    monkeypatch.chdir(finished.folder)
    # Saved whenever it may be, and not at all.
    for seconds in ("0", "1e9"):
        monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", seconds)
        output = tmp_path / seconds / Path(made).name
        succeeding(with_file(command, option, output), capsys)
        if option == "--training":
            made = "teachers/digits/vgg11-w1-bn/training.safetensors"
        ours, theirs = read_manifest(output), read_manifest(finished.results / made)
        assert ours["id"] == theirs["id"]
        assert 0 <= ours["measured"]["wall_seconds"] < 600


def set_time(workflow, when: float, *paths: str) -> None:
    for path in paths:
        os.utime(workflow.results / path, (when, when))


def test_files_from_the_future_and_from_1970_make_nothing_stale(workflow):
    """Where a time says that a file is newer, Snakemake compares its content, up to a size of 1 MB."""
    assert (workflow.results / DATASET).stat().st_size < 1_000_000
    set_time(workflow, time.time() + DAY, DATASET)
    assert workflow.planned() == set()
    set_time(workflow, 0, *workflow.read_manifests())
    assert workflow.planned() == set()


def test_what_is_made_from_a_file_of_the_future_stays(workflow):
    before = workflow.content_ids()
    set_time(workflow, time.time() + DAY, DATASET)
    (workflow.results / RANDOM / "images.safetensors").unlink()
    (workflow.results / RANDOM / "contact_sheet.png").unlink()
    target = f"results/tiny/{RANDOM}/contact_sheet.png"
    ended = workflow.run(target)
    assert ended.status == 0, ended.output
    assert workflow.content_ids() == before
    assert workflow.planned(target) == set()
