"""Other files of other people, and downloads: nothing in them is run, and nothing is written because of them.

tests/test_security_pickles.py looks at pickles, tests/test_security_names.py at names.
"""

import functools
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hostile_files import START, as_archive, call, harmful_pickles, name, number
from PIL import EpsImagePlugin, Image

from elf.artifacts.manifest import MANIFEST, read_manifest
from elf.data.reading import read_dataset
from elf.data.sources.decoding import decode
from elf.errors import ElfError
from elf.importing.folders import read_folder
from elf.importing.reading import read
from elf.results.reading import read_results
from elf.study.config_reading import read_yaml

pytest_plugins = ("hostile_files",)

# --- archives -----------------------------------------------------------------------------------------------------


def array_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def hostile_members(archive: zipfile.ZipFile, outside: Path) -> None:
    for member in ("../../evil.npy", f"{outside}/evil.npy", "..\\..\\evil.npy", "a/../../../evil.npy"):
        archive.writestr(member, array_bytes(np.zeros((4, 3, 8, 8))))
    link = zipfile.ZipInfo("link.npy")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive.writestr(link, f"{outside}/evil.npy")


def test_archives_are_never_unpacked(refused, tmp_path):
    """Members that lead elsewhere are names of arrays like any other; no file comes of them."""
    inside, outside = tmp_path / "a" / "b", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    with zipfile.ZipFile(inside / "set.npz", "w") as archive:
        archive.writestr("images.npy", array_bytes(np.zeros((4, 3, 8, 8))))
        hostile_members(archive, outside)
    refused(read, inside / "set.npz")
    before = (inside / "set.npz").read_bytes()
    with zipfile.ZipFile(inside / "set.npz", "w") as archive:
        archive.writestr("images.npy", array_bytes(np.zeros((4, 3, 8, 8))))
        archive.writestr("../../evil.npy", array_bytes(np.ones(4)))
    assert set(read(inside / "set.npz")) == {"images", "../../evil"}
    (inside / "set.npz").write_bytes(before)
    torch.save({"images": torch.zeros(4, 3, 8, 8)}, inside / "set.pt")
    with zipfile.ZipFile(inside / "set.pt", "a") as archive:
        hostile_members(archive, outside)
    try:
        read(inside / "set.pt")
    except ElfError as error:
        assert "set.pt" in str(error)
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()) == [
        "a/b/set.npz",
        "a/b/set.pt",
    ]
    assert not any(outside.iterdir())


def test_an_archive_with_two_pickles_of_one_name_is_refused(refused, tmp_path):
    path = as_archive(tmp_path, START + b"}.")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("new/data.pkl", START + call(name("builtins", "bytearray"), number(10**9)) + b".")
    assert "occurs twice" in refused(read, path)


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_an_archive_that_would_fill_the_memory_is_refused(kind, tmp_path, monkeypatch):
    """Zeros, a thousand times smaller than they are; the memory that is free is said to be little."""
    zeros = np.zeros((100, 3, 64, 64), np.float32)
    if kind == "npz":
        np.savez_compressed(tmp_path / "set.npz", images=zeros)
    else:
        torch.save(torch.from_numpy(zeros), tmp_path / "set.pt")
    assert len(read(tmp_path / f"set.{kind}")) in (1, 100)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 10**6})())
    with pytest.raises(ElfError, match=r"holds 0\.0 GB once unpacked, but 0\.0 GB of memory are free.*more memory"):
        read(tmp_path / f"set.{kind}")


def test_arrays_with_objects_somewhere_inside_are_refused(refused, tmp_path):
    canary = tmp_path / "canary"

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    record = np.zeros(2, dtype=[("pixels", "f4"), ("more", "O")])
    record["more"] = Harm()
    np.save(tmp_path / "record.npy", record, allow_pickle=True)
    np.savez(tmp_path / "record.npz", images=record)
    with zipfile.ZipFile(tmp_path / "pickle.npz", "w") as archive:
        # Under this name is no array, but a pickle, which np.load takes for one if it is allowed to.
        archive.writestr("images.npy", pickle.dumps(Harm()))
    for file in ("record.npy", "record.npz", "pickle.npz"):
        refused(read, tmp_path / file)
    (tmp_path / "release").mkdir()
    for place in range(1, 11):
        np.savez(tmp_path / "release" / f"train_data_batch_{place}.npz", data=record, labels=np.arange(1, 3))
    np.savez(tmp_path / "release" / "val_data.npz", data=record, labels=np.arange(1, 3))
    with pytest.raises(ElfError, match=r"train_data_batch_1\.npz"):
        read_dataset("downsampled", name="imagenet-1k", location=tmp_path / "release", side=8)
    assert not canary.exists()


