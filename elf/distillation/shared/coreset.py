"""Coresets: real images that are chosen by where they lie among the images of their class."""

import itertools
from collections.abc import Callable

from torch import Tensor

from elf.data.normalised import take
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, choose_real_images

Progress = Callable[[int, int, Tensor | None], None]


def choose_by_pixels(
    dataset: RealImages, ipc: int, choose: Callable[[Tensor], Tensor], progress: Progress
) -> SyntheticSet:
    """Return distinct real images of every class, chosen among vectors of pixels in model-input space.

    Parameters
    ----------
    dataset : RealImages
    ipc : int
        Images per class.
    choose : callable (float64 Tensor of shape (n, pixels)) -> int64 Tensor of shape (ipc,)
        From the images of a class, flattened and minus their mean, on the device of the dataset, to the rows
        of those that it chooses, distinct, on any device.
    progress : callable (finished classes, number of classes, None)

    Returns
    -------
    SyntheticSet
        In class-major order, the images of a class as they were chosen.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images.
    """
    finished = itertools.count(1)

    def choose_members(members: Tensor) -> Tensor:
        vectors = take(dataset.images, members).flatten(1).double()
        chosen = members[choose(vectors - vectors.mean(0)).cpu()]
        progress(next(finished), dataset.classes, None)
        return chosen

    return choose_real_images(dataset, ipc, choose_members)
