"""Where images lie, and what is said before anything starts when they are missing."""

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.status.missing import missing_images, missing_report
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid
from elf.study.images import dataset_spec, missing_data, prepared_without_images
from elf.study.plan import Plan

pytest_plugins = ("workflow_copy",)

SETTINGS = load_settings(PROJECT / "config", "paper")
SCALE_FILE = "config/scales/tiny.yaml"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()


@pytest.mark.parametrize(
    ("name", "files", "source"),
    [
        ("imagenet-1k", ["imagenet-1k/train-0.parquet", "imagenet-1k/train/"], "parquet"),
        ("imagenet-1k", ["imagenet-1k/train_data_batch_4", "imagenet-1k/notes"], "downsampled"),
        ("imagenet-1k", ["imagenet-1k/val_data.npz"], "downsampled"),
        ("imagenet-1k", ["imagenet-1k/train/n01440764/a.JPEG"], "folder"),
        ("imagenet-1k", [], "folder"),
        ("tiny-imagenet", ["tiny-imagenet-200/valid-0.parquet"], "parquet"),
        ("tiny-imagenet-frepo", ["tiny-imagenet-200/val/images/"], "folder"),
        ("cifar100", ["cifar100/train-0.parquet"], "parquet"),
        ("cifar100-zca", ["cifar100/train/"], "torchvision"),
        ("cifar10-frepo", [], "torchvision"),
        ("digits64", [], "digits"),
    ],
)
def test_layouts_are_found_by_what_lies_there(name, files, source, tmp_path):
    touch(tmp_path, *files)
    spec = dataset_spec(SETTINGS, name, tmp_path)
    assert spec.source == source
    assert (missing_data(spec, tmp_path) is None) == (bool(files) or source in ("torchvision", "digits"))


def test_what_is_missing_is_said(tmp_path):
    spec = dataset_spec(SETTINGS, "tiny-imagenet-subset", tmp_path)
    assert "no folder 'tiny-imagenet-subset' in the data folder" in missing_data(spec, tmp_path)
    touch(tmp_path, "tiny-imagenet-subset/train/")
    assert "holds no images in the layout 'parquet'; found train/ (folder)" in missing_data(spec, tmp_path)
    touch(tmp_path, "imagenet-1k/train/", "imagenet-1k/val_data")
    mixed = dataset_spec(SETTINGS, "imagenet-1k", tmp_path)
    assert "whose classes have different orders" in missing_data(mixed, tmp_path)


def test_every_dataset_that_cannot_be_downloaded_says_how_to_get_it():
    for name, entry in SETTINGS.datasets.items():
        assert bool(entry.obtain) == (name.startswith(("tiny", "imagenet"))), name


def plan_in(folder: Path) -> Plan:
    return Plan(SETTINGS, build_grid(SETTINGS, folder), folder / "results")


def shown(targets: list[str]) -> str:
    return f"snakemake {' '.join(targets)} --cores 1"


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_report_names_datasets_what_needs_them_and_what_does_not(tmp_path, dry_run):
    plan = plan_in(tmp_path)
    report = missing_report(plan, ["all_tables"], tmp_path, shown, dry_run=dry_run)
    cells = plan.grid.cells
    needing = {name: [e for e, of in cells.items() if name in {cell.dataset for cell in of}] for name in MISSING}
    for name, experiments in needing.items():
        assert experiments
        (line,) = (line for line in report.splitlines() if line.startswith(f"- {name}, for {', '.join(experiments)}: "))
        assert line.endswith(SETTINGS.datasets[name].obtain)
    assert "cifar" not in report and "config/scales/paper.yaml" in report
    affected = {*needing["imagenet-1k"], *needing["tiny-imagenet"]}
    spared = [name for name in cells if name.startswith("table") and name not in affected]
    assert f"    {shown(spared)}\n" in report
    assert ("nothing was started" in report) != dry_run
    touch(tmp_path, "imagenet-1k/val_data", "tiny-imagenet-200/train/")
    assert missing_report(plan_in(tmp_path), [], tmp_path, shown, dry_run=dry_run) is None


