"""Labels of imported sets: each image keeps its own, whatever they are called and wherever they lie."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from elf.cli import main
from elf.errors import ElfError
from elf.importing.labels import understand_labels
from elf.importing.sets import ImportedSet, Known, import_set


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(classes: int, ipc: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, each of one value that no other has, and classes in a random order that is not the sorted one."""
    order = torch.randperm(classes * ipc, generator=stream(seed))
    hard = torch.arange(classes).repeat_interleave(ipc)[order]
    images = torch.linspace(0.2, 0.8, len(hard))[:, None, None, None].expand(-1, 3, 8, 8)
    return images.contiguous(), hard


def rows_of(hard: torch.Tensor, classes: int, kind: str, seed: int) -> torch.Tensor:
    one_hot = nn.functional.one_hot(hard, classes)
    noise = torch.rand(one_hot.shape, generator=stream(seed)).double()
    if kind == "probabilities":
        return torch.softmax(4 * one_hot + noise, 1)
    return {
        "hard": hard,
        "floats": hard.float(),
        "one-hot": one_hot,
        "logits": 9 * one_hot - 2 * noise - 1,
        "regression": one_hot - 1 / classes,
    }[kind]


KINDS = {"floats": "hard", "one-hot": "hard"}


def check(found: ImportedSet, images: torch.Tensor, hard: torch.Tensor, rows: torch.Tensor, kind: str) -> None:
    """Compare with a loop over the classes."""
    place = [index for label in sorted(set(hard.tolist())) for index in range(len(hard)) if hard[index] == label]
    assert torch.equal(found.images, images[place])
    wanted = hard[place] if KINDS.get(kind, kind) == "hard" else rows.float()[place]
    assert found.label_kind == KINDS.get(kind, kind) and torch.equal(found.labels, wanted)


def numbers(tensor: torch.Tensor) -> list:
    return tensor.tolist()


def scalars(tensor: torch.Tensor) -> list:
    return list(tensor.numpy()) if tensor.dim() == 1 else [list(row) for row in tensor.numpy()]


AS_LISTS = {
    "a tensor": lambda tensor: tensor,
    "numbers in lists": numbers,
    "scalars of NumPy in lists": scalars,
    "a list of tensors": list,
    "a tuple of tensors": tuple,
}
IN_A_FILE = {
    "named": lambda images, labels: {"images": images, "labels": labels},
    "other names": lambda images, labels: {"syn_images": images, "syn_targets": labels},
    "no names": lambda images, labels: {"first": images, "second": labels},
    "nested": lambda images, labels: {"syn": {"images": images, "labels": labels}, "args": {"lr": 0.1, "ipc": 3}},
    "labels elsewhere": lambda images, labels: {"syn": {"x": images}, "meta": {"label": labels, "epochs": 5}},
    "a pair": lambda images, labels: [images, labels],
    "experiments": lambda images, labels: {"data": [(images, labels)], "accs_all_exps": {}},
    "single images": lambda images, labels: {"images": list(images), "labels": labels},
    "class names too": lambda images, labels: {"images": images, "y": labels, "classes": ["a", "b"]},
}


@given(
    classes=st.integers(3, 5),
    ipc=st.integers(1, 3),
    kind=st.sampled_from(["hard", "floats", "one-hot", "probabilities", "logits", "regression"]),
    form=st.sampled_from(list(AS_LISTS)),
    layout=st.sampled_from(list(IN_A_FILE)),
    seed=st.integers(0, 1000),
)
def test_labels_of_any_form_in_one_file(tmp_path_factory, classes, ipc, kind, form, layout, seed):
    images, hard = made(classes, ipc, seed)
    rows = rows_of(hard, classes, kind, seed)
    path = tmp_path_factory.mktemp("set") / "set.pt"
    torch.save(IN_A_FILE[layout](images, AS_LISTS[form](rows)), path)
    # The number of classes is told, so that taking images by position would pass for an answer.
    check(import_set([path], Known(classes=classes)), images, hard, rows, kind)


