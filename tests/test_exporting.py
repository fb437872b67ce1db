"""What export writes: import reads it back to identical tensors, and the card says what it is."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import stream
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from elf.artifacts.manifest import describe
from elf.artifacts.tensors import write_tensors
from elf.cli import main
from elf.data.preprocessing import CONSTANTS, Normalisation, fit_zca
from elf.errors import ElfError
from elf.importing.sets import Known, import_set
from elf.specs.labels import KINDS
from elf.stages.export import export, read_for_export

NAMES = ["air plane", "cat/dog", "ship"]
SIDE, IPC = 8, 2


def artifact(path: Path, kind: str, spec: dict, tensors: dict, inputs: dict | None = None) -> dict:
    manifest = describe(kind, spec, inputs=inputs or {}, code="{}", measured={})
    return write_tensors(path, tensors, manifest)


def prepared(folder: Path, normalisation: str = "cifar", names=NAMES) -> tuple[Path, dict]:
    """A data set's file, with what export reads of it."""
    pixels = torch.randint(0, 256, (50, 3, SIDE, SIDE), generator=stream(0), dtype=torch.uint8)
    preprocessing = fit_zca(pixels) if normalisation == "zca" else Normalisation(*CONSTANTS[normalisation])
    spec = {"name": "tiny_set", "normalisation": normalisation, "side": SIDE, "class_names": list(names)}
    path = folder / "dataset.safetensors"
    return path, artifact(path, "dataset", spec, preprocessing.to_tensors())


def synthetic(folder: Path, inputs: dict, images, rows, **changes) -> Path:
    spec = {"dataset": "tiny_set", "method": "k_center", "network": "convnet-w4-d2-in", "ipc": IPC, "seed": 0}
    path = folder / "set.safetensors"
    artifact(
        path, "synthetic set", spec | {"recipe": {"lr": 1.0}} | changes, {"images": images, "labels": rows}, inputs
    )
    return path


def random_set(seed: int = 0, kind: str = "hard") -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(len(NAMES) * IPC, 3, SIDE, SIDE, generator=stream(seed)).cumsum(2)
    hard = torch.arange(len(NAMES)).repeat_interleave(IPC)
    rows = torch.nn.functional.one_hot(hard, len(NAMES)).float() * 0.7 + 0.1
    return images, {"hard": hard, "probabilities": rows, "regression": rows - 1 / 3, "logits": 3 * rows}[kind]


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
    normalisation=st.sampled_from(["cifar", "imagenet", "zca"]),
)
def test_import_reads_back_what_export_wrote(tmp_path_factory, seed, kind, normalisation):
    folder = tmp_path_factory.mktemp("export")
    dataset, manifest = prepared(folder, normalisation)
    images, labels = random_set(seed, kind)
    said = {} if kind == "hard" else {"labels": kind}
    exported = read_for_export(synthetic(folder, {"dataset": manifest}, images, labels, **said), dataset)
    export(exported, folder / "out", ("safetensors", "res", "best"))
    known = Known(classes=len(NAMES), side=SIDE)
    space = "zca" if normalisation == "zca" else normalisation
    told = Known(classes=len(NAMES), side=SIDE, space=space, labels=kind if kind == "logits" else None)
    written = {path.name: path for path in (folder / "out").iterdir()}
    assert set(written) == {
        "card.json",
        "images.safetensors",
        "images_best.pt",
        "labels_best.pt",
        "res_k-center_tiny-set_convnet-w4-d2-in_2ipc.pt",
    }
    sets = [
        import_set([written["images.safetensors"]], known),
        import_set([written["res_k-center_tiny-set_convnet-w4-d2-in_2ipc.pt"]], told),
        import_set([written["images_best.pt"], written["labels_best.pt"]], told),
    ]
    for found in sets:
        assert torch.equal(found.images, images) and torch.equal(found.labels, labels)
        assert found.label_kind == kind
        assert found.space.name == ("zca" if normalisation == "zca" else "normalised")
        assert found.space.constants == normalisation


