"""What stages read: verified artifacts, as tensors on the device."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from elf.artifacts.manifest import Manifest, read_manifest
from elf.artifacts.mapping import map_tensors
from elf.artifacts.tensors import read_tensors
from elf.data.normalised import Images, normalised
from elf.data.preprocessing import ZCA, Normalisation, from_tensors, normalisation
from elf.errors import ElfError

DATASET = "dataset"
"""What a recipe calls the constants of the dataset itself."""


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a prepared dataset, ready for a network.

    Attributes
    ----------
    images : Tensor of float32 or NormalisedImages, shape (n, 3, side, side)
        In model-input space; large datasets stay in their file.
    labels : Tensor of int64, shape (n,)
    preprocessing : Normalisation or ZCA
        What took the images there.
    manifest : dict
        Of the dataset.
    """

    images: Images
    labels: Tensor
    preprocessing: Normalisation | ZCA
    manifest: Manifest

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.manifest["spec"]["class_names"])

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.images.shape[-1]


def read_split(path: Path, split: str, device: torch.device, constants: str = DATASET) -> Split:
    """Read the ``train`` or ``test`` images of a dataset; nothing of the other split is read.

    Parameters
    ----------
    path : Path
    split : {"train", "test"}
    device : torch.device
        Where the images are used.
    constants : str
        Name of the constants to normalise with, ``"dataset"`` for the dataset's own.
    """
    names = [f"{split}_images", f"{split}_labels"]
    tensors, _ = map_tensors(path, "dataset", names)
    preprocessing, manifest = read_preprocessing(path, constants)
    images, labels = (tensors[name] for name in names)
    return Split(normalised(images, preprocessing, device), labels.clone().to(device), preprocessing, manifest)


def read_preprocessing(path: Path, constants: str = DATASET) -> tuple[Normalisation | ZCA, Manifest]:
    """Read how the images of a dataset become model inputs, without the images; see `read_split`."""
    tensors, manifest = map_tensors(path, "dataset", _preprocessing_names(path))
    if constants == DATASET:
        # Copies: the file may be replaced while they are used.
        return from_tensors({name: tensor.clone() for name, tensor in tensors.items()}), manifest
    if "mean" not in tensors:
        raise ElfError(
            f"{path}: is whitened, which the constants {constants!r} of the recipe would replace; "
            f"set constants: {DATASET}"
        )
    return normalisation(constants), manifest


def constants_of(manifest: Manifest) -> str:
    """Return the name of the constants with which a synthetic set was made, ``"dataset"`` for its dataset's own."""
    return (manifest["spec"].get("recipe") or {}).get("constants", DATASET)


def _preprocessing_names(path: Path) -> list[str]:
    whitened = read_manifest(path, "dataset")["spec"]["normalisation"].endswith("zca")
    return ["zca_mean", "zca_matrix", "zca_inverse"] if whitened else ["mean", "std"]


def read_synthetic_set(path: Path, device: torch.device) -> tuple[Tensor, Tensor, Manifest]:
    """Read images (n, 3, side, side) in model-input space and their labels."""
    tensors, manifest = read_tensors(path, "synthetic set", ["images", "labels"])
    return tensors["images"].to(device), tensors["labels"].to(device), manifest


def read_teacher(path: Path) -> tuple[dict[str, Tensor], Manifest]:
    """Read the parameters of a teacher checkpoint."""
    return read_tensors(path, "teacher checkpoint")


def read_features(path: Path, name: str, device: torch.device) -> tuple[Tensor, Manifest]:
    """Read what a teacher gives for each image: ``features`` (n, C, H, W) or ``logits`` (n, classes)."""
    tensors, manifest = read_tensors(path, "features", [name])
    return tensors[name].to(device), manifest


def check_settings(path: Path, manifest: Manifest, **expected) -> None:
    """Raise an error if an input was made with other settings than the job takes it to be made with."""
    for key, value in expected.items():
        if manifest["spec"][key] != value:
            raise ElfError(
                f"{path}: is a {manifest['kind']} of {key} {manifest['spec'][key]!r}, "
                f"but the settings of this job say {value!r}"
            )


def check_made_from(path: Path, manifest: Manifest, role: str, source: Manifest) -> None:
    """Raise an error if an input was made from another state of the source than the one at hand."""
    if manifest["inputs"][role]["id"] != source["id"]:
        raise ElfError(f"{path}: was made from another {role} than the one given; make it anew")
