"""FrePo's ConvNet: widening blocks whose batch normalisation comes before the convolution (official code of FrePo)."""

import math

import torch
from torch import Tensor, nn

from elf.networks.split import SplitNetwork
from elf.specs.network import NetworkName, feature_shape

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal variable that is cut off at -2 and 2."""


class Conv2d(nn.Conv2d):
    """A convolution that starts as in Flax: see :func:`lecun_normal`."""

    def reset_parameters(self) -> None:
        """Draw new weights from PyTorch's global state."""
        lecun_normal(self.weight, self.bias)


class Linear(nn.Linear):
    """A linear layer that starts as in Flax: see :func:`lecun_normal`."""

    def reset_parameters(self) -> None:
        """Draw new weights from PyTorch's global state."""
        lecun_normal(self.weight, self.bias)


@torch.no_grad()
def lecun_normal(weight: Tensor, bias: Tensor) -> None:
    """Draw a weight, in place, from a truncated normal of variance 1 / fan in; the bias becomes zero.

    As JAX's ``lecun_normal``: cut off at two standard deviations of the normal that is cut, which is widened so
    that the variance is right afterwards.

    Parameters
    ----------
    weight : Tensor of shape (out, in, ...)
    bias : Tensor of shape (out,)
    """
    std = math.sqrt(1 / weight[0].numel()) / TRUNCATED_STD
    nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std)
    bias.zero_()


def build(name: NetworkName, *, classes: int, side: int) -> SplitNetwork:
    """Return three blocks of w, 2w and 4w channels and a linear layer, split after the last block.

    A block is a 3x3 convolution with bias, ReLU and average pooling. The flattened front output is what FrePo
    regresses on.

    Parameters
    ----------
    name : NetworkName
        Of the family ``"frepoconv"``. With the norm ``"bn"`` the second and the third block begin with a batch
        normalisation (eps 1e-5, new running average = 0.1 old + 0.9 batch); with ``"none"`` none does.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.

    Raises
    ------
    ElfError
        If the images are too small.
    """
    channels, height, width = feature_shape(name, side)
    layers: list[nn.Module] = []
    channels_in = 3
    for channels_out in (name.width, 2 * name.width, 4 * name.width):
        if name.norm == "bn" and layers:
            layers.append(nn.BatchNorm2d(channels_in, eps=1e-5, momentum=0.9))
        layers += [Conv2d(channels_in, channels_out, kernel_size=3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        channels_in = channels_out
    rear = nn.Sequential(nn.Flatten(), Linear(channels * height * width, classes))
    return SplitNetwork(nn.Sequential(*layers), rear)