@pytest.mark.parametrize("normalisation", ["cifar", "zca"])
def test_pictures_are_the_clipped_inverse_in_a_folder_a_class(tmp_path, normalisation):
    dataset, manifest = prepared(tmp_path, normalisation)
    images, labels = random_set()
    exported = read_for_export(synthetic(tmp_path, {"dataset": manifest}, images, labels), dataset)
    export(exported, tmp_path / "out", ("png",))
    pixels = exported.preprocessing.inverse(images).numpy()
    folders = ["0 air plane", "1 cat_dog", "2 ship"]
    assert sorted(folder.name for folder in (tmp_path / "out" / "png").iterdir()) == folders
    for place, image in enumerate(pixels):
        picture = Image.open(tmp_path / "out" / "png" / folders[place // IPC] / f"0{place % IPC}.png")
        expected = np.round(np.clip(image, 0, 1) * 255).transpose(1, 2, 0)
        np.testing.assert_array_equal(np.asarray(picture), expected)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["png"]["clipped"] == pytest.approx(np.mean((pixels < 0) | (pixels > 1)))
    assert 0 < card["png"]["clipped"] < 1


def test_plain_class_names_are_folder_names(tmp_path):
    dataset, manifest = prepared(tmp_path, names=["zebra", "ant", "bee"])
    exported = read_for_export(synthetic(tmp_path, {"dataset": manifest}, *random_set()), dataset)
    export(exported, tmp_path / "out", ("png",))
    again = import_set([tmp_path / "out" / "png"], Known(class_names=["zebra", "ant", "bee"]))
    shown = exported.preprocessing.inverse(exported.images).clamp(0, 1).mul(255).round()
    assert torch.equal(again.images, shown)


def test_the_card_says_what_the_files_are(tmp_path, capsys):
    dataset, manifest = prepared(tmp_path)
    path = synthetic(tmp_path, {"dataset": manifest}, *random_set())
    out = tmp_path / "out"
    assert main(["export", str(path), "--dataset", str(dataset), "--folder", str(out)]) == 0
    assert "card.json" in capsys.readouterr().out
    text = (out / "card.json").read_text()
    card = json.loads(text)
    assert (card["method"], card["recipe"], card["space"], card["constants"]) == (
        "k_center",
        {"lr": 1.0},
        "normalised",
        "cifar",
    )
    assert [card["mean"], card["std"]] == [list(part) for part in CONSTANTS["cifar"]]
    assert card["lineage"]["inputs"]["dataset"]["id"] == manifest["id"]
    files = {file.relative_to(out).as_posix(): file for file in out.rglob("*") if file.is_file()}
    assert set(card["sha256"]) | {"card.json"} == set(files)
    for name, digest in card["sha256"].items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest
    assert str(tmp_path) not in text


def test_an_imported_set_is_exported_in_the_space_of_the_data_set(tmp_path, monkeypatch):
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    dataset, _ = prepared(tmp_path)
    images, labels = random_set()
    torch.save({"images": images, "labels": labels}, "theirs.pt")
    assert main(["import", "theirs.pt", "--name", "theirs", "--space", "unit"]) == 0
    exported = read_for_export(tmp_path / "imported" / "theirs.safetensors", dataset)
    torch.testing.assert_close(exported.preprocessing.inverse(exported.images), images, rtol=1e-5, atol=1e-5)
    assert exported.spec()["method"] == "theirs"


def test_a_set_of_another_data_set_is_refused(tmp_path):
    dataset, manifest = prepared(tmp_path)
    images, labels = random_set()
    with pytest.raises(ElfError, match="of dataset 'cifar10'"):
        read_for_export(synthetic(tmp_path, {"dataset": manifest}, images, labels, dataset="cifar10"), dataset)
    with pytest.raises(ElfError, match="made from another dataset"):
        read_for_export(synthetic(tmp_path, {"dataset": manifest | {"id": "0"}}, images, labels), dataset)
    with pytest.raises(ElfError, match="has 2 classes and side 8"):
        read_for_export(synthetic(tmp_path, {"dataset": manifest}, images[:4], labels[:4]), dataset)
    with pytest.raises(ElfError, match="there is no such file"):
        read_for_export(tmp_path / "nothing.safetensors", dataset)
