"""Choosing among the states of a distillation: on what, with which networks, and that it is never silent."""

import json

import pytest
import torch
from fabricated_results import ABOUT, cell, frames, spread
from helpers import stream

from elf.artifacts.manifest import read_manifest
from elf.artifacts.tensors import read_tensors
from elf.cli import main
from elf.distillation import dm
from elf.distillation.shared import selection as selection_module
from elf.distillation.shared.loop import Selection
from elf.distillation.shared.selection import selection_for
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, hold_out
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.results.layout import lay_out
from elf.specs.dataset import DatasetSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.training import TrainingRecipe
from elf.training.protocol import accuracy, train

SIDE, CLASSES = 16, 3
SETTINGS = {"selection": "validation", "selection_every": 2, "selection_networks": 2, "selection_epochs": 3}
DM = {"iterations": 7, "lr": 1.0, "momentum": 0.5, "batch_real": 6, "augmentation": "none", "align_corners": False}


def real_images(per_class: int = 8) -> RealImages:
    labels = torch.arange(CLASSES).repeat(per_class)
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(0)) + labels[:, None, None, None]
    return RealImages(images, labels, CLASSES)


def candidate(**extra) -> SyntheticSet:
    labels = torch.arange(CLASSES)
    return SyntheticSet(torch.randn(3, 3, SIDE, SIDE, generator=stream(1)) + labels[:, None, None, None], labels, extra)


def trained_by_hand(name: str, synthetic: SyntheticSet, held_out: RealImages, lr: float, number: int) -> float:
    streams = {w: generator(0, "selection", "5", f"{number}", w) for w in ("initialisation", "order", "augmentation")}
    network = build_network(name, classes=CLASSES, side=SIDE, generator=streams["initialisation"])
    recipe = TrainingRecipe(
        epochs=3,
        final_pass=True,
        lr=lr,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=256,
        lr_drop=True,
        augmentation="color_crop_cutout_flip_scale_rotate",
    )
    train(
        network,
        synthetic.images,
        synthetic.labels,
        recipe,
        order_generator=streams["order"],
        augmentation_generator=streams["augmentation"],
    )
    return accuracy(network, held_out.images, held_out.labels)


@pytest.mark.parametrize(
    ("method", "network", "scored_with"),
    [
        ("dm", "convnet-w4-d2-in", "convnet-w4-d2-in"),
        ("dm", "convnet-w4-d2-bn", "convnet-w4-d2-bn"),
        ("dsa", "convnet-w4-d2-bn", "convnet-w4-d2-in"),
        ("mtt", "convnet-w4-d2-bn", "convnet-w4-d2-in"),
    ],
)
def test_score_is_the_mean_accuracy_of_networks_trained_as_in_evaluations(method, network, scored_with):
    held_out = real_images()
    selection = selection_for(method, network, SETTINGS, held_out, seed=5)
    assert (selection.rule, selection.every) == ("validation", 2)
    expected = sum(trained_by_hand(scored_with, candidate(), held_out, 0.01, number) for number in range(2)) / 2
    assert selection.score(candidate()) == expected
    # Again, and after another candidate: the same seeds.
    selection.score(SyntheticSet(-candidate().images, candidate().labels))
    assert selection.score(candidate()) == expected


def test_frepo_scores_with_its_own_protocol_and_without_normalisation():
    """Learned labels are no targets of a cross-entropy: with labels of the wrong sign the score is near zero."""
    settings = {"selection": "validation", "selection_every": 2, "selection_networks": 1, "selection_steps": 600}
    held_out = real_images(20)
    selection = selection_for("frepo", "frepoconv-w2-bn", settings, held_out, seed=5)
    centred = torch.eye(CLASSES) - 1 / CLASSES
    images = torch.stack([held_out.images[held_out.labels == label].mean(0) for label in range(CLASSES)])
    right = selection.score(SyntheticSet(images, centred))
    assert right == selection.score(SyntheticSet(images, centred)) > 0.8
    assert selection.score(SyntheticSet(images, centred.roll(1, 0))) < 0.2
    names = []
    with pytest.MonkeyPatch.context() as patch:
        build = selection_module.build_network
        patch.setattr(selection_module, "build_network", lambda name, **kw: names.append(name) or build(name, **kw))
        selection.score(SyntheticSet(images, centred))
    assert names == ["frepoconv-w2-none"]


def test_a_learned_step_size_is_the_learning_rate_of_the_score():
    held_out = real_images(40)
    selection = selection_for("mtt", "convnet-w4-d2-in", SETTINGS, held_out, seed=5)
    for step_size in (0.5, 1e-6):
        by_hand = [trained_by_hand("convnet-w4-d2-in", candidate(), held_out, step_size, number) for number in range(2)]
        assert selection.score(candidate(step_size=step_size)) == sum(by_hand) / 2


