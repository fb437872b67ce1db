"""FrePo's own way to train a network on a synthetic set: Adam on the squared loss, for a number of steps.

From the official evaluation script; the rows of the FrePo paper, and FrePo's row in Table 1 of the ELF paper, are
measured with it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from elf.data.frepo_augmentation import augment
from elf.errors import ElfError
from elf.machine.device import to_device
from elf.machine.randomness import generator
from elf.specs.training import FrepoRecipe
from elf.training import adam
from elf.training.checks import check_network
from elf.training.course import Checkpoint, Course
from elf.training.step import Objective

STEPS = {10: 1000, 100: 2000, 200: 20000, 400: 5000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000}
"""Number of steps for each number of synthetic images; the official script knows no others."""

STEPS_BETWEEN_CHECKS = 500
"""How often a diverged training is looked for; each look makes a GPU wait for the host."""


def steps_for(recipe: FrepoRecipe, count: int) -> int:
    """Return the number of steps for a set of ``count`` images.

    Raises
    ------
    ElfError
        If neither the recipe nor the official table says how many.
    """
    if recipe.steps:
        return recipe.steps
    if count not in STEPS:
        raise ElfError(
            f"the FrePo protocol has no number of steps for a set of {count} images, only for "
            f"{', '.join(map(str, STEPS))}; give steps in config/recipes/frepo-evaluation.yaml or in the scale"
        )
    return STEPS[count]


def learning_rate(recipe: FrepoRecipe, step: int, steps: int) -> float:
    """Return the rate of step ``step`` of ``steps``: linear from 0, then a cosine that ends near its fraction."""
    if step < recipe.warmup_steps:
        return recipe.lr * step / recipe.warmup_steps
    part = (step - recipe.warmup_steps) / (steps - recipe.warmup_steps)
    low = recipe.lr_final_fraction
    return recipe.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: FrepoRecipe,
    *,
    objective: Objective,
    targets: None = None,
    order_generator: torch.Generator,
    augmentation_generator: torch.Generator,
    progress: Callable[[int, int, Tensor], None] | None = None,
    checkpoint: Checkpoint | None = None,
    lowest: float = 0.0,
) -> None:
    """Train a network in place; the arguments are those of `elf.training.protocol.train`.

    Each pass takes the images in a new order, in batches of ``recipe.batch_size``, all in one if there are not more;
    images that do not fill a last batch wait for another pass.

    Parameters
    ----------
    network : nn.Module
        On the device of the images.
    images : Tensor of shape (n, 3, side, side)
        In model-input space.
    labels : Tensor, int64 of shape (n,) or floating point of shape (n, classes)
    recipe : FrepoRecipe
    objective : callable (network, images, labels, targets) -> Tensor of shape ()
        The squared loss of `elf.objectives.frepo`.
    targets : None
        The protocol has no teacher.
    order_generator, augmentation_generator : torch.Generator
        On the CPU.
    progress : callable (finished steps, number of steps, loss of the last step) or None
    checkpoint : Checkpoint or None
        Looked at after every pass; an interrupted and continued run equals an uninterrupted one bit for bit.
    lowest : float
        What the loss cannot fall below, by its formula.

    Raises
    ------
    ElfError
        If the size of the set has no number of steps, or if the loss or a weight is no longer finite, or the loss
        below its lowest value.
    """
    steps = steps_for(recipe, len(images))
    if steps <= recipe.warmup_steps:
        raise ElfError(f"the FrePo protocol: {recipe.warmup_steps} warm-up steps leave none of {steps}; lower them")
    parameters = dict(network.named_parameters())
    moments = adam.moments(parameters)
    course = Course(
        tensors={f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        | {f"adam.{name}": tensor for name, tensor in moments.items()},
        streams={"order": order_generator, "augmentation": augmentation_generator},
        total=steps,
        every=STEPS_BETWEEN_CHECKS,
        check=lambda index, loss: check_network(network, loss, f"step {index + 1}", recipe.lr, lowest),
        progress=progress,
        checkpoint=checkpoint,
    )
    finished = int(course.resume().get("finished", 0))

    network.train()
    # Dropout can only draw from PyTorch's global state: it is set for each pass and given back at the end.
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        while finished < steps:
            torch.manual_seed(generator(order_generator.initial_seed(), "dropout", str(finished)).initial_seed())
            order = to_device(_order(len(images), recipe.batch_size, order_generator), images.device)
            for batch in order.split(min(len(images), recipe.batch_size))[: steps - finished]:
                shown = augment(images.index_select(0, batch), recipe.augmentation, augmentation_generator)
                loss = objective(network, shown, labels.index_select(0, batch), targets)
                gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
                adam.step(parameters, gradients, moments, lr=learning_rate(recipe, finished, steps))
                finished += 1
                course.advance(finished, loss.detach())
            course.keep(finished, loss.detach())


def _order(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the images of one pass, in batches of one size."""
    size = min(count, batch_size)
    return torch.randperm(count, generator=generator)[: count // size * size]
