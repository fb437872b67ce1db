"""Loss of trajectory matching, and its gradients: through the whole unroll, or in constant memory.

A student starts at the parameters of an expert, takes some steps of gradient descent on synthetic images, and is
compared with the expert some epochs later (Cazenavette et al., "Dataset Distillation by Matching Training
Trajectories"; Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from elf.data import augmentation
from elf.data.augmentation import Draw
from elf.networks.flat import FlatNetwork
from elf.objectives.task import task_loss


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


Gradient = Callable[..., Matching]


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
) -> Matching:
    """Return loss and gradients through all steps of the student (MTT); memory grows with their number.

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

    Returns
    -------
    Matching
    """
    images, step_size = images.detach().requires_grad_(), step_size.detach().requires_grad_()
    student = start.detach().requires_grad_()
    for step in steps:
        batch = _augmented(images.index_select(0, step.indices), step, align_corners)
        loss = task_loss(network(student, batch), labels[step.indices])
        (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
        student = student - step_size * gradient
    loss = (student - target).square().sum() / (start - target).square().sum()
    of_images, of_step_size = torch.autograd.grad(loss, (images, step_size))
    return Matching(loss.detach(), of_images, of_step_size)


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
    """Return the same loss, and its gradients with every state of the student taken for a constant (TESLA).

    That is the gradient of the unrolled loss with a stop-gradient on each state, not the gradient of
    :func:`unrolled`: the two agree for what the last step sees alone. With ``g_k`` the gradient of step k,
    ``G`` their sum, ``D = target - start`` and ``a`` the step size, the loss is ``|D + a G|^2 / |D|^2``, hence

        d loss / d image = 2 / |D|^2 * d/d image of the sum over k of (a D + a^2 G) . g_k
        d loss / d a     = 2 / |D|^2 * (D + a G) . G

    Parameters and result are those of :func:`unrolled`.
    """
    images, step_size = images.detach(), step_size.detach()

    def step_gradient(student: Tensor, step: Step, direction: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of a step, and that of its product with a direction for the images of the step."""
        # A function of its own, so that its graph is gone before the next one is built.
        parameters, batch = student.detach().requires_grad_(), images.index_select(0, step.indices).requires_grad_()
        loss = task_loss(network(parameters, _augmented(batch, step, align_corners)), labels[step.indices])
        # With a graph also where none is needed: without, PyTorch takes other kernels, whose rounding would lead
        # the second walk to other states than the first.
        (gradient,) = torch.autograd.grad(loss, parameters, create_graph=True)
        of_batch = None if direction is None else torch.autograd.grad(gradient @ direction, batch)[0]
        return gradient.detach(), of_batch

    student, total = start, torch.zeros_like(start)
    for step in steps:
        gradient, _ = step_gradient(student, step)
        total += gradient
        student = student - step_size * gradient

    distance = target - start
    scale = 2 / distance.square().sum()
    direction = scale * (step_size * distance + step_size.square() * total)
    student, of_images = start, torch.zeros_like(images)
    # The direction is known only at the end of the trajectory, so it is walked a second time, with the same draws
    # and through the same states. Keeping states or augmented batches would take memory for every step.
    for step in steps:
        gradient, of_batch = step_gradient(student, step, direction)
        of_images.index_add_(0, step.indices, of_batch)
        student = student - step_size * gradient
    residual = distance + step_size * total
    return Matching(residual.square().sum() * scale / 2, of_images, scale * (residual @ total))


def _augmented(batch: Tensor, step: Step, align_corners: bool) -> Tensor:
    return augmentation.apply(batch, step.draw, align_corners=align_corners)
