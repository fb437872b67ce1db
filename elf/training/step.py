"""One step of the training protocol: its batch, its loss and its update, without a word from the device to the host."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from elf.data.augmentation import augment
from elf.data.normalised import Images
from elf.machine.device import layout, to_device
from elf.specs.training import TrainingRecipe

Objective = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


class Batch(NamedTuple):
    """What a step sees.

    Attributes
    ----------
    images : Tensor of shape (B, 3, side, side)
        Augmented.
    labels : Tensor, int64 of shape (B,) or floating point of shape (B, classes)
    targets : Tensor of shape (B, ...) or None
    """

    images: Tensor
    labels: Tensor
    targets: Tensor | None


class Positions(NamedTuple):
    """Which images a batch consists of: int64 of shape (B,), on the CPU and on the device of the images."""

    here: Tensor
    there: Tensor


def draw_order(count: int, batch_size: int, generator: torch.Generator, device: torch.device) -> list[Positions]:
    """Draw the order of a pass and cut it into batches, the last of which may be smaller.

    Parameters
    ----------
    count : int
        Number of images.
    batch_size : int
    generator : torch.Generator
        On the CPU.
    device : torch.device
        To which the whole order is sent at once.
    """
    order = torch.randperm(count, generator=generator)
    sent = to_device(order, device)
    return list(map(Positions, order.split(batch_size), sent.split(batch_size)))


def take_batch(
    images: Images,
    labels: Tensor,
    targets: Tensor | None,
    positions: Positions,
    augmentation: str,
    generator: torch.Generator,
    *,
    align_corners: bool = True,
) -> Batch:
    """Return the images at some positions, augmented, with labels and targets; see `elf.training.protocol.train`."""
    # Images that lie in a file are found by positions on the CPU.
    chosen = images.index_select(0, positions.there) if isinstance(images, Tensor) else images[positions.here]
    return Batch(
        augment(chosen, augmentation, generator, align_corners=align_corners),
        labels.index_select(0, positions.there),
        None if targets is None else targets.index_select(0, positions.there),
    )


def step(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    momenta: Mapping[str, Tensor],
    batch: Batch,
    *,
    objective: Objective,
    recipe: TrainingRecipe,
    lr: float,
) -> Tensor:
    """Make one step of gradient descent in place and return the loss of the batch before it, detached.

    Nothing in it depends on numbers of the device, so that it is one graph of operations: it can be captured once and
    replayed for all batches of the same size at the same rate.

    Parameters
    ----------
    network : nn.Module
        In training mode and in the layout of the recipe.
    parameters, momenta : dict of str to Tensor
        Those of the network that learn, and what :func:`empty_momenta` returned for them.
    batch : Batch
    objective, recipe
        See `elf.training.protocol.train`.
    lr : float
        Learning rate.

    Returns
    -------
    Tensor of shape ()
    """
    images = batch.images.contiguous(memory_format=layout(batch.images.device, recipe.memory_format))
    with arithmetic(recipe, images.device):
        loss = objective(network, images, batch.labels, batch.targets)
    descend(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True), momenta, recipe, lr)
    return loss.detach()


def arithmetic(recipe: TrainingRecipe, device: torch.device) -> AbstractContextManager:
    """Return the context in which the forward pass and the loss are computed in the precision of the recipe."""
    return nullcontext() if recipe.precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def empty_momenta(parameters: Mapping[str, Tensor], recipe: TrainingRecipe) -> dict[str, Tensor]:
    """Return the momenta of a training that begins; none without momentum."""
    if not recipe.momentum:
        return {}
    return {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in parameters.items()}


@torch.no_grad()
def descend(
    parameters: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    momenta: Mapping[str, Tensor],
    recipe: TrainingRecipe,
    lr: float,
) -> None:
    """Change parameters and momenta in place by one step of SGD; what has no gradient stays as it is.

    The function behind ``torch.optim.SGD`` rather than the class, whose constructor loads PyTorch's compiler:
    that takes a second, a third of what a short evaluation needs to start.
    """
    named = zip(parameters.items(), gradients, strict=True)
    moved = [(name, tensor, gradient) for (name, tensor), gradient in named if gradient is not None]
    sgd(
        [tensor for _, tensor, _ in moved],
        [gradient for *_, gradient in moved],
        [momenta.get(name) for name, *_ in moved],
        lr=lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        dampening=0,
        nesterov=False,
        maximize=False,
    )
