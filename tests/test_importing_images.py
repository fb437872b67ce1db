"""The images of a set, written in any layout and format: importing gives back what was written, or refuses."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from elf.data.preprocessing import CONSTANTS, Normalisation, fit_zca
from elf.distillation.shared.synthetic import SyntheticSet
from elf.errors import ElfError
from elf.importing.constants import ALL_CONSTANTS
from elf.importing.names import result_name, said_by_name
from elf.importing.sets import ImportedSet, Known, import_set
from elf.importing.spaces import by_statistics, neighbour_correlation
from elf.importing.using import read_imported

SIDE = 8
CIFAR = Normalisation(*CONSTANTS["cifar"])


def photos(count: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Bytes that vary smoothly, as those of photographs do."""
    coarse = torch.rand(count, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, size=SIDE, mode="bilinear", align_corners=True)
    return (smooth * 255).round().to(torch.uint8)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conclusion(imported: ImportedSet, subject: str) -> str:
    return next((str(one) for one in imported.conclusions if one.subject == subject), "")


# --- any layout of arrays --------------------------------------------------------------------------------


def written(folder: Path, layout: str, images: torch.Tensor, labels: torch.Tensor) -> list[Path]:
    """Write images (n, c, s, s) in class order in one of the layouts of docs/importing.md."""
    classes, ipc = int(labels.max()) + 1, len(labels) // (int(labels.max()) + 1)
    last, by_class = images.permute(0, 2, 3, 1).contiguous(), list(images.split(ipc))
    contents = {
        "res_DM_SOME_ConvNet_1ipc.pt": {"data": [[images, labels]]},
        "pair.pt": [images, labels],
        "dictionary.pt": {"images": images, "labels": labels},
        "last.pt": {"x": last, "y": labels},
        "five.pt": {"images": images.view(classes, ipc, *images.shape[1:]), "labels": labels},
        "list.pt": by_class,
        "numbers.pt": dict(enumerate(by_class)),
    }
    if layout in contents:
        torch.save(contents[layout], folder / layout)
        return [folder / layout]
    if layout == "two.pt":
        torch.save(images, folder / "images_best.pt")
        torch.save(labels, folder / "labels_best.pt")
        return [folder]
    np.savez(folder / "set.npz", images=last.numpy(), labels=labels.numpy())
    return [folder / "set.npz"]


LAYOUTS = ["res_DM_SOME_ConvNet_1ipc.pt", "pair.pt", "dictionary.pt", "last.pt", "five.pt", "list.pt", "numbers.pt"]


@given(
    layout=st.sampled_from([*LAYOUTS, "two.pt", "set.npz"]),
    classes=st.integers(2, 4),
    ipc=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 4]),
    kind=st.sampled_from([torch.uint8, torch.float16, torch.float32, torch.float64, torch.int16]),
    seed=st.integers(0, 1000),
)
def test_arrays_come_back_or_are_refused(tmp_path_factory, layout, classes, ipc, channels, kind, seed):
    pixels = photos(classes * ipc, channels, seed)
    images = pixels if kind in (torch.uint8, torch.int16) else (2 * noise(pixels.shape, seed)).to(kind)
    labels = torch.arange(classes).repeat_interleave(ipc)
    paths = written(tmp_path_factory.mktemp("set"), layout, images.to(kind), labels)
    try:
        found = import_set(paths, Known(classes=classes, space="auto" if images.dtype == torch.uint8 else "cifar"))
    except ElfError:
        assert channels in (2, 4) or kind == torch.int16
        return
    expected = images.float() if channels == 3 else images.float().repeat(1, 3, 1, 1)
    assert channels in (1, 3) and torch.equal(found.images, expected)
    assert found.labels.tolist() == labels.tolist()
    assert (", grey" in conclusion(found, "layout")) == (channels == 1)


# --- pictures --------------------------------------------------------------------------------------------


