"""Datasets that are too large for memory give the same bits as others, and stay in their files."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elf.artifacts.manifest import describe
from elf.artifacts.mapping import map_tensors
from elf.artifacts.tensors import read_tensors, write_tensors
from elf.data import allocation
from elf.data import normalised as module
from elf.data.images import LabelledImages, subset
from elf.data.normalised import NormalisedImages, normalised, take
from elf.data.preprocessing import CONSTANTS, fit_zca, normalisation
from elf.distillation import dm, dsa, frepo, herding
from elf.distillation.shared.synthetic import RealImages, hold_out
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.running.inputs import read_split
from elf.specs.training import TrainingRecipe
from elf.training.protocol import accuracy, train

CPU = torch.device("cpu")
NETWORK = "convnet-w4-d2-in"


def some_pixels(count: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator(seed))


def both(pixels: torch.Tensor, name: str = "cifar") -> tuple[torch.Tensor, NormalisedImages]:
    """Return the same images as a tensor and as bytes that are normalised when they are taken."""
    return normalisation(name).transform(pixels), NormalisedImages(pixels, normalisation(name), CPU)


@given(st.data())
def test_what_is_taken_is_what_a_tensor_holds(data):
    count = data.draw(st.integers(1, 40))
    resident, lazy = both(
        some_pixels(count, data.draw(st.sampled_from([4, 7]))), data.draw(st.sampled_from([*CONSTANTS]))
    )
    positions = st.lists(st.integers(0, count - 1), min_size=1, max_size=50).map(torch.tensor)
    for _ in range(data.draw(st.integers(0, 2))):
        kept = data.draw(positions)
        resident, lazy = resident[kept], lazy.subset(kept)
        positions = st.lists(st.integers(0, len(kept) - 1), min_size=1, max_size=50).map(torch.tensor)
    assert (len(lazy), lazy.shape, lazy.dtype, lazy.device) == (
        len(resident),
        resident.shape,
        resident.dtype,
        resident.device,
    )
    index = data.draw(positions)
    assert torch.equal(take(lazy, index), take(resident, index))
    part = data.draw(st.slices(len(lazy)).filter(lambda part: (part.step or 1) > 0))
    assert torch.equal(lazy[part], resident[part])


def test_the_size_decides_and_whitened_images_stay_a_tensor(monkeypatch):
    pixels = some_pixels(20, 4)
    monkeypatch.setitem(module.LARGEST_RESIDENT, "cpu", pixels.numel() * 4)
    assert isinstance(normalised(pixels, normalisation("cifar"), CPU), torch.Tensor)
    monkeypatch.setitem(module.LARGEST_RESIDENT, "cpu", pixels.numel() * 4 - 1)
    assert isinstance(normalised(pixels, normalisation("cifar"), CPU), NormalisedImages)
    assert isinstance(normalised(pixels, fit_zca(pixels), CPU), torch.Tensor)


def trained(images, labels, per_class: int = 0) -> dict[str, torch.Tensor]:
    real, _ = hold_out(RealImages(images, labels, 3), per_class)
    network = build_network(NETWORK, classes=3, side=8, generator=generator(0, "network"))
    recipe = TrainingRecipe(
        epochs=3,
        final_pass=True,
        lr=0.05,
        momentum=0.9,
        weight_decay=0.0005,
        batch_size=7,
        lr_drop=True,
        augmentation="color_crop_cutout_flip_scale_rotate",
    )
    train(
        network,
        real.images,
        real.labels,
        recipe,
        order_generator=generator(0, "order"),
        augmentation_generator=generator(0, "augmentation"),
    )
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return state | {"accuracy": torch.tensor(accuracy(network, images, labels, batch_size=5))}


@pytest.mark.parametrize("per_class", [0, 4])
def test_training_and_testing_are_the_same_bit_for_bit(per_class):
    labels = torch.arange(45) % 3
    resident, lazy = (trained(images, labels, per_class) for images in both(some_pixels(45)))
    for name, tensor in resident.items():
        assert torch.equal(tensor, lazy[name]), name


METHODS = {
    dm: {
        "iterations": 2,
        "lr": 1.0,
        "momentum": 0.5,
        "batch_real": 6,
        "augmentation": "color_crop_cutout_flip_scale_rotate",
    },
    dsa: {
        **{"iterations": 1, "outer_loop": 2, "inner_loop": 1, "lr": 0.1, "momentum": 0.5, "lr_network": 0.01},
        **{
            "batch_real": 6,
            "batch_inner": 4,
            "bn_real": 2,
            "distance": "ours",
            "augmentation": "color_crop_cutout_flip_scale_rotate",
        },
    },
    frepo: {
        **{"iterations": 2, "lr": 0.0003, "lr_final_fraction": 0.1, "batch_real": 20, "ridge": 1e-3},
        **{"precision": "float64", "mirror": False, "pool_size": 2, "online_steps": 10, "lr_network": 0.0003},
        "batch_online": 5,
    },
    herding: {},
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_methods_make_the_same_set_bit_for_bit(method):
    labels = torch.arange(45) % 3

    def distilled(images):
        return method.distill(
            RealImages(images, labels, 3),
            settings=METHODS[method] | {"align_corners": False},
            ipc=2,
            network=NETWORK,
            seed=0,
            progress=lambda *_: None,
        )

    resident, lazy = map(distilled, both(some_pixels(45)))
    assert torch.equal(resident.images, lazy.images) and torch.equal(resident.labels, lazy.labels)


def written(path, tensors):
    return write_tensors(path, tensors, describe("dataset", {}, inputs={}, code="{}", measured={}))


def test_mapped_tensors_are_those_that_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "images": some_pixels(5),
        "labels": torch.arange(5),
        "mean": torch.tensor([0.1, 0.2], dtype=torch.float64),
        "odd": torch.arange(3, dtype=torch.uint8),
        "matrix": torch.randn(4, 3, generator=generator(1)),
    }
    written(path, tensors)
    mapped, manifest = map_tensors(path, "dataset", tensors)
    read, same = read_tensors(path, "dataset")
    assert manifest == same
    for name, tensor in read.items():
        assert mapped[name].dtype == tensor.dtype and torch.equal(mapped[name], tensor)


def test_damage_is_noticed_in_what_is_mapped_and_only_there(tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, {"first": torch.arange(100, dtype=torch.uint8), "second": torch.zeros(100, dtype=torch.uint8)})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    map_tensors(path, "dataset", ["first"])
    with pytest.raises(ElfError, match=r"is damaged .*the checksum of second does not fit"):
        map_tensors(path, "dataset", ["second"])
    with pytest.raises(ElfError, match=r"holds no third; found first, second"):
        map_tensors(path, "dataset", ["third"])
    path.write_bytes(content[:-50])
    with pytest.raises(ElfError, match="is damaged"):
        map_tensors(path, "dataset", ["second"])


def test_large_arrays_lie_in_files_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(allocation, "LARGEST_IN_MEMORY", 3 * 16 * 10)
    allocate = allocation.beside(tmp_path / "new")
    small, large = allocate(10, 4), allocate(11, 4)
    assert not isinstance(small, np.memmap) and isinstance(large, np.memmap)
    large[:] = 7
    assert large.shape == (11, 3, 4, 4) and (np.asarray(large) == 7).all()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(allocation, "LARGEST_IN_MEMORY", 0)
    with pytest.raises(ElfError, match=r"cannot hold a temporary file of .* GB for the images"):
        allocation.beside(tmp_path)(10**13, 4)


def test_a_subset_is_put_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(allocation, "LARGEST_IN_MEMORY", 0)
    images = LabelledImages(some_pixels(30, 4), torch.arange(30) % 3)
    kept = subset(images, 4, allocate=allocation.beside(tmp_path))
    expected = subset(images, 4)
    assert torch.equal(kept.images, expected.images) and torch.equal(kept.labels, expected.labels)


COUNT, SIDE = 24_000, 64
"""295 MB of bytes, 1.2 GB as floats."""

PROGRAM = """
import json, sys, threading
from pathlib import Path

