"""Random real images: the control that every distillation method has to beat.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 21.0 % (VGG11-IN) to 28.8 % (ConvNet-BN) of the test images, on
six networks; other methods say how far they are above that.
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from elf.distillation.shared.synthetic import RealImages, SyntheticSet, real_initialisation
from elf.machine.randomness import generator


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str | None,
    seed: int,
    progress: Callable[[int, int, Tensor | None], None],
    checkpoint=None,
) -> SyntheticSet:
    """Return ``ipc`` distinct real images of every class.

    They are the images from which the other methods start with the same seed, so that a comparison shows
    what the optimisation of the pixels has added.

    Parameters
    ----------
    dataset, ipc, seed, progress
        As in `elf.distillation.dm.distill`; ``progress`` is called once, without a loss.
    settings, network, checkpoint
        Not used.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images.
    """
    chosen = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    progress(1, 1, None)
    return chosen
