"""What determines a dataset: its source and how pixels become model inputs."""

from pathlib import PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from elf.specs.base import Spec

OWN = "own"
"""What the normalisation of a dataset is called whose entry in the configuration holds its constants."""

Channels = tuple[float, float, float]


class DatasetSpec(Spec):
    """Real images with labels, split into a training and a test set.

    Attributes
    ----------
    name : str
        Name in the configuration, for example ``cifar10``; with ``-zca`` or ``-frepo`` behind it when whitened.
    source : str
        How the images are stored; one reader in ``elf/data/sources`` each.
    location : str or None
        Folder below the data folder (``ELF_DATA_DIR``); None for images that come with a library.
    side : int
        Height and width of the images in pixels; other sizes are resized.
    normalisation : str
        Name of the constants (mean and standard deviation per channel), or of a whitening, which ends with
        ``zca``; ``own`` where the next two say them.
    mean, std : tuple of 3 floats, or None
        The dataset's own constants, of pixels in [0, 1].
    train_per_class, test_per_class : int or None
        Keep only the first images of each class; None keeps all.
    image_column, label_column : str or None
        Columns of parquet files that are not called as usual. Where these and the constants are None they are no part
        of the canonical text.
    """

    name: str
    source: Literal["digits", "torchvision", "parquet", "folder", "downsampled"]
    location: str | None = None
    side: int = Field(ge=4)
    normalisation: str
    mean: Channels | None = None
    std: Channels | None = None
    train_per_class: int | None = Field(default=None, ge=1)
    test_per_class: int | None = Field(default=None, ge=1)
    image_column: str | None = None
    label_column: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_as_usual(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that datasets without have the text that they had before there were any.
        unusual = ("mean", "std", "image_column", "label_column")
        return {key: value for key, value in serialise(self).items() if key not in unusual or value is not None}

    @model_validator(mode="after")
    def _has_its_constants(self) -> Self:
        if {self.mean is not None, self.std is not None} != {self.normalisation == OWN}:
            raise ValueError(f"mean and std belong to the normalisation {OWN!r}, and it needs both")
        return self

    @property
    def folder(self) -> PurePosixPath:
        """Where the dataset lies below the results folder."""
        return PurePosixPath("datasets", self.name)
