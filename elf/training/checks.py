"""What stops a training: numbers that are not finite, a loss that its formula does not allow, parts that do not fit."""

import math

import torch
from torch import Tensor, nn

from elf.data.normalised import Images
from elf.errors import ElfError

ROOM = 1e-3
"""How far rounding may take a loss below its lowest value."""


def divergence(loss: float, weights_are_finite: bool, when: str, lr: float, lowest: float = 0.0) -> str | None:
    """Return what went wrong with a training after, say, ``pass 3``, and what to do; None if all is well."""
    if math.isfinite(loss) and weights_are_finite:
        return impossible(loss, lowest, when)
    what = f"a weight is not finite after {when}"
    if not math.isfinite(loss):
        what = f"the loss of {when} is {loss}"
    return (
        f"training diverged: {what} (lr {lr}); lower the learning rate of the recipe, "
        "or look for non-finite values in the images and targets"
    )


def impossible(loss: float, lowest: float, when: str) -> str | None:
    """Return what is wrong with a loss that its formula does not allow, with room for rounding; None if all is well."""
    if loss >= lowest - ROOM:
        return None
    return (
        f"training diverged: the loss of {when} is {loss:.6g}, below {lowest:g}, the lowest that its formula allows; "
        "the labels or targets are not what the objective is made for"
    )


def check_network(network: nn.Module, loss: Tensor, when: str, lr: float, lowest: float) -> None:
    """Raise an error if a training has diverged."""
    finite = torch.stack([tensor.isfinite().all() for tensor in network.state_dict().values()]).all()
    if (found := divergence(loss.item(), bool(finite), when, lr, lowest)) is not None:
        raise ElfError(found)


def check_lengths(images: Images, labels: Tensor, targets: Tensor | None) -> None:
    """Raise an error unless there is a label for each image, and a target if there are any."""
    lengths = {"images": len(images), "labels": len(labels)}
    if targets is not None:
        lengths["teacher targets"] = len(targets)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise ElfError(f"training needs one label and one teacher target an image, found {found}")
