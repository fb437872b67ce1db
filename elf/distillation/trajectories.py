"""What MTT and TESLA share: matching synthetic images to segments of expert trajectories, again and again."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from elf.data import augmentation
from elf.distillation.shared import loop
from elf.distillation.shared.matching import Gradient, Step
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, real_initialisation
from elf.errors import ElfError
from elf.machine.device import to_device
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork
from elf.specs.expert import snapshots

LARGEST_STEP_SIZE = 100
"""A learned step size beyond this multiple of its first value ends the run (own choice; official codes go on)."""

IMAGES_PER_LABELLING = 50
"""Images that get their soft labels together (official code of TESLA)."""


class Experts(Protocol):
    """What the methods need of :class:`elf.artifacts.experts.ExpertBuffer`."""

    epochs: tuple[int, ...]

    def __len__(self) -> int: ...

    def snapshot(self, index: int, epoch: int, device: torch.device) -> Tensor: ...


def match_experts(
    dataset: RealImages,
    gradient: Gradient,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str,
    seed: int,
    experts: Experts,
    progress: loop.Progress,
    checkpoint=None,
    selection: loop.Selection | None = None,
    soft_labels: bool = False,
    hint: str,
) -> SyntheticSet:
    """Distil by matching trajectories; the parameters are those of `elf.distillation.mtt.distill`, and

    Parameters
    ----------
    gradient : callable
        From `elf.distillation.shared.matching`.
    soft_labels : bool
        See `elf.distillation.tesla.distill`.
    hint : str
        What to do when the run has to be stopped.
    """
    device, side = dataset.images.device, dataset.images.shape[-1]
    # The weights are those of the experts, so those that the network is built with do not matter.
    built = build_network(network, classes=dataset.classes, side=side, generator=torch.Generator())
    split_batch_norm(built, int(settings.get("batch_norm_splits", 1)))
    student = FlatNetwork(built.to(device))
    _check(experts, settings, network, student, soft_labels)

    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images, labels = start.images, start.labels
    step_size = torch.tensor(float(settings["lr_teacher"]), device=device)
    learned = {"images": images, "step_size": step_size}
    if soft_labels:
        labels = learned["labels"] = functional.one_hot(labels, dataset.classes).to(images.dtype)
    velocities = {f"velocity.{name}": torch.zeros_like(learned[name]) for name in ("images", "step_size")}
    streams = {name: generator(seed, "distillation", name) for name in ("experts", "batches", "augmentation")}

    def update(_: int) -> dict[str, Tensor]:
        begin, target = draw_segment(experts, settings, streams["experts"], device)
        if soft_labels:
            labels.copy_(label_softly(student, target, images))
        steps = draw_steps(len(images), side, settings, streams["batches"], streams["augmentation"], device)
        align_corners = settings["align_corners"]
        found = gradient(student, begin, target, images, labels, step_size, steps, align_corners=align_corners)
        for name, of_it, lr in (("images", found.images, "lr_img"), ("step_size", found.step_size, "lr_lr")):
            velocity = velocities[f"velocity.{name}"]
            loop.descend(learned[name], of_it, velocity, lr=settings[lr], momentum=settings["momentum"])
        return {"loss": found.loss, "step size": step_size}

    return loop.run(
        update,
        total=int(settings["iterations"]) + 1,
        state=loop.State(learned, velocities, streams),
        result=lambda: SyntheticSet(images, labels, {"step_size": step_size.item()}),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        limits={"step size": (0.0, LARGEST_STEP_SIZE * float(settings["lr_teacher"]))},
        hint=hint,
    )


def draw_segment(
    experts: Experts, settings: Mapping[str, object], stream: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw an expert and a start epoch; return its parameters there and ``expert_epochs`` later.

    Both are uniform: one of the first ``experts`` experts, and an epoch below ``max_start_epoch``.
    """
    index = int(torch.randint(int(settings["experts"]), (), generator=stream))
    epoch = int(torch.randint(int(settings["max_start_epoch"]), (), generator=stream))
    end = epoch + int(settings["expert_epochs"])
    return experts.snapshot(index, epoch, device), experts.snapshot(index, end, device)


def draw_steps(
    count: int,
    side: int,
    settings: Mapping[str, object],
    batches: torch.Generator,
    augmentations: torch.Generator,
    device: torch.device,
) -> list[Step]:
    """Draw the mini-batches of one student and how each is augmented.

    A permutation of all images is cut into chunks of ``batch_syn`` (0: all of them), which are taken from the end,
    an incomplete one first; when none is left, a new permutation is drawn. Each student begins with a new one, as
    in the official code. One category of augmentation is drawn for a batch, its parameters for each image.

    Parameters
    ----------
    count : int
        Number of synthetic images.
    side : int
        Their height and width in pixels.
    settings : mapping
        ``synthetic_steps``, ``batch_syn`` and ``augmentation``.
    batches, augmentations : torch.Generator
    device : torch.device

    Returns
    -------
    list of Step
    """
    chunks: list[Tensor] = []
    steps = []
    for _ in range(int(settings["synthetic_steps"])):
        if not chunks:
            permutation = torch.randperm(count, generator=batches)
            chunks = list(permutation.split(int(settings["batch_syn"]) or count))
        indices = chunks.pop()
        draw = augmentation.draw(settings["augmentation"], len(indices), side, augmentations, device)
        steps.append(Step(to_device(indices, device), draw))
    return steps


@torch.no_grad()
def label_softly(network: FlatNetwork, parameters: Tensor, images: Tensor) -> Tensor:
    """Return the probabilities that a network gives to images, shape (n, classes).

    Images are not augmented; the network is in evaluation mode and sees 50 of them at once.
    """
    portions = images.detach().split(IMAGES_PER_LABELLING)
    logits = [network(parameters, portion, training=False) for portion in portions]
    return torch.cat(logits).softmax(dim=1)


def _check(
    experts: Experts, settings: Mapping[str, object], network: str, student: FlatNetwork, soft_labels: bool
) -> None:
    """Raise an error for what would otherwise end a run in the middle, or spoil it silently."""
    wanted = int(settings["experts"])
    if not 1 <= wanted <= len(experts):
        raise ElfError(f"the recipe uses {wanted} experts, found {len(experts)}; train more or lower 'experts'")
    needed = snapshots(int(settings["max_start_epoch"]), int(settings["expert_epochs"]))
    if missing := sorted(set(needed) - set(experts.epochs)):
        found = ", ".join(map(str, experts.epochs))
        raise ElfError(
            f"the recipe reads the experts' snapshots of epochs {needed[0]} to {needed[-1]}, but there is none of "
            f"epoch {missing[0]}; found {found}; lower max_start_epoch, or train the experts with these epochs"
        )
    if soft_labels and student.has_batch_norm:
        raise ElfError(
            f"soft labels come from a network in evaluation mode, but snapshots of {network} hold no running "
            "statistics of its batch normalisation; distil with an instance-normalised network or hard labels"
        )
    size = experts.snapshot(0, needed[0], torch.device("cpu")).numel()
    if size != student.size:
        raise ElfError(f"the experts have {size} parameters, but {network} has {student.size}; give its own experts")