def test_held_out_are_the_last_images_of_each_class():
    data = real_images(6)
    kept, held = hold_out(data, 2)
    for label in range(CLASSES):
        own = data.images[data.labels == label]
        assert torch.equal(kept.images[kept.labels == label], own[:4])
        assert torch.equal(held.images[held.labels == label], own[4:])
    with pytest.raises(ElfError, match="6"):
        hold_out(data, 6)


def test_dm_keeps_the_candidate_with_the_highest_score():
    states, scores = [], iter([0.1, 0.6, 0.6, 0.2])

    def score(synthetic: SyntheticSet) -> float:
        states.append(synthetic.images.clone())
        return next(scores)

    chosen = dm.distill(
        real_images(),
        settings=DM,
        ipc=1,
        network="convnet-w4-d2-in",
        seed=0,
        progress=lambda *_: None,
        selection=Selection("best_on_test", 2, score),
    )
    assert torch.equal(chosen.images, states[1])
    assert chosen.selection == {
        "rule": "best_on_test",
        "update": 4,
        "scores": [(2, 0.1), (4, 0.6), (6, 0.6), (8, 0.2)],
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    spec = DatasetSpec(
        name="digits", source="digits", side=32, normalisation="digits", train_per_class=8, test_per_class=2
    )
    told = ["--settings", spec.canonical(), "--data-folder", "absent", "--device", "cpu"]
    files = ["--images", f"{folder}/images.safetensors", "--card", f"{folder}/card.json"]
    assert main(["prepare-dataset", *told, *files]) == 0
    return folder / "images.safetensors"


def distil(dataset, out, **recipe) -> tuple[torch.Tensor, dict]:
    values = DM | {"iterations": 1, "batch_real": 100, "lr": 1e-12} | recipe
    spec = SyntheticSpec(
        dataset="digits", method="dm", module="dm", network="convnet-w2-d3-in", ipc=5, seed=0, recipe=values
    )
    files = ["--dataset", str(dataset), "--images", str(out), "--device", "cpu"]
    assert main(["distill", "--settings", spec.canonical(), *files]) == 0
    tensors, manifest = read_tensors(out, "synthetic set")
    return tensors["images"], manifest


def test_a_method_never_sees_what_it_is_validated_on(dataset, tmp_path):
    """With a rate of almost nothing the images stay those that they start from."""
    recipe = SETTINGS | {"selection_networks": 1, "validation_per_class": 3}
    images, manifest = distil(dataset, tmp_path / "a.safetensors", **recipe)
    tensors, _ = read_tensors(dataset, "dataset", ["train_images", "train_labels"])
    pixels = (tensors["train_images"].float() / 255 - 0.5) / 0.5
    kept = torch.cat([pixels[tensors["train_labels"] == label][:5] for label in range(10)])
    # 5 of the 5 images that are left of each class: all of them, and none of the 3 last.
    for image in images:
        assert (kept - image).abs().amax(dim=(1, 2, 3)).min() < 1e-4
    selected = manifest["spec"]["selected"]
    assert selected["rule"] == "validation" and selected["update"] == 2
    assert [update for update, _ in selected["scores"]] == [2]
    # Accuracies on 3 images of each of 10 classes.
    assert (selected["scores"][0][1] * 30) % 1 == pytest.approx(0, abs=1e-9)


def test_selection_on_the_test_set_is_said_and_recorded(dataset, tmp_path, caplog):
    recipe = SETTINGS | {"selection": "best_on_test", "selection_networks": 1}
    with caplog.at_level("WARNING"):
        _, manifest = distil(dataset, tmp_path / "b.safetensors", **recipe)
    assert "accuracy on the test set, which makes it optimistic" in caplog.text
    assert manifest["spec"]["selected"]["rule"] == "best_on_test"
    assert (manifest["spec"]["selected"]["scores"][0][1] * 20) % 1 == pytest.approx(0, abs=1e-9)


def test_without_selection_nothing_is_scored(dataset, tmp_path):
    _, manifest = distil(dataset, tmp_path / "c.safetensors", selection="final")
    assert manifest["spec"]["selected"] is None
    assert json.dumps(read_manifest(tmp_path / "c.safetensors")["spec"]["extra"]) == "{}"


def test_a_table_says_that_a_set_was_selected_on_the_test_set():
    marked = (cell(synthetic_variant="best_on_test"), spread(0.6, 0.01))
    plain = (cell(), spread(0.5, 0.01))
    assert [group.label for group in lay_out(*frames([marked]), ABOUT).groups] == ["DM, selected on the test set"]
    assert [group.label for group in lay_out(*frames([plain]), ABOUT).groups] == ["DM"]
    both = [group.label for group in lay_out(*frames([plain, marked]), ABOUT).groups]
    assert both == ["DM", "DM, selected on the test set"]
