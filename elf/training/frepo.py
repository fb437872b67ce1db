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
from elf.training.checks import ROOM, impossible
from elf.training.protocol import Checkpoint
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
    streams = {"order": order_generator, "augmentation": augmentation_generator}
    finished = 0
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        finished = _restore(saved, network, moments, streams)

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
                if finished % STEPS_BETWEEN_CHECKS == 0 or finished == steps:
                    _check_finite(network, loss.detach(), finished, recipe.lr, lowest)
                if progress is not None:
                    progress(finished, steps, loss.detach())
            if checkpoint is not None:
                last = loss.detach()
                checkpoint.save_if_due(lambda: _state(network, moments, streams, finished, last, recipe.lr, lowest))  # noqa: B023


def _order(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the images of one pass, in batches of one size."""
    size = min(count, batch_size)
    return torch.randperm(count, generator=generator)[: count // size * size]


def _state(
    network: nn.Module,
    moments: dict[str, Tensor],
    streams: dict[str, torch.Generator],
    finished: int,
    loss: Tensor,
    lr: float,
    lowest: float,
) -> dict[str, Tensor]:
    """Collect all that a continued run needs, after a check that it is worth continuing."""
    _check_finite(network, loss, finished, lr, lowest)
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    state |= {f"adam.{name}": tensor for name, tensor in moments.items()}
    state |= {f"stream.{name}": stream.get_state() for name, stream in streams.items()}
    return state | {"finished": torch.tensor(finished)}


@torch.no_grad()
def _restore(
    saved: dict[str, Tensor], network: nn.Module, moments: dict[str, Tensor], streams: dict[str, torch.Generator]
) -> int:
    """Put everything into a saved state and return the number of finished steps."""
    for name, tensor in network.state_dict().items():
        tensor.copy_(saved[f"network.{name}"])
    for name, tensor in moments.items():
        tensor.copy_(saved[f"adam.{name}"])
    for name, stream in streams.items():
        stream.set_state(saved[f"stream.{name}"].cpu())
    return int(saved["finished"])


def _check_finite(network: nn.Module, loss: Tensor, finished: int, lr: float, lowest: float) -> None:
    state = [loss, *network.state_dict().values()]
    allowed = loss >= lowest - ROOM
    # One look at the device for all of it.
    if torch.stack([allowed, *(tensor.isfinite().all() for tensor in state)]).all():
        return
    if all(bool(tensor.isfinite().all()) for tensor in state):
        raise ElfError(impossible(loss.item(), lowest, f"step {finished}"))
    raise ElfError(
        f"training diverged: after step {finished} the loss is {loss.item()} or a weight is not finite (lr {lr}); "
        "lower the learning rate of the recipe, or look for non-finite values in the images and labels"
    )
