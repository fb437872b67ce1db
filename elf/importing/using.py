"""An imported set in the model-input space of a data set."""

from pathlib import Path

import torch
from torch import Tensor

from elf.artifacts.manifest import Manifest
from elf.artifacts.tensors import read_tensors
from elf.data.preprocessing import ZCA, Normalisation
from elf.distillation.shared.synthetic import SyntheticSet
from elf.errors import ElfError
from elf.importing.constants import ALL_CONSTANTS as CONSTANTS


def read_imported(
    path: Path, preprocessing: Normalisation | ZCA, normalisation: str, device: torch.device
) -> tuple[SyntheticSet, Manifest]:
    """Read a set that ``elf import`` wrote, as networks for a data set see it.

    Values that are in the data set's space already are not touched. Others are taken to pixels from 0 to 1 and from
    there to the data set's space, without clipping, exact up to the rounding of float32.

    Parameters
    ----------
    path : Path
        File of kind "imported set".
    preprocessing : Normalisation or ZCA
        That of the data set.
    normalisation : str
        Its name: of its constants, or ``"zca"``.
    device : torch.device

    Returns
    -------
    SyntheticSet
    manifest : dict
        Of the file.

    Raises
    ------
    ElfError
        If the file is missing, damaged or of another kind, or its values cannot be taken to the data set's space.
    """
    tensors, manifest = read_tensors(path, "imported set", ["images", "labels"])
    space, constants = manifest["spec"]["space"], manifest["spec"]["constants"]
    images = tensors["images"]
    if space == "zca" and constants is None:
        known = "that of MTT (zca), those of FrePo, or another"
        raise ElfError(f"{path}: is whitened, and nothing tells by which whitening ({known}); import it with --space")
    if space == "zca" and constants != normalisation:
        found = f"is whitened by {constants}, but the data set's normalisation is {normalisation}"
        raise ElfError(f"{path}: {found}; use a data set of that normalisation")
    if not _is_in(space, constants, preprocessing):
        images = _forward(_pixels(images, space, constants, normalisation, path), preprocessing, path)
    return SyntheticSet(images.to(device), tensors["labels"].to(device)), manifest


def _is_in(space: str, constants: str | None, preprocessing: Normalisation | ZCA) -> bool:
    if space == "zca" or isinstance(preprocessing, ZCA):
        return space == "zca" and isinstance(preprocessing, ZCA)
    # Constants that nobody knows: used as they are, as the official code of ELF uses every set.
    same = constants is None or CONSTANTS[constants] == (tuple(preprocessing.mean), tuple(preprocessing.std))
    return space == "normalised" and same


def _pixels(images: Tensor, space: str, constants: str | None, normalisation: str, path: Path) -> Tensor:
    """Return the images as pixels from 0 to 1, not clipped."""
    if space == "unit":
        return images
    if space == "bytes":
        return images / 255
    if space == "normalised" and constants is not None:
        return Normalisation(*CONSTANTS[constants]).inverse(images)
    found = "whitened" if space == "zca" else "normalised with unknown constants"
    hint = "use a data set whose normalisation whitens" if space == "zca" else "import it anew with --space"
    raise ElfError(f"{path}: is {found}, but the data set's normalisation is {normalisation}; {hint}")


def _forward(pixels: Tensor, preprocessing: Normalisation | ZCA, path: Path) -> Tensor:
    if isinstance(preprocessing, ZCA):
        flat = pixels.flatten(1)
        if flat.shape[1] != len(preprocessing.mean):
            raise ElfError(
                f"{path}: its images are of another side than those of the data set; choose another data set"
            )
        return ((flat - preprocessing.mean.to(flat)) @ preprocessing.matrix.to(flat)).view(pixels.shape)
    constants = torch.tensor([preprocessing.mean, preprocessing.std], dtype=torch.float32)
    return (pixels - constants[0].view(3, 1, 1)) / constants[1].view(3, 1, 1)
