"""Sets, experts and state dicts of other code: what is concluded, what is refused, and that nothing ever runs."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
import yaml
from conftest import PROJECT
from helpers import stream
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from elf.artifacts.experts import ExpertBuffer
from elf.artifacts.manifest import read_manifest
from elf.artifacts.tensors import read_tensors
from elf.cli import main
from elf.data.preprocessing import CONSTANTS, Normalisation, fit_zca
from elf.data.sources.decoding import decode
from elf.distillation import imported as imported_method
from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.errors import ElfError
from elf.importing.buffers import import_experts, import_teacher, kind_of
from elf.importing.names import Said
from elf.importing.reading import read
from elf.importing.sets import Known, import_set
from elf.importing.spaces import limit, neighbour_correlation, understand_space
from elf.importing.using import read_imported
from elf.networks.building import build_network
from elf.study.config import Recipe

CIFAR = Normalisation(*CONSTANTS["cifar"])


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder with sets that other people's code left behind."""
    folder = Path(os.environ.get("ELF_TEST_SAMPLES_DIR", PROJECT.parent / "shared" / "samples"))
    if not (folder / "dc-bench").is_dir():
        pytest.skip(f"no sets of other code under {folder}; set ELF_TEST_SAMPLES_DIR to a folder that holds dc-bench/")
    return folder / "dc-bench"


