"""The training protocol shared by evaluations, teachers and expert trajectories."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from elf.data.normalised import Images
from elf.machine.device import layout
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.objectives import task
from elf.specs.training import TrainingRecipe
from elf.training.checks import check_lengths, check_network
from elf.training.course import Checkpoint, Course
from elf.training.replayed import replayed
from elf.training.step import Batch, Objective, draw_order, empty_momenta, step, take_batch

PASSES_BETWEEN_CHECKS = 50
"""How often a diverged training is looked for; each look makes a GPU wait for the host."""


def train(
    network: nn.Module,
    images: Images,
    labels: Tensor,
    recipe: TrainingRecipe,
    *,
    objective: Objective = task.loss,
    targets: Tensor | None = None,
    order_generator: torch.Generator,
    augmentation_generator: torch.Generator,
    align_corners: bool = True,
    after_pass: Callable[[int], None] | None = None,
    progress: Callable[[int, int, Tensor], None] | None = None,
    checkpoint: Checkpoint | None = None,
    until_pass: int | None = None,
    lowest: float = 0.0,
) -> None:
    """Train a network in place (protocol of the official ELF code).

    Parameters
    ----------
    network : nn.Module
        On the device of the images.
    images : Tensor or NormalisedImages, shape (n, 3, side, side)
        In model-input space, on the device on which to train.
    labels : Tensor, int64 of shape (n,) or floating point of shape (n, classes)
    recipe : TrainingRecipe
    objective : callable (network, images, labels, targets) -> Tensor of shape ()
        Loss of a batch, from :mod:`elf.objectives`, with its settings bound by ``functools.partial``.
    targets : Tensor of shape (n, ...) or None
        What the teacher gives for each image: constant, never augmented.
    order_generator, augmentation_generator : torch.Generator
        On the CPU. Nothing but the order of the images and the augmentation is drawn from them, so that two
        objectives with generators of the same seeds see the same batches. Dropout masks follow from the
        seed of ``order_generator`` and the index of the pass.
    align_corners : bool
        Grid convention of the augmentation.
    after_pass : callable (index of the pass) or None
        Called after each pass. A run that continues from a checkpoint repeats the calls for the passes that
        it repeats.
    progress : callable (finished passes, number of passes, mean loss of the last pass) or None
        The loss is a tensor on the device; reading it makes a GPU wait.
    checkpoint : Checkpoint or None
        Where to continue from and to save to; an interrupted and continued run equals an uninterrupted
        one bit for bit.
    until_pass : int or None
        Stop once this many passes are complete; None for all passes of the recipe.
    lowest : float
        What the loss cannot fall below, by its formula; minus infinity if there is nothing.

    Raises
    ------
    ElfError
        If the loss or a weight is no longer finite, or the loss below its lowest value, looked at every 50 passes,
        before every checkpoint and at the end; or if images, labels and targets differ in number.
    """
    check_lengths(images, labels, targets)
    split_batch_norm(network, recipe.splits)
    network.to(memory_format=layout(images.device, recipe.memory_format))
    parameters = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    momenta = empty_momenta(parameters, recipe)

    def own_step(*batch: Tensor | None, lr: float) -> tuple[Tensor]:
        return (step(network, parameters, momenta, Batch(*batch), objective=objective, recipe=recipe, lr=lr),)

    make_step = replayed(own_step, network, images.device)
    passes = recipe.passes if until_pass is None else min(until_pass, recipe.passes)
    course = Course(
        tensors={f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        | {f"momentum.{name}": momentum for name, momentum in momenta.items()},
        streams={"order": order_generator, "augmentation": augmentation_generator},
        total=passes,
        every=PASSES_BETWEEN_CHECKS,
        check=lambda index, loss: check_network(network, loss, f"pass {index}", recipe.lr, lowest),
        progress=progress,
        checkpoint=checkpoint,
    )
    saved = course.resume()

    # Dropout can only draw from PyTorch's global state: it is set for each pass and given back at the end.
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        for pass_index in range(int(saved.get("finished", 0)), passes):
            dropout = generator(order_generator.initial_seed(), "dropout", str(pass_index))
            torch.manual_seed(dropout.initial_seed())
            network.train()
            loss = torch.zeros((), device=images.device)
            # In the middle of a pass its order is drawn again.
            before = {"stream.order": order_generator.get_state()}
            steps = draw_order(len(images), recipe.batch_size, order_generator, images.device)
            first_step = int(saved.get("step", 0))
            if first_step:
                loss += saved["loss"].to(loss.device)
                _restore_dropout(saved, images.device)
            for finished, positions in enumerate(steps[first_step:], start=first_step + 1):
                batch = take_batch(
                    images,
                    labels,
                    targets,
                    positions,
                    recipe.augmentation,
                    augmentation_generator,
                    align_corners=align_corners,
                )
                (batch_loss,) = make_step(*batch, lr=recipe.lr_of(pass_index))
                loss += batch_loss * (len(positions.here) / len(images))
                if finished < len(steps):
                    course.keep(pass_index, loss, partial(_inside, before, loss, finished), inside=True)
            saved = {}
            if pass_index == recipe.drop_after:
                # The official code makes a new optimiser for the lower rate, which forgets the momentum.
                for momentum in momenta.values():
                    momentum.zero_()

            course.advance(pass_index + 1, loss)
            if after_pass:
                after_pass(pass_index)
            course.keep(pass_index + 1, loss)


@torch.inference_mode()
def accuracy(network: nn.Module, images: Images, labels: Tensor, batch_size: int = 256) -> float:
    """Return the fraction of images whose largest logit is that of their label.

    Parameters
    ----------
    network : nn.Module
        Put in evaluation mode meanwhile; its training mode is restored.
    images : Tensor or NormalisedImages, shape (n, 3, side, side)
        In model-input space, not augmented.
    labels : int64 Tensor of shape (n,)
    batch_size : int

    Returns
    -------
    float
        Top-1 accuracy between 0 and 1.
    """
    was_training = network.training
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        correct += (network(images[batch]).argmax(dim=1) == labels[batch]).sum()
    network.train(was_training)
    return correct.item() / len(images)


def _inside(before: Mapping[str, Tensor], loss: Tensor, step: int) -> dict[str, Tensor]:
    """Return what a run that was killed inside a pass needs besides: its order's stream, its loss so far, its masks."""
    state = {**before, "loss": loss, "step": torch.tensor(step), "dropout": torch.get_rng_state()}
    return state | ({"dropout_cuda": torch.cuda.get_rng_state(loss.device)} if loss.device.type == "cuda" else {})


def _restore_dropout(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["dropout"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["dropout_cuda"], device)
