"""A set that other code made: nothing is distilled, its shape is compared with what is asked."""

from collections.abc import Callable, Mapping

from torch import Tensor

from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.errors import ElfError


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str | None,
    seed: int,
    progress: Callable[[int, int, Tensor | None], None],
    checkpoint=None,
    imported: SyntheticSet,
) -> SyntheticSet:
    """Return the imported set, if it is one of this data set and size.

    Parameters
    ----------
    dataset, ipc, progress
        As in `elf.distillation.dm.distill`; ``progress`` is called once, without a loss.
    settings, network, seed, checkpoint
        Not used.
    imported : SyntheticSet
        From `elf.importing.using.read_imported`, in the space of the data set.

    Raises
    ------
    ElfError
        If side, number of classes or images per class are others than asked.
    """
    side, wanted_side = imported.images.shape[-1], dataset.images.shape[-1]
    if side != wanted_side:
        raise ElfError(f"the imported images are {side}x{side}, those of the data set {wanted_side}x{wanted_side}")
    classes = imported.labels.shape[1] if imported.labels.dim() == 2 else int(imported.labels.max()) + 1
    if classes != dataset.classes:
        raise ElfError(f"the imported set has {classes} classes, the data set {dataset.classes}")
    if len(imported.images) != classes * ipc:
        found = len(imported.images) / classes
        raise ElfError(f"the imported set has {found:g} images per class, asked for are {ipc}; change ipc in the block")
    progress(1, 1, None)
    return imported
