"""k-center: real images such that no image of their class is far from one of them.

At the scale ``laptop`` (CIFAR-10, 10 images per class): below random real images on each of the four networks that
were run: it picks outliers.
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
    """Return ``ipc`` distinct real images of every class, chosen farthest-first on the pixels.

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
    return choose_by_pixels(dataset, ipc, lambda vectors: farthest_first(vectors, ipc), progress)


def farthest_first(vectors: Tensor, count: int) -> Tensor:
    """Choose the vector nearest to the mean of all, then always the one farthest from those chosen so far.

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
    The greedy solution of k-center in Sener & Savarese, "Active Learning for Convolutional Neural Networks:
    A Core-Set Approach", Algorithm 1; where to start is our own choice.
    """
    lengths = vectors.square().sum(1)
    chosen = [lengths.argmin()]
    distances = torch.full_like(lengths, torch.inf)
    for _ in range(count - 1):
        latest = chosen[-1]
        to_latest = lengths + lengths[latest] - 2 * (vectors @ vectors[latest])
        distances = torch.minimum(distances, to_latest)
        distances[latest] = -torch.inf
        chosen.append(distances.argmax())
    return torch.stack(chosen)
