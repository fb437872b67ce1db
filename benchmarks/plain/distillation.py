"""Steps of DM, DSA, MTT and TESLA as the published scripts take them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from elf.data import augmentation
from elf.data.augmentation import Draw

Streams = Mapping[str, torch.Generator]


def classes(
    images: Tensor, real: Tensor, members: Sequence[Tensor], batch_real: int, streams: Streams
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, class by class, random real and all synthetic images after one siamese augmentation."""
    ipc = len(images) // len(members)
    for label, own in enumerate(members):
        chosen = own[torch.randperm(len(own), generator=streams["batches"])[:batch_real]]
        draw = augmentation.draw(augmentation.STRATEGY, 1, images.shape[-1], streams["augmentation"])
        both = real[chosen], images[label * ipc : (label + 1) * ipc]
        yield tuple(augmentation.apply(batch, draw, align_corners=False) for batch in both)


def dm_step(
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    real: Tensor,
    members: Sequence[Tensor],
    *,
    batch_real: int,
    new_network: Callable[[], nn.Module],
    streams: Streams,
) -> None:
    """Change synthetic images (classes * ipc, 3, side, side) by one step of distribution matching."""
    network = new_network().train()
    for parameter in network.parameters():
        parameter.requires_grad = False
    loss = torch.tensor(0.0, dtype=images.dtype, device=images.device)
    for own_real, own_synthetic in classes(images, real, members, batch_real, streams):
        target = network.front(own_real).flatten(1).detach()
        matched = network.front(own_synthetic).flatten(1)
        loss += torch.sum((torch.mean(target, dim=0) - torch.mean(matched, dim=0)) ** 2)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    loss.item()


def dsa_step(
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    real: Tensor,
    members: Sequence[Tensor],
    *,
    batch_real: int,
    new_network: Callable[[], nn.Module],
    streams: Streams,
) -> None:
    """Change synthetic images by one matching step of DSA with the distance ``ours``, on a new network."""
    network = new_network().train()
    parameters = list(network.parameters())
    loss = torch.tensor(0.0, dtype=images.dtype, device=images.device)
    for label, (own_real, own_synthetic) in enumerate(classes(images, real, members, batch_real, streams)):
        real_labels = torch.full((len(own_real),), label, device=images.device)
        loss_real = F.cross_entropy(network(own_real), real_labels)
        of_real = [gradient.detach().clone() for gradient in torch.autograd.grad(loss_real, parameters)]
        loss_synthetic = F.cross_entropy(network(own_synthetic), real_labels[:1].expand(len(own_synthetic)))
        of_synthetic = torch.autograd.grad(loss_synthetic, parameters, create_graph=True)
        loss += sum(row_distance(one, other) for one, other in zip(of_real, of_synthetic, strict=True))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    loss.item()


def row_distance(real: Tensor, synthetic: Tensor) -> Tensor | float:
    if real.dim() == 1:
        return 0.0
    real, synthetic = real.flatten(1), synthetic.flatten(1)
    norms = torch.norm(real, dim=-1) * torch.norm(synthetic, dim=-1)
    return torch.sum(1 - torch.sum(real * synthetic, dim=-1) / (norms + 1e-6))


def logits_of(network: nn.Module, parameters: Tensor, images: Tensor) -> Tensor:
    """Return the logits of a network whose parameters are a vector."""
    named, start = {}, 0
    for name, parameter in network.named_parameters():
        named[name] = parameters[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    return functional_call(network, named, (images,))


def mtt_gradients(
    network: nn.Module,
    begin: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    steps: Sequence[tuple[Tensor, Draw]],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the matching loss of MTT for the images and for the step size."""
    images, step_size = images.detach().requires_grad_(), step_size.detach().requires_grad_()
    student = [begin.detach().requires_grad_()]
    for indices, draw in steps:
        batch = augmentation.apply(images[indices], draw, align_corners=True)
        loss = F.cross_entropy(logits_of(network, student[-1], batch), labels[indices])
        gradient = torch.autograd.grad(loss, student[-1], create_graph=True)[0]
        student.append(student[-1] - step_size * gradient)
    count = begin.numel()
    distance = F.mse_loss(student[-1], target, reduction="sum") / count
    start = F.mse_loss(begin, target, reduction="sum") / count
    (distance / start).backward()
    return images.grad, step_size.grad


def tesla_gradients(
    network: nn.Module,
    begin: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    steps: Sequence[tuple[Tensor, Draw]],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the loss of TESLA; the augmented batches and the states are kept, as published."""
    images = images.detach().requires_grad_()
    states, batches, total = [begin.detach()], [], torch.zeros_like(begin)
    for indices, draw in steps:
        batches.append(augmentation.apply(images[indices], draw, align_corners=True))
        state = states[-1].detach().requires_grad_()
        loss = F.cross_entropy(logits_of(network, state, batches[-1].detach()), labels[indices])
        gradient = torch.autograd.grad(loss, state)[0].detach()
        total += gradient
        states.append(states[-1] - step_size * gradient)
    distance = target - begin
    scale = 2 / distance.square().sum()
    of_images = torch.zeros_like(images)
    for (indices, _), batch, state in zip(steps, batches, states[:-1], strict=True):
        state = state.detach().requires_grad_()
        loss = F.cross_entropy(logits_of(network, state, batch), labels[indices])
        gradient = torch.autograd.grad(loss, state, create_graph=True)[0]
        product = scale * torch.sum((step_size * distance + step_size**2 * total) * gradient)
        of_images += torch.autograd.grad(product, images)[0]
    return of_images, scale * torch.sum((distance + step_size * total) * total)
