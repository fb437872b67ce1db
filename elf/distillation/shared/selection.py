"""Scores of candidates while a method runs: networks trained on the candidate, tested on images it has not seen.

Off unless a recipe asks for it, because it costs more than the distillation.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from elf.distillation.shared.loop import Selection
from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives.frepo import loss as frepo_loss
from elf.specs.network import parse
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.training import frepo as frepo_evaluation
from elf.training.protocol import accuracy, train

BATCH_NORM_OF_ITS_OWN = ("dm",)
"""Methods whose official code scores with a batch-normalised network what was distilled with one."""


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
    The protocol is that of the official scripts. FrePo has its own, with ``selection_steps`` instead of epochs. For
    all others it is that of the evaluations, at the learning rate 0.01, or at the step size that MTT and TESLA have
    learned. What was distilled with batch normalisation is scored with its instance-normalised twin by DSA, MTT and
    TESLA, without normalisation by FrePo, and as it is by DM.
    """
    networks = int(settings["selection_networks"])
    scored_with = _twin(network, keep=method in BATCH_NORM_OF_ITS_OWN)
    trained = _by_frepo if method == "frepo" else _by_evaluation

    def score(candidate: SyntheticSet) -> float:
        accuracies = []
        for number in range(networks):
            purposes = ("initialisation", "order", "augmentation")
            streams = {what: generator(0, "selection", f"{seed}", f"{number}", what) for what in purposes}
            scorer = build_network(
                scored_with,
                classes=held_out.classes,
                side=held_out.images.shape[-1],
                generator=streams.pop("initialisation"),
            ).to(candidate.images.device)
            trained(scorer, candidate, settings, streams)
            accuracies.append(accuracy(scorer, held_out.images, held_out.labels))
        return sum(accuracies) / networks

    return Selection(str(settings["selection"]), int(settings["selection_every"]), score)


def _by_evaluation(
    network: nn.Module,
    candidate: SyntheticSet,
    settings: Mapping[str, object],
    streams: Mapping[str, torch.Generator],
) -> None:
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
    train(
        network,
        candidate.images,
        candidate.labels,
        recipe,
        order_generator=streams["order"],
        augmentation_generator=streams["augmentation"],
    )


def _by_frepo(
    network: nn.Module,
    candidate: SyntheticSet,
    settings: Mapping[str, object],
    streams: Mapping[str, torch.Generator],
) -> None:
    recipe = FrepoRecipe(
        steps=int(settings["selection_steps"]),
        lr=0.0003,
        warmup_steps=500,
        lr_final_fraction=0.01,
        batch_size=500,
        augmentation="flip_color_zoom_rotate_translate_cutout",
    )
    frepo_evaluation.train(
        network,
        candidate.images,
        candidate.labels,
        recipe,
        objective=frepo_loss,
        order_generator=streams["order"],
        augmentation_generator=streams["augmentation"],
    )


def _twin(network: str, *, keep: bool) -> str:
    """Return the architecture that scores what was distilled with a batch-normalised one."""
    name = parse(network)
    if keep or name.norm != "bn":
        return network
    return str(replace(name, norm="none" if name.family == "frepoconv" else "in"))
