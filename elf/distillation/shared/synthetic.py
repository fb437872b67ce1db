"""What every distillation method takes and gives: real images in, a synthetic set out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elf.data.normalised import Images, subset, take
from elf.errors import ElfError


@dataclass(frozen=True)
class RealImages:
    """Training images as networks see them: the ``dataset`` argument of every distillation method.

    Attributes
    ----------
    images : Tensor or NormalisedImages, shape (n, 3, side, side)
        float32 in model-input space (normalised or whitened), on the device that distils.
    labels : Tensor of shape (n,)
        int64 class indices, on any device.
    classes : int
        Number of classes.
    """

    images: Images
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


def hold_out(dataset: RealImages, per_class: int) -> tuple[RealImages, RealImages]:
    """Split off the last images of every class, on which synthetic sets can be compared without the test set.

    Parameters
    ----------
    dataset : RealImages
    per_class : int
        Images of each class to split off; with 0 the first set is the dataset itself, and the second is empty.

    Returns
    -------
    kept, held : RealImages
        Both in the order of the dataset.

    Raises
    ------
    ElfError
        If a class would be left without images.
    """
    held = torch.zeros(len(dataset.labels), dtype=torch.bool)
    for label, members in enumerate(indices_by_class(dataset)):
        if 0 < per_class >= len(members):
            raise ElfError(
                f"class {label} has {len(members)} training images, of which {per_class} cannot be held out; "
                "lower validation_per_class or use a dataset with more images per class"
            )
        held[members[len(members) - per_class :]] = True
    return (dataset if per_class == 0 else _where(dataset, ~held)), _where(dataset, held)


def _where(dataset: RealImages, mask: Tensor) -> RealImages:
    images = subset(dataset.images, mask.nonzero().flatten())
    return RealImages(images, dataset.labels[mask.to(dataset.labels.device)], dataset.classes)


def sample(images: Images, members: Sequence[Tensor], batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Draw ``batch`` distinct images of every class, all of a class that has fewer, when it is that class's turn.

    Parameters
    ----------
    images : Tensor or NormalisedImages, shape (n, ...)
    members : sequence of Tensor
        From :func:`indices_by_class`.
    batch : int
    generator : torch.Generator
        On the CPU.

    Yields
    ------
    Tensor of shape (batch, ...)
        One for each class, so that a method need not hold those of all.
    """
    for own in members:
        yield take(images, own[torch.randperm(len(own), generator=generator)[:batch]])


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
    return choose_real_images(
        dataset, ipc, lambda members: members[torch.randperm(len(members), generator=generator)[:ipc]]
    )


def choose_real_images(dataset: RealImages, ipc: int, choose: Callable[[Tensor], Tensor]) -> SyntheticSet:
    """Return a set of real images, copied, which a function chooses class by class.

    Parameters
    ----------
    dataset : RealImages
    ipc : int
        Images per class.
    choose : callable (positions of the images of a class) -> positions of ``ipc`` of them
        Called for one class after the other; all positions are on the CPU.

    Returns
    -------
    SyntheticSet
        ``classes * ipc`` images in class-major order, on the device of the dataset.

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
        chosen.append(choose(members))
    labels = torch.arange(dataset.classes).repeat_interleave(ipc)
    return SyntheticSet(take(dataset.images, torch.cat(chosen)), labels.to(dataset.images.device))
