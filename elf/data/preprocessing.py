"""From bytes to what networks see, and back: per-channel normalisation or ZCA whitening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.machine.device import to_device

CHUNK = 1024

# Mean and standard deviation per channel of pixels in [0, 1]. The official code of ELF, MTT and TESLA uses
# "cifar" for CIFAR-100 too, and its standard deviation is not the one of CIFAR-10's pixels (that one is
# "frepo-cifar10"); the official code of DC, DSA and DM normalises CIFAR-100 with "cifar100-dc".
CONSTANTS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100-dc": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "frepo-cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "frepo-cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "frepo-tiny-imagenet": ((0.4759, 0.4481, 0.3926), (0.2763, 0.2687, 0.2813)),
    "frepo-imagenet64": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    # Own choice: pixels from -1 to 1.
    "digits": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

WHITENED = {
    "zca": None,
    "frepo-cifar10-zca": "frepo-cifar10",
    "frepo-cifar100-zca": "frepo-cifar100",
    "frepo-tiny-imagenet-zca": "frepo-tiny-imagenet",
}
"""Normalisations that whiten: the constants with which FrePo standardises first, None for pixels as they are."""


@dataclass(frozen=True)
class Normalisation:
    """Per-channel standardisation: ``(pixels / 255 - mean) / std``.

    Parameters
    ----------
    mean, std : tuple of 3 floats
        Of pixels scaled to [0, 1]; ``Normalisation(*CONSTANTS["cifar"])``.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def transform(self, images: Tensor) -> Tensor:
        """Return uint8 ``images`` (n, 3, side, side) as normalised float32 of the same shape and device."""
        _require_bytes(images)
        mean, std = self._per_channel(images.device)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)

    def inverse(self, images: Tensor) -> Tensor:
        """Return normalised ``images`` (n, 3, side, side) in the space of pixels in [0, 1], unclipped."""
        mean, std = self._per_channel(images.device)
        return images.to(torch.float32) * std + mean

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the constants as named tensors, for storage; ``from_tensors`` reads them back exactly."""
        return {
            "mean": torch.tensor(self.mean, dtype=torch.float64),
            "std": torch.tensor(self.std, dtype=torch.float64),
        }

    def _per_channel(self, device: torch.device) -> tuple[Tensor, Tensor]:
        constants = to_device(torch.tensor([self.mean, self.std], dtype=torch.float32), device)
        return constants[0].view(3, 1, 1), constants[1].view(3, 1, 1)


@dataclass(frozen=True, eq=False)
class ZCA:
    """ZCA whitening of flattened images: ``(pixels / 255 - mean) @ matrix``.

    Parameters
    ----------
    mean : Tensor of float32, shape (3 * side * side,)
        Mean training image, pixels in [0, 1], flattened channels first.
    matrix, inverse_matrix : Tensor of float32, shape (3 * side * side, 3 * side * side)
        The whitening transform and its inverse. Symmetric where pixels are whitened as they are; where they are
        standardised first, the division by the standard deviations is part of the transform.
    """

    mean: Tensor
    matrix: Tensor
    inverse_matrix: Tensor

    def transform(self, images: Tensor) -> Tensor:
        """Return uint8 ``images`` (n, 3, side, side) as whitened float32 of the same shape and device."""
        _require_bytes(images)
        mean, matrix = self.mean.to(images.device), self.matrix.to(images.device)
        whitened = torch.empty(len(images), len(mean), dtype=torch.float32, device=images.device)
        for pixels, out in zip(images.split(CHUNK), whitened.split(CHUNK), strict=True):
            flat = pixels.flatten(1).to(torch.float32).div_(255).sub_(mean)
            torch.mm(flat, matrix, out=out)
        return whitened.view(images.shape)

    def inverse(self, images: Tensor) -> Tensor:
        """Return whitened ``images`` (n, 3, side, side) in the space of pixels in [0, 1], unclipped."""
        mean, matrix = self.mean.to(images.device), self.inverse_matrix.to(images.device)
        parts = [part.flatten(1).to(torch.float32) @ matrix + mean for part in images.split(CHUNK)]
        return torch.cat(parts).view(images.shape)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return mean and both matrices as named tensors, for storage."""
        return {"zca_mean": self.mean, "zca_matrix": self.matrix, "zca_inverse": self.inverse_matrix}


def normalisation(name: str) -> Normalisation:
    """Return the normalisation with the constants ``CONSTANTS[name]``.

    Raises
    ------
    ElfError
        If there are no constants of that name.
    """
    if name not in CONSTANTS:
        raise ElfError(f"normalisation {name!r} is unknown; allowed are {', '.join(CONSTANTS)}")
    return Normalisation(*CONSTANTS[name])


def fit(name: str, train: Tensor) -> Normalisation | ZCA:
    """Return the preprocessing of this name, fitted on ``train`` (n, 3, side, side) of uint8 if it whitens.

    Raises
    ------
    ElfError
        If there is none of that name, or if there are too few images to whiten.
    """
    if name not in WHITENED:
        return normalisation(name)
    constants = WHITENED[name]
    return fit_zca(train) if constants is None else fit_frepo_zca(train, normalisation(constants))


