"""What every distillation method takes and gives: real images in, a synthetic set out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elf.errors import ElfError


@dataclass(frozen=True)
class RealImages:
    """Training images as networks see them: the ``dataset`` argument of every distillation method.

    Attributes
    ----------
    images : Tensor of shape (n, 3, side, side)
        float32 in model-input space (normalised or whitened), on the device that distils.
    labels : Tensor of shape (n,)
        int64 class indices, on any device.
    classes : int
        Number of classes.
    """

    images: Tensor
    labels: Tensor
    classes: int


@dataclass(frozen=True)
class SyntheticSet:
    """A small set to train on instead of the real one, in class-major order.

    Attributes
    ----------
    images : Tensor of shape (n, 3, side, side)
        float32 in model-input space; not clamped.
    labels : Tensor of shape (n,) or (n, classes)
        int64 class indices, or float soft labels.
    extra : dict of str to float
        What else a method learned, for example ``step_size``.
    selection : dict or None
        How the state was chosen: ``rule``, ``update`` (after how many updates) and ``scores``, a pair (update,
        score) for each candidate. None for the state after the last update.
    """

    images: Tensor
    labels: Tensor
    extra: dict[str, float] = field(default_factory=dict)
    selection: dict | None = None


def indices_by_class(dataset: RealImages) -> list[Tensor]:
    """Return, for every class, the positions of its images, on the CPU."""
    labels = dataset.labels.cpu()
    return [torch.nonzero(labels == label).flatten() for label in range(dataset.classes)]


def sample(images: Tensor, members: Sequence[Tensor], batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw ``batch`` distinct images of every class, all of a class that has fewer.

    Parameters
    ----------
    images : Tensor of shape (n, ...)
    members : sequence of Tensor
        From :func:`indices_by_class`.
    batch : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    tuple of Tensor of shape (batch, ...)
        One for each class.
    """
    chosen = [own[torch.randperm(len(own), generator=generator)[:batch]] for own in members]
    return images[torch.cat(chosen).to(images.device)].split([len(own) for own in chosen])


def real_initialisation(dataset: RealImages, ipc: int, generator: torch.Generator) -> SyntheticSet:
    """Choose distinct real images of every class, uniformly at random.

    It is where DM, DSA, MTT and TESLA start (the first ``ipc`` of a permutation of the class, as in their
    official codes) and all that ``random`` does.

    Parameters
    ----------
    dataset : RealImages
    ipc : int
        Images per class.
    generator : torch.Generator
        On the CPU, for every device.

    Returns
    -------
    SyntheticSet
        ``classes * ipc`` copied images in class-major order, on the device of the dataset.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images.
    """
    chosen = []
    for label, members in enumerate(indices_by_class(dataset)):
        if len(members) < ipc:
            raise ElfError(
                f"class {label} has {len(members)} training images, fewer than ipc = {ipc}; "
                "lower ipc or use a dataset with more images per class"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:ipc]])
    labels = torch.arange(dataset.classes).repeat_interleave(ipc)
    device = dataset.images.device
    return SyntheticSet(dataset.images[torch.cat(chosen).to(device)], labels.to(device))
