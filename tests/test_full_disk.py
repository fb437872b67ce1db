"""Disks that are full or read-only, for real: one line, no half-written file, and the same results afterwards."""

from pathlib import Path

import numpy as np
import pytest
from commands import commands_in, failing, succeeding, with_file
from small_disk import mounted

from elf.artifacts.manifest import read_manifest

pytest_plugins = ("workflow_copy",)
pytestmark = pytest.mark.usefixtures("small_process")

DM, RANDOM = "dm-convnet-w2-d3-in-ipc10-seed0", "random-ipc10-seed0"
WIDE, NARROW = "convnet-w8-d3-in", "convnet-w2-d3-in"
# What is made first, which of its commands, the options that name what is written.
STAGES = {
    "prepare-dataset": ("datasets/digits/images.safetensors", 0, ("--images", "--card")),
    "train-expert": (f"experts/digits/{NARROW}/expert0.safetensors", 0, ("--expert",)),
    "distill": (f"synthetic/digits/{DM}/images.safetensors", 0, ("--images",)),
    "train-teacher": (f"teachers/digits/{WIDE}/epoch1.safetensors", 0, ("--training",)),
    "keep-checkpoint": (f"teachers/digits/{WIDE}/epoch1.safetensors", 1, ("--out",)),
    "extract-features": (f"features/digits/{DM}/{WIDE}-epoch2.safetensors", 0, ("--features",)),
    "evaluate": (f"evaluations/digits/{DM}/{NARROW}/task-lr0.01/seeds0-1.parquet", 0, ("--shard",)),
    "contact-sheet": (f"synthetic/digits/{DM}/contact_sheet.png", 0, ("--picture",)),
    "collect": ("collected/table05.parquet", 0, ("--results",)),
    "table": ("tables/table05.md", 0, ("--folder",)),
    "figure": ("figures/figure4.pdf", 0, ("--folder",)),
    "verdicts": ("verdicts/comparison.csv", 0, ("--folder",)),
    "report": ("report/index.html", 0, ("--folder",)),
    "import": (None, 0, ("--out",)),
    "export": (None, 0, ("--folder",)),
}


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """A finished copy, in whose folder the commands of its jobs are called, and these commands."""
    with commands_in(finished.duplicate(tmp_path_factory.mktemp("disks"))) as both:
        yield both


@pytest.fixture
def disk(other_processes, tmp_path):
    yield from mounted(tmp_path / "disk", "4k")


def command_of(stage: str, commands: dict, folder: Path) -> list[str]:
    """Return the command of a stage that writes to another folder."""
    first, call, options = STAGES[stage]
    images = f"results/tiny/synthetic/digits/{RANDOM}/images.safetensors"
    if stage == "import":
        np.savez("theirs.npz", x=np.arange(30720).reshape(10, 3, 32, 32) % 256, y=np.arange(10))
        # Elsewhere, because the report would show one recipe more.
        Path("theirs/recipes").mkdir(parents=True, exist_ok=True)
        told = ["--name", "theirs", "--force", "--config", "theirs"]
        return ["import", "theirs.npz", *told, "--out", str(folder / "theirs.safetensors")]
    if stage == "export":
        dataset = "results/tiny/datasets/digits/images.safetensors"
        return ["export", images, "--dataset", dataset, "--folder", str(folder)]
    command = commands[first][call]
    for option in options:
        # For a file, its name below the folder; for a folder, the folder itself.
        name = Path(command[command.index(option) + 1]).name if option != "--folder" else "."
        command = with_file(command, option, folder / name)
    return command


def content(folder: Path) -> dict[str, object]:
    """Return what does not depend on the time of a run, of each file that is no artifact's checkpoint or lock."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".lock")]
    timed = ("card.json", "costs.html", "results.csv")
    return {
        file.relative_to(folder).as_posix(): (
            read_manifest(file)["id"] if file.suffix in (".safetensors", ".parquet") else file.read_bytes()
        )
        for file in files
        if file.name not in timed
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_cannot_write_says_so_and_goes_on_when_it_can(study, stage, disk, tmp_path, capsys):
    _, commands = study
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    succeeding(command_of(stage, commands, elsewhere), capsys)
    undisturbed = content(elsewhere)
    command = command_of(stage, commands, disk.folder)

    line = failing(command, capsys)
    assert "no space is left" in line or "free some space" in line, line
    assert str(disk.folder) in line
    # Several files may be written: those that are there are whole. A report counts only with its first page.
    left = {file.relative_to(disk.folder).as_posix() for file in disk.folder.rglob("*") if file.is_file()}
    assert not {name for name in left if name.endswith(".part")}
    if stage == "report":
        assert "index.html" not in left
    else:
        resumed = {name for name in left if name.endswith(".resume")}
        assert {name: made for name, made in content(disk.folder).items() if name not in resumed}.items() <= (
            undisturbed.items()
        )

    disk.change("size=64m")
    succeeding(command, capsys)
    assert content(disk.folder) == undisturbed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_whose_folder_is_read_only_says_so(study, stage, disk, capsys):
    """Root may write anywhere but there; an earlier report, which a new one would replace, stays whole."""
    _, commands = study
    command = command_of(stage, commands, disk.folder)
    disk.change("size=64m")
    if stage == "report":
        succeeding(command, capsys)
    before = content(disk.folder)
    disk.change("ro")
    line = failing(command, capsys)
    assert "is not writable" in line and "Read-only file system" in line, line
    disk.change("rw")
    assert content(disk.folder) == before


def test_a_workflow_whose_disk_is_full_goes_on_where_it_was(fresh, finished):
    """The results lie on a disk that is too small for the dataset, then large enough, then read-only."""
    images = f"synthetic/digits/{RANDOM}/images.safetensors"
    target = f"results/tiny/{images}"
    for disk in mounted(fresh.folder / "results", "300k"):
        ended = fresh.run(target)
        assert ended.status != 0
        lines = [line for line in ended.output.splitlines() if line.startswith("elf ")]
        assert lines and all(
            "results/tiny/datasets/digits/images.safetensors: cannot be written" in line for line in lines
        )
        assert all("no space is left" in line and "free some and start again" in line for line in lines)
        assert "Traceback" not in ended.output
        assert not [file for file in fresh.results.rglob("*") if file.is_file()]

        disk.change("size=20m")
        ended = fresh.run(target)
        assert ended.status == 0, ended.output
        wanted = finished.content_ids()
        assert fresh.content_ids() == {path: wanted[path] for path in ("datasets/digits/images.safetensors", images)}

        disk.change("ro")
        ended = fresh.run(f"results/tiny/synthetic/digits/{RANDOM}/contact_sheet.png")
        assert ended.status != 0
        # Said before anything starts.
        assert "results/tiny/...: cannot be written: " in ended.output and "Traceback" not in ended.output
        disk.change("rw")
        assert fresh.content_ids() == {path: wanted[path] for path in ("datasets/digits/images.safetensors", images)}
