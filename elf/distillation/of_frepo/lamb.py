"""LAMB, the optimiser of FrePo: Adam whose step is as long as the tensor that it changes."""

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-6


@torch.no_grad()
def step(
    tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor], memory: Mapping[str, Tensor], *, lr: float
) -> None:
    """Change tensors and memory in place by one step.

    You et al. (2020, arXiv:1904.00962) as in Optax, which FrePo uses: with ``m`` and ``v`` the averages of the
    gradient and of its square, both corrected for their start at zero, the direction is
    ``m / (sqrt(v) + 1e-6)``, and the step ``lr * ||tensor|| / ||direction||`` times the direction; where either
    norm is zero, ``lr`` times the direction. No weight decay, and no bound on the ratio.

    Parameters
    ----------
    tensors, gradients : dict of str to Tensor
        Each tensor has a ratio of its own.
    memory : dict of str to Tensor
        From `elf.training.adam.moments`.
    lr : float
    """
    memory["steps"].add_(1)
    steps = int(memory["steps"])  # on the CPU: no device waits
    for name, tensor in tensors.items():
        first, second = memory[f"first.{name}"], memory[f"second.{name}"]
        first.lerp_(gradients[name], 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradients[name], gradients[name], value=1 - BETAS[1])
        mean, square = first / (1 - BETAS[0] ** steps), second / (1 - BETAS[1] ** steps)
        direction = mean / (square.sqrt() + EPSILON)
        length, norm = tensor.norm(), direction.norm()
        ratio = torch.where((length == 0) | (norm == 0), 1.0, length / norm)
        tensor.sub_(lr * ratio * direction)
