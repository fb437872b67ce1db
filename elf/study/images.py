"""Where real images lie, in which layout, and what of them is missing; without reading any of them."""

import os
from pathlib import Path
from typing import Any

from elf.data.sources.layouts import TORCHVISION_FOLDERS, layouts, mixture
from elf.errors import ElfError
from elf.specs.dataset import OWN, DatasetSpec
from elf.study.config import DatasetConfig, Settings

FOLDERS = ("parquet", "folder", "downsampled")
"""Sources that read a folder of their own."""


def data_folder() -> Path:
    """Return the folder with the real images: ``ELF_DATA_DIR``, by default ``data``."""
    return Path(os.environ.get("ELF_DATA_DIR", "data"))


def dataset_spec(settings: Settings, name: str, data_folder: Path) -> DatasetSpec:
    """Return the specification of a dataset, with the layout that is found in the data folder.

    The folder may be absent, so that results can be drawn on a machine without images; see `missing_data`.
    """
    entry = settings.datasets[name]
    source = _source(entry, name, data_folder) if entry.source == "auto" else entry.source
    columns = (entry.image_column, entry.label_column) if source == "parquet" else (None, None)
    return DatasetSpec(
        name=name,
        source=source,
        location=(entry.location or name) if source in FOLDERS else None,
        side=entry.side,
        normalisation=entry.normalisation or OWN,
        mean=entry.constants and tuple(entry.constants.mean),
        std=entry.constants and tuple(entry.constants.std),
        train_per_class=entry.train_per_class,
        test_per_class=entry.test_per_class,
        image_column=columns[0],
        label_column=columns[1],
    )


def _source(entry: DatasetConfig, name: str, data_folder: Path) -> str:
    found = layouts(data_folder / (entry.location or name))
    if name.partition("-")[0] in TORCHVISION_FOLDERS:
        return "parquet" if "parquet" in found else "torchvision"
    return next(iter(found), "folder")


def missing_data(spec: DatasetSpec, data_folder: Path) -> str | None:
    """Return what of a dataset's images is missing, None if nothing is or if it can be downloaded."""
    if spec.source not in FOLDERS:
        return None
    folder = data_folder / spec.location
    if not folder.is_dir():
        return f"there is no folder {spec.location!r} in the data folder {data_folder} (ELF_DATA_DIR)"
    found = layouts(folder)
    if spec.source not in found:
        others = ", ".join(f"{name} ({source})" for source, name in found.items())
        held = others or "nothing that is known"
        return f"{folder} holds no images in the layout {spec.source!r}; found {held}"
    return None if spec.source == "parquet" else mixture(folder)


def prepared_without_images(spec: DatasetSpec, data_folder: Path, results: Path) -> dict[str, Any] | None:
    """Return the manifest of a prepared dataset whose own images are no longer there; it can be used as it is.

    Parameters
    ----------
    spec : DatasetSpec
        The layout may be another one than that of the images when they were there.
    data_folder, results : Path
        Folders of the real images and of the scale's results.

    Returns
    -------
    dict or None
        None if the images are there, or if nothing is prepared from the same specification.
    """
    kind = spec.name.partition("-")[0]
    to_download = spec.source == "torchvision" and not (data_folder / TORCHVISION_FOLDERS.get(kind, "")).is_dir()
    file = results / spec.folder / "images.safetensors"
    if not file.is_file() or not (to_download or missing_data(spec, data_folder)):
        return None
    # Only where it is needed, because it takes a while to load.
    from elf.artifacts.manifest import read_manifest

    try:
        manifest = read_manifest(file, "dataset")
    except ElfError:
        return None
    wanted = spec.model_dump(mode="json", exclude={"source", "location"})
    return manifest if all(manifest["spec"].get(key) == value for key, value in wanted.items()) else None