WRITERS = {
    ".pt": lambda path, tensor: torch.save(tensor, path),
    ".npy": lambda path, tensor: np.save(path, tensor.numpy()),
    ".npz": lambda path, tensor: np.savez(path, tensor.numpy()),
    ".safetensors": lambda path, tensor: save_file({"data": tensor}, path),
    ".pth": lambda path, tensor: torch.save({"labels": tensor.tolist()}, path),
}
PAIRS = [
    ("images", "label"),
    ("images", "labels"),
    ("images", "y"),
    ("images", "targets"),
    ("syn_data", "syn_target"),
    ("x_train", "y_train"),
    ("images_best", "labels_best"),
    ("image_syn", "label_syn"),
    ("distilled", "soft_labels"),
]


@given(
    pair=st.sampled_from(PAIRS),
    endings=st.tuples(st.sampled_from([".pt", ".npy", ".npz"]), st.sampled_from(list(WRITERS))),
    kind=st.sampled_from(["hard", "probabilities", "logits"]),
    how=st.sampled_from(["both", "images alone", "its folder"]),
    seed=st.integers(0, 1000),
)
def test_labels_in_another_file(tmp_path_factory, pair, endings, kind, how, seed):
    folder = tmp_path_factory.mktemp("set")
    images, hard = made(4, 2, seed)
    rows = rows_of(hard, 4, kind, seed)
    files = [folder / (name + ending) for name, ending in zip(pair, endings, strict=True)]
    for file, content in zip(files, (images, rows), strict=True):
        WRITERS[file.suffix](file, content)
    if how == "its folder":
        paths = [folder]
    else:
        torch.save(torch.tensor(0.02), folder / "lr.pt")
        paths = files if how == "both" else files[:1]
    found = import_set(paths, Known(classes=4))
    check(found, images, hard, rows, kind)
    assert sorted(name for name, _ in found.files) == sorted(file.name for file in files)


STOPS = {
    "texts": ({"labels": ["cat", "dog"] * 3}, {}, "'labels' cannot be read as labels"),
    "a dictionary": ({"labels": {"first": 1, "second": 2}}, {}, "'labels.first, labels.second' cannot be read"),
    "two kinds": ({"labels": {"a": torch.arange(6) % 3, "b": torch.arange(6)}}, {}, "several arrays of labels"),
    "of another length": ({"labels": torch.arange(5)}, {}, "there are 6 images"),
    "two without a name": ({"a": torch.arange(6) % 3, "b": torch.arange(6) % 3}, {}, "several arrays could be"),
    "two of the same kind": ({"y": torch.arange(6) % 3, "label": torch.arange(6) % 3}, {}, "several arrays of labels"),
    "maps": ({"masks": torch.zeros(6, 1, 8, 8)}, {}, "'masks' has an entry an image"),
    "names an image": ({"who": list("abcdef")}, {}, "'who' has an entry an image"),
    "a table": ({}, {"labels.csv": "0\n1\n2\n0\n1\n2\n"}, "beside it lies labels.csv"),
    "a text": ({}, {"set_labels.txt": "0 1 2 0 1 2"}, "beside it lies set_labels.txt"),
    "another file": ({}, {"foo.npy": torch.arange(6) % 3}, "beside it lies foo.npy"),
    "two files": (
        {},
        {"labels.pt": torch.arange(6) % 3, "label.npy": torch.arange(6) % 3},
        "label.npy, labels.pt",
    ),
    "of another state": ({}, {"labels_12.pt": torch.arange(6) % 3}, "beside it lies labels_12.pt"),
    "damaged": ({}, {"labels.pt": "no array"}, "beside it lies labels.pt"),
}


@pytest.mark.parametrize(("more", "files", "message"), STOPS.values(), ids=STOPS)
def test_nothing_is_taken_by_position_beside_what_may_be_labels(tmp_path, more, files, message):
    images = made(3, 2, 0)[0]
    path = tmp_path / "set.pt"
    torch.save({"images": images} | more, path)
    for name, content in files.items():
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            WRITERS[Path(name).suffix](tmp_path / name, content)
    with pytest.raises(ElfError, match=message):
        import_set([path], Known(classes=3))
    told = import_set([path], Known(classes=3, labels="position"))
    assert torch.equal(told.images, images) and told.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_files_of_other_sets_beside_are_named_and_left(tmp_path):
    images = made(3, 2, 0)[0]
    torch.save(images, tmp_path / "images.pt")
    torch.save(torch.arange(9) % 3, tmp_path / "labels.pt")
    found = import_set([tmp_path / "images.pt"], Known(classes=3))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert any("labels.pt is not used" in str(one) for one in found.conclusions)


