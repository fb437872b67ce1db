"""TESLA: trajectory matching whose memory does not grow with the number of steps, with soft labels.

Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", as in the official code.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 11.8 percentage points above random real images, mean of six
networks, with hard labels, after nine minutes of one core (450 updates of 10 steps).
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

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
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.flat import FlatNetwork

IMAGES_PER_LABELLING = 50
"""Images that get their soft labels together (official code)."""


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
    """Distil a dataset by TESLA.

    Parameters
    ----------
    settings : mapping
        As of `elf.distillation.mtt.distill` without ``gradient``, which is always that of constant memory, without
        ``batch_norm_splits`` (the official code gives every GPU a part of the parameters, so it can have run on one
        alone), and with ``soft_labels``: whether the labels of every update are the probabilities that the expert at
        the end of the matched segment gives to the synthetic images as they are (not augmented); otherwise they are
        hard. ``pixel_step``: ``official`` is what the official code subtracts, half of the derivative, see
        :func:`official_step`; ``derivative`` is the derivative of the loss, so that half of ``lr_img`` does the same.
    dataset, ipc, network, seed, experts, progress, checkpoint, selection
        As of `elf.distillation.mtt.distill`.

    Returns
    -------
    SyntheticSet
        With the learned ``step_size`` as an extra. Soft labels are those of the update that gave the images.

    Raises
    ------
    ElfError
        As `elf.distillation.mtt.distill`, and if soft labels are asked for with a batch-normalised network:
        snapshots hold no running statistics.
    """
    device, side, soft = dataset.images.device, dataset.images.shape[-1], bool(settings["soft_labels"])
    student = student_of(experts, settings, network, classes=dataset.classes, side=side, device=device)
    if soft and student.has_batch_norm:
        raise ElfError(
            f"soft labels come from a network in evaluation mode, but snapshots of {network} hold no running "
            "statistics of its batch normalisation; distil with an instance-normalised network or hard labels"
        )
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images, labels = start.images, start.labels  # (n, 3, side, side), (n,)
    step_size = torch.tensor(float(settings["lr_teacher"]), device=device)  # ()
    learned = {"images": images, "step_size": step_size}
    if soft:
        labels = learned["labels"] = functional.one_hot(labels, dataset.classes).to(images.dtype)  # (n, classes)
    state = state_of(learned, seed)
    gradient = PIXEL_STEPS[settings["pixel_step"]]

    def update(_: int) -> dict[str, Tensor]:
        begin, target = draw_segment(experts, settings, state.streams["experts"], device)  # (P,), (P,)
        if soft:
            labels.copy_(label_softly(student, target, images))
        draws = (state.streams[name] for name in ("batches", "augmentation"))
        steps = draw_steps(len(images), side, settings, *draws, device)
        found = gradient(
            student, begin, target, images, labels, step_size, steps, align_corners=settings["align_corners"]
        )
        for name, of_it, lr in (("images", found.images, "lr_img"), ("step_size", found.step_size, "lr_lr")):
            velocity = state.memory[f"velocity.{name}"]
            loop.descend(learned[name], of_it, velocity, lr=settings[lr], momentum=settings["momentum"])
        return {"loss": found.loss, "step size": step_size}

    return loop.run(
        update,
        total=int(settings["iterations"]) + 1,
        state=state,
        result=lambda: SyntheticSet(images, labels, {"step_size": step_size.item()}),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        **guards("tesla", network, settings),
    )


@torch.no_grad()
def label_softly(network: FlatNetwork, parameters: Tensor, images: Tensor) -> Tensor:
    """Return the probabilities that a network gives to images, shape (n, classes).

    Images are not augmented; the network is in evaluation mode and sees 50 of them at once.
    """
    portions = images.detach().split(IMAGES_PER_LABELLING)
    logits = [network(parameters, portion, training=False) for portion in portions]  # (50, classes) each
    return torch.cat(logits).softmax(dim=1)


def constant_memory(
    network: FlatNetwork,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    steps: Sequence[Step],
    *,
    align_corners: bool,
) -> Matching:
    """Return the loss of MTT, and its gradients with every state of the student taken for a constant.

    That is the gradient of the unrolled loss with a stop-gradient on each state, not the gradient of
    `elf.distillation.mtt.unrolled`: the two agree for what the last step sees alone. With ``g_k`` the gradient of step
    k, ``G`` their sum, ``D = target - start`` and ``a`` the step size, the loss is ``|D + a G|^2 / |D|^2``, hence

        d loss / d image = 2 / |D|^2 * d/d image of the sum over k of (a D + a^2 G) . g_k
        d loss / d a     = 2 / |D|^2 * (D + a G) . G

    Parameters and result are those of `elf.distillation.mtt.unrolled`.
    """
    images, step_size = images.detach(), step_size.detach()

    def step_gradient(student: Tensor, step: Step, direction: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of a step, and that of its product with a direction for the images of the step."""
        # A function of its own, so that its graph is gone before the next one is built.
        parameters, batch = student.detach().requires_grad_(), images.index_select(0, step.indices).requires_grad_()
        loss = loss_of(network, parameters, batch, labels, step, align_corners=align_corners)
        # With a graph also where none is needed: without, PyTorch takes other kernels, whose rounding would lead
        # the second walk to other states than the first.
        (gradient,) = torch.autograd.grad(loss, parameters, create_graph=True)  # (P,)
        of_batch = None if direction is None else torch.autograd.grad(gradient @ direction, batch)[0]
        return gradient.detach(), of_batch

    student, total = start, torch.zeros_like(start)  # (P,), (P,)
    for step in steps:
        gradient, _ = step_gradient(student, step)
        total += gradient
        student = student - step_size * gradient

    distance = target - start  # (P,)
    scale = 2 / distance.square().sum()
    direction = scale * (step_size * distance + step_size.square() * total)
    student, of_images = start, torch.zeros_like(images)  # (P,), (n, 3, side, side)
    # The direction is known only at the end of the trajectory, so it is walked a second time, with the same draws
    # and through the same states. Keeping states or augmented batches would take memory for every step.
    for step in steps:
        gradient, of_batch = step_gradient(student, step, direction)
        of_images.index_add_(0, step.indices, of_batch)
        student = student - step_size * gradient
    residual = distance + step_size * total
    return Matching(residual.square().sum() * scale / 2, of_images, scale * (residual @ total))


def official_step(*update, **settings) -> Matching:
    """Return loss and gradients as the official code does: that for the pixels is half of the derivative.

    ``distill.py`` multiplies what ``torch.autograd.grad`` returns by two and takes the first entry. It returns a tuple,
    which twice is a longer tuple, so that the factor 2 of the derivative of a square is lost. ``lr_img`` of its readme
    was tuned with that. The gradient for the step size is not concerned: there the loss itself is differentiated.

    Parameters and result are those of :func:`constant_memory`.
    """
    found = constant_memory(*update, **settings)
    return replace(found, images=found.images / 2)


PIXEL_STEPS = {"official": official_step, "derivative": constant_memory}