import torch

from elf.cli import main
from elf.data import allocation, normalised, preprocessing
from elf.specs.dataset import DatasetSpec
from elf.running.inputs import read_split
from elf.training.protocol import accuracy, train
from elf.networks.building import build_network
from elf.machine.randomness import generator
from elf.specs.training import TrainingRecipe
from elf.distillation.shared.synthetic import RealImages, indices_by_class, sample

def anonymous():
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

class Peak:
    def __enter__(self):
        self.start, self.highest, self.stop = anonymous(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self
    def watch(self):
        while not self.stop.wait(0.002):
            self.highest = max(self.highest, anonymous() - self.start)
    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

folder, source = Path(sys.argv[1]), sys.argv[2]
allocation.LARGEST_IN_MEMORY = 2**20
normalised.LARGEST_RESIDENT = {"cpu": 2**20}
torch.set_num_threads(1)
file, peaks = folder / "prepared" / "images.safetensors", {}
spec = DatasetSpec(name="large", source=source, location="large", side=64, normalisation="imagenet")

def steps(images, labels):
    network = build_network("convnet-w4-d4-in", classes=10, side=64, generator=generator(0))
    recipe = TrainingRecipe(epochs=1, final_pass=False, lr=0.01, momentum=0.9, weight_decay=0, batch_size=64,
                            lr_drop=False, augmentation="none")
    train(network, images, labels, recipe, order_generator=generator(1), augmentation_generator=generator(2))
    accuracy(network, images, labels)

with Peak() as warm:
    steps(torch.zeros(256, 3, 64, 64), torch.zeros(256, dtype=torch.int64))
files = ["--images", str(file), "--card", str(folder / "prepared" / "card.json")]
with Peak() as peak:
    main(["prepare-dataset", "--settings", spec.canonical(), "--data-folder", str(folder), *files])
peaks["preparing"] = peak.highest
with Peak() as peak:
    split = read_split(file, "train", torch.device("cpu"))
    total = sum(float(split.images[i:i + 500].sum()) for i in range(0, len(split.images), 4000))
peaks["reading"] = peak.highest
with Peak() as peak:
    steps(split.images.subset(torch.arange(0, len(split.images), 8)), split.labels[::8])
peaks["training"] = peak.highest
with Peak() as peak:
    real = RealImages(split.images, split.labels, split.classes)
    for batch in sample(real.images, indices_by_class(real), 16, generator(3)):
        assert len(batch) == 16
peaks["sampling"] = peak.highest
print(json.dumps(peaks))
"""


def write_release(folder) -> None:
    """Write a stand-in of the downsampled release, with what it needs to be held in memory."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(1, 11):
        write_batch(folder / f"train_data_batch_{number}", random, COUNT // 10)
    write_batch(folder / "val_data", random, 100)


def write_batch(file, random, count: int) -> None:
    import pickle

    pixels = random.integers(0, 256, (count, 3 * SIDE * SIDE), dtype=np.uint8)
    labels = [int(label) for label in np.arange(count) % 10 + 1]
    with open(file, "wb") as stream:
        pickle.dump({"data": pixels, "labels": labels, "mean": np.zeros(3 * SIDE * SIDE)}, stream, protocol=4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures with /proc")
def test_memory_stays_far_below_the_size_of_the_file(run_python, tmp_path):
    write_release(tmp_path / "large")
    ended = run_python("-c", PROGRAM, tmp_path, "downsampled")
    assert ended.returncode == 0, ended.stderr
    peaks = json.loads(ended.stdout.splitlines()[-1])
    size = COUNT * 3 * SIDE * SIDE
    assert (tmp_path / "prepared" / "images.safetensors").stat().st_size > size
    # The activations of the network are among it.
    assert all(peak < size / 2 for peak in peaks.values()), peaks
    split = read_split(tmp_path / "prepared" / "images.safetensors", "test", CPU)
    assert len(split.images) == 100 and split.manifest["spec"]["class_order"] == "labels of the downsampled release"
