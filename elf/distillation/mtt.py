"""Matching training trajectories (MTT): synthetic images on which a network learns what experts learn from real ones.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", as in the official code.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 11.0 percentage points above random real images, mean of six
networks, after eight minutes of one core (600 updates of 10 steps).
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from elf.distillation.shared import loop
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, real_initialisation
from elf.distillation.shared.trajectories import (
    Experts,
    Matching,
    Step,
    draw_segment,
    draw_steps,
    guards,
    loss_of,
    state_of,
    student_of,
)
from elf.distillation.tesla import constant_memory
from elf.machine.randomness import generator
from elf.networks.flat import FlatNetwork
from elf.specs.unrolling import steps_at_once


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str,
    seed: int,
    experts: Experts,
    progress: loop.Progress,
    checkpoint=None,
    selection: loop.Selection | None = None,
) -> SyntheticSet:
    """Distil a dataset by matching training trajectories.

    Parameters
    ----------
    dataset : RealImages
        Training images on the device that distils.
    settings : mapping
        ``iterations`` (index of the last update, as in the official loop), ``synthetic_steps`` of the student,
        ``expert_epochs`` that they are compared with, ``max_start_epoch`` (students start at an epoch below it),
        ``batch_syn`` (synthetic images a step; 0: all), ``lr_img``, ``lr_lr`` and ``momentum`` of plain SGD on
        pixels and step size, ``lr_teacher`` (first value of the step size), ``experts`` (how many are used),
        ``augmentation`` (DSA strategy, parameters drawn for each image), ``align_corners`` (grid convention, see
        `elf.data.augmentation.apply`), and ``gradient``: ``unrolled`` is the method; ``constant-memory`` is
        TESLA's gradient as a memory saver, **which is not the same gradient**, see
        `elf.distillation.tesla.constant_memory`. ``memory_budget_gb`` of the first says how many steps have a graph at
        once (all where it is left out), which changes results by rounding. A network with batch normalisation also
        takes ``batch_norm_splits``: into how many parts a step's batch is cut for it (1 where it is left out). The
        official code runs its student as ``torch.nn.DataParallel(student_net)``, with all parameters on every GPU.
    ipc : int
        Synthetic images per class; they start as distinct real images.
    network : str
        Name of the experts' network. Batch normalisation uses the statistics of the batch, or of each part of it.
    seed : int
        Determines everything that is random.
    experts : Experts
        Trajectories of the network on the real images.
    progress, checkpoint, selection
        See `elf.distillation.shared.loop.run`.

    Returns
    -------
    SyntheticSet
        With hard labels, and the learned ``step_size`` as an extra.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, if the experts are too few, of another network or without a
        snapshot that the settings ask for; if the loss or a pixel is not finite, or the step size is not
        between 0 and a hundred times its first value. Nothing is clamped.
    """
    device, side = dataset.images.device, dataset.images.shape[-1]
    student = student_of(experts, settings, network, classes=dataset.classes, side=side, device=device)
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images, labels = start.images, start.labels  # (n, 3, side, side), (n,)
    step_size = torch.tensor(float(settings["lr_teacher"]), device=device)  # ()
    state = state_of({"images": images, "step_size": step_size}, seed)
    gradient = GRADIENTS[settings["gradient"]]
    if gradient is unrolled:
        sizes = {"classes": dataset.classes, "side": side, "images": len(images), "train": len(dataset.labels)}
        gradient = partial(unrolled, at_once=steps_at_once(settings, network, **sizes))

    def update(_: int) -> dict[str, Tensor]:
        begin, target = draw_segment(experts, settings, state.streams["experts"], device)  # (P,), (P,)
        draws = (state.streams[name] for name in ("batches", "augmentation"))
        steps = draw_steps(len(images), side, settings, *draws, device)
        found = gradient(
            student, begin, target, images, labels, step_size, steps, align_corners=settings["align_corners"]
        )
        for name, of_it, lr in (("images", found.images, "lr_img"), ("step_size", found.step_size, "lr_lr")):
            velocity = state.memory[f"velocity.{name}"]
            loop.descend(state.learned[name], of_it, velocity, lr=settings[lr], momentum=settings["momentum"])
        return {"loss": found.loss, "step size": step_size}

    return loop.run(
        update,
        total=int(settings["iterations"]) + 1,
        state=state,
        result=lambda: SyntheticSet(images, labels, {"step_size": step_size.item()}),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        **guards("mtt", network, settings),
    )


def unrolled(
    network: FlatNetwork,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    steps: Sequence[Step],
    *,
    align_corners: bool,
    at_once: int | None = None,
) -> Matching:
    """Return the loss of one update, and its gradients through all steps of the student.

    Reverse-mode differentiation of the whole trajectory, in segments: their first states are kept, without graphs, and
    from the last segment to the first a graph is built anew, of one segment alone, and differentiated against what has
    come back so far. However the trajectory is cut, the gradients are the same but for rounding.

    Parameters
    ----------
    network : FlatNetwork
        In train mode.
    start, target : Tensor of shape (P,)
        Parameters of the expert, where the student starts and where it should end.
    images : Tensor of shape (n, 3, side, side)
    labels : Tensor, int64 of shape (n,) or floating point of shape (n, classes)
    step_size : Tensor of shape ()
    steps : sequence of Step
    align_corners : bool
        See `elf.data.augmentation.apply`.
    at_once : int or None
        Steps of which there is a graph at the same time; None for all.

    Returns
    -------
    Matching
    """
    images, step_size = images.detach().requires_grad_(), step_size.detach().requires_grad_()
    learned = (images, step_size)

    def walked(student: Tensor, segment: Sequence[Step]) -> Tensor:
        """Return the student (P,) after some steps, with a graph."""
        for step in segment:
            batch = images.index_select(0, step.indices)  # (b, 3, side, side)
            loss = loss_of(network, student, batch, labels, step, align_corners=align_corners)
            (gradient,) = torch.autograd.grad(loss, student, create_graph=True)  # (P,)
            student = student - step_size * gradient
        return student

    *earlier, last = segments(steps, at_once or len(steps))
    states = [start.detach().requires_grad_()]  # (P,) each, where a segment begins
    for segment in earlier:
        state = states[-1]
        for step in segment:
            # With a graph, which goes at once: without, PyTorch takes other kernels, whose rounding would lead to other
            # states than those of the graphs.
            state = walked(state, [step]).detach().requires_grad_()
        states.append(state)

    end = walked(states[-1], last)
    loss = (end - target).square().sum() / (start - target).square().sum()
    # Nobody asks for the gradient of the trajectory's own start.
    inputs = learned if not earlier else (*learned, states[-1])
    of_images, of_step_size, *incoming = torch.autograd.grad(loss, inputs)
    value = loss.detach()
    del end, loss  # and with them the graph
    for index in reversed(range(len(earlier))):
        inputs = learned if index == 0 else (*learned, states[index])
        more, further, *incoming = torch.autograd.grad(walked(states[index], earlier[index]), inputs, incoming)
        of_images += more
        of_step_size += further
    return Matching(value, of_images, of_step_size)


def segments(steps: Sequence[Step], at_once: int) -> list[Sequence[Step]]:
    """Cut steps into segments of ``at_once``; the first alone may have fewer, because the last is not redone."""
    first = len(steps) % at_once or at_once
    return [steps[:first], *(steps[begin : begin + at_once] for begin in range(first, len(steps), at_once))]


GRADIENTS = {"unrolled": unrolled, "constant-memory": constant_memory}
