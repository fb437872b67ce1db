"""Scikit-learn's handwritten digits: real images that ship inside a package, so always there."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from elf.data.images import Dataset, LabelledImages, indices_by_class
from elf.data.sources.decoding import resize
from elf.data.sources.record import Record, new_records

TEST_PERCENT = 30


def read(*, name: str = "digits", side: int = 32, records: Mapping[str, Record] | None = None) -> Dataset:
    """Return scikit-learn's 1,797 digits as RGB images of 10 classes.

    The 8x8 images with values 0 to 16 are scaled to 0 to 255, bilinearly enlarged, and the grey channel
    is copied to all three. The split is fixed: of each class, the last 30 % in scikit-learn's order
    (rounded down) are the test images, the others the training images.

    Parameters
    ----------
    name : str
        Name used in messages.
    side : int
        Height and width of the returned images in pixels.
    records : dict of Record, optional
        Of ``train`` and ``test``: how the images were converted.
    """
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    enlarged = np.stack([resize(Image.fromarray(image), side) for image in grey])
    images = torch.from_numpy(enlarged)[:, None].repeat(1, 3, 1, 1)
    everything = LabelledImages(images, torch.from_numpy(digits.target).to(torch.int64))
    train, test = [], []
    for indices in indices_by_class(everything.labels, 10):
        kept = len(indices) - len(indices) * TEST_PERCENT // 100
        train.append(indices[:kept])
        test.append(indices[kept:])
    for split, indices in (("train", train), ("test", test)):
        record, images = (records or new_records())[split], sum(map(len, indices))
        record.count("greys from 0 to 16 scaled to 0 to 255", images)
        record.count("grey, copied to three channels", images)
        record.count(f"resized to {side}x{side}", images if side != digits.images.shape[1] else 0)
    return Dataset(
        name=name,
        class_names=tuple(str(digit) for digit in digits.target_names),
        train=everything.select(torch.cat(train).sort().values),
        test=everything.select(torch.cat(test).sort().values),
        class_order="digits",
    )
