"""What determines a dataset: its source and how pixels become model inputs."""

from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from elf.specs.base import Spec


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
        ``zca``.
    train_per_class, test_per_class : int or None
        Keep only the first images of each class; None keeps all.
    image_column, label_column : str or None
        Columns of parquet files that are not called as usual. Where they are None they are no part of the canonical
        text.
    """

    name: str
    source: Literal["digits", "torchvision", "parquet", "folder", "downsampled"]
    location: str | None = None
    side: int = Field(ge=4)
    normalisation: str
    train_per_class: int | None = Field(default=None, ge=1)
    test_per_class: int | None = Field(default=None, ge=1)
    image_column: str | None = None
    label_column: str | None = None

    @model_serializer(mode="wrap")
    def _without_usual_columns(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that datasets without such columns have the text that they had before there were any.
        columns = ("image_column", "label_column")
        return {key: value for key, value in serialise(self).items() if key not in columns or value is not None}

    @property
    def folder(self) -> PurePosixPath:
        """Where the dataset lies below the results folder."""
        return PurePosixPath("datasets", self.name)