@pytest.fixture(scope="session")
def crops(shared_data) -> torch.Tensor:
    """2000 pieces of 16x16 pixels from the middle of real images, as bytes."""
    file = pyarrow.parquet.ParquetFile(next((shared_data / "tiny-imagenet-subset").glob("train-*.parquet")))
    rows = [row["bytes"] for row in file.read(columns=["image"])["image"].to_pylist()[::6]]
    images = [decode(row, 32, "image") for row in rows]
    return torch.from_numpy(np.stack(images))[:, :, 8:24, 8:24].contiguous()


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with the configuration that an import adds to."""
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    for name in ("datasets.yaml", "recipes/dm.yaml"):
        (tmp_path / "config" / name).write_bytes((PROJECT / "config" / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(count: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    """Bytes that vary smoothly, as those of photographs do."""
    coarse = torch.rand(count, 3, 3, 3, generator=stream(seed))
    smooth = nn.functional.interpolate(coarse, size=side, mode="bilinear", align_corners=True)
    return (smooth * 255).round().to(torch.uint8)


def saved(folder: Path, name: str, content) -> Path:
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in content.items()})
    elif path.suffix == ".npy":
        np.save(path, content.numpy())
    else:
        torch.save(content, path)
    return path


def conclusion(imported, subject: str) -> str:
    return next(str(one) for one in imported.conclusions if one.subject == subject)


# --- layouts, labels and order ---------------------------------------------------------------------------

NAMES = [("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("data", "targets"), ("image_syn", "label_syn")]


@given(
    classes=st.integers(2, 5),
    ipc=st.integers(1, 3),
    layout=st.sampled_from(["nchw", "nhwc"]),
    labelling=st.sampled_from(["integers", "floats", "one-hot", "column", "soft", "centred"]),
    file=st.sampled_from(["set.pt", "set.npz"]),
    names=st.sampled_from(NAMES),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16]),
    seed=st.integers(0, 1000),
)
def test_any_layout_becomes_class_major(tmp_path_factory, classes, ipc, layout, labelling, file, names, dtype, seed):
    """The truth is a loop in NumPy over the classes."""
    folder = tmp_path_factory.mktemp("set")
    order = torch.randperm(classes * ipc, generator=stream(seed))
    hard = torch.arange(classes).repeat_interleave(ipc)[order]
    images = CIFAR.transform(photos(len(hard), seed=seed)).to(dtype)
    one_hot = nn.functional.one_hot(hard, classes)
    soft = 0.9 * one_hot.double() + 0.1 / classes
    stored = {
        "integers": hard,
        "floats": hard.float(),
        "one-hot": one_hot,
        "column": hard[:, None],
        "soft": soft,
        "centred": one_hot - 1 / classes,
    }[labelling]
    axes = images if layout == "nchw" else images.permute(0, 2, 3, 1).contiguous()
    found = import_set([saved(folder, file, {names[0]: axes, names[1]: stored})], Known(space="cifar"))

    expected = [i for label in range(classes) for i in range(len(hard)) if hard[i] == label]
    np.testing.assert_array_equal(found.images.numpy(), images.float().numpy()[expected])
    assert (found.classes, found.ipc, found.side) == (classes, ipc, 8)
    kept = stored.float()[expected] if labelling in ("soft", "centred") else hard[expected]
    torch.testing.assert_close(found.labels, kept, rtol=0, atol=0)
    assert found.label_kind == {"soft": "probabilities", "centred": "regression"}.get(labelling, "hard")
    assert layout.upper() in conclusion(found, "layout")


@pytest.mark.parametrize("labels", [None, "grid", "flat"])
def test_classes_and_images_per_class_as_two_axes(tmp_path, labels):
    images = CIFAR.transform(photos(6))
    stored = {"grid": torch.arange(3)[:, None].expand(3, 2).clone(), "flat": torch.arange(3).repeat_interleave(2)}
    content = {"images": images.view(3, 2, 3, 8, 8)} | ({"labels": stored[labels]} if labels else {})
    found = import_set([saved(tmp_path, "set.pt", content)])
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_bare_images_need_labels_or_the_number_of_classes(tmp_path):
    images = CIFAR.transform(photos(6))
    path = saved(tmp_path, "images_best.pt", nn.Parameter(images))
    with pytest.raises(ElfError, match=r"images_best\.pt: there are 6 images without labels.*--classes"):
        import_set([path])
    assert import_set([path], Known(classes=3)).labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ElfError, match="6 images do not give 4 classes"):
        import_set([path], Known(classes=4))
    labels = saved(tmp_path, "labels_best.pt", torch.tensor([1, 0, 1, 0, 2, 2]))
    for paths in ([path, labels], [labels, path], [tmp_path]):
        found = import_set(paths)
        assert torch.equal(found.images, images[[1, 3, 0, 2, 4, 5]])
    assert "labels_best.pt" in conclusion(import_set([path], Known(classes=3)), "file of labels")
    arrays = [saved(tmp_path, "a.npy", images.permute(0, 2, 3, 1)), saved(tmp_path, "y.npy", torch.arange(6) % 3)]
    assert torch.equal(import_set(arrays).images, images[[0, 3, 1, 4, 2, 5]])


def test_several_experiments_in_a_file(tmp_path):
    sets = [CIFAR.transform(photos(4, seed=seed)) for seed in range(3)]
    content = {"data": [[images, torch.arange(4) % 2] for images in sets], "accs_all_exps": {"ConvNet": [0.1]}}
    path = saved(tmp_path, "res_DM_CIFAR10_ConvNet_2ipc.pt", content)
    assert torch.equal(import_set([path]).images, sets[0][[0, 2, 1, 3]])
    found = import_set([path], Known(experiment=2))
    assert torch.equal(found.images, sets[2][[0, 2, 1, 3]]) and found.experiment == 2
    with pytest.raises(ElfError, match="the file holds 3, allowed are 0 to 2"):
        import_set([path], Known(experiment=3))


def test_sets_in_lists_and_by_class(tmp_path):
    images, labels = CIFAR.transform(photos(6)), torch.arange(3).repeat_interleave(2)
    by_class = [images[labels == label] for label in range(3)]
    contents = [(images, labels), [images, labels, 0.01], by_class, {2 - i: by_class[2 - i] for i in range(3)}]
    for content in [*contents, {f"class_{i}": by_class[i] for i in range(3)}]:
        found = import_set([saved(tmp_path, "set.pt", content)])
        assert torch.equal(found.images, images) and torch.equal(found.labels, labels)


def test_arrays_without_names_and_with_unforeseen_ones(tmp_path):
    images, labels = CIFAR.transform(photos(6)), torch.arange(3).repeat_interleave(2)
    np.savez(tmp_path / "images.npz", images.numpy())
    np.savez(tmp_path / "labels.npz", labels.numpy().astype(np.uint16))
    assert torch.equal(import_set([tmp_path / "images.npz", tmp_path / "labels.npz"]).images, images)
    found = import_set([saved(tmp_path, "set.npz", {"first": labels, "second": images})])
    assert torch.equal(found.images, images) and "by shape" in conclusion(found, "images")
    with pytest.raises(ElfError, match="several arrays could be the labels"):
        import_set([saved(tmp_path, "set.npz", {"a": labels, "b": images, "c": labels})])
    with pytest.raises(ElfError, match="several arrays of images"):
        import_set([saved(tmp_path, "set.npz", {"images": images, "x": images, "y": labels})])


WRONG = {
    "two channels": ((6, 2, 8, 8), [0, 1], "not that of square RGB"),
    "no squares": ((6, 3, 8, 9), [0, 1], "not that of square RGB"),
    "rows": ((6, 192), [0, 1], "flattened rows of 192 = 3 x 8 x 8.*--layout"),
    "both layouts": ((6, 3, 3, 3), [0, 1], "fits NCHW and NHWC"),
    "unequal": ((6, 3, 8, 8), [0, 0, 0, 0, 1, 1], "class 1 has 2, class 0 has 4"),
    "class without images": ((6, 3, 8, 8), [0, 0, 0, 2, 2, 2], "class 1 has 0"),
    "negative": ((6, 3, 8, 8), [-1, 0, 0, 1, 1, -1], "label -1"),
    "from one": ((6, 3, 8, 8), [1, 1, 1, 2, 2, 2], "run from 1 to 2 and none is 0; .* subtract 1"),
    "halves": ((6, 3, 8, 8), [0.5, 0, 0, 1, 1, 1], "not whole numbers"),
    "too few": ((6, 3, 8, 8), [0, 0, 1, 1], "there are 6 images"),
    "NaN labels": ((6, 3, 8, 8), [float("nan"), 0, 0, 1, 1, 1], "not finite"),
}


@pytest.mark.parametrize(("shape", "labels", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_one_line(tmp_path, shape, labels, message):
    labels = labels * 3 if len(labels) == 2 else labels
    path = saved(tmp_path, "set.pt", {"images": torch.rand(shape), "labels": torch.tensor(labels)})
    with pytest.raises(ElfError, match=message) as raised:
        import_set([path])
    assert "set.pt" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_flattened_rows_are_read_as_told(tmp_path, layout):
    images = CIFAR.transform(photos(4))
    rows = (images if layout == "nchw" else images.permute(0, 2, 3, 1)).reshape(4, -1)
    path = saved(tmp_path, "set.pt", {"images": rows, "labels": torch.arange(4)})
    assert torch.equal(import_set([path], Known(layout=layout)).images, images)


# --- pixel space -----------------------------------------------------------------------------------------


@given(name=st.sampled_from(list(CONSTANTS)), seed=st.integers(0, 1000), half=st.booleans())
def test_constants_of_real_images_are_recognised_exactly(name, seed, half):
    images = Normalisation(*CONSTANTS[name]).transform(photos(3, seed=seed))
    space = understand_space(images.half() if half else images)
    assert space.name == "normalised" and CONSTANTS[space.constants] == CONSTANTS[name]


def test_values_clipped_at_black_and_white_tell_the_constants():
    pixels = (2 * torch.rand(6, 3, 8, 8, generator=stream(0)) - 0.5).clamp(0, 1)
    for name, (mean, std) in CONSTANTS.items():
        images = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert CONSTANTS[understand_space(images).constants] == CONSTANTS[name]


def test_pixels_are_told_from_normalised_values():
    pixels = photos(10).float() / 255
    unclipped = pixels + 0.02 * torch.randn(pixels.shape, generator=stream(0)) * (pixels > 0.5)
    assert understand_space(photos(10)).name == "bytes"
    assert understand_space(photos(10).float()).name == "bytes"
    assert understand_space(pixels).name == "unit"
    assert understand_space(unclipped).name == "unit"
    learned = CIFAR.transform(photos(10)) + 0.3 * torch.randn(10, 3, 8, 8, generator=stream(1))
    found = understand_space(learned)
    assert (found.name, found.constants) == ("normalised", None)
    assert understand_space(learned, said=Said(None, "imagenet", "because")).constants == "imagenet"


@pytest.mark.parametrize("count", [10, 50, 300])
def test_whitened_and_normalised_real_images_are_told_apart_by_their_statistics(crops, count):
    """With noise of a hundredth of the spread, so that no grey level is left to be recognised."""
    whitening = fit_zca(crops)
    chosen = crops[torch.randperm(len(crops), generator=stream(count))[:count]]
    for images, expected in ((whitening.transform(chosen), "zca"), (CIFAR.transform(chosen), "normalised")):
        noisy = images + 0.01 * images.std() * torch.randn(images.shape, generator=stream(0))
        assert understand_space(noisy).name == expected
    exact = understand_space(whitening.transform(chosen), whitened="zca", whitening=whitening)
    assert (exact.name, exact.constants) == ("zca", "zca") and "whole grey levels" in exact.conclusion.reason


def test_values_from_minus_one_to_one_are_recognised():
    pixels = photos(10, seed=3).double() / 255
    stretched = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 1.98 - 0.99
    assert understand_space(stretched + 0.001 * torch.rand(stretched.shape, generator=stream(0))).constants == "digits"


def test_doubtful_values_are_refused():
    noise = torch.randn(20, 3, 8, 8, generator=stream(0))
    with pytest.raises(ElfError, match=r"as little as noise does.*--space"):
        understand_space(noise)
    for share in torch.linspace(0, 1, 200):
        between = CIFAR.transform(photos(20)) * (1 - share) + 2 * share * noise
        if abs(neighbour_correlation(between) - limit(float(between.std()))) < 0.01:
            break
    with pytest.raises(ElfError, match="where normalised and whitened sets are found"):
        understand_space(between)
    with pytest.raises(ElfError, match="too few"):
        understand_space(noise[:2])
    assert understand_space(noise, told="zca").name == "zca"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    images = torch.rand(10, 3, 8, 8)
    images[3, 0, 0, 0] = value
    for told in ("auto", "unit"):
        with pytest.raises(ElfError, match="image 3 holds values that are not finite"):
            understand_space(images, told=told)


def test_correlation_of_neighbours_is_that_of_numpy():
    images = torch.randn(5, 3, 6, 6, generator=stream(0)).cumsum(2)
    values = images.double().numpy() - images.double().numpy().mean((0, 2, 3), keepdims=True)
    across = np.sum(values[..., 1:] * values[..., :-1])
    across /= np.sqrt(np.sum(values[..., 1:] ** 2) * np.sum(values[..., :-1] ** 2))
    down = np.sum(values[..., 1:, :] * values[..., :-1, :])
    down /= np.sqrt(np.sum(values[..., 1:, :] ** 2) * np.sum(values[..., :-1, :] ** 2))
    assert neighbour_correlation(images) == pytest.approx((across + down) / 2, rel=1e-9)


# --- safety ----------------------------------------------------------------------------------------------


class Harm:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def harmful_files(folder: Path, harm: Harm) -> dict[str, Path]:
    content = {"images": torch.rand(4, 3, 8, 8), "labels": harm}
    torch.save(content, folder / "new.pt")
    torch.save(content, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(content, folder / "protocol4.pt", pickle_protocol=4)
    np.save(folder / "objects.npy", np.array([harm], dtype=object), allow_pickle=True)
    np.savez(folder / "objects.npz", images=np.zeros((4, 3, 8, 8)), labels=np.array([harm], dtype=object))
    for protocol in (0, 2, 4):
        (folder / f"bare{protocol}.pt").write_bytes(pickle.dumps(content | {"images": None}, protocol=protocol))
    # A dtype of objects in a NumPy scalar is unpickled by NumPy itself, if one lets it.
    torch.save({"images": np.array([harm], dtype=object)}, folder / "array.pt")
    return {file.name: file for file in folder.iterdir()}


def test_what_would_run_code_is_refused_and_does_not_run(tmp_path, capsys):
    folder, canary = tmp_path / "files", tmp_path / "canary"
    folder.mkdir()
    files = harmful_files(folder, Harm(canary))
    assert len(files) == 9
    for name, file in files.items():
        with pytest.raises(ElfError, match=r"refused.*would run code.*nothing of it was run") as raised:
            read(file)
        assert name in str(raised.value)
        assert main(["import", str(file), "--look"]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not canary.exists()
    # The files are harmful indeed.
    pickle.loads(files["bare2.pt"].read_bytes())
    assert canary.exists()


@pytest.mark.parametrize("core", ["_core", "core"])
def test_numpy_numbers_and_arrays_of_both_ages_are_read(tmp_path, core):
    array = np.arange(12.0, dtype=">f4").reshape(3, 4, order="F")
    content = {"accuracy": np.float64(0.25), "count": np.int32(-7), "array": array, "flag": np.bool_(True)}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    written = buffer.getvalue()
    assert b"numpy._core.multiarray" in written
    path = tmp_path / "file.pt"
    path.write_bytes(written.replace(b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode()))
    found = read(path)
    assert (found["accuracy"], found["count"], found["flag"]) == (0.25, -7, True)
    np.testing.assert_array_equal(found["array"].numpy(), array)


def test_claims_that_no_set_makes_are_refused(tmp_path):
    cycle, doubled = [], [1]
    cycle.append(cycle)
    for _ in range(40):
        doubled = [doubled, doubled]
    contents = {
        "contains itself": cycle,
        "more than 1000000 entries": doubled,
        "holds 4 bytes": torch.zeros(1).expand(10**8, 3, 32, 32),
        "sparse": torch.rand(4, 3, 8, 8).to_sparse(),
        "complex": torch.rand(4, 3, 8, 8).to(torch.complex64),
    }
    for message, content in contents.items():
        with pytest.raises(ElfError, match=message):
            read(saved(tmp_path, "set.pt", content))


DAMAGED = st.tuples(st.sampled_from(["set.pt", "set.npz", "images.npy", "old.pt"]), st.floats(0, 1), st.booleans())


@given(DAMAGED)
def test_damaged_files_end_as_one_line(tmp_path_factory, damage):
    name, where, cut = damage
    folder = tmp_path_factory.mktemp("damaged")
    content = {"images": photos(4), "labels": torch.arange(4)}
    if name == "old.pt":
        torch.save(content, folder / name, _use_new_zipfile_serialization=False)
    else:
        saved(folder, name, content["images"] if name == "images.npy" else content)
    whole = (folder / name).read_bytes()
    place = int(where * (len(whole) - 1))
    (folder / name).write_bytes(whole[:place] if cut else whole[:place] + b"\xff\x00\x80" + whole[place + 3 :])
    try:
        import_set([folder / name], Known(classes=4))
    except ElfError as error:
        assert name in str(error) and len(str(error)) < 600


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 50, b"PK\x03\x04nothing", b"\x93NUMPY", b"\x80\x02]q\x00.", b"{}"]
)
def test_files_of_no_known_kind_are_refused(tmp_path, content):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ElfError, match=r"file\.pt"):
        import_set([tmp_path / "file.pt"])


def test_an_array_that_claims_more_than_there_is_takes_no_memory(tmp_path):
    header = str({"descr": "<f8", "fortran_order": False, "shape": (10**9, 3, 32, 32)}).encode().ljust(117) + b"\n"
    (tmp_path / "images.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64
    )
    with pytest.raises(ElfError, match=r"images\.npy: (cannot be read|does not fit)"):
        read(tmp_path / "images.npy")


# --- folders of images -----------------------------------------------------------------------------------


def image_folder(folder: Path, names: list[str]) -> torch.Tensor:
    images = photos(2 * len(names))
    for place, image in enumerate(images):
        file = folder / names[place // 2] / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    return images


def test_folders_by_class(tmp_path):
    numbers, words = tmp_path / "numbers", tmp_path / "words"
    images = image_folder(numbers, [str(number) for number in range(11)])
    found = import_set([numbers])
    assert torch.equal(found.images, images.float()) and found.space.name == "bytes"
    assert found.labels.tolist() == sorted(list(range(11)) * 2)
    images = image_folder(words, ["cat", "ant"])
    assert torch.equal(import_set([words]).images, images[[2, 3, 0, 1]].float())
    assert torch.equal(import_set([words], Known(class_names=["cat", "ant"])).images, images.float())
    with pytest.raises(ElfError, match="not the classes of the data set"):
        import_set([words], Known(class_names=["cat", "dog"]))


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    image_folder(tmp_path / "inside", ["a", "b"])
    image_folder(tmp_path / "outside", ["c"])
    (tmp_path / "inside" / "a" / "link.png").symlink_to(tmp_path / "outside" / "c" / "0.png")
    with pytest.raises(ElfError, match=r"link\.png: is a link that leads out"):
        import_set([tmp_path / "inside"])
    (tmp_path / "inside" / "a" / "link.png").unlink()
    (tmp_path / "inside" / "c").symlink_to(tmp_path / "outside" / "c")
    with pytest.raises(ElfError, match="leads out"):
        import_set([tmp_path / "inside"])


def test_images_of_different_sizes_and_broken_ones_are_named(tmp_path):
    image_folder(tmp_path, ["a", "b"])
    Image.new("RGB", (9, 9)).save(tmp_path / "b" / "9.png")
    with pytest.raises(ElfError, match=r"9\.png: is 9x9, but 0\.png is 8x8"):
        import_set([tmp_path])
    (tmp_path / "b" / "9.png").write_bytes(b"no image")
    with pytest.raises(ElfError, match=r"9\.png: cannot be read as an image"):
        import_set([tmp_path])


# --- sets that others left -------------------------------------------------------------------------------


def test_samples_of_other_code(samples):
    """Values printed by the authors' files: 10 classes of 1 image, and the range that their notes give."""
    dm = import_set([samples / "DM" / "res_DM_CIFAR10_ConvNet_1ipc.pt"])
    assert (dm.classes, dm.ipc, dm.side, dm.label_kind) == (10, 1, 32, "hard")
    assert (dm.space.name, dm.space.constants) == ("normalised", "cifar")
    assert (round(dm.images.min().item()), round(dm.images.max().item())) == (-35, 29)
    for experiment in range(5):
        path = samples / "DSA" / "res_DSA_CIFAR10_ConvNet_1ipc.pt"
        assert import_set([path], Known(experiment=experiment)).space.constants == "cifar"
    mtt = import_set([samples / "MTT" / "images_best.pt", samples / "MTT" / "labels_best.pt"])
    assert (mtt.space.name, mtt.space.constants) == ("normalised", None)
    assert torch.equal(mtt.images, torch.load(samples / "MTT" / "images_best.pt", weights_only=True))
    with pytest.raises(pickle.UnpicklingError, match=r"numpy\.core\.multiarray\.scalar"):
        torch.load(samples / "DM" / "res_DM_CIFAR10_ConvNet_1ipc.pt", weights_only=True)


