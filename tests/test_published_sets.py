"""Sets that others published: named with checksums, found by them, imported as their recipes say."""

import hashlib
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
import torch
import yaml
from commands import failing, succeeding
from conftest import PROJECT

from elf.artifacts.manifest import read_manifest
from elf.stages.published import sets_of
from elf.study.config_reading import load_settings

SHIPPED = [path.stem for path in (PROJECT / "config" / "scales").glob("published*.yaml")]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with the configuration, of which the scale has one small set of others that was imported once."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    (tmp_path / "theirs").mkdir()
    # Real images would be recognised by their correlation; these are bytes.
    images = (torch.arange(20 * 3 * 32 * 32, dtype=torch.int64).reshape(20, 3, 32, 32) * 7919 % 256).to(torch.uint8)
    torch.save(images, tmp_path / "theirs" / "images_best.pt")
    torch.save(torch.arange(10).repeat_interleave(2), tmp_path / "theirs" / "labels_best.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe(project, capsys) -> Path:
    """Its recipe, as the import wrote it and somebody went on; the imported file is gone again."""
    paths = [project / "theirs" / name for name in ("images_best.pt", "labels_best.pt")]
    succeeding(["import", *paths, "--name", "theirs", "--dataset", "cifar10"], capsys)
    file = project / "config/recipes/theirs.yaml"
    content = yaml.safe_load(file.read_text())
    content["other_set_of"] = {
        "method": "mtt",
        "network": "convnet-w128-d3-in",
        "dataset": "cifar10",
        "published": "there",
    }
    file.write_text(yaml.safe_dump(content))
    scale = {"description": "small", "methods": ["theirs"], "experiments": ["table05"]}
    (project / "config/scales/small.yaml").write_text(yaml.safe_dump(scale))
    shutil.move("imported/theirs.safetensors", "kept.safetensors")
    return file


@pytest.mark.parametrize("scale", SHIPPED)
def test_shipped_scales_say_what_their_sets_are(scale):
    settings = load_settings(PROJECT / "config", scale)
    sets = sets_of(settings)
    assert sets and set(sets) == set(settings.scale.methods) - {"random"}
    assert settings.scale.comparable and settings.scale.width == 1 and not settings.scale.stand_ins
    for recipe in sets.values():
        assert recipe.other_set_of.published
        assert recipe.other_set_of.method in settings.recipes


def test_files_are_named_with_checksums_and_place(project, recipe, capsys):
    printed = succeeding(["published", "--scale", "small"], capsys)
    assert "theirs, published by there:" in printed
    for name in ("images_best.pt", "labels_best.pt"):
        digest = hashlib.sha256((project / "theirs" / name).read_bytes()).hexdigest()
        assert f"{name}  sha256 {digest}" in printed


def test_they_are_found_under_other_names_and_imported_as_the_recipe_says(project, recipe, capsys):
    before = recipe.read_text()
    (project / "theirs/deep").mkdir()
    (project / "theirs/images_best.pt").rename("theirs/deep/a")
    (project / "theirs/labels_best.pt").rename("theirs/deep/b")
    succeeding(["published", "--scale", "small", "theirs"], capsys)
    assert recipe.read_text() == before
    imported, kept = (read_manifest(Path(name)) for name in ("imported/theirs.safetensors", "kept.safetensors"))
    assert imported["id"] == kept["id"]
    assert {k: v for k, v in imported["spec"].items() if k != "files"} == {
        k: v for k, v in kept["spec"].items() if k != "files"
    }
    # What is imported needs no folder any more.
    shutil.rmtree("theirs")
    assert "theirs: imported/theirs.safetensors" in succeeding(["published", "--scale", "small", project], capsys)


def test_what_is_missing_or_another_set_is_said(project, recipe, capsys):
    (project / "theirs/labels_best.pt").unlink()
    line = failing(["published", "--scale", "small", "theirs"], capsys)
    assert "labels_best.pt of theirs" in line and not Path("imported/theirs.safetensors").exists()
    torch.save(torch.zeros(3), "theirs/labels_best.pt")
    assert "labels_best.pt of theirs" in failing(["published", "--scale", "small", "theirs"], capsys)
    assert "no such folder" in failing(["published", "--scale", "small", "nowhere"], capsys)
    recipe.write_text(recipe.read_text().replace(read_manifest(Path("kept.safetensors"))["id"], "0" * 16))
    shutil.copy("kept.safetensors", "imported/theirs.safetensors")
    assert "is another set" in failing(["published", "--scale", "small", "theirs"], capsys)


def test_a_scale_without_such_sets_says_so(capsys):
    with chdir(PROJECT):
        assert "holds no set of others" in failing(["published", "--scale", "smoke"], capsys)
