"""A 3x3 convolution that is one matrix product where a CPU is faster so: many channels on small maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from elf.machine import device as devices

POSITIONS = 16
"""Largest map that is small, in pixels of the output."""
WEIGHTS = 2**20
"""Smallest number of weights that are many."""

# With 512 channels on 4x4 maps the kernels that PyTorch has for convolutions on a CPU reach two thirds of the rate of a
# matrix product, on 2x2 maps a quarter; with 256 channels, or on 8x8 maps, they are the faster way.


class Convolution(nn.Conv2d):
    """A Conv2d with kernels of 3x3 pixels and one pixel of padding.

    Parameters
    ----------
    channels_in, channels : int
    stride : int
    bias : bool
    """

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__(channels_in, channels, kernel_size=3, stride=stride, padding=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve maps of shape (n, channels_in, height, width)."""
        height, width = ((side - 1) // self.stride[0] + 1 for side in maps.shape[2:])
        small = height * width <= POSITIONS and self.weight.numel() >= WEIGHTS
        # What torch.func transforms it does not take through strides.
        if not small or torch._C._are_functorch_transforms_active() or not devices.multiplies_patches(maps):
            return super().forward(maps)
        return self._multiply(maps, height, width)

    def _multiply(self, maps: Tensor, height: int, width: int) -> Tensor:
        padded = functional.pad(maps.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
        image, row, pixel, channel = padded.stride()
        step = self.stride[0]
        shape = len(maps), height, width, *self.kernel_size, self.in_channels
        patches = padded.as_strided(shape, (image, step * row, step * pixel, row, pixel, channel))
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        products = functional.linear(patches.reshape(-1, weight.shape[1]), weight, self.bias)
        return products.view(len(maps), height, width, -1).permute(0, 3, 1, 2)
