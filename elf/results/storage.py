"""What it takes to store a set: bytes of its images and of a teacher's features."""

import math
from dataclasses import dataclass

CHANNELS = 3

IMAGE_BITS = {"8-bit pixels": 8, "float32": 32}
"""The two accountings of images. Hard labels are given by the order and count nothing."""


@dataclass(frozen=True)
class Storage:
    """Sizes of one image and of the feature map that goes with it.

    Attributes
    ----------
    side : int
        Height and width of an image in pixels.
    feature_shape : tuple of int
        Channels, height and width of the map; empty for images without features.
    """

    side: int
    feature_shape: tuple[int, ...] = ()

    @property
    def pixels(self) -> int:
        """Values of an image."""
        return CHANNELS * self.side**2

    @property
    def values(self) -> int:
        """Values of a feature map."""
        return math.prod(self.feature_shape) if self.feature_shape else 0

    def bytes(self, images: int, *, image_bits: int, feature_bits: float = 32) -> float:
        """Return the bytes of so many images with their features."""
        return images * (self.pixels * image_bits + self.values * feature_bits) / 8

    def break_even_bits(self, images: int, more: int, *, image_bits: int) -> float:
        """Return the bits of a feature's value at which features cost as much as ``more - images`` images.

        With fewer bits a value, ``images`` images and their features are smaller than ``more`` images alone.
        """
        return (more - images) * self.pixels * image_bits / (images * self.values)