def test_labels_that_contain_themselves_are_refused(refused, tmp_path):
    doubled = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    for place in (*(f"train_data_batch_{batch}" for batch in range(1, 11)), "val_data"):
        content = {"data": np.zeros((2, 12288), np.uint8), "labels": doubled}
        (tmp_path / place).write_bytes(pickle.dumps(content))

    def reading(path: Path):
        return read_dataset("downsampled", name="imagenet-1k", location=path.parent, side=8)

    assert "labels are no list of integers" in refused(reading, tmp_path / "train_data_batch_1")


# --- images -------------------------------------------------------------------------------------------------------

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


def test_no_image_starts_another_program(other_processes, tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    canary, programs = tmp_path / "canary", tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\nmkdir -p {canary}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "0.png").write_bytes(POSTSCRIPT)
    with pytest.raises(ElfError, match="of no known format"):
        decode(POSTSCRIPT, 8, "row 0")
    with pytest.raises(ElfError, match="cannot be read as an image"):
        read_folder(tmp_path / "set")
    assert not canary.exists()
    # The image is harmful indeed.
    with pytest.raises(OSError), Image.open(io.BytesIO(POSTSCRIPT)) as image:
        image.load()
    assert canary.exists()


def png_that_claims(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def test_an_image_that_claims_a_huge_side_takes_no_gigabytes(refused, tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.png").write_bytes(png_that_claims(60_000))
    assert "0.png" in refused(lambda path: read_folder(path.parent.parent), tmp_path / "a" / "0.png")
    refused(lambda path: decode(path, 8, str(path)), tmp_path / "a" / "0.png")


def parquet_of(path: Path, names: list[str] | None = None, **metadata: bytes) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    image = pa.field("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), metadata=metadata or None)
    features = {"label": {"names": names}} if names else {}
    described = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    schema = pa.schema([image, ("label", pa.int64())], metadata=described)
    rows = [pa.array([{"bytes": buffer.getvalue(), "path": "../../evil"}] * 2, image.type), pa.array([0, 1])]
    pq.write_table(pa.table(rows, schema=schema), path)
    return path


def test_what_a_parquet_file_says_about_its_columns_is_not_unpickled(tmp_path):
    """Arrow once stored extension types as pickles and loaded them on reading."""
    canary = tmp_path / "canary"
    harm = pickle.dumps(functools.partial(os.mkdir, str(canary)))
    metadata = {"ARROW:extension:name": b"arrow.py_extension_type", "ARROW:extension:metadata": harm}
    for split in ("train", "test"):
        parquet_of(tmp_path / f"{split}-00000.parquet", **metadata)
    assert len(read_dataset("parquet", name="pets", location=tmp_path, side=8).train.labels) == 2
    for reader in (read_results, read_manifest):
        with pytest.raises(ElfError):
            reader(tmp_path / "train-00000.parquet")
    assert not canary.exists()
    assert {file.name for file in tmp_path.iterdir()} == {"train-00000.parquet", "test-00000.parquet"}


def test_a_parquet_file_that_claims_rows_is_refused(tmp_path):
    for split in ("train", "test"):
        path = parquet_of(tmp_path / f"{split}-00000.parquet")
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    # The number of rows of the whole file; that of its one row group comes later.
    place = content.index(b"\x16\x04", footer)
    content[place + 1] = 2 * 40
    path.write_bytes(content)
    assert pq.ParquetFile(path).metadata.num_rows == 40
    with pytest.raises(ElfError, match=r"test-00000\.parquet: damaged: holds 2 rows instead of 40"):
        read_dataset("parquet", name="pets", location=tmp_path, side=8)


# --- texts --------------------------------------------------------------------------------------------------------


def test_configuration_cannot_name_python(tmp_path):
    canary = tmp_path / "canary"
    for tag in (
        f"!!python/object/apply:os.mkdir ['{canary}']",
        f"!!python/object/new:os.mkdir ['{canary}']",
        "!!python/name:os.system",
    ):
        (tmp_path / "a.yaml").write_text(f"scale: {tag}\n")
        with pytest.raises(ElfError, match="not valid YAML: could not determine a constructor"):
            read_yaml(tmp_path / "a.yaml")
    assert not canary.exists()


def test_results_of_others_are_rows_and_nothing_else(tmp_path):
    canary = tmp_path / "canary"
    harm = pickle.dumps(functools.partial(os.mkdir, str(canary)))
    pd.DataFrame({"accuracy": [harm]}).to_parquet(tmp_path / "theirs.parquet")
    (tmp_path / "theirs.csv").write_text(f"accuracy,=cmd|'/c mkdir {canary}'!A1\n0.5,$(mkdir {canary})\n")
    schema = pa.schema([("accuracy", pa.float64())], metadata={MANIFEST: harm.decode("latin1")})
    pq.write_table(pa.table({"accuracy": [0.5]}, schema=schema), tmp_path / "ours.parquet")
    for file in ("theirs.parquet", "theirs.csv", "ours.parquet"):
        with pytest.raises(ElfError, match=file):
            read_results(tmp_path / file)
    assert not canary.exists()


@pytest.mark.parametrize("hostile", ["a\nb", "a\x1b[2J", "a\x00b", "\udcff"])
def test_names_of_classes_that_nobody_can_print_are_refused(hostile, tmp_path):
    if "\x00" not in hostile:
        for split in ("train", "val"):
            for label in ("cat", hostile):
                folder = tmp_path / "folder" / split / label
                folder.mkdir(parents=True)
                Image.new("RGB", (8, 8)).save(folder / "0.png")
        with pytest.raises(ElfError, match="characters that cannot be printed in its name; rename it"):
            read_dataset("folder", name="pets", location=tmp_path / "folder", side=8)
    if hostile != "\udcff":
        for split in ("train", "test"):
            parquet_of(tmp_path / f"{split}-00000.parquet", names=["cat", hostile])
        with pytest.raises(ElfError, match="characters that cannot be printed in its name; rename it"):
            read_dataset("parquet", name="pets", location=tmp_path, side=8)


# --- downloads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_an_altered_download_is_refused_before_it_is_unpacked(dataset, tmp_path, monkeypatch):
    """The checksum is torchvision's own, of the official archive; this one would leave its folder."""
    from torchvision.datasets import utils

    canary, served = tmp_path / "canary", tmp_path / "served.tar.gz"
    inside = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[dataset]
    with tarfile.open(served, "w:gz") as archive:
        for member in (f"{inside}/data_batch_1", "../../evil", f"{tmp_path}/absolute"):
            entry = tarfile.TarInfo(member)
            body = harmful_pickles(canary)["system"]
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    asked = []

    def download(url: str, file, *_) -> None:
        asked.append(url)
        shutil.copy(served, file)

    monkeypatch.setattr(utils, "_urlretrieve", download)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "extract_archive", lambda *_: pytest.fail("it was unpacked"))
    location = tmp_path / "data" / "inner"
    with pytest.raises(ElfError, match="the download failed"):
        read_dataset("torchvision", name=dataset, location=location, side=32)
    assert asked and all("cs.toronto.edu" in url for url in asked)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "data",
        "data/inner",
        "served.tar.gz",
    ]


def test_nothing_else_is_downloaded():
    """Whoever adds a download finds this list, and has a checksum to check."""
    package = Path(read_manifest.__code__.co_filename).parent.parent
    words = ("urlopen", "urlretrieve", "requests", "httpx", "hf_hub", "load_state_dict_from_url", "download=True")
    texts = {file.relative_to(package).as_posix(): file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    found = {file for file, content in texts.items() if any(word in content for word in words)}
    assert found == {"data/sources/torchvision_cifar.py"}
    networks = (package / "networks" / "torchvision_models.py").read_text(encoding="utf-8")
    assert "weights=None" in networks and "weights=True" not in networks