@given(
    classes=st.sampled_from([["0", "1", "2"], ["1", "2", "3"], ["0", "2"], ["cat", "ant"], ["10", "9", "8"]]),
    ipc=st.integers(1, 12),
    mode=st.sampled_from(["RGB", "L", "RGBA", "translucent", "P", "I;16", "F", "frames"]),
    ending=st.sampled_from([".png", ".tif", ".dat"]),
)
def test_pictures_come_back_or_are_refused(tmp_path_factory, classes, ipc, mode, ending):
    folder, expected = tmp_path_factory.mktemp("pictures"), {}
    for place, name in enumerate(classes):
        (folder / name).mkdir()
        for number in range(ipc):
            file = folder / name / f"{number}{ending}"
            expected[name, number] = picture(file, mode, seed=100 * place + number)
    try:
        found = import_set([folder])
    except ElfError:
        assert mode in ("translucent", "F", "frames") or classes in (["0", "2"], ["10", "9", "8"])
        return
    order = sorted(classes, key=int) if classes[0].isdecimal() else sorted(classes)
    wanted = np.stack([expected[name, number] for name in order for number in range(ipc)])
    np.testing.assert_array_equal(found.images.permute(0, 2, 3, 1).numpy(), wanted)
    assert found.labels.tolist() == [label for label in range(len(order)) for _ in range(ipc)]
    assert found.space.name == "bytes"
    assert ("converted" in conclusion(found, "pictures")) == (mode != "RGB")


