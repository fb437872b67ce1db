"""Every data source on small files of each layout, on damaged ones, and on real images."""

import functools
import hashlib
import http.server
import io
import json
import pickle
import shutil
import tarfile
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from elf.data.preprocessing import normalisation
from elf.data.reading import read_dataset
from elf.data.sources import torchvision_cifar
from elf.data.sources.decoding import decode
from elf.errors import ElfError


def pixels(seed: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """Random RGB pixels, shape (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def read(source: str, location, side: int = 8, name: str = "pets", **options):
    return read_dataset(source, name=name, location=location, side=side, **options)


def same(first, second) -> bool:
    return all(
        torch.equal(getattr(first, split).images, getattr(second, split).images)
        and torch.equal(getattr(first, split).labels, getattr(second, split).labels)
        for split in ("train", "test")
    )


class TestDoor:
    def test_unknown_source(self):
        with pytest.raises(ElfError, match=r"'zip' is unknown; allowed are digits, torchvision, parquet, folder"):
            read("zip", None)

    @pytest.mark.parametrize("source", ["torchvision", "parquet", "folder"])
    def test_missing_location(self, source):
        with pytest.raises(ElfError, match=r"needs a location"):
            read(source, None)


class TestDecoding:
    @pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "I;16"])
    def test_every_mode_becomes_three_channels(self, mode):
        buffer = io.BytesIO()
        opaque = {"LA": (0, 255), "RGBA": (0, 0, 0, 255)}.get(mode, 0)
        Image.new(mode, (8, 8), opaque).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
        assert decode(buffer.getvalue(), 8, "x").shape == (3, 8, 8)

    def test_greyscale_is_copied_to_all_channels(self):
        grey = pixels(0)[:, :, 0]
        assert np.array_equal(decode(encoded(grey), 8, "x"), np.stack([grey] * 3))

    def test_resized_bilinearly_without_keeping_the_aspect_ratio(self):
        stripes = np.zeros((2, 4, 3), np.uint8)
        stripes[:, 2:] = 200
        resized = decode(encoded(stripes), 8, "x")
        # Centres of the 8 columns lie at 0.25, 0.75, ... of the 4 old columns, whose centres are 0.5, 1.5, ...
        centres = (np.arange(8) + 0.5) / 2
        expected = np.interp(centres, [0.5, 1.5, 2.5, 3.5], [0, 0, 200, 200])
        assert np.abs(resized - expected).max() <= 1

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    @given(st.data())
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
    def test_damaged_files_are_decoded_or_named(self, kind, data):
        intact = encoded(pixels(0, (16, 16)), kind)
        damaged = bytearray(intact[: data.draw(st.integers(0, len(intact)))])
        for place in data.draw(st.lists(st.integers(0, len(intact) - 1), max_size=3)):
            if place < len(damaged):
                damaged[place] ^= 0xFF
        try:
            assert decode(bytes(damaged), 8, "photo").shape == (3, 8, 8)
        except ElfError as error:
            assert str(error).startswith(("photo: cannot decode the image (", "photo: the image "))
            assert "\n" not in str(error)


class TestDigits:
    def test_every_image_once_and_the_last_ones_of_each_class_for_the_test(self):
        dataset, digits = read("digits", None), load_digits()
        places = [np.flatnonzero(digits.target == digit) for digit in range(10)]
        train = np.sort(np.concatenate([place[: len(place) - int(0.3 * len(place))] for place in places]))
        test = np.setdiff1d(np.arange(1797), train)
        for part, expected in ((dataset.train, train), (dataset.test, test)):
            assert part.labels.tolist() == digits.target[expected].tolist()
            # At the original side nothing is resized.
            grey = np.rint(digits.images[expected] * 255 / 16)
            assert np.array_equal(part.images.numpy(), np.repeat(grey[:, None], 3, axis=1))
        assert dataset.class_names == tuple("0123456789")

    def test_enlarged(self):
        small, large = read("digits", None).train.images, read("digits", None, side=32).train.images
        assert large.shape == (len(small), 3, 32, 32)
        expected = torch.nn.functional.interpolate(small.float(), size=32, mode="bilinear", align_corners=False)
        assert (large - expected).abs().max() <= 1


def write_parquet(file, rows, *, image="img", label="label", names=("cat", "dog"), kind="PNG"):
    """Write ``rows`` of (pixels or encoded bytes, label)."""
    images = [
        {"bytes": encoded(row[0], kind) if isinstance(row[0], np.ndarray) else row[0], "path": None} for row in rows
    ]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(images, image_type), label: pa.array([row[1] for row in rows], pa.int64())})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=2)


TRAIN_ROWS = [(pixels(0), 1), (pixels(1), 0), (pixels(2), 1), (pixels(3), 0), (pixels(4), 0)]
TEST_ROWS = [(pixels(5), 0), (pixels(6), 1)]


class TestParquet:
    @pytest.fixture
    def hub(self, tmp_path):
        write_parquet(tmp_path / "train-00000-of-00001.parquet", TRAIN_ROWS)
        write_parquet(tmp_path / "test-00000-of-00001.parquet", TEST_ROWS)
        return tmp_path

    def test_pixels_labels_and_names(self, hub):
        dataset = read("parquet", hub)
        assert dataset.class_names == ("cat", "dog")
        for part, rows in ((dataset.train, TRAIN_ROWS), (dataset.test, TEST_ROWS)):
            assert part.labels.tolist() == [label for _, label in rows]
            assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), np.stack([image for image, _ in rows]))

    @pytest.mark.parametrize("split", ["valid", "validation"])
    def test_other_names_of_splits_and_columns(self, hub, tmp_path_factory, split):
        other, columns = tmp_path_factory.mktemp("other"), {"image": "image", "label": "fine_label"}
        write_parquet(other / "train-00000-of-00002.parquet", TRAIN_ROWS[:2], **columns)
        write_parquet(other / "train-00001-of-00002.parquet", TRAIN_ROWS[2:], **columns)
        write_parquet(other / f"{split}-00000-of-00001.parquet", TEST_ROWS, **columns)
        assert same(read("parquet", other), read("parquet", hub))

    def test_fine_labels_are_those_of_cifar100(self, tmp_path):
        for split, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
            file = tmp_path / f"{split}-00000-of-00001.parquet"
            write_parquet(file, rows, label="fine_label")
            table = pq.read_table(file)
            coarse = pa.array([0] * len(rows), pa.int64())
            pq.write_table(table.append_column("coarse_label", coarse), file)
        dataset = read("parquet", tmp_path, name="cifar100")
        assert dataset.class_names == ("cat", "dog") and dataset.class_order == "labels of the parquet files"
        assert dataset.train.labels.tolist() == [label for _, label in TRAIN_ROWS]

    def test_a_test_split_with_secret_labels_is_left_alone(self, hub):
        expected = read("parquet", hub)
        write_parquet(hub / "validation-00000-of-00001.parquet", TEST_ROWS)
        write_parquet(hub / "test-00000-of-00001.parquet", [(image, -1) for image, _ in TRAIN_ROWS])
        assert same(read("parquet", hub), expected)

    @pytest.mark.parametrize("workers", [2, 5])
    def test_workers_change_nothing(self, hub, workers):
        assert same(read("parquet", hub, workers=workers), read("parquet", hub))

    def test_sorted_wnids_are_recognised(self, tmp_path):
        for names, order in (
            (("n01440764", "n01443537"), "alphabetical wnids"),
            (("n01443537", "n01440764"), "labels of the parquet files"),
        ):
            for split, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
                write_parquet(tmp_path / f"{split}-0.parquet", rows, names=names)
            assert read("parquet", tmp_path).class_order == order

    def test_without_metadata_the_labels_are_the_names(self, tmp_path):
        write_parquet(tmp_path / "train-0.parquet", TRAIN_ROWS, names=None)
        write_parquet(tmp_path / "test-0.parquet", TEST_ROWS, names=None)
        assert read("parquet", tmp_path).class_names == ("0", "1")

    def test_other_sides_are_resized(self, hub):
        dataset = read("parquet", hub, side=16)
        expected = Image.fromarray(TRAIN_ROWS[0][0]).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(dataset.train.images[0].permute(1, 2, 0).numpy(), np.asarray(expected))

    @pytest.mark.parametrize(
        ("rows", "options", "message"),
        [
            (TRAIN_ROWS, {"image": "picture"}, r"no image column; .* found picture \(struct<.*>\), label \(int64\)"),
            (
                TRAIN_ROWS,
                {"label": "target"},
                r"no label column; allowed is label or .* target \(int64\)",
            ),
            ([*TRAIN_ROWS, (b"no image", 0)], {}, r"train-.*\.parquet, row 5 .*: cannot decode"),
            ([*TRAIN_ROWS, (encoded(pixels(0))[:-40], 0)], {}, r"row 5 .*: cannot decode the image \(.*truncated"),
            ([*TRAIN_ROWS, (None, 0)], {}, "row 5 .*: no image bytes"),
            ([*TRAIN_ROWS, (pixels(0), 2)], {}, "row 5 .*: label 2, allowed are 0 to 1"),
            ([*TRAIN_ROWS, (pixels(0), -1)], {}, "row 5 .*: label -1, allowed are 0 to 1"),
            ([*TRAIN_ROWS, (pixels(0), None)], {}, "row 5 .*: label None"),
            ([*TRAIN_ROWS, (pixels(0), -1)], {"names": None}, "row 5 .*: label -1"),
            (TRAIN_ROWS, {"names": ("cat", "cow")}, "names other classes than"),
            (TRAIN_ROWS, {"names": ("cat", "dog", "elk")}, "names other classes than"),
            (TRAIN_ROWS[1:2], {}, r"1 of 2 classes have no training image \(dog\)"),
        ],
    )
    def test_bad_training_files(self, hub, rows, options, message):
        write_parquet(hub / "train-00000-of-00001.parquet", rows, **options)
        if options.get("names", ()) is None:
            write_parquet(hub / "test-00000-of-00001.parquet", TEST_ROWS, names=None)
        with pytest.raises(ElfError, match=message):
            read("parquet", hub)

    def test_a_test_split_without_one_of_the_classes(self, hub):
        write_parquet(hub / "test-00000-of-00001.parquet", TEST_ROWS[:1])
        with pytest.raises(ElfError, match=r"1 of 2 classes have no test image \(first: dog\)"):
            read("parquet", hub)

    def test_missing_files_and_folders(self, hub):
        with pytest.raises(ElfError, match=r"no train-.* in .*/nowhere .found: no such folder"):
            read("parquet", hub / "nowhere")
        (hub / "test-00000-of-00001.parquet").rename(hub / "exam.parquet")
        with pytest.raises(ElfError, match=r"no test-.* or valid-.* or validation-.*\(found: exam.parquet, train-"):
            read("parquet", hub)

    def test_an_incomplete_download(self, hub):
        (hub / "train-00000-of-00001.parquet").rename(hub / "train-00001-of-00003.parquet")
        with pytest.raises(ElfError, match=r"has 1 of the 3 train files"):
            read("parquet", hub)

    @pytest.mark.parametrize("kept", [0, 3, 0.5, 0.95])
    def test_truncated_files(self, hub, kept):
        file = hub / "test-00000-of-00001.parquet"
        content = file.read_bytes()
        file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
        with pytest.raises(ElfError, match=r"test-00000-of-00001.parquet: not a readable parquet file"):
            read("parquet", hub)

    def test_damage_in_the_middle(self, hub):
        file = hub / "test-00000-of-00001.parquet"
        content = bytearray(file.read_bytes())
        # The first page's header lies behind the 4 magic bytes.
        content[4:24] = b"\xff" * 20
        file.write_bytes(content)
        with pytest.raises(ElfError, match=r"test-00000-of-00001.parquet: damaged after row 0"):
            read("parquet", hub)


def write_images(folder, arrays, kind="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{folder.name}_{number}.{kind}")


CLASSES = ("n01", "n02", "n03")


class TestFolder:
    @pytest.fixture
    def plain(self, tmp_path):
        for place, class_name in enumerate(reversed(CLASSES)):
            write_images(tmp_path / "train" / class_name, [pixels(10 * place + number) for number in range(3)])
            write_images(tmp_path / "val" / class_name, [pixels(100 + 10 * place + number) for number in range(2)])
        return tmp_path

    @pytest.fixture
    def tiny(self, plain, tmp_path_factory):
        """The same images in the release's layout of Tiny ImageNet."""
        tiny = tmp_path_factory.mktemp("tiny")
        (tiny / "val" / "images").mkdir(parents=True)
        lines = []
        for class_name in CLASSES:
            shutil.copytree(plain / "train" / class_name, tiny / "train" / class_name / "images")
            (tiny / "train" / class_name / f"{class_name}_boxes.txt").write_text("boxes")
            for file in (plain / "val" / class_name).iterdir():
                shutil.copy(file, tiny / "val" / "images")
                lines.append(f"{file.name}\t{class_name}\t0\t0\t62\t62\n")
        (tiny / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
        (tiny / "test" / "images").mkdir(parents=True)
        shutil.copy(file, tiny / "test" / "images")
        return tiny

    def test_classes_are_alphabetical_and_images_in_order_of_names(self, plain):
        dataset = read("folder", plain)
        assert dataset.class_names == CLASSES
        assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
        expected = np.stack([pixels(seed) for seed in (20, 21, 22, 10, 11, 12, 0, 1, 2)])
        assert np.array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), expected)

    @pytest.mark.parametrize("workers", [2, 5])
    def test_workers_change_nothing(self, plain, workers):
        assert same(read("folder", plain, workers=workers), read("folder", plain))

    @pytest.mark.parametrize("workers", [1, 3])
    def test_the_first_of_several_damaged_images_is_named(self, plain, workers):
        for class_name in ("n03", "n02"):
            (plain / "train" / class_name / f"{class_name}_1.png").write_bytes(b"no image")
        with pytest.raises(ElfError, match=r"train/n02/n02_1.png: cannot decode"):
            read("folder", plain, workers=workers)

    def test_test_folder_hidden_files_and_other_files(self, plain):
        expected = read("folder", plain)
        (plain / "val").rename(plain / "test")
        (plain / "train" / ".cache").mkdir()
        (plain / "train" / "n01" / ".hidden.png").write_bytes(b"no image")
        (plain / "train" / "n01" / "notes.txt").write_text("no image")
        assert same(read("folder", plain), expected)

    def test_all_layouts_of_tiny_imagenet_are_the_same_data(self, plain, tiny):
        expected, validation = read("folder", plain), tiny / "val"
        assert same(read("folder", tiny), expected)
        shutil.copytree(plain / "val", validation, dirs_exist_ok=True)
        for file in (validation / "images").iterdir():
            file.unlink()
        assert same(read("folder", tiny), expected)  # sorted into val/, the empty val/images left behind
        for class_name in CLASSES:
            shutil.move(validation / class_name, validation / "images" / class_name)
        assert same(read("folder", tiny), expected)  # sorted into val/images/

    def test_a_class_may_be_called_images(self, plain):
        for split in ("train", "val"):
            (plain / split / "n01").rename(plain / split / "images")
        assert read("folder", plain).class_names == ("images", "n02", "n03")

    def test_wrong_levels(self, plain):
        (plain / "inner").mkdir()
        for split in ("train", "val"):
            shutil.copytree(plain / split, plain / "inner" / split)
            shutil.rmtree(plain / split)
        with pytest.raises(ElfError, match=r"is not of the layout .*; found: inner"):
            read("folder", plain)
        with pytest.raises(ElfError, match=r"is not of the layout .*; found: n01, n02, n03"):
            read("folder", plain / "inner" / "train")
        with pytest.raises(ElfError, match=r"no such folder"):
            read("folder", plain / "nowhere")

    @pytest.mark.parametrize("group", ["all", "images"])
    def test_a_level_too_many_does_not_give_one_class(self, plain, group):
        (plain / "train").rename(plain / "classes")
        (plain / "train").mkdir()
        (plain / "classes").rename(plain / "train" / group)
        with pytest.raises(ElfError, match=rf"train/{group}/n01: a folder inside a class folder"):
            read("folder", plain)

    def test_one_class(self, plain):
        for class_name in CLASSES[1:]:
            shutil.rmtree(plain / "train" / class_name)
        with pytest.raises(ElfError, match=r"train has 1 class folder\(s\) \(n01\), at least 2"):
            read("folder", plain)

    def test_images_beside_the_class_folders(self, plain):
        write_images(plain / "train", [pixels(0)])
        with pytest.raises(ElfError, match=r"train_0.png: an image outside the class folders"):
            read("folder", plain)

    def test_a_class_only_in_the_test_split(self, plain):
        shutil.rmtree(plain / "train" / "n02")
        with pytest.raises(ElfError, match=r"class n02 of .*/val has no folder in .*/train"):
            read("folder", plain)

    def test_a_class_missing_in_the_test_split(self, plain):
        shutil.rmtree(plain / "val" / "n02")
        with pytest.raises(ElfError, match=r"no test image .first: n02"):
            read("folder", plain)

    def test_empty_class(self, plain):
        (plain / "train" / "n04").mkdir()
        with pytest.raises(ElfError, match=r"train/n04: no image in this class"):
            read("folder", plain)

    def test_undecodable_image_is_named(self, plain):
        file = plain / "val" / "n03" / "n03_1.png"
        file.write_bytes(file.read_bytes()[:-30])
        with pytest.raises(ElfError, match=r"val/n03/n03_1.png: cannot decode the image"):
            read("folder", plain)
        file.write_bytes(b"")
        with pytest.raises(ElfError, match=r"n03_1.png: cannot decode the image .of no known format"):
            read("folder", plain)

    def test_bad_annotations(self, tiny):
        annotations = tiny / "val" / "val_annotations.txt"
        intact = annotations.read_text()
        annotations.write_text(intact + "somewhere.png\tn01\t0\t0\t1\t1\n")
        with pytest.raises(ElfError, match=r"images/somewhere.png: the image is missing, but annotated"):
            read("folder", tiny)
        annotations.write_text(intact.partition("\n")[2])
        with pytest.raises(ElfError, match=r"n0._..png: the image is not annotated in"):
            read("folder", tiny)
        annotations.write_text(intact + "no tabs")
        with pytest.raises(ElfError, match=r"val_annotations.txt, line 7: expected file name, tab, class"):
            read("folder", tiny)
        annotations.write_text(intact.replace("n02\t", "n09\t"))
        with pytest.raises(ElfError, match=r"class n09 of .*/val has no folder"):
            read("folder", tiny)


