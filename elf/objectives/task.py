"""The baseline: train on the synthetic images and their labels alone."""

import math

from torch import Tensor, nn
from torch.nn import functional

from elf.specs.labels import CROSS_ENTROPY

LABEL = "baseline"
TAKES = CROSS_ENTROPY


def loss(network: nn.Module, images: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the task loss of a batch (Equation 8 of the ELF paper), the rows called "Baseline".

    Parameters
    ----------
    network : nn.Module
        Maps images to logits.
    images : Tensor of shape (B, 3, side, side)
        Augmented images in model-input space.
    labels : Tensor
        See :func:`task_loss`.
    targets : None
        Unused; every objective has the same four arguments.

    Returns
    -------
    Tensor of shape ()
    """
    return task_loss(network(images), labels)


def lowest(labels: Tensor, targets: Tensor | None = None) -> float:
    """Return a value that the loss does not fall below, whatever the network gives; minus infinity if there is none."""
    return lowest_cross_entropy(labels)


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy between logits and hard or real-valued labels, averaged over the batch.

    Parameters
    ----------
    logits : Tensor of shape (B, classes)
    labels : Tensor, int64 of shape (B,) or floating point of shape (B, classes)
        Hard labels, or label rows that enter as they are, ``-sum_k y_k log softmax(logits)_k``: probabilities, such as
        TESLA's. With negative entries, such as FrePo's, it has no lowest value, and ``TAKES`` has none.

    Returns
    -------
    Tensor of shape ()

    Notes
    -----
    The paper prints "KL" in Equations 7 and 8 and says in words that it is the cross-entropy.
    """
    return functional.cross_entropy(logits, labels)


def lowest_cross_entropy(targets: Tensor) -> float:
    """Return a value that cross-entropies with these targets do not fall below: 0, or none with negative targets."""
    return -math.inf if targets.is_floating_point() and bool((targets < 0).any()) else 0.0