def picture(file: Path, mode: str, seed: int) -> np.ndarray:
    """Write a picture; return the three channels that it stands for."""
    draw = np.random.default_rng(seed)
    colours = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    if mode in ("I;16", "F"):
        grey = draw.integers(0, 65536, (SIDE, SIDE))
        grey[0, 0] = 65535
        image = Image.fromarray(grey.astype(np.uint16 if mode == "I;16" else np.float32))
        colours = np.repeat(grey[..., None] // 257, 3, axis=2)
    elif mode == "translucent":
        image = Image.fromarray(np.concatenate([colours, np.full((SIDE, SIDE, 1), 128, np.uint8)], axis=2))
    elif mode == "frames":
        image = Image.fromarray(colours)
    else:
        image = Image.fromarray(colours).convert(mode)
        colours = np.asarray(image.convert("RGB"))
    buffer = io.BytesIO()
    several = {"save_all": True, "append_images": [image]} if mode == "frames" else {}
    image.save(buffer, "PNG" if file.suffix == ".png" and mode not in ("F", "frames") else "TIFF", **several)
    file.write_bytes(buffer.getvalue())
    return colours


def test_what_lies_in_the_wrong_place_stops_the_import(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "0.png", "RGB", 0)
    (tmp_path / "b" / "inner").mkdir()
    with pytest.raises(ElfError, match="b/inner: a folder inside a class folder"):
        import_set([tmp_path])
    (tmp_path / "b" / "inner").rmdir()
    picture(tmp_path / "1.jfif", "RGB", 0)
    with pytest.raises(ElfError, match=r"1\.jfif: an image outside the class folders"):
        import_set([tmp_path])
    (tmp_path / "1.jfif").unlink()
    (tmp_path / "aa").mkdir()
    with pytest.raises(ElfError, match="aa: no image in this class"):
        import_set([tmp_path])
    (tmp_path / "aa").rmdir()
    (tmp_path / "a" / "notes.md").write_text("notes")
    assert "1 files left out" in conclusion(import_set([tmp_path]), "attention")


# --- snapshots and folders of logs -----------------------------------------------------------------------


@given(count=st.integers(1, 4), wanted=st.integers(-5, 5))
def test_experiments_count_from_both_ends(tmp_path_factory, count, wanted):
    sets = [CIFAR.transform(photos(4, seed=seed)) for seed in range(count)]
    path = tmp_path_factory.mktemp("set") / "res_DC_CIFAR10_ConvNet_2ipc_3000.pt"
    torch.save({"data": [[images, torch.arange(2).repeat_interleave(2)] for images in sets]}, path)
    if not -count <= wanted < count:
        with pytest.raises(ElfError, match="or -1 for the last"):
            import_set([path], Known(experiment=wanted))
        return
    found = import_set([path], Known(experiment=wanted))
    assert torch.equal(found.images, sets[wanted]) and found.experiment == range(count)[wanted]
    assert ("snapshots of one run" in conclusion(found, "experiment")) == (count > 1)


def log_folder(folder: Path, names: list[str]) -> dict[str, torch.Tensor]:
    sets = {name: CIFAR.transform(photos(4, seed=seed)) for seed, name in enumerate(names)}
    for name, images in sets.items():
        torch.save(images, folder / f"images_{name}.pt")
        torch.save(torch.arange(2).repeat_interleave(2), folder / f"labels_{name}.pt")
    return sets


def test_the_folder_that_mtt_leaves(tmp_path):
    sets = log_folder(tmp_path, ["0", "100", "best"])
    torch.save(torch.tensor(0.01), tmp_path / "lr_best.pt")
    found = import_set([tmp_path])
    assert torch.equal(found.images, sets["best"])
    assert [name for name, _ in found.files] == ["images_best.pt", "labels_best.pt"]
    for other in ("images_0.pt", "labels_100.pt", "lr_best.pt"):
        assert other in conclusion(found, "beside")
    (tmp_path / "images_best.pt").unlink()
    for name in ("images_zca_best.pt", "images_zca_100.pt"):
        torch.save(sets["100"], tmp_path / name)
    with pytest.raises(ElfError, match=r"several sets \(images_0\.pt, images_100\.pt, .*\) and no images_best"):
        import_set([tmp_path])
    (tmp_path / "images_0.pt").unlink()
    found = import_set([tmp_path])
    assert torch.equal(found.images, sets["100"]) and "images_zca_100.pt" in conclusion(found, "beside")


# --- what names say --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "modelpool_", "best-", "2023.01_"])
@pytest.mark.parametrize("method", ["DC", "DSA", "DM", "modelpool_DC"])
def test_dc_dsa_and_dm_never_whiten(tmp_path, prefix, method):
    """From noise, in few images, and between the limits, where values alone tell nothing."""
    for images in (noise((10, 3, SIDE, SIDE)), 3 * noise((2, 3, SIDE, SIDE))):
        path = tmp_path / f"{prefix}res_{method}_CIFAR10_ConvNet_1ipc.pt"
        torch.save({"data": [[images, torch.arange(len(images))]]}, path)
        found = import_set([path])
        assert (found.space.name, found.space.constants) == ("normalised", "cifar")
        assert torch.equal(found.images, images)
    pixels = photos(10).float() / 255
    torch.save({"data": [[pixels, torch.arange(10)]]}, path)
    assert import_set([path]).space.name == "unit"


@pytest.mark.parametrize("name", ["res_MTT_CIFAR10_ConvNet_1ipc", "res_DM_cifar10-zca_ConvNet_1ipc", "dm"])
def test_other_names_do_not_say_it(tmp_path, name):
    torch.save([noise((10, 3, SIDE, SIDE)), torch.arange(10)], tmp_path / f"{name}.pt")
    with pytest.raises(ElfError, match="as little as noise does"):
        import_set([tmp_path / f"{name}.pt"])


def test_names_are_taken_apart_behind_prefixes():
    assert result_name("modelpool_res_DSA_CIFAR100_ConvNet_10ipc_5000")["ipc"] == "10"
    assert said_by_name("modelpool_res_DSA_CIFAR100_ConvNet_10ipc").constants == "cifar100-dc"
    assert result_name("pres_DM_CIFAR10_ConvNet_1ipc") is None and said_by_name("images_best") is None


def test_images_zca_hold_pixels(tmp_path):
    pixels = 3 * (photos(10).float() / 255 - 0.5) + 0.45
    path = tmp_path / "images_zca_5000.pt"
    torch.save(pixels, path)
    found = import_set([path], Known(classes=10))
    assert found.space.name == "unit" and torch.equal(found.images, pixels)
    for contradicting in (pixels - 0.45, noise(pixels.shape) + 0.45):
        torch.save(contradicting, path)
        with pytest.raises(ElfError, match=r"hold what was whitened as pixels again.*but these values are none"):
            import_set([path], Known(classes=10))


def whitened(count: int) -> torch.Tensor:
    """Values that neighbour as those of whitened images do: less than pixels, more than noise."""
    for share in torch.linspace(0, 1, 100):
        images = 0.3 * (CIFAR.transform(photos(count)) * (1 - share) + share * noise((count, 3, SIDE, SIDE)))
        if neighbour_correlation(images) < 0.4:
            return images
    raise AssertionError


def test_whitenings_are_not_taken_for_that_of_the_data_set(tmp_path):
    images = whitened(20)
    torch.save([images, torch.arange(10).repeat(2)], tmp_path / "set.pt")
    with pytest.raises(ElfError, match=r"nothing tells by which whitening: MTT's \(zca\), FrePo's and KIP's differ"):
        import_set([tmp_path / "set.pt"], Known(normalisation="zca"))
    unknown = import_set([tmp_path / "set.pt"])
    assert (unknown.space.name, unknown.space.constants) == ("zca", None)
    told = import_set([tmp_path / "set.pt"], Known(normalisation="frepo-cifar10-zca", space="zca"))
    assert told.space.constants == "zca"
    with pytest.raises(ElfError, match="the file's name speaks against it"):
        by_statistics(images.double(), said_by_name("res_DM_CIFAR10_ConvNet_2ipc"), "zca")


def test_a_set_of_unknown_whitening_enters_no_data_set(tmp_path, monkeypatch):
    manifest = {"spec": {"space": "zca", "constants": None}}
    tensors = {"images": whitened(10), "labels": torch.arange(10)}
    monkeypatch.setattr("elf.importing.using.read_tensors", lambda *_: (tensors, manifest))
    with pytest.raises(ElfError, match="nothing tells by which whitening"):
        read_imported(tmp_path / "set", fit_zca(photos(300)), "zca", torch.device("cpu"))
    manifest["spec"]["constants"] = "zca"
    found, _ = read_imported(tmp_path / "set", fit_zca(photos(300)), "zca", torch.device("cpu"))
    assert isinstance(found, SyntheticSet) and torch.equal(found.images, tensors["images"])


# --- greys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["n1ss", "nss", "nss1", "51"])
def test_grey_sets_are_repeated_in_grey_data_sets(tmp_path, shape):
    mean, std = ALL_CONSTANTS["mnist"]
    grey = (photos(10, channels=1).float() / 255 - mean[0]) / std[0]
    stored = {"n1ss": grey, "nss": grey[:, 0], "nss1": grey.permute(0, 2, 3, 1), "51": grey.view(5, 2, 1, SIDE, SIDE)}
    for dataset in ("MNIST", "CIFAR10"):
        path = tmp_path / f"res_DC_{dataset}_ConvNet_2ipc.pt"
        torch.save({"images": stored[shape], "labels": torch.arange(5).repeat_interleave(2)}, path)
        if dataset == "CIFAR10":
            with pytest.raises(ElfError, match="one channel, but CIFAR10 has colours"):
                import_set([path])
            continue
        found = import_set([path])
        assert torch.equal(found.images, grey.repeat(1, 3, 1, 1))
        assert (found.space.name, found.space.constants) == ("normalised", "mnist")
    with pytest.raises(ElfError, match="one channel, but cifar10-zca has colours"):
        import_set([tmp_path / "res_DC_MNIST_ConvNet_2ipc.pt"], Known(dataset="cifar10-zca"))
