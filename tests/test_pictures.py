"""Contact sheets and data cards."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from elf.data.cards import checksum, class_names_digest, data_card
from elf.data.images import Dataset, LabelledImages
from elf.data.pictures import contact_sheet

RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def plain(colours, side=32) -> torch.Tensor:
    return torch.tensor(colours).view(-1, 3, 1, 1).repeat(1, 1, side, side)


def places(sheet: Image.Image, colour) -> np.ndarray:
    """Rows and columns of the pixels of exactly one colour, shape (2, pixels)."""
    return np.array(np.nonzero((np.asarray(sheet) == np.array(colour) * 255).all(-1)))


class TestContactSheet:
    def test_rows_are_classes_and_columns_their_images(self):
        sheet = contact_sheet(plain([GREEN, RED, BLUE]), torch.tensor([1, 0, 1]), ("first", "second"))
        red, green, blue = (places(sheet, colour) for colour in (RED, GREEN, BLUE))
        assert red[0].max() < green[0].min()
        assert (green[0].min(), green[0].max()) == (blue[0].min(), blue[0].max())
        assert red[1].min() == green[1].min() and green[1].max() < blue[1].min()
        # 32 pixels are shown at twice their size, whole.
        assert red.shape[1] == green.shape[1] == blue.shape[1] == 64 * 64

    def test_pixels_are_enlarged_without_smoothing_and_clipped(self):
        images = torch.zeros(1, 3, 32, 32)
        images[0, :, 3, 5] = torch.tensor([7.0, -2.0, float("nan")])
        marked = places(contact_sheet(images, torch.tensor([0]), ("a", "b")), RED)
        assert marked.shape[1] == 4
        assert (np.ptp(marked, axis=1) == 1).all()

    def test_many_classes_go_into_several_columns(self):
        names = tuple(f"class {number}" for number in range(60))
        sheet = contact_sheet(torch.rand(60, 3, 8, 8), torch.arange(60), names)
        few = contact_sheet(torch.rand(20, 3, 8, 8), torch.arange(20), names)
        assert sheet.height == few.height
        assert sheet.width > 2 * few.width

    def test_what_is_left_out_is_said_and_the_size_stays_bounded(self):
        many = contact_sheet(torch.rand(80, 3, 8, 8), torch.zeros(80, dtype=torch.int64), ("a", "b"))
        just_all = contact_sheet(torch.rand(50, 3, 8, 8), torch.zeros(50, dtype=torch.int64), ("a", "b"))
        assert many.width == just_all.width
        assert many.height > just_all.height
        names = tuple(map(str, range(300)))
        assert max(contact_sheet(torch.rand(600, 3, 64, 64), torch.arange(600) // 2, names).size) < 6000

    def test_written_as_png(self, tmp_path):
        buffer, file = io.BytesIO(), tmp_path / "sheet.png"
        images, labels = plain([RED, BLUE]), torch.tensor([0, 1])
        sheet = contact_sheet(images, labels, ("a", "b"), buffer)
        contact_sheet(images, labels, ("a", "b"), file)
        assert buffer.getvalue() == file.read_bytes()
        with Image.open(file) as written:
            assert np.array_equal(np.asarray(written), np.asarray(sheet))


@pytest.fixture
def pets() -> Dataset:
    images = torch.arange(6 * 3 * 4 * 4).remainder(256).to(torch.uint8).view(6, 3, 4, 4)
    train = LabelledImages(images[:4], torch.tensor([0, 1, 1, 1]))
    return Dataset("pets", ("cat", "Köter"), train, LabelledImages(images[4:], torch.tensor([1, 0])))


class TestDataCard:
    def test_contents(self, pets):
        card = data_card(pets, source={"kind": "folder"}, preprocessing={"normalisation": "cifar"})
        assert json.loads(json.dumps(card)) == card
        assert card["train"]["images_per_class"] == [1, 3] and card["train"]["images"] == 4
        assert card["test"]["images_per_class"] == [1, 1] and card["image_side"] == 4
        # printf '["cat","Köter"]' | sha256sum
        assert card["class_names_sha256"] == "64c959a0b1b3263e3ee160a2431ba065493e865977d7fe6c3b667967c3383349"
        assert card["class_names_sha256"] == class_names_digest(pets.class_names)

    def test_checksum_is_that_of_the_plain_bytes(self):
        images = LabelledImages(torch.full((1, 3, 1, 1), 65, dtype=torch.uint8), torch.tensor([66]))
        # printf 'AAAB\0\0\0\0\0\0\0' | sha256sum
        assert checksum(images) == "a4d37be2b7f09b1003ea36db15824b8287420411a1c3b0a2a752ab67e6ae2bab"

    def test_checksum_sees_each_pixel_and_label(self, pets):
        part = pets.train
        other_pixel, other_label = part.images.clone(), part.labels.clone()
        other_pixel[-1, -1, -1, -1] += 1
        other_label[0] = 1
        different = [LabelledImages(other_pixel, part.labels), LabelledImages(part.images, other_label)]
        assert len({checksum(part), *map(checksum, different)}) == 3

    def test_checksum_does_not_depend_on_the_memory_layout(self, pets):
        strided = pets.train.images.to(memory_format=torch.channels_last)
        assert checksum(LabelledImages(strided, pets.train.labels)) == checksum(pets.train)