class MarksThatItWasRead:
    """Unpickling this creates the file ``marker``."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address at which the files of the folder ``served`` can be downloaded."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class TestTorchvisionCIFAR:
    """With small stand-ins for the official files: the class attributes say what torchvision accepts."""

    TRAIN = np.stack([pixels(seed, (32, 32)) for seed in range(4)])
    TEST = np.stack([pixels(seed, (32, 32)) for seed in range(4, 6)])

    @pytest.fixture(params=["cifar10", "cifar100"])
    def name(self, request):
        return request.param

    @pytest.fixture
    def official(self, name, tmp_path, monkeypatch, server):
        """Folder with the stand-ins; torchvision downloads the same from ``server``."""
        from torchvision import datasets

        reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        folder = tmp_path / "official" / torchvision_cifar.FOLDERS[name]
        folder.mkdir(parents=True)
        key = {"cifar10": "labels", "cifar100": "fine_labels"}[name]

        def write(file_name, content):
            (folder / file_name).write_bytes(pickle.dumps(content))
            return hashlib.md5((folder / file_name).read_bytes()).hexdigest()

        def batch(images, labels):
            return {"data": images.transpose(0, 3, 1, 2).reshape(len(images), 3072), key: labels}

        train_list = [
            ["first", write("first", batch(self.TRAIN[:2], [1, 0]))],
            ["second", write("second", batch(self.TRAIN[2:], [0, 1]))],
        ]
        monkeypatch.setattr(reader, "train_list", train_list)
        monkeypatch.setattr(reader, "test_list", [["exam", write("exam", batch(self.TEST, [0, 1]))]])
        meta = {"filename": "names", "key": "names", "md5": write("names", {"names": ["cat", "dog"]})}
        monkeypatch.setattr(reader, "meta", meta)
        archive = tmp_path / "served" / "archive.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, folder.name)
        monkeypatch.setattr(reader, "url", f"{server}/archive.tar.gz")
        monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        return folder

    def check(self, dataset):
        assert dataset.class_names == ("cat", "dog")
        assert dataset.train.labels.tolist() == [1, 0, 0, 1] and dataset.test.labels.tolist() == [0, 1]
        assert np.array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), self.TRAIN)
        assert np.array_equal(dataset.test.images.permute(0, 2, 3, 1).numpy(), self.TEST)

    def test_present(self, name, official):
        self.check(read("torchvision", official.parent, side=32, name=name, download=False))
        self.check(read("torchvision", official.parent, side=32, name=f"{name}-zca", download=False))

    def test_resized(self, name, official):
        dataset = read("torchvision", official.parent, side=16, name=name)
        expected = Image.fromarray(self.TRAIN[0]).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(dataset.train.images[0].permute(1, 2, 0).numpy(), np.asarray(expected))

    def test_downloaded_when_absent_and_nothing_else_left_behind(self, name, official, tmp_path):
        location = tmp_path / "new" / "data"
        self.check(read("torchvision", location, side=32, name=name))
        assert [entry.name for entry in location.iterdir()] == [official.name]

    def test_altered_files_are_refused_before_they_are_unpickled(self, name, official, tmp_path):
        marker = tmp_path / "marker"
        (official / "second").write_bytes(pickle.dumps(MarksThatItWasRead(marker)))
        with pytest.raises(ElfError, match=rf"{official.name} is missing or differs from the official one"):
            read("torchvision", official.parent, side=32, name=name)
        assert not marker.exists()
        pickle.loads((official / "second").read_bytes()).close()
        assert marker.exists()

    def test_failed_download_says_what_was_looked_for(self, name, official, tmp_path):
        (tmp_path / "served" / "archive.tar.gz").unlink()
        location = tmp_path / "new"
        with pytest.raises(ElfError) as caught:
            read("torchvision", location, side=32, name=name)
        assert f"no folder {location / official.name}" in str(caught.value)
        assert "the download failed (" in str(caught.value) and "train-*.parquet" in str(caught.value)
        assert list(location.iterdir()) == []

    def test_downloads_can_be_switched_off(self, name, official, tmp_path):
        with pytest.raises(ElfError, match=r"downloads are switched off"):
            read("torchvision", tmp_path / "new", side=32, name=name, download=False)
        assert not (tmp_path / "new").exists()

    def test_only_cifar(self, tmp_path):
        with pytest.raises(ElfError, match=r"'mnist': the source torchvision has only cifar10 and cifar100"):
            read("torchvision", tmp_path, name="mnist")


OFFICIAL_CIFAR10_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}


@pytest.fixture(scope="module")
def cifar10(shared_data):
    return read("parquet", shared_data / "cifar10", side=32, name="cifar10")


class TestRealImages:
    def test_cifar10_is_the_official_one_byte_for_byte(self, cifar10):
        def md5(part):
            rows = torch.cat([part.labels.to(torch.uint8)[:, None], part.images.flatten(1)], dim=1)
            return hashlib.md5(rows.numpy().tobytes()).hexdigest()

        batches = [cifar10.train.select(torch.arange(first, first + 10000)) for first in range(0, 50000, 10000)]
        assert [md5(part) for part in [*batches, cifar10.test]] == list(OFFICIAL_CIFAR10_MD5.values())
        assert cifar10.class_names[:3] == ("airplane", "automobile", "bird")
        assert cifar10.train.labels.bincount().tolist() == [5000] * 10

    def test_cifar10_has_mean_0_and_std_1_under_its_own_constants(self, cifar10):
        normalised = normalisation("frepo-cifar10").transform(cifar10.test.images)
        assert normalised.mean((0, 2, 3)).abs().max() < 0.02
        assert (normalised.std((0, 2, 3)) - 1).abs().max() < 0.01

    def test_tiny_imagenet_subset(self, tiny_subset):
        dataset = read("parquet", tiny_subset, side=64, name="tiny-imagenet-subset")
        assert dataset.class_names[0] == "n01443537" and dataset.class_names[24] == "n02085620"
        assert dataset.train.labels.bincount().tolist() == [500] * 25
        assert dataset.test.labels.bincount().tolist() == [50] * 25
        for part, greyscale_files in ((dataset.train, 47), (dataset.test, 8)):
            red, green, blue = part.images.unbind(1)
            grey = ((red == green) & (green == blue)).flatten(1).all(1)
            assert grey.sum() >= greyscale_files


VALIDATION_LAYOUTS = ("flat with annotations", "class folders", "class folders under images", "images left behind")


@pytest.fixture(scope="module")
def tiny_subset(shared_data):
    location = shared_data / "tiny-imagenet-subset"
    if not location.is_dir():
        pytest.skip(f"there is no {location}; ELF_TEST_DATA_DIR names the folder that has it")
    return location


@pytest.fixture(scope="module")
def some_tiny_rows(tiny_subset):
    """Some rows of each split of Tiny ImageNet as the parquet files hold them: encoded image and label."""
    rows = {}
    for split in ("train", "test"):
        (file,) = tiny_subset.glob(f"{split}-*.parquet")
        table = pq.read_table(file)
        image, label = (next(n for n in names if n in table.column_names) for names in (("img", "image"), ("label",)))
        labels = np.asarray(table.column(label))
        # All greyscale images are among those that are kept, and some images of every class.
        encoded_images = [entry["bytes"] for entry in table.column(image).to_pylist()]
        grey = [place for place, content in enumerate(encoded_images) if Image.open(io.BytesIO(content)).mode == "L"]
        first = [place for wanted in range(25) for place in np.flatnonzero(labels == wanted)[:4]]
        rows[split] = [(encoded_images[place], int(labels[place])) for place in sorted({*grey, *first})]
        assert grey
    return rows


@pytest.mark.parametrize("layout", VALIDATION_LAYOUTS)
def test_tiny_imagenet_is_the_same_in_every_layout_pixel_for_pixel(some_tiny_rows, layout, tmp_path):
    names = tuple(f"n{label:08d}" for label in range(25))
    write_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet", some_tiny_rows["train"], names=names)
    write_parquet(tmp_path / "hub" / "valid-00000-of-00001.parquet", some_tiny_rows["test"], names=names)
    tree, annotations = tmp_path / "tree", []

    def write(folder, number, encoded_image):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"val_{number:05d}.JPEG").write_bytes(encoded_image)

    for number, (content, label) in enumerate(some_tiny_rows["train"]):
        write(tree / "train" / names[label] / "images", number, content)
    for number, (content, label) in enumerate(some_tiny_rows["test"]):
        folders = {
            "flat with annotations": tree / "val" / "images",
            "class folders": tree / "val" / names[label],
            "class folders under images": tree / "val" / "images" / names[label],
            "images left behind": tree / "val" / names[label],
        }
        write(folders[layout], number, content)
        annotations.append(f"val_{number:05d}.JPEG\t{names[label]}\t0\t0\t62\t62\n")
    if layout != "class folders":
        (tree / "val" / "images").mkdir(exist_ok=True)
        (tree / "val" / "val_annotations.txt").write_text("".join(annotations))
    hub = read("parquet", tmp_path / "hub", side=64)
    folder = read("folder", tree, side=64, workers=2)
    assert folder.class_names == hub.class_names == names
    assert folder.class_order == hub.class_order == "alphabetical wnids"
    for split in ("train", "test"):
        expected, found = getattr(hub, split), getattr(folder, split)
        # Class folders have another order of the images, within a class the same.
        order = torch.argsort(expected.labels, stable=True)
        assert torch.equal(found.labels, expected.labels[order])
        assert torch.equal(found.images, expected.images[order])
