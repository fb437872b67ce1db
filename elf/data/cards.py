"""Data cards: what a data set is, in numbers that two machines can compare."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch

from elf.data.images import Dataset, LabelledImages
from elf.data.sources.record import Record

CHUNK = 4096


def data_card(
    dataset: Dataset, *, source: dict, preprocessing: dict, records: Mapping[str, Record] | None = None
) -> dict:
    """Describe a data set in a dictionary that can be written as JSON.

    Parameters
    ----------
    dataset : Dataset
    source : dict
        Where the images come from; must not name folders of one machine, so that equal data give
        equal cards.
    preprocessing : dict
        How pixels become model inputs.
    records : dict of Record, optional
        Of ``train`` and ``test``, filled by who read the images.

    Returns
    -------
    dict
        ``name``, ``source``, ``preprocessing``, ``image_side`` in pixels, ``classes``, ``class_names``
        with their ``class_names_sha256`` and ``class_order``, and for ``train`` and ``test`` the number of
        ``images``, the ``images_per_class`` and a ``sha256`` over pixels and labels; with records also how many
        images were ``converted`` in which way and which files were ``left_out``, both of all that lie in the source.
    """
    records = records or {}
    return {
        "name": dataset.name,
        "source": source,
        "preprocessing": preprocessing,
        "image_side": dataset.side,
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "class_names_sha256": class_names_digest(dataset.class_names),
        "class_order": dataset.class_order,
        "train": _split_card(dataset.train, dataset.classes, records.get("train")),
        "test": _split_card(dataset.test, dataset.classes, records.get("test")),
    }


def class_names_digest(class_names: tuple[str, ...]) -> str:
    """Return the sha256 of the names as a compact JSON list in UTF-8."""
    text = json.dumps(list(class_names), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(part: LabelledImages) -> str:
    """Return the sha256 of the pixels, row by row and channels first, followed by the labels.

    Labels count as little-endian 64-bit integers, so the checksum is the same on every machine.
    """
    digest = hashlib.sha256()
    for images in part.images.split(CHUNK):
        digest.update(images.cpu().contiguous().numpy())
    digest.update(part.labels.cpu().numpy().astype(np.dtype("<i8")).tobytes())
    return digest.hexdigest()


def _split_card(part: LabelledImages, classes: int, record: Record | None) -> dict:
    return {
        "images": len(part),
        "images_per_class": torch.bincount(part.labels, minlength=classes).tolist(),
        "sha256": checksum(part),
        **(record.as_dict() if record else {}),
    }