def fit_zca(train: Tensor, *, epsilon: float = 0.1) -> ZCA:
    """Fit ZCA whitening as the official code of MTT, TESLA and ELF does, in float64.

    With pixels in [0, 1], not normalised before, and the covariance ``C = Xc' Xc / (n - 1) = U diag(l) U'``
    of the centred, flattened images: ``matrix = U diag((l + epsilon)^(-1/2)) U'``.

    Parameters
    ----------
    train : Tensor of uint8, shape (n, 3, side, side)
        Training images, at least 2. The work happens on their device; memory beside them is about
        six matrices of (3 * side * side)^2 float64.
    epsilon : float
        Added to every eigenvalue.

    Returns
    -------
    ZCA
        On the device of ``train``.

    Raises
    ------
    ElfError
        If there are fewer than 2 images.
    """
    mean, scatter = _mean_and_scatter(train)
    eigenvalues, vectors = torch.linalg.eigh(scatter.div_(len(train) - 1))
    scale = (eigenvalues + epsilon).sqrt()
    return ZCA(
        mean=mean.float(),
        matrix=((vectors / scale) @ vectors.T).float(),
        inverse_matrix=((vectors * scale) @ vectors.T).float(),
    )


def fit_frepo_zca(train: Tensor, constants: Normalisation, *, ratio: float = 0.1) -> ZCA:
    """Fit the whitening of the official code of FrePo, in float64.

    With the covariance ``C = Xc' Xc / n`` of the images standardised by ``constants``, centred and flattened to
    ``d`` values, and ``C + ratio * trace(C) / d * I = U diag(l) U'``: ``U diag(l^(-1/2)) U'``. With fewer images
    than ``d``, the values ``l^(-1/2)`` of directions in which no training image deviates are replaced by 1: those
    after the ``n - 1`` largest of ``l``. (The official code spares one more, some direction among them.)

    Parameters
    ----------
    train : Tensor of uint8, shape (n, 3, side, side)
        Training images, at least 2. Memory as for :func:`fit_zca`.
    constants : Normalisation
    ratio : float
        Of what is added to every eigenvalue to their mean.

    Returns
    -------
    ZCA
        Of pixels in [0, 1], on the device of ``train``: the mean of the constants drops out of the centred images,
        and the division by their standard deviations is part of the matrix.

    Raises
    ------
    ElfError
        If there are fewer than 2 images.
    """
    mean, scatter = _mean_and_scatter(train)
    std = torch.tensor(constants.std, dtype=torch.float64, device=train.device).repeat_interleave(len(mean) // 3)
    covariance = scatter.div_(len(train)).div_(std).div_(std[:, None])
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    scale = (eigenvalues + ratio * eigenvalues.mean()).sqrt()
    if len(train) < len(scale):
        scale[: len(scale) - (len(train) - 1)] = 1  # they ascend
    return ZCA(
        mean=mean.float(),
        matrix=(((vectors / scale) @ vectors.T) / std[:, None]).float(),
        inverse_matrix=(((vectors * scale) @ vectors.T) * std).float(),
    )


def _mean_and_scatter(train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) of flattened pixels in [0, 1] and the sum (d, d) of the products of what deviates."""
    _require_bytes(train)
    if len(train) < 2:
        raise ElfError(f"ZCA whitening: found {len(train)} training image(s), at least 2 are needed")
    flat = train.flatten(1)
    # Sums of bytes are exact in int64, so the mean does not depend on the chunks.
    total = sum(chunk.sum(0, dtype=torch.int64) for chunk in flat.split(CHUNK))
    mean = total.to(torch.float64) / (255 * len(flat))
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=train.device)
    for chunk in flat.split(CHUNK):
        centred = chunk.to(torch.float64) / 255 - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter


def from_tensors(tensors: dict[str, Tensor]) -> Normalisation | ZCA:
    """Return the preprocessing that ``to_tensors`` wrote; other tensors in the dictionary are ignored.

    Raises
    ------
    ElfError
        If neither set of names is complete.
    """
    if {"mean", "std"} <= tensors.keys():
        return Normalisation(tuple(tensors["mean"].tolist()), tuple(tensors["std"].tolist()))
    if {"zca_mean", "zca_matrix", "zca_inverse"} <= tensors.keys():
        return ZCA(tensors["zca_mean"], tensors["zca_matrix"], tensors["zca_inverse"])
    raise ElfError(
        f"preprocessing: found tensors {', '.join(sorted(tensors)) or 'none'}; "
        "expected mean and std, or zca_mean, zca_matrix and zca_inverse"
    )


def _require_bytes(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4:
        found = f"{images.dtype} of shape {tuple(images.shape)}"
        raise ValueError(f"images are {found}, expected torch.uint8 of shape (n, 3, side, side)")
