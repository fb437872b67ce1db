"""What FrePo minimises: how badly ridge regression on a synthetic set predicts the labels of real images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from elf.machine import device as devices
from elf.objectives.frepo import squared_loss


@dataclass(frozen=True, eq=False)
class MetaLoss:
    """The loss of a synthetic set and its parts; all of shape ().

    Attributes
    ----------
    total : Tensor
        ``regression + margin``.
    regression : Tensor
        Half the squared distance between predicted and true labels, averaged over the real images.
    margin : Tensor
        Minus the distance between the two largest entries of a synthetic label, at most 1/K, averaged.
    pivot : Tensor
        See :func:`predict`.
    """

    total: Tensor
    regression: Tensor
    margin: Tensor
    pivot: Tensor


def meta_loss(
    features: nn.Module,
    images: Tensor,
    labels: Tensor,
    real_images: Tensor,
    real_labels: Tensor,
    *,
    ridge: float,
    mirror: bool,
    precision: torch.dtype = torch.float32,
) -> MetaLoss:
    """Return the loss of a synthetic set, differentiable with respect to its images and labels.

    Parameters
    ----------
    features : nn.Module
        From images to feature maps, in a mode in which images do not see each other.
    images : Tensor of shape (n, 3, side, side)
    labels : Tensor of shape (n, classes)
        Synthetic labels, real-valued.
    real_images : Tensor of shape (m, 3, side, side)
        Pass the network in portions, without gradient.
    real_labels : Tensor of shape (m, classes)
        See `elf.objectives.frepo.centred_one_hot`.
    ridge, precision : float and torch.dtype
        See :func:`predict`.
    mirror : bool
        Whether the regression also has every synthetic image mirrored left-right, with the same label.
    """
    portion = devices.images_per_forward(real_images.device)
    with torch.no_grad():
        real_features = torch.cat([features(part).flatten(1) for part in real_images.split(portion)])
    shown = torch.cat([images, images.flip(3)]) if mirror else images
    targets = torch.cat([labels, labels]) if mirror else labels
    predictions, pivot = predict(real_features, features(shown).flatten(1), targets, ridge=ridge, precision=precision)
    regression = squared_loss(predictions, real_labels)
    margin = margin_loss(labels)
    return MetaLoss(regression + margin, regression.detach(), margin.detach(), pivot)


def predict(
    real_features: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    ridge: float,
    precision: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Predict labels by kernel ridge regression with the linear kernel of the features.

    ``K_ts (K_ss + lambda I)^-1 labels`` with ``lambda = ridge * trace(K_ss) / n``, by a Cholesky factorisation.
    The feature weights ``features' (K_ss + lambda I)^-1 labels`` are computed first, which saves the kernel
    ``K_ts`` of real and synthetic images.

    Parameters
    ----------
    real_features : Tensor of shape (m, d)
    features : Tensor of shape (n, d)
    labels : Tensor of shape (n, classes)
    ridge : float
    precision : torch.dtype
        Of the regression, unless that of the features is higher; float32 or float64. With more images than
        features, and a ridge as small as FrePo's, the rounding of float32 makes the factorisation fail.

    Returns
    -------
    predictions : Tensor of shape (m, classes)
    pivot : Tensor of float32, shape ()
        0 if all is well. Otherwise the first pivot, from 1 to n, that was not positive; the predictions are then
        meaningless. It is up to the caller to look, because looking makes a GPU wait.
    """
    dtype = torch.promote_types(features.dtype, precision)
    real_features, features, labels = (tensor.to(dtype) for tensor in (real_features, features, labels))
    kernel = features @ features.T
    strength = ridge * kernel.diagonal().mean()
    identity = torch.eye(len(kernel), dtype=dtype, device=kernel.device)
    factor, info = torch.linalg.cholesky_ex(kernel + strength * identity)
    weights = features.T @ torch.cholesky_solve(labels, factor)
    return real_features @ weights, info.detach().to(torch.float32)


def margin_loss(labels: Tensor) -> Tensor:
    """Return the mean over labels (n, K) of minus the distance of the two largest entries, at most 1/K.

    It has no gradient once the largest entry leads by 1/K.
    """
    largest = labels.topk(2, dim=1).values
    return -(largest[:, 0] - largest[:, 1]).clamp(max=1 / labels.shape[1]).mean()
