"""Scores of candidates while a method runs: networks trained on the candidate, tested on images it has not seen.

Off unless a recipe asks for it, because it costs more than the distillation.
"""

from collections.abc import Mapping

import torch

from elf.distillation.loop import Selection
from elf.distillation.synthetic import RealImages, SyntheticSet
from elf.networks.building import build_network
from elf.networks.names import parse
from elf.randomness import generator
from elf.specs.training import TrainingRecipe
from elf.training import accuracy, train

BATCH_NORM_OF_ITS_OWN = ("dm",)
"""Methods whose official code scores with a batch-normalised network what was distilled with one; the others
take its instance-normalised twin."""


def selection_for(
    method: str, network: str, settings: Mapping[str, object], held_out: RealImages, seed: int
) -> Selection:
    """Return the selection that a recipe asks for.

    Parameters
    ----------
    method, network : str
        Distillation method and network; the networks that score are of the same architecture.
    settings : mapping
        ``selection`` (rule), ``selection_every`` (updates), ``selection_networks`` (networks trained on each
        candidate), ``selection_epochs`` (nominal; one more pass follows, as in every evaluation).
    held_out : RealImages
        What the accuracy is measured on: images that the method does not see, or the test set.
    seed : int
        Of the distillation.

    Returns
    -------
    Selection
        Its score is the mean accuracy of the networks. Every candidate is scored with the same seeds.

    Notes
    -----
    The protocol is that of the official scripts: learning rate 0.01, or the step size that MTT and TESLA have
    learned, with everything else as in the evaluations of the paper.
    """
    scored_with = network if method in BATCH_NORM_OF_ITS_OWN else _instance_twin(network)

    def score(candidate: SyntheticSet) -> float:
        recipe = TrainingRecipe(
            epochs=int(settings["selection_epochs"]),
            final_pass=True,
            lr=candidate.extra.get("step_size", 0.01),
            momentum=0.9,
            weight_decay=0.0005,
            batch_size=256,
            lr_drop=True,
            augmentation="color_crop_cutout_flip_scale_rotate",
        )
        accuracies = [
            _trained_accuracy(scored_with, candidate, recipe, held_out, f"{seed}", f"{number}")
            for number in range(int(settings["selection_networks"]))
        ]
        return sum(accuracies) / len(accuracies)

    return Selection(str(settings["selection"]), int(settings["selection_every"]), score)


def _trained_accuracy(
    name: str, candidate: SyntheticSet, recipe: TrainingRecipe, held_out: RealImages, *purpose: str
) -> float:
    streams = {what: generator(0, "selection", *purpose, what) for what in ("initialisation", "order", "augmentation")}
    network = build_network(
        name,
        classes=held_out.classes,
        side=held_out.images.shape[-1],
        generator=streams["initialisation"],
    ).to(candidate.images.device)
    train(
        network,
        candidate.images,
        candidate.labels,
        recipe,
        order_generator=streams["order"],
        augmentation_generator=streams["augmentation"],
    )
    with torch.no_grad():
        return accuracy(network, held_out.images, held_out.labels)


def _instance_twin(network: str) -> str:
    """Return the same architecture with instance normalisation."""
    name = parse(network)
    return str(name) if name.norm != "bn" or name.family == "frepoconv" else str(name).removesuffix("bn") + "in"
