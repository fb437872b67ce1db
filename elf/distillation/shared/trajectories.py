"""What MTT and TESLA share: segments of expert trajectories, and the steps of a student that is held against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from elf.data import augmentation
from elf.data.augmentation import Draw
from elf.distillation.shared import loop
from elf.errors import ElfError
from elf.machine.device import to_device
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork
from elf.objectives.task import task_loss
from elf.specs.expert import snapshots

LARGEST_STEP_SIZE = 100
"""A learned step size beyond this multiple of its first value ends the run (own choice; official codes go on)."""


class Experts(Protocol):
    """What the methods need of :class:`elf.artifacts.experts.ExpertBuffer`."""

    epochs: tuple[int, ...]

    def __len__(self) -> int: ...

    def snapshot(self, index: int, epoch: int, device: torch.device) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Step:
    """What a student trains on in one step.

    Attributes
    ----------
    indices : Tensor of shape (b,)
        int64; which of the synthetic images, each at most once, on their device.
    draw : Draw
        How they are augmented.
    """

    indices: Tensor
    draw: Draw


@dataclass(frozen=True, eq=False)
class Matching:
    """Loss and gradients of one update, detached.

    Attributes
    ----------
    loss : Tensor of shape ()
        Squared distance of student and target over that of start and target.
    images : Tensor of shape (n, 3, side, side)
        Gradient with respect to all synthetic images.
    step_size : Tensor of shape ()
        Gradient with respect to the student's step size.
    """

    loss: Tensor
    images: Tensor
    step_size: Tensor


def loss_of(
    network: FlatNetwork, student: Tensor, batch: Tensor, labels: Tensor, step: Step, *, align_corners: bool
) -> Tensor:
    """Return the loss of a student, shape (), on the images of a step, which are augmented here.

    Parameters
    ----------
    network : FlatNetwork
        In train mode.
    student : Tensor of shape (P,)
    batch : Tensor of shape (b, 3, side, side)
    labels : Tensor, int64 of shape (n,) or floating point of shape (n, classes)
        Of all synthetic images.
    step : Step
    align_corners : bool
        See `elf.data.augmentation.apply`.
    """
    shown = augmentation.apply(batch, step.draw, align_corners=align_corners)  # (b, 3, side, side)
    return task_loss(network(student, shown), labels[step.indices])


def student_of(
    experts: Experts,
    settings: Mapping[str, object],
    network: str,
    *,
    classes: int,
    side: int,
    device: torch.device,
) -> FlatNetwork:
    """Return the experts' network as a function of its parameters.

    Raises
    ------
    ElfError
        If the experts are too few, of another network, or without a snapshot that the settings ask for.
    """
    # The weights are those of the experts, so those that the network is built with do not matter.
    built = build_network(network, classes=classes, side=side, generator=torch.Generator())
    split_batch_norm(built, int(settings.get("batch_norm_splits", 1)))
    student = FlatNetwork(built.to(device))
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
    size = experts.snapshot(0, needed[0], torch.device("cpu")).numel()
    if size != student.size:
        raise ElfError(f"the experts have {size} parameters, but {network} has {student.size}; give its own experts")
    return student


def state_of(learned: dict[str, Tensor], seed: int) -> loop.State:
    """Return what the updates change: what is learned, a velocity of images and of step size, and the streams."""
    velocities = {f"velocity.{name}": torch.zeros_like(learned[name]) for name in ("images", "step_size")}
    streams = {name: generator(seed, "distillation", name) for name in ("experts", "batches", "augmentation")}
    return loop.State(learned, velocities, streams)


def guards(method: str, network: str, settings: Mapping[str, object]) -> dict[str, object]:
    """Return in which limits the step size must stay, and what to do where a run has to be stopped."""
    return {
        "limits": {"step size": (0.0, LARGEST_STEP_SIZE * float(settings["lr_teacher"]))},
        "hint": f"{method} with {network} at lr_img {settings['lr_img']} and lr_lr {settings['lr_lr']}: lower lr_lr "
        "if the step size has left its limits, else lr_img; a loss of inf or nan at once can mean experts that stand "
        "still",
    }


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
