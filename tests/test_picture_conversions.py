"""What a picture file of any mode becomes, against rules written out in NumPy; and what is counted, and refused."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from elf.data.cards import data_card
from elf.data.reading import read_dataset
from elf.data.sources.decoding import decode
from elf.data.sources.layouts import layouts, source_state
from elf.data.sources.record import Record, new_records
from elf.errors import ElfError
from elf.specs.dataset import DatasetSpec

SIDE = 8


def values(seed: int, top: int = 256, shape: tuple[int, ...] = (SIDE, SIDE)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, **options) -> tuple[np.ndarray, dict[str, int]]:
    record = Record(**options)
    pixels = decode(content, SIDE, "photo", record)
    return pixels, dict(record.converted)


def colours(seed: int) -> np.ndarray:
    return values(seed, shape=(SIDE, SIDE, 3)).astype(np.uint8)


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["PNG", "TIFF", "PPM", "JPEG2000"]))
def test_greys_of_16_bits_are_divided_by_257(seed, kind):
    grey = values(seed, 65536).astype(np.uint16)
    grey[0, 0] = 65535
    pixels, counts = decoded(encoded(Image.fromarray(grey), kind))
    assert np.array_equal(pixels, np.stack([np.floor(grey / 257)] * 3))
    assert counts == {"greys from 0 to 65535 scaled to 0 to 255, rounded down": 1, "grey, copied to three channels": 1}


def test_a_grey_of_40000_is_155():
    grey = Image.fromarray(np.full((SIDE, SIDE), 40000, np.uint16))
    assert (decoded(encoded(grey))[0] == 155).all()


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_greys_without_a_plain_range_are_refused(kind):
    with pytest.raises(ElfError, match=r"photo: the image holds (floats|greys of 32 bits)"):
        decoded(encoded(Image.fromarray(values(0).astype(kind)), "TIFF"))


@given(seed=st.integers(0, 1000), mode=st.sampled_from(["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"]))
def test_what_loses_nothing_gives_the_same_colours(seed, mode):
    image = Image.fromarray(colours(seed)).convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    pixels, counts = decoded(encoded(image, "TIFF"), exact=True)
    assert np.array_equal(pixels, expected)
    assert bool(counts) == (mode != "RGB")


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["PNG", "TIFF", "JPEG2000"]))
def test_transparent_pictures_are_laid_over_white_or_refused(seed, kind):
    content = values(seed, shape=(SIDE, SIDE, 4)).astype(np.uint8)
    content[0, 0, 3], content[0, 1, 3] = 0, 255
    written = encoded(Image.fromarray(content), kind)
    pixels, counts = decoded(written)
    share = content[..., 3:] / 255
    expected = content[..., :3] * share + 255 * (1 - share)
    assert np.abs(pixels.transpose(1, 2, 0) - expected).max() <= 1
    assert counts == {"transparent, laid over white": 1}
    with pytest.raises(ElfError, match="transparent in places"):
        decoded(written, exact=True)


def test_colours_behind_nothing_are_refused():
    content = np.zeros((SIDE, SIDE, 4), np.uint8)
    with pytest.raises(ElfError, match="transparent everywhere"):
        decoded(encoded(Image.fromarray(content)))


def test_a_transparent_colour_of_a_palette_counts_as_transparent():
    grey = values(0, 4).astype(np.uint8)
    pixels, counts = decoded(encoded(Image.fromarray(grey * 60).convert("P"), transparency=0))
    assert (pixels[:, grey == 0] == 255).all() and (pixels[:, grey == 2] == 120).all()
    assert "transparent, laid over white" in counts


@pytest.mark.parametrize(("kind", "name"), [("GIF", "2 frames"), ("TIFF", "2 frames"), ("WEBP", "2 frames")])
def test_several_frames_are_refused(kind, name):
    first, second = Image.fromarray(colours(0)), Image.fromarray(colours(1))
    with pytest.raises(ElfError, match=f"photo: the image holds {name} or pages"):
        decoded(encoded(first, kind, save_all=True, append_images=[second]))


def test_the_first_of_a_cameras_pictures_is_read():
    first, second = (Image.fromarray(colours(seed)) for seed in range(2))
    written = encoded(first, "MPO", save_all=True, append_images=[second])
    pixels, counts = decoded(written)
    assert np.array_equal(pixels, decoded(encoded(first, "JPEG"))[0])
    assert list(counts) == ["first of several pictures that a camera put into a file (MPO)"]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_of_colours_of_16_bits_the_upper_8_are_kept():
    deep = values(0, 65536, (SIDE, SIDE, 3)).astype(">u2")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep)))
    pixels, counts = decoded(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    assert np.array_equal(pixels.transpose(1, 2, 0), deep >> 8)
    assert counts == {"more than 8 bits a channel, of which the upper 8 are kept": 1}


TURNS = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 6: lambda x: np.rot90(x, -1)}
TURNS |= {8: np.rot90, 5: lambda x: x.transpose(1, 0, 2), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2)}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_are_turned_as_their_orientation_says(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, counts = decoded(encoded(Image.fromarray(colours(0)), kind, exif=exif))
    assert np.array_equal(pixels.transpose(1, 2, 0), TURNS[orientation](colours(0)))
    assert ("turned by the orientation in its EXIF data" in counts) == (orientation != 1)


def test_colour_profiles_are_counted_and_values_kept():
    pixels, counts = decoded(encoded(Image.fromarray(colours(0)), icc_profile=b"Display P3 or so"))
    assert np.array_equal(pixels.transpose(1, 2, 0), colours(0))
    assert counts == {"colour profile other than sRGB not applied, values as stored": 1}
    assert decoded(encoded(Image.fromarray(colours(0)), icc_profile=b"IEC sRGB"))[1] == {}


def test_small_ranges_of_ppm_are_scaled_and_counted():
    content = b"P5 2 1 15\n" + bytes([0, 15])
    record = Record()
    assert decode(content, 2, "photo", record)[0].tolist() == [[0, 255], [0, 255]]
    assert record.converted["values from 0 to 15 scaled to 0 to 255"] == 1


# --- data sources ----------------------------------------------------------------------------------------


def class_folders(root: Path, endings: list[str], *, classes: int = 2) -> np.ndarray:
    """Write PNG pictures under names with these endings, in both splits; return them in order."""
    images = np.stack([colours(seed) for seed in range(classes * len(endings))])
    for split in ("train", "val"):
        for place, image in enumerate(images):
            folder = root / split / f"class{place // len(endings)}"
            folder.mkdir(parents=True, exist_ok=True)
            number = place % len(endings)
            (folder / f"{number}{endings[number]}").write_bytes(encoded(Image.fromarray(image)))
    return images


def read_folder(root: Path, records=None):
    return read_dataset("folder", name="pets", location=root, side=SIDE, records=records)


@given(endings=st.lists(st.sampled_from([".png", ".PNG", ".jfif", ".jp2", "", ".dat"]), min_size=1, max_size=4))
def test_what_decodes_is_read_whatever_its_ending(tmp_path_factory, endings):
    root = tmp_path_factory.mktemp("folder")
    images, records = class_folders(root, endings), new_records()
    dataset = read_folder(root, records)
    assert np.array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), images)
    assert records["train"].as_dict() == {"converted": {}, "left_out": {"files": 0, "names": []}}


@given(
    pictures=st.integers(1, 3),
    strange=st.integers(0, 4),
    hidden=st.integers(0, 4),
    notes=st.integers(0, 4),
)
def test_left_out_files_are_counted_and_most_of_a_class_is_an_error(tmp_path_factory, pictures, strange, hidden, notes):
    root = tmp_path_factory.mktemp("folder")
    class_folders(root, [".png"] * pictures)
    folder = root / "train" / "class1"
    names = [f"x{number}.heic" for number in range(strange)] + [f".h{number}.png" for number in range(hidden)]
    for name in names:
        (folder / name).write_bytes(encoded(Image.fromarray(colours(0))) if name.startswith(".") else b"no picture")
    for number in range(min(notes, pictures)):
        (folder / f"{number}.txt").write_text("what is on it")
    records = new_records()
    if strange + hidden > pictures:
        with pytest.raises(ElfError, match=r"class1: \d+ of \d+ files would be left out"):
            read_folder(root, records)
        return
    assert len(read_folder(root, records).train) == 2 * pictures
    assert records["train"].as_dict()["left_out"]["files"] == strange + hidden + min(notes, pictures)


def test_the_card_counts_what_was_converted(tmp_path):
    class_folders(tmp_path, [".png"] * 2)
    Image.fromarray(colours(0)[..., 0]).resize((9, 7)).save(tmp_path / "train" / "class0" / "0.png")
    (tmp_path / "train" / "class0" / "notes.txt").write_text("notes")
    records = new_records()
    dataset = read_folder(tmp_path, records)
    card = data_card(dataset, source={}, preprocessing={}, records=records)
    json.dumps(card)
    resized = f"resized to {SIDE}x{SIDE}, without keeping the aspect ratio"
    assert card["train"]["converted"] == {"grey, copied to three channels": 1, resized: 1}
    assert card["train"]["left_out"] == {"files": 1, "names": ["class0/notes.txt"]}
    assert card["test"]["converted"] == {}


def test_16_bits_of_which_fewer_are_used_are_refused(tmp_path):
    class_folders(tmp_path, [".png"] * 2)
    Image.fromarray(values(0, 4096).astype(np.uint16)).save(tmp_path / "train" / "class0" / "0.png")
    with pytest.raises(ElfError, match=r"largest value of all pictures of 16 bits is \d+ of 65535"):
        read_folder(tmp_path)


# --- parquet ---------------------------------------------------------------------------------------------

HUB = ["{}-00000-of-00001.parquet", "data/{}-00000-of-00001.parquet", "plain_text/{}.parquet", "{}/0000.parquet"]
HUB += ["default/{}/0000.parquet"]


@given(
    place=st.sampled_from(HUB),
    image=st.sampled_from(["img", "image", "picture"]),
    label=st.sampled_from(["label", "labels", "fine_label", "target"]),
    labels=st.lists(st.integers(0, 2), min_size=3, max_size=6).filter(lambda found: set(found) == {0, 1, 2}),
    kind=st.sampled_from(["integers", "text", "dictionary"]),
    bare=st.booleans(),
)
def test_parquet_files_of_the_hub(tmp_path_factory, place, image, label, labels, kind, bare):
    root, names = tmp_path_factory.mktemp("hub"), ["ant", "bee", "cat"]
    images = [colours(seed) for seed in range(len(labels))]
    files = [encoded(Image.fromarray(one)) for one in images]
    pictures = pa.array(files) if bare else pa.array([{"bytes": file, "path": None} for file in files])
    stored = pa.array(labels if kind == "integers" else [names[one] for one in labels])
    stored = stored.dictionary_encode() if kind == "dictionary" else stored
    for split in ("train", "validation"):
        file = root / place.format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({image: pictures, label: stored}), file)
    assert "parquet" in layouts(root) and len(source_state("parquet", root)) == 2
    options = {"image_column": image if image == "picture" else None}
    options["label_column"] = label if label == "target" else None
    dataset = read_dataset("parquet", name="pets", location=root, side=SIDE, **options)
    assert np.array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), np.stack(images))
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == labels
    assert dataset.class_names == (("0", "1", "2") if kind == "integers" else tuple(names))


def test_two_columns_that_could_be_labels_are_refused(tmp_path):
    pictures = pa.array([encoded(Image.fromarray(colours(0)))] * 2)
    table = pa.table({"image": pictures, "label": pa.array([0, 1]), "labels": pa.array([1, 0])})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(ElfError, match="label and labels could be the labels; say which with label_column"):
        read_dataset("parquet", name="pets", location=tmp_path, side=SIDE)
    told = read_dataset("parquet", name="pets", location=tmp_path, side=SIDE, label_column="labels")
    assert told.train.labels.tolist() == [1, 0]


def test_usual_columns_leave_the_specification_as_it_was():
    usual = DatasetSpec(name="pets", source="parquet", location="pets", side=8, normalisation="cifar")
    assert "column" not in usual.canonical()
    named = usual.model_copy(update={"label_column": "target"})
    assert '"label_column":"target"' in named.canonical() and "image_column" not in named.canonical()
    assert DatasetSpec.model_validate_json(named.canonical()) == named


def test_digits_say_what_was_made_of_them():
    records = new_records()
    dataset = read_dataset("digits", name="digits", location=None, side=32, records=records)
    assert records["train"].converted["resized to 32x32"] == len(dataset.train)
    assert isinstance(dataset.train.images, torch.Tensor)
