"""Adam as FrePo's networks are trained with it, on named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam


def moments(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what :func:`step` remembers: two averages for each tensor, and on the CPU the number of steps."""
    first = {f"first.{name}": torch.zeros_like(tensor, requires_grad=False) for name, tensor in tensors.items()}
    second = {f"second.{name}": torch.zeros_like(tensor, requires_grad=False) for name, tensor in tensors.items()}
    return first | second | {"steps": torch.zeros((), dtype=torch.int64)}


@torch.no_grad()
def step(
    tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor], memory: Mapping[str, Tensor], *, lr: float
) -> None:
    """Change tensors and memory in place by one step: betas 0.9 and 0.999, eps 1e-8, no weight decay.

    The function behind ``torch.optim.Adam``, whose constructor loads PyTorch's compiler.

    Parameters
    ----------
    tensors, gradients : dict of str to Tensor
    memory : dict of str to Tensor
        From :func:`moments`.
    lr : float
    """
    adam(
        list(tensors.values()),
        [gradients[name] for name in tensors],
        [memory[f"first.{name}"] for name in tensors],
        [memory[f"second.{name}"] for name in tensors],
        [],
        [memory["steps"].to(torch.float32, copy=True) for _ in tensors],
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=lr,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    memory["steps"].add_(1)
