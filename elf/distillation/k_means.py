"""k-means: the real image nearest to the centre of each cluster of its class."""

from collections.abc import Mapping

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from elf.distillation.shared.coreset import Progress, choose_by_pixels
from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.machine.randomness import generator


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
    """Return ``ipc`` distinct real images of every class, one for each cluster of the pixels.

    Parameters
    ----------
    dataset, ipc
        As in `elf.distillation.dm.distill`.
    settings : mapping
        ``starts`` (of k-means with other first centres; the tightest clusters are taken).
    seed : int
        Determines the first centres.
    progress : callable (finished classes, number of classes, None)
    network, checkpoint, selection
        Not used.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images.
    """
    stream = generator(seed, "distillation", "k-means")

    def choose(vectors: Tensor) -> Tensor:
        random_state = int(torch.randint(2**31, (), generator=stream))
        return nearest_to_centres(vectors, ipc, starts=int(settings["starts"]), random_state=random_state)

    return choose_by_pixels(dataset, ipc, choose, progress)


def nearest_to_centres(vectors: Tensor, count: int, *, starts: int, random_state: int) -> Tensor:
    """Cluster vectors and choose, for one centre after the other, the nearest vector that is not chosen yet.

    Parameters
    ----------
    vectors : Tensor of shape (n, dimensions)
        Floating point.
    count : int
        Clusters, at most n.
    starts, random_state : int
        See `sklearn.cluster.KMeans`, ``n_init``.

    Returns
    -------
    int64 Tensor of shape (count,)
        Distinct rows, on the CPU.
    """
    vectors = vectors.cpu()
    # With several threads the order of summation, and so the rounding, differs from run to run.
    with threadpool_limits(1):
        clusters = KMeans(count, n_init=starts, random_state=random_state).fit(vectors.float().numpy())
    distances = torch.cdist(torch.from_numpy(clusters.cluster_centers_).to(vectors), vectors)
    chosen: list[Tensor] = []
    for own in distances:
        chosen.append(own.argmin())
        distances[:, chosen[-1]] = torch.inf
    return torch.stack(chosen)
