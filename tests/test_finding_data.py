"""Where images lie, and what is said before anything starts when they are missing."""

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.config_reading import load_settings
from elf.finding_data import dataset_spec, experiments_needing, missing_data, missing_report, prepared_without_images
from elf.grid import build_grid

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


def test_the_report_names_datasets_and_what_needs_them(tmp_path):
    grid = build_grid(SETTINGS, tmp_path)
    report = missing_report(grid, SETTINGS, tmp_path, tmp_path / "results")
    for name in ("imagenet-1k", "tiny-imagenet"):
        needing = experiments_needing(grid, name)
        assert needing == [e for e, cells in grid.cells.items() if name in {cell.dataset for cell in cells}] != []
        (line,) = (line for line in report.splitlines() if line.startswith(f"- {name}, for {', '.join(needing)}: "))
        assert line.endswith(SETTINGS.datasets[name].obtain)
    assert "cifar" not in report and "config/scales/paper.yaml" in report
    touch(tmp_path, "imagenet-1k/val_data", "tiny-imagenet-200/train/")
    assert missing_report(build_grid(SETTINGS, tmp_path), SETTINGS, tmp_path, tmp_path / "results") is None


NEEDED = "experiments: [table05, figure3]\n"


@pytest.fixture
def study(fresh):
    """A copy in which a table needs Tiny ImageNet, and a figure does not."""
    fresh.edit(SCALE_FILE, "experiments: [table01, table05, figure3, figure4]\n", NEEDED)
    fresh.edit(SCALE_FILE, "stand_ins: {cifar10: digits, ", "stand_ins: {cifar10: tiny-imagenet, ")
    return fresh


def test_nothing_is_started_when_images_are_missing(study):
    ended = study.run("--dry-run", ELF_DATA_DIR="no-images-here")
    assert ended.status != 0
    assert "- tiny-imagenet, for table05: there is no folder 'tiny-imagenet-200' in the data folder" in ended.output
    assert "no-images-here (ELF_DATA_DIR). Unpack tiny-imagenet-200.zip" in ended.output
    assert "'snakemake figure3' needs none of this" in ended.output
    assert "remove table05 from 'experiments' in config/scales/tiny.yaml" in ended.output
    assert study.run("table05", ELF_DATA_DIR="no-images-here").status != 0
    assert not (study.folder / "results").exists()


def test_what_does_not_need_them_is_planned(study):
    jobs = study.planned("figure3", ELF_DATA_DIR="no-images-here")
    assert "prepare_dataset datasets/digits/images.safetensors" in jobs
    (study.folder / "images" / "tiny-imagenet-200" / "train").mkdir(parents=True)
    jobs = study.planned("table05", ELF_DATA_DIR="images")
    assert "prepare_dataset datasets/tiny-imagenet/images.safetensors" in jobs


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
    assert ended.status != 0 and "- tiny-imagenet, for " in ended.output
    assert (fresh.folder / file).exists()


def test_only_the_same_specification_is_kept(tmp_path):
    spec = dataset_spec(SETTINGS, "imagenet-1k", tmp_path)
    file = tmp_path / "results" / spec.folder / "images.safetensors"
    assert prepared_without_images(spec, tmp_path, tmp_path / "results") is None
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no such file")
    assert prepared_without_images(spec, tmp_path, tmp_path / "results") is None
