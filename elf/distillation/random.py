"""Random real images: the control that every distillation method has to beat."""

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