def test_names_of_classes_as_keys(tmp_path):
    images = made(3, 2, 0)[0]
    content = {"ship": images[:2], "cat": images[2:4], "dog": images[4:], "epochs": 3}
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(ElfError, match=r"ship, cat, dog; if these 3 are classes, name the data set"):
        import_set([tmp_path / "set.pt"], Known(classes=3))
    found = import_set([tmp_path / "set.pt"], Known(classes=3, class_names=["cat", "dog", "ship"]))
    assert torch.equal(found.images, images[[2, 3, 4, 5, 0, 1]]) and found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    torch.save(content | {"labels": torch.arange(6)}, tmp_path / "set.pt")
    with pytest.raises(ElfError, match="class by class and 'labels' too"):
        import_set([tmp_path / "set.pt"], Known(classes=3, class_names=["cat", "dog", "ship"]))
    torch.save({1: images[:3], 2: images[3:]}, tmp_path / "set.pt")
    with pytest.raises(ElfError, match="classes count from 0"):
        import_set([tmp_path / "set.pt"])


EYE = torch.eye(4).repeat(2, 1)
NOISE = torch.rand(8, 4, generator=stream(3))
RULES = {
    "one-hot": (EYE, "hard"),
    "probabilities": ((4 * EYE + NOISE).softmax(1), "probabilities"),
    "half precision": ((4 * EYE + NOISE).softmax(1).half(), "probabilities"),
    "centred": (EYE - 0.25, "regression"),
    "centred, scaled": ((EYE - 0.25) / 3, "regression"),
    "logits": (8 * EYE - 2 * NOISE, "logits"),
    "logarithms of probabilities": ((6 * EYE + NOISE).log_softmax(1), "logits"),
    "of a regression": (EYE - 0.25 + 0.1 * NOISE, None),
    "percent": (100 * (4 * EYE + NOISE).softmax(1), None),
    "centred logits": (8 * (EYE - 0.25), None),
    "small logits": (EYE - NOISE, None),
}


@pytest.mark.parametrize(("rows", "kind"), RULES.values(), ids=RULES)
def test_the_kind_follows_from_a_rule_or_is_asked(rows, kind):
    if kind is None:
        with pytest.raises(ElfError, match=r"say --labels logits .*--labels regression .*--labels hard"):
            understand_labels(rows, 8)
    else:
        assert understand_labels(rows, 8).kind == kind
    for told in ("logits", "regression"):
        found = understand_labels(rows, 8, told=told)
        assert found.kind == told and torch.equal(found.values, rows.float()[found.order])
    assert understand_labels(rows, 8, told="hard").values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_is_told_must_fit():
    for told, labels, message in (
        ("logits", torch.arange(4), "one number an image, which are classes"),
        ("probabilities", EYE[:4] - 0.25, "--labels probabilities: entries from -0.25"),
        ("probabilities", 2 * EYE[:4], "sums from 2"),
        ("hard", torch.ones(4, 4), "largest entry twice"),
        ("regression", None, "there are no labels"),
        ("position", torch.arange(4), "there are labels"),
        (None, torch.arange(1, 5), "run from 1 to 4 and none is 0; .* subtract 1"),
    ):
        with pytest.raises(ElfError, match=message):
            understand_labels(labels, 4, told=told)


def test_an_import_tells_the_kind_in_manifest_and_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    images, hard = made(4, 2, 1)
    torch.save(images, "images_best.pt")
    torch.save(rows_of(hard, 4, "logits", 1), "labels_best.pt")
    paths = ["images_best.pt", "labels_best.pt"]
    for name, options, kind in (("a", [], "logits"), ("b", ["--labels", "regression"], "regression")):
        assert main(["import", *paths, "--name", name, "--space", "unit", *options]) == 0
        assert f"labels: {kind}, 4 classes" in capsys.readouterr().out
        assert main(["show", f"imported/{name}.safetensors"]) == 0
        assert json.loads(capsys.readouterr().out)["spec"]["labels"] == kind
        assert f"value: {kind}\n" in (tmp_path / "config" / "recipes" / f"{name}.yaml").read_text()
    assert main(["import", *paths, "--name", "c", "--space", "unit", "--labels", "hard"]) == 0
    assert "labels:" not in (tmp_path / "config" / "recipes" / "c.yaml").read_text()
    # What the project wrote tells its kind itself.
    assert import_set([tmp_path / "imported" / "b.safetensors"]).label_kind == "regression"
