"""FrePo's own objective: the squared distance between logits and centred, possibly learned labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from elf.specs.labels import SQUARED

LABEL = "FrePo protocol"
TAKES = SQUARED
RECIPE = "frepo-evaluation"


def loss(network: nn.Module, images: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the loss that FrePo's official code trains networks with, during distillation and evaluation.

    Parameters
    ----------
    network : nn.Module
        Maps images to logits.
    images : Tensor of shape (B, 3, side, side)
        In model-input space.
    labels : Tensor, floating point of shape (B, classes) or int64 of shape (B,)
        Learned labels; hard ones are centred first, see :func:`centred_one_hot`.
    targets : None
        Unused; every objective has the same four arguments.

    Returns
    -------
    Tensor of shape ()
    """
    logits = network(images)
    return squared_loss(logits, labels if labels.is_floating_point() else centred_one_hot(labels, logits.shape[1]))


def lowest(labels: Tensor, targets: Tensor | None = None) -> float:
    """Return the value that the loss does not fall below."""
    return 0.0


def squared_loss(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return half the squared distance between two tensors of shape (n, classes), averaged over the rows."""
    return 0.5 * (predictions - labels).square().sum(1).mean()


def centred_one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels as FrePo has them: 1 - 1/K for the true class and -1/K for each of the others.

    Parameters
    ----------
    labels : Tensor of int64, shape (n,)
    classes : int
        K.

    Returns
    -------
    Tensor of float32, shape (n, K)
    """
    return functional.one_hot(labels, classes).to(torch.float32) - 1 / classes