# --- the command, the file and the recipe ----------------------------------------------------------------


def test_import_writes_a_set_and_its_recipe(project, capsys):
    images = CIFAR.transform(photos(20, side=32))
    path = saved(project, "res_DM_CIFAR10_ConvNet_2ipc.pt", {"data": [[images, torch.arange(20) % 10]]})
    command = ["import", str(path), "--name", "dm-theirs"]
    assert main([*command, "--look"]) == 0
    assert not (project / "imported").exists()
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "pixel space: normalised with the constants cifar" in output and "'methods' of a scale" in output
    tensors, manifest = read_tensors(project / "imported" / "dm-theirs.safetensors", "imported set")
    assert torch.equal(tensors["images"], images[torch.arange(20).view(2, 10).T.flatten()])
    spec = manifest["spec"]
    assert (spec["space"], spec["constants"], spec["classes"], spec["ipc"]) == ("normalised", "cifar", 10, 2)
    assert spec["files"][0]["name"] == path.name
    recipe = yaml.safe_load((project / "config" / "recipes" / "dm-theirs.yaml").read_text())
    checked = Recipe.model_validate(recipe)
    assert (checked.module, checked.uses_network) == ("imported", False)
    assert checked.values["file"].value == "imported/dm-theirs.safetensors"
    assert checked.values["id"].value == manifest["id"]
    assert str(project) not in json.dumps([recipe, manifest])

    assert main(command) == 1
    assert "replace it with --force" in capsys.readouterr().err
    assert main([*command, "--force", "--space", "imagenet"]) == 0
    assert read_manifest(project / "imported" / "dm-theirs.safetensors")["spec"]["constants"] == "imagenet"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "dm"], "is the recipe of a method of the project"),
        (["--name", "dm", "--force"], "is the recipe of a method of the project"),
        (["--name", "../dm"], "allowed is"),
        (["--name", "DM"], "allowed is"),
        ([], "--name: is missing"),
        (["--name", "a", "--dataset", "cifar11"], "--dataset: found 'cifar11'"),
        (["--name", "a", "--dataset", "cifar10", "--classes", "7"], "--classes: found 7, but cifar10 has 10"),
        (["--name", "a", "--dataset", "tiny-imagenet"], "class 10 has 0, class 0 has 1"),
        (["--name", "a", "--config", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_mistakes_on_the_command_line_write_nothing(project, capsys, options, message):
    recipe = (project / "config" / "recipes" / "dm.yaml").read_bytes()
    content = {"images": CIFAR.transform(photos(10, side=32)), "labels": torch.arange(10)}
    assert main(["import", str(saved(project, "set.pt", content)), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert (project / "config" / "recipes" / "dm.yaml").read_bytes() == recipe
    assert not (project / "imported").exists()


# --- use in a data set -----------------------------------------------------------------------------------


def imported_file(project: Path, images: torch.Tensor, space: str) -> Path:
    path = saved(project, "set.pt", {"images": images, "labels": torch.arange(len(images))})
    assert main(["import", str(path), "--name", f"from-{space}", "--space", space, "--force"]) == 0
    return project / "imported" / f"from-{space}.safetensors"


def pixels_of(path: Path) -> torch.Tensor:
    return read_tensors(path, "imported set")[0]["images"]


def test_other_spaces_are_taken_to_that_of_the_data_set(project):
    """Against the sums written out in float64; values outside of the range of pixels stay outside."""
    cpu = torch.device("cpu")
    pixels = torch.randn(6, 3, 8, 8, generator=stream(0), dtype=torch.float64)
    train = photos(300)
    whitening = fit_zca(train)

    def normalised(name):
        mean, std = (torch.tensor(part, dtype=torch.float64).view(3, 1, 1) for part in CONSTANTS[name])
        return (pixels - mean) / std

    whitened = (pixels.flatten(1) - whitening.mean.double()) @ whitening.matrix.double()
    spaces = {"unit": pixels, "bytes": pixels * 255, "imagenet": normalised("imagenet"), "cifar": normalised("cifar")}
    for space, values in spaces.items():
        path = imported_file(project, values.float(), space)
        found, manifest = read_imported(path, CIFAR, "cifar", cpu)
        torch.testing.assert_close(found.images.double(), normalised("cifar"), rtol=1e-5, atol=1e-5)
        assert torch.equal(found.images, values.float()) or space != "cifar"
        assert manifest["kind"] == "imported set"
        found, _ = read_imported(path, whitening, "zca", cpu)
        torch.testing.assert_close(found.images.double(), whitened.view(pixels.shape), rtol=1e-4, atol=1e-4)
    kept = imported_file(project, whitened.view(pixels.shape).float(), "zca")
    assert torch.equal(read_imported(kept, whitening, "zca", cpu)[0].images, whitened.view(pixels.shape).float())
    with pytest.raises(ElfError, match="is whitened by zca, but the data set's normalisation is cifar"):
        read_imported(kept, CIFAR, "cifar", cpu)
    other = imported_file(project, whitened.view(pixels.shape).float(), "frepo-cifar10-zca")
    assert torch.equal(read_imported(other, whitening, "frepo-cifar10-zca", cpu)[0].images, pixels_of(other))
    with pytest.raises(ElfError, match="is whitened by frepo-cifar10-zca, but the data set's normalisation is zca"):
        read_imported(other, whitening, "zca", cpu)
    unknown = imported_file(project, pixels.float(), "normalised")
    assert torch.equal(read_imported(unknown, CIFAR, "cifar", cpu)[0].images, pixels.float())
    with pytest.raises(ElfError, match="normalised with unknown constants"):
        read_imported(unknown, whitening, "zca", cpu)


@pytest.mark.parametrize("soft", [False, True])
def test_the_method_returns_the_set_or_says_what_does_not_fit(soft):
    labels = torch.eye(3).repeat_interleave(2, 0) if soft else torch.arange(3).repeat_interleave(2)
    given_set = SyntheticSet(torch.rand(6, 3, 8, 8), labels)
    calls = []

    def distil(side=8, classes=3, ipc=2):
        dataset = RealImages(torch.rand(9, 3, side, side), torch.arange(9) % classes, classes)
        report = {"settings": {}, "network": None, "seed": 0, "progress": lambda *call: calls.append(call)}
        return imported_method.distill(dataset, ipc=ipc, imported=given_set, **report)

    assert distil() is given_set and calls == [(1, 1, None)]
    for changes, message in (({"side": 16}, "8x8"), ({"classes": 4}, "3 classes"), ({"ipc": 1}, "2 images per class")):
        with pytest.raises(ElfError, match=message):
            distil(**changes)


# --- experts and state dicts -----------------------------------------------------------------------------


def official_convnet(width: int, depth: int, classes: int, side: int, norm: str) -> nn.Module:
    """A ConvNet as the official codes write it: all layers in a row called features, then classifier."""
    layers, channels = [], 3
    for _ in range(depth):
        own = nn.GroupNorm(width, width) if norm == "in" else nn.BatchNorm2d(width)
        layers += [nn.Conv2d(channels, width, 3, padding=1), own, nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        channels = width
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Linear(width * (side >> depth) ** 2, classes)
    network.forward = lambda images: network.classifier(network.features(images).flatten(1))
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def test_an_expert_buffer_becomes_a_file_an_expert(project, capsys):
    networks = [[official_convnet(4, 2, 5, 16, "in") for _ in range(3)] for _ in range(2)]
    buffer = [[list(network.parameters()) for network in expert] for expert in networks]
    path = saved(project, "replay_buffer_0.pt", buffer)
    assert main(["import", str(path), "--name", "buffer", "--classes", "5"]) == 0
    assert "network: convnet-w4-d2-in" in capsys.readouterr().out
    images = torch.randn(2, 3, 16, 16)
    for index, expert in enumerate(networks):
        file = project / "imported" / "buffer" / f"expert{index}.safetensors"
        tensors, manifest = read_tensors(file, "expert trajectory")
        spec = manifest["spec"]
        assert (spec["network"], spec["side"], spec["index"], spec["epochs"]) == (
            "convnet-w4-d2-in",
            16,
            index,
            [0, 1, 2],
        )
        for epoch, official in enumerate(expert):
            ours = build_network("convnet-w4-d2-in", classes=5, side=16, generator=stream(0))
            nn.utils.vector_to_parameters(tensors[f"epoch{epoch}"], ours.parameters())
            torch.testing.assert_close(ours(images), official.forward(images), rtol=1e-4, atol=1e-4)
    read_back = ExpertBuffer(sorted((project / "imported" / "buffer").iterdir()))
    vector = nn.utils.parameters_to_vector(networks[1][2].parameters())
    assert torch.equal(read_back.snapshot(1, 2), vector.detach())
    assert main(["import", str(path), "--name", "buffer"]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_experts_of_another_network_are_refused():
    snapshot = [parameter.detach() for parameter in official_convnet(4, 2, 5, 16, "in").parameters()]
    assert kind_of([[snapshot]]) == kind_of([snapshot]) == "experts"
    message = r"not those of convnet-w4-d3-in: parameter 8 .* has shape \(5, 64\)"
    with pytest.raises(ElfError, match=message):
        import_experts([[snapshot]], network="convnet-w4-d3-in")
    with pytest.raises(ElfError, match="belong to 5 classes, but 10"):
        import_experts([[snapshot]], classes=10)
    with pytest.raises(ElfError, match="expert 1 has other shapes at snapshot 0"):
        import_experts([[snapshot], [[*snapshot[:-1], torch.zeros(6)]]])
    with pytest.raises(ElfError, match="expert 0 holds values that are not finite"):
        import_experts([[[*snapshot[:-1], torch.full((5,), float("nan"))]]])


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_gives_the_same_logits_under_our_names(norm, wrapped):
    official = official_convnet(4, 2, 5, 16, norm).eval()
    state = {f"module.{name}": tensor for name, tensor in official.state_dict().items()} if wrapped else None
    content = {"epoch": 3, "state_dict": state} if wrapped else dict(official.state_dict())
    assert kind_of(content) == "teacher"
    renamed, found = import_teacher(content)
    assert found.name == f"convnet-w4-d2-{norm}"
    ours = build_network(found.name, classes=5, side=16, generator=stream(0)).eval()
    ours.load_state_dict(renamed)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(images), official.forward(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ElfError, match="not those of convnet-w8-d2"):
        import_teacher(content, network=f"convnet-w8-d2-{norm}")


@pytest.mark.parametrize("name", ["resnet18-w4-in", "resnet18-w4-bn", "vgg11-w4-in"])
def test_other_families_are_found_by_their_shapes(name):
    network = build_network(name, classes=7, side=32, generator=stream(0))
    renamed, found = import_teacher(network.state_dict())
    assert (found.name, found.classes) == (name, 7)
    assert all(torch.equal(renamed[key], value) for key, value in network.state_dict().items())


def test_a_state_dict_becomes_a_teacher_checkpoint(project):
    path = saved(project, "net.pt", official_convnet(4, 2, 5, 16, "in").state_dict())
    assert main(["import", str(path), "--name", "teacher"]) == 0
    spec = read_manifest(project / "imported" / "teacher.safetensors", "teacher checkpoint")["spec"]
    assert (spec["network"], spec["classes"], spec["side"], spec["epoch"]) == ("convnet-w4-d2-in", 5, 16, None)
