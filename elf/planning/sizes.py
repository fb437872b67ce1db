"""How large datasets are, and how much space what is made of them takes; without reading any image."""

from pathlib import Path

import safetensors

from elf.artifacts.manifest import Manifest
from elf.planning.work import Sizes
from elf.specs.counting import counts
from elf.specs.dataset import DatasetSpec
from elf.specs.expert import ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.network import feature_shape, parse
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec

KNOWN = {
    "digits": (10, 1262, 535),
    "digits64": (10, 1262, 535),
    "cifar10": (10, 50_000, 10_000),
    "cifar100": (100, 50_000, 10_000),
    "tiny-imagenet": (200, 100_000, 10_000),
    "imagenet-1k": (1000, 1_281_167, 50_000),
}
"""Classes, training and test images of datasets that are not prepared yet, by name without ``-zca`` or ``-frepo``."""

HEADER = 4_096
"""Bytes of the manifest and header of a file, about."""
EVALUATION = 12_000
"""Bytes of an evaluation shard, about: nearly all of it is the manifest."""
NUMBER_BYTES = {"float32": 4, "bfloat16": 2}


def sizes_of(spec: DatasetSpec, file: Path, manifest: Manifest | None) -> Sizes | None:
    """Return the size of a dataset: that of its prepared file, or what is known of its name; None if nothing is.

    Parameters
    ----------
    spec : DatasetSpec
    file : Path
        The prepared images.
    manifest : dict or None
        Of that file, None if it is missing or was made with other settings.
    """
    if manifest is not None:
        return sizes_in(file, manifest)
    known = KNOWN.get(spec.name) or KNOWN.get(spec.name.removesuffix("-zca").removesuffix("-frepo"))
    if known is None:
        return None
    classes, train, test = known
    train = min(train, classes * spec.train_per_class) if spec.train_per_class else train
    test = min(test, classes * spec.test_per_class) if spec.test_per_class else test
    return Sizes(classes, train, test, spec.side)


def sizes_in(file: Path, manifest: Manifest) -> Sizes:
    """Return the size of a prepared dataset."""
    with safetensors.safe_open(file, framework="np") as content:
        train, test = (content.get_slice(f"{split}_images").get_shape() for split in ("train", "test"))
    return Sizes(len(manifest["spec"]["class_names"]), train[0], test[0], train[2])


def dataset_bytes(spec: DatasetSpec, sizes: Sizes) -> int:
    """Return the size of prepared images: bytes for pixels, int64 labels, and the matrices of a whitening."""
    whitening = 8 * sizes.values**2 if spec.normalisation.endswith("zca") else 0
    return (sizes.train + sizes.test) * (sizes.values + 8) + whitening + HEADER


def expert_bytes(spec: ExpertSpec, sizes: Sizes) -> int | None:
    """Return the size of a trajectory: all parameters at each of its epochs."""
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    each = NUMBER_BYTES[spec.recipe.storage]
    return network and network.parameters * each * len(spec.epochs) + HEADER


def synthetic_bytes(spec: SyntheticSpec, sizes: Sizes) -> int:
    """Return the size of a synthetic set: float32 pixels, and int64 or real-valued labels."""
    labels = 8 if spec.label_kind == "hard" else 4 * sizes.classes
    return sizes.classes * spec.ipc * (4 * sizes.values + labels) + HEADER


def checkpoint_bytes(spec: TeacherSpec, sizes: Sizes) -> int | None:
    """Return the size of a teacher's state at one epoch; its training holds one of each epoch besides."""
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    return network and network.state_bytes + HEADER


def features_bytes(spec: FeaturesSpec, sizes: Sizes, images: int) -> int | None:
    """Return the size of a teacher's features and logits of synthetic images, in float32."""
    shape = feature_shape(parse(spec.teacher_network), sizes.side)
    if shape is None:
        return None
    channels, height, width = shape
    return 4 * images * (channels * height * width + sizes.classes) + HEADER
