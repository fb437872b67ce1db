"""The batches of the downsampled ImageNet: pickles of every age and archives, read without running anything."""

import io
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from elf.data.reading import read_dataset
from elf.data.sources.layouts import DOWNSAMPLED_TRAIN
from elf.data.sources.pickled import LARGE, read_pickle
from elf.errors import ElfError

SIDE = 8


def rows(seed: int, count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3 * side * side), dtype=np.uint8)


def python2(data: np.ndarray, labels: list[int]) -> bytes:
    """Return what ``cPickle.dump({'data': ..., 'labels': ...}, file, 2)`` of Python 2 writes."""
    text = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01" + b"J" + struct.pack("<i", data.shape[0]) + b"J" + struct.pack("<i", data.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", len(text)) + text + b"tb"
    )
    numbers = b"](" + b"".join(b"M" + struct.pack("<H", label) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def pickled(protocol: int):
    def write(data: np.ndarray, labels: list[int]) -> bytes:
        return pickle.dumps({"data": data, "labels": labels, "mean": data.mean(0)}, protocol)

    return write


def bytes_as_keys(data: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({b"data": data, b"labels": np.array(labels)}, 3)


def archive(data: np.ndarray, labels: list[int]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, data=data, labels=np.array(labels))
    return buffer.getvalue()


def squeezed(data: np.ndarray, labels: list[int]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, data=data, labels=np.array(labels))
    return buffer.getvalue()


WRITERS = {f"protocol {number}": pickled(number) for number in range(6)} | {
    "Python 2": python2,
    "bytes as keys": bytes_as_keys,
    "npz": archive,
    "compressed npz": squeezed,
}
FILES = (*DOWNSAMPLED_TRAIN, "val_data")
LABELS = {name: [(3 * number + place) % 5 + 1 for place in range(4)] for number, name in enumerate(FILES)}
LABELS["val_data"] = [1, 2, 3, 4, 5]


def write(folder, writer, **changes):
    """Write all files; ``changes`` are other labels of some."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(FILES):
        labels = changes.get(name, LABELS[name])
        ending = ".npz" if writer in (archive, squeezed) else ""
        (folder / f"{name}{ending}").write_bytes(writer(rows(number, len(labels)), labels))
    return folder


def read(folder, side: int = SIDE):
    return read_dataset("downsampled", name="imagenet-1k", location=folder, side=side)


@pytest.mark.parametrize("form", WRITERS)
def test_pixels_and_labels_in_the_order_of_the_files(form, tmp_path):
    dataset = read(write(tmp_path / "release", WRITERS[form]))
    expected = np.concatenate([rows(number, 4) for number in range(10)]).reshape(-1, 3, SIDE, SIDE)
    assert np.array_equal(dataset.train.images.numpy(), expected)
    assert np.array_equal(dataset.test.images.numpy(), rows(10, 5).reshape(-1, 3, SIDE, SIDE))
    assert dataset.train.labels.tolist() == [label - 1 for name in DOWNSAMPLED_TRAIN for label in LABELS[name]]
    assert dataset.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert dataset.class_names == ("1", "2", "3", "4", "5")
    assert dataset.class_order == "labels of the downsampled release"


@pytest.mark.parametrize("protocol", range(6))
def test_large_arrays_stay_in_the_file(protocol, tmp_path):
    data = rows(0, LARGE // SIDE)
    file = tmp_path / "train_data_batch_1"
    file.write_bytes(pickled(protocol)(data, [1]))
    found = read_pickle(file)["data"]
    assert np.array_equal(found, data) and not found.flags.writeable
    if protocol > 2:
        # Below, Python 3 writes bytes as text.
        assert not found.flags.owndata and isinstance(base(found), memoryview)


def base(array: np.ndarray):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def test_other_sides_are_resized(tmp_path):
    dataset = read(write(tmp_path / "release", pickled(4)), side=16)
    original = Image.fromarray(rows(0, 4)[0].reshape(3, SIDE, SIDE).transpose(1, 2, 0))
    expected = np.asarray(original.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(dataset.train.images[0].permute(1, 2, 0).numpy(), expected)


def test_missing_and_unknown_files_are_named(tmp_path):
    folder = write(tmp_path / "release", pickled(4))
    (folder / "train_data_batch_3").unlink()
    (folder / "val_data").unlink()
    with pytest.raises(ElfError, match=r"lacks train_data_batch_3, val_data of the downsampled release"):
        read(folder)
    write(folder, pickled(4))
    (folder / "train_data_batch_11").touch()
    (folder / "val_data.npz").touch()
    with pytest.raises(ElfError, match=r"holds train_data_batch_11, val_data.npz besides the 10 training files"):
        read(folder)


@pytest.mark.parametrize("source", ["downsampled", "folder"])
def test_two_orders_of_classes_are_never_mixed(source, tmp_path):
    folder = write(tmp_path / "release", pickled(4))
    for split in ("train", "val"):
        for class_name in ("n01440764", "n01443537"):
            (folder / split / class_name).mkdir(parents=True)
            Image.new("RGB", (SIDE, SIDE)).save(folder / split / class_name / "a.png")
    with pytest.raises(ElfError, match=r"both batches of the downsampled release .train_data_batch_1. and image fold"):
        read_dataset(source, name="imagenet-1k", location=folder, side=SIDE)
    for file in FILES:
        (folder / file).unlink()
    dataset = read_dataset("folder", name="imagenet-1k", location=folder, side=SIDE)
    assert dataset.class_order == "alphabetical wnids"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": rows(0, 4)}, "holds no labels; found data"),
        ({"data": [1], "labels": [1]}, "data is a list, expected an array of uint8"),
        ({"data": rows(0, 4).astype(np.float32), "labels": [1] * 4}, "data is float32 of shape"),
        ({"data": rows(0, 4)[:, 1:], "labels": [1] * 4}, "expected uint8 of shape .n, 12288."),
        ({"data": rows(0, 4), "labels": [1] * 3}, r"labels are int64 of shape \(3,\), expected 4 integers"),
        ({"data": rows(0, 4), "labels": [1, 2, 3, 0]}, "label 0, allowed are 1 to 1000"),
        ({"data": rows(0, 4), "labels": [1, 2, 3, 1001]}, "label 1001, allowed are 1 to 1000"),
        ({"data": rows(0, 4), "labels": [1, 2, 3, 0.5]}, "labels are float64"),
        ([rows(0, 4)], "no intact pickle of a dictionary"),
    ],
)
def test_other_content_is_refused(content, message, tmp_path):
    folder = write(tmp_path / "release", pickled(4))
    (folder / "train_data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(ElfError, match=rf"train_data_batch_2: .*{message}"):
        read(folder)


def test_archives_with_objects_or_damage_are_refused(tmp_path):
    folder = write(tmp_path / "release", archive)
    file = folder / "train_data_batch_2.npz"
    intact = file.read_bytes()
    np.savez(file, data=rows(0, 4), labels=np.array([object()]))
    with pytest.raises(ElfError, match=r"train_data_batch_2.npz: no intact archive .*allow_pickle"):
        read(folder)
    np.savez(file, labels=np.array([1]))
    with pytest.raises(ElfError, match=r"train_data_batch_2.npz: no intact archive"):
        read(folder)
    damaged = bytearray(intact)
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("data.npy", bytes(damaged[:300]))
    with pytest.raises(ElfError, match=r"train_data_batch_2.npz: no intact archive"):
        read(folder)


class Runs:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_calls_is_run(protocol, tmp_path):
    marker, file = tmp_path / "marker", tmp_path / "train_data_batch_1"
    for attack in (Runs(open, str(marker), "w"), Runs(eval, "1"), Runs(getattr, "a", "upper"), torch.zeros(1)):
        file.write_bytes(pickle.dumps({"data": rows(0, 1), "labels": attack}, protocol))
        with pytest.raises(ElfError, match=r"it calls .*, and loading it would run code"):
            read_pickle(file)
    assert not marker.exists()


def test_what_may_be_named_cannot_be_changed(tmp_path):
    from elf.data.sources import pickled as module

    before = module.scalar.__defaults__
    # The state of a function is set: what its arguments are by default.
    function, state = b"cnumpy.core.multiarray\nscalar\n", b"N}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b"
    text = b"\x80\x04}(X\x04\x00\x00\x00data" + function + state + b"u."
    pickletools.dis(text, out=io.StringIO())
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(ElfError, match="it changes something that is no array"):
        read_pickle(tmp_path / "a")
    assert module.scalar.__defaults__ == before


@given(data=st.data())
def test_damaged_pickles_are_read_or_refused(data, tmp_path_factory):
    protocol = data.draw(st.sampled_from([2, 4]))
    content = bytearray(pickled(protocol)(rows(0, 2), [1, 2]))
    content = content[: data.draw(st.integers(0, len(content)))]
    for place in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=3)):
        if content:
            content[place] ^= data.draw(st.integers(1, 255))
    file = tmp_path_factory.mktemp("damaged") / "a"
    file.write_bytes(content)
    try:
        assert isinstance(read_pickle(file), dict)
    except ElfError as error:
        assert str(error).startswith(f"{file}: refused, or no intact pickle") and "\n" not in str(error)
