"""Real images as networks see them: all at once, or bytes in a file that become model inputs when they are used."""

import torch
from torch import Tensor

from elf.data.preprocessing import ZCA, Normalisation
from elf.machine.device import to_device

LARGEST_RESIDENT = {"cpu": 2**30, "cuda": 2**33}
"""Bytes of float32 that stay on a device at once. CIFAR has 0.6 GB, Tiny ImageNet 4.9 GB, ImageNet at 64x64 63 GB."""


class NormalisedImages:
    """Images that are stored as bytes, for example in a mapped file, and normalised when they are taken.

    It stands where a float32 tensor of shape (n, 3, side, side) stands for smaller datasets, with the same values
    bit for bit: what is taken of it is a tensor on its device.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (N, 3, side, side)
        On the CPU.
    preprocessing : Normalisation
        Channel by channel; whitening mixes pixels, and its sums would be rounded otherwise in parts.
    device : torch.device
        Where the images are used.
    chosen : Tensor of int64, shape (n,), optional
        Positions among the pixels, on the CPU; all by default.
    """

    dtype = torch.float32

    def __init__(
        self, pixels: Tensor, preprocessing: Normalisation, device: torch.device, chosen: Tensor | None = None
    ) -> None:
        self.device = device
        self._pixels, self._preprocessing, self._chosen = pixels, preprocessing, chosen

    def __len__(self) -> int:
        return len(self._pixels if self._chosen is None else self._chosen)

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor that it stands for."""
        return torch.Size((len(self), *self._pixels.shape[1:]))

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Return the images at positions (int64, shape (m,), best on the CPU) or in a slice, float32 on the device."""
        if isinstance(index, Tensor):
            index = index.cpu()
        if self._chosen is not None:
            index = self._chosen[index]
        pixels = self._pixels[index] if isinstance(index, slice) else self._pixels.index_select(0, index)
        return self._preprocessing.transform(to_device(pixels, self.device))

    def subset(self, positions: Tensor) -> "NormalisedImages":
        """Return the images at positions (int64, shape (m,)); nothing is copied."""
        positions = positions.cpu()
        chosen = positions if self._chosen is None else self._chosen[positions]
        return NormalisedImages(self._pixels, self._preprocessing, self.device, chosen)


Images = Tensor | NormalisedImages


def normalised(pixels: Tensor, preprocessing: Normalisation | ZCA, device: torch.device) -> Images:
    """Return images in model-input space: a float32 tensor on the device, unless that would be too large.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (n, 3, side, side)
        On the CPU.
    preprocessing : Normalisation or ZCA
        Whitened images are always a tensor.
    device : torch.device

    Returns
    -------
    Tensor or NormalisedImages
    """
    fits = pixels.numel() * 4 <= LARGEST_RESIDENT.get(device.type, 0)
    if fits or isinstance(preprocessing, ZCA):
        return preprocessing.transform(pixels.to(device))
    return NormalisedImages(pixels, preprocessing, device)


def take(images: Images, positions: Tensor) -> Tensor:
    """Return the images at positions (int64, shape (m,), on the CPU) as a tensor on the device of the images."""
    # Positions that went to a GPU would have to come back for images that lie in a file, and wait for it.
    return images[to_device(positions, images.device)] if isinstance(images, Tensor) else images[positions]


def subset(images: Images, positions: Tensor) -> Images:
    """Return some images, in the order of the positions (int64, shape (m,), on the CPU), without reading files."""
    return images[positions.to(images.device)] if isinstance(images, Tensor) else images.subset(positions)
