"""Herding: real images whose mean follows the mean of their class, the more the better.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 3.2 percentage points above random real images, mean of six
networks, one of which loses.
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from elf.distillation.shared.coreset import Progress, choose_by_pixels
from elf.distillation.shared.synthetic import RealImages, SyntheticSet


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str | None,
    seed: int,
    progress: Progress,
    checkpoint=None,
    selection: None = None,
) -> SyntheticSet:
    """Return ``ipc`` distinct real images of every class, chosen by herding on the pixels.

    Parameters
    ----------
    dataset, ipc
        As in `elf.distillation.dm.distill`.
    progress : callable (finished classes, number of classes, None)
    settings, network, seed, checkpoint, selection
        Not used: nothing is random.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images.
    """
    return choose_by_pixels(dataset, ipc, lambda vectors: herd(vectors, ipc), progress)


def herd(vectors: Tensor, count: int) -> Tensor:
    """Choose vectors one by one, each so that the mean of the chosen comes closest to the mean of all.

    Parameters
    ----------
    vectors : Tensor of shape (n, dimensions)
        Floating point, of mean zero.
    count : int
        At most n.

    Returns
    -------
    int64 Tensor of shape (count,)
        Distinct rows in the order of choice; the first of equally good ones.

    Notes
    -----
    Welling, "Herding Dynamical Weights to Learn", as it is used to choose examples: the largest inner
    product with what the mean still lacks, minus half the squared length of the vector, which herding
    itself takes to be the same for all.
    """
    lengths = vectors.square().sum(1)
    total = torch.zeros_like(vectors[0])
    chosen: list[Tensor] = []
    for _ in range(count):
        # |total + vector|² without what is the same for all.
        best = (lengths + 2 * (vectors @ total)).argmin()
        chosen.append(best)
        total += vectors[best]
        lengths[best] = torch.inf
    return torch.stack(chosen)