MISSING = ("imagenet-1k", "tiny-imagenet")


def test_what_does_not_need_missing_images_is_not_held_up(tmp_path):
    plan = plan_in(tmp_path)
    for target in ("table05", "figure4", "results/paper/datasets/cifar10/images.safetensors"):
        assert missing_images(plan, [str(target).replace("results/paper", str(plan.folder))], tmp_path) == {}
    assert set(missing_images(plan, ["table05", "table07"], tmp_path)) == set(MISSING)
    report = missing_report(plan, ["table07"], tmp_path, shown, dry_run=False)
    # Nothing of what was asked for can be made: what else there is.
    assert "snakemake table01 table02" in report and "figure4" in report


@pytest.fixture
def study(fresh):
    """A copy in which a table needs Tiny ImageNet, and a figure does not."""
    fresh.edit(SCALE_FILE, "experiments: [table01, table05, figure3, figure4]\n", NEEDED)
    fresh.edit(SCALE_FILE, "stand_ins: {cifar10: digits, ", "stand_ins: {cifar10: tiny-imagenet, ")
    return fresh


NEEDED = "experiments: [table05, figure3]\n"


def test_without_images_nothing_is_started_and_everything_is_planned(study):
    ended = study.run("table05", "figure3", ELF_DATA_DIR="no-images-here")
    assert ended.status == 1
    assert "- tiny-imagenet, for table05: there is no folder 'tiny-imagenet-200' in the data folder" in ended.output
    assert "no-images-here (ELF_DATA_DIR). Unpack tiny-imagenet-200.zip" in ended.output
    spared = "-m snakemake figure3 --profile profiles/local --cores=2 --config scale=tiny\n"
    assert spared in ended.output
    assert ended.output.endswith("remove table05 from 'experiments' in config/scales/tiny.yaml.\n")
    assert not (study.folder / "results").exists()
    dry = study.run("--dry-run", ELF_DATA_DIR="no-images-here")
    assert dry.status == 0 and "- tiny-imagenet, for table05: " in dry.output
    assert "prepare_dataset datasets/tiny-imagenet/images.safetensors" in dry.jobs


def test_prepared_images_outlive_their_source(fresh):
    """Removing the original files, or editing the code that reads them, makes nothing stale that cannot be made."""
    from PIL import Image

    fresh.edit(SCALE_FILE, "stand_ins: {cifar10: digits, ", "stand_ins: {cifar10: tiny-imagenet, ")
    fresh.edit(SCALE_FILE, "datasets:\n", "datasets:\n  tiny-imagenet: {side: 32}\n")
    source = fresh.folder / "images" / "tiny-imagenet-200"
    for split in ("train", "val"):
        for class_name in ("a", "b"):
            (source / split / class_name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(source / split / class_name / "1.png")
    file = "results/tiny/datasets/tiny-imagenet/images.safetensors"
    assert fresh.run(file, ELF_DATA_DIR="images").status == 0
    shutil.rmtree(source)
    assert fresh.planned(file, ELF_DATA_DIR="images") == set()
    fresh.append("elf/data/sources/folder.py", "\nEDITED = 1\n")
    assert fresh.planned(file, ELF_DATA_DIR="images") == set()
    fresh.edit(SCALE_FILE, "tiny-imagenet: {side: 32}", "tiny-imagenet: {side: 32, train_per_class: 1}")
    ended = fresh.run(file, ELF_DATA_DIR="images")
    assert ended.status == 1 and "- tiny-imagenet, for " in ended.output
    assert (fresh.folder / file).exists()


def test_only_the_same_specification_is_kept(tmp_path):
    spec = dataset_spec(SETTINGS, "imagenet-1k", tmp_path)
    file = tmp_path / "results" / spec.folder / "images.safetensors"
    assert prepared_without_images(spec, tmp_path, tmp_path / "results") is None
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no such file")
    assert prepared_without_images(spec, tmp_path, tmp_path / "results") is None
