"""Artifacts come back as they were written, or end as one line; nothing half-written stands under a final name."""

import json
import os
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elf.artifacts.files import atomic, read_bytes, read_json, write_bytes, write_json, write_text
from elf.artifacts.manifest import MANIFEST, describe, read_manifest
from elf.artifacts.tables import read_table, write_table
from elf.artifacts.tensors import read_tensors, write_tensors
from elf.errors import ElfError
from elf.machine.randomness import generator

SCHEMA = pyarrow.schema([("seed", pyarrow.int64()), ("accuracy", pyarrow.float64()), ("device", pyarrow.string())])
ROWS = [{"seed": 0, "accuracy": 1 / 3, "device": "cpu"}, {"seed": 1, "accuracy": 0.1 + 0.2, "device": None}]


def manifest_of(kind: str = "features", **measured) -> dict:
    source = {"kind": "dataset", "id": "0123", "spec": {"large": [1] * 100}}
    return describe(
        kind, {"name": "ünï\n", "epoch": 3}, inputs={"dataset": source}, code='{"elf":"abc"}', measured=measured
    )


def some_tensors() -> dict[str, torch.Tensor]:
    return {
        "float": torch.randn(3, 4, generator=generator(0)),
        "strided": torch.randn(4, 3, 2, 2, generator=generator(1)).to(memory_format=torch.channels_last),
        "part": torch.arange(12).reshape(3, 4)[:, 1],
        "bytes": torch.arange(256, dtype=torch.uint8),
        "double": torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "number": torch.tensor(7),
        "truth": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
    }


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_tensors_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "new folder" / "a file.safetensors"
    written = write_tensors(path, some_tensors(), manifest_of())
    read, manifest = read_tensors(path, "features")
    assert manifest == written == read_manifest(path)
    assert read.keys() == some_tensors().keys()
    for name, tensor in some_tensors().items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(read[name]) == bits(tensor)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "year=2023" / "rows.parquet"
    written = write_table(path, ROWS, SCHEMA, manifest_of("rows"))
    table, manifest = read_table(path, "rows", SCHEMA)
    assert table.to_pylist() == ROWS
    assert table.schema.names == SCHEMA.names
    assert manifest == written == read_manifest(path)


def test_rows_can_be_read_by_anyone(tmp_path):
    write_table(tmp_path / "rows.parquet", ROWS, SCHEMA, manifest_of("rows"))
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist() == ROWS


def test_a_manifest_says_what_the_file_is_made_of(tmp_path):
    manifest = write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, manifest_of(wall_seconds=1.5))
    assert manifest["kind"] == "features"
    assert manifest["spec"] == {"name": "ünï\n", "epoch": 3}
    assert manifest["inputs"] == {"dataset": {"kind": "dataset", "id": "0123"}}
    assert manifest["code"] == {"elf": "abc"}
    assert manifest["measured"] == {"wall_seconds": 1.5}
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_identifier_is_that_of_the_content_alone(tmp_path):
    def identifier(number, tensors, **measured):
        return write_tensors(tmp_path / f"{number}.safetensors", tensors, manifest_of(**measured))["id"]

    first = identifier(0, {"a": torch.zeros(2), "b": torch.ones(2)}, wall_seconds=1)
    assert identifier(1, {"b": torch.ones(2), "a": torch.zeros(2)}, wall_seconds=2) == first
    different = [
        {"a": torch.zeros(2), "b": torch.tensor([1.0, 1.0000001])},
        {"a": torch.zeros(2), "c": torch.ones(2)},
        {"a": torch.zeros(2), "b": torch.ones(1, 2)},
        {"a": torch.zeros(2), "b": torch.ones(2).view(torch.int32)},
        {"a": -torch.zeros(2), "b": torch.ones(2)},
        {"b": torch.zeros(2), "a": torch.ones(2)},
    ]
    identifiers = [identifier(number, tensors) for number, tensors in enumerate(different)]
    assert len({first, *identifiers}) == len(different) + 1


def test_identifier_of_rows_leaves_out_what_was_measured(tmp_path):
    def identifier(rows, measured=("accuracy",)):
        return write_table(tmp_path / "rows.parquet", rows, SCHEMA, manifest_of(), measured)["id"]

    first = identifier(ROWS)
    slower = [row | {"accuracy": 9.0} for row in ROWS]
    assert identifier(slower) == first
    assert identifier(slower, ()) != identifier(ROWS, ())
    assert identifier([row | {"seed": 5} for row in ROWS]) != first
    assert identifier(ROWS[::-1]) != first


@pytest.fixture(scope="module")
def tensors_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "a.safetensors"
    write_tensors(path, some_tensors(), manifest_of())
    return path


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "a.parquet"
    write_table(path, ROWS, SCHEMA, manifest_of("rows"))
    return path


def content(path: Path):
    """Everything that a reader is given."""
    if path.suffix == ".parquet":
        table, manifest = read_table(path, "rows", SCHEMA)
        return table.to_pylist(), manifest
    tensors, manifest = read_tensors(path, "features")
    return {name: (str(t.dtype), tuple(t.shape), bits(t)) for name, t in tensors.items()}, manifest


def read_or_error(path: Path):
    """What a reader is given, or the message of the error; any other exception is a defect."""
    try:
        return content(path)
    except ElfError as error:
        assert str(path) in str(error)
        assert "start again" in str(error) or "holds no " in str(error)
        return None


@settings(max_examples=400)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(["tensors", "rows"]))
def test_an_altered_bit_is_never_taken_for_the_content(tensors_file, rows_file, where, bit, name):
    original = {"tensors": tensors_file, "rows": rows_file}[name]
    path = original.with_name(f"altered{original.suffix}")
    damaged = bytearray(original.read_bytes())
    damaged[int(where * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    # Parquet keeps some things twice and others for nobody: there an altered bit may change nothing.
    assert read_or_error(path) in ((None,) if name == "tensors" else (None, content(original)))


@given(length=st.floats(0, 1, exclude_max=True), name=st.sampled_from(["tensors", "rows"]))
def test_a_truncated_file_is_damaged(tensors_file, rows_file, length, name):
    original = {"tensors": tensors_file, "rows": rows_file}[name]
    path = original.with_name(f"truncated{original.suffix}")
    path.write_bytes(original.read_bytes()[: int(length * original.stat().st_size)])
    assert read_or_error(path) is None


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
@pytest.mark.parametrize("text", [b"", b"\0" * 4096, b"PAR1" + b"\xff" * 64 + b"PAR1", b'{"json": true}'])
def test_what_is_no_artifact_is_damaged(tmp_path, suffix, text):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text)
    assert read_or_error(path) is None
    with pytest.raises(ElfError, match=r"is damaged or was altered \(.*\); delete it and start again"):
        read_manifest(path)


def test_a_file_of_someone_else_carries_no_manifest(tmp_path):
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "a.safetensors")
    pyarrow.parquet.write_table(pyarrow.table({"seed": [1]}), tmp_path / "a.parquet")
    for name in ("a.safetensors", "a.parquet"):
        with pytest.raises(ElfError, match=r"carries no manifest"):
            content(tmp_path / name)


@pytest.mark.parametrize("text", ["[]", "{}", '{"kind": "features"}', "5", "null", "nonsense"])
def test_a_manifest_that_was_not_written_here_is_damaged(tmp_path, text):
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={MANIFEST: text})
    table = pyarrow.table({"seed": [1]}).replace_schema_metadata({MANIFEST: text})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.safetensors", "a.parquet"):
        assert read_or_error(tmp_path / name) is None


def test_a_manifest_with_another_specification_is_damaged(tmp_path):
    """Someone edits what the file says of itself and keeps everything else."""
    manifest = write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, manifest_of())
    manifest["spec"]["epoch"] = 4
    text = json.dumps(manifest)
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={MANIFEST: text})
    with pytest.raises(ElfError, match="its manifest does not fit its seal"):
        read_manifest(tmp_path / "a.safetensors")


def test_an_absent_file_is_named_with_how_to_make_it(tmp_path):
    with pytest.raises(ElfError, match=r"there is no such file; make it with 'snakemake .*absent\.parquet'"):
        read_manifest(tmp_path / "absent.parquet")


def test_another_kind_is_refused(tensors_file, rows_file):
    with pytest.raises(ElfError, match="is a features, expected a dataset"):
        read_tensors(tensors_file, "dataset")
    with pytest.raises(ElfError, match="is a rows, expected a results"):
        read_table(rows_file, "results", SCHEMA)


def test_some_tensors_can_be_read_alone(tensors_file):
    tensors, _ = read_tensors(tensors_file, "features", ["half", "number"])
    assert set(tensors) == {"half", "number"}
    assert read_tensors(tensors_file, "features", [])[0] == {}


def test_a_missing_tensor_is_named(tensors_file):
    with pytest.raises(ElfError, match="holds no images, labels; found bytes, double"):
        read_tensors(tensors_file, "features", ["labels", "half", "images"])


def test_a_tensor_that_was_taken_away_is_missed(tmp_path):
    """Also by a reader that wants all there are."""
    path = tmp_path / "a.safetensors"
    manifest = write_tensors(path, {"x": torch.zeros(2), "y": torch.ones(2)}, manifest_of())
    safetensors.torch.save_file({"x": torch.zeros(2)}, path, metadata={MANIFEST: json.dumps(manifest)})
    with pytest.raises(ElfError, match="holds no y; found x"):
        read_tensors(path, "features")


def test_a_tensor_that_was_exchanged_is_damaged(tmp_path):
    path = tmp_path / "a.safetensors"
    manifest = write_tensors(path, {"x": torch.zeros(2), "y": torch.ones(2)}, manifest_of())
    exchanged = {"x": torch.ones(2), "y": torch.ones(2)}
    safetensors.torch.save_file(exchanged, path, metadata={MANIFEST: json.dumps(manifest)})
    assert set(read_tensors(path, "features", ["y"])[0]) == {"y"}
    with pytest.raises(ElfError, match="the checksum of x does not fit"):
        read_tensors(path, "features")


def test_a_missing_column_is_named(tmp_path):
    write_table(tmp_path / "a.parquet", [{"seed": 1}], pyarrow.schema([SCHEMA.field("seed")]), manifest_of("rows"))
    with pytest.raises(ElfError, match="the column 'accuracy' is missing"):
        read_table(tmp_path / "a.parquet", "rows", SCHEMA)


def test_a_column_that_was_added_later_may_be_missing(tmp_path):
    write_table(tmp_path / "a.parquet", [{"seed": 1}], pyarrow.schema([SCHEMA.field("seed")]), manifest_of("rows"))
    table, _ = read_table(tmp_path / "a.parquet", "rows", SCHEMA, ["accuracy", "device"])
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [{name: 1 if name == "seed" else None for name in SCHEMA.names}]


def test_an_altered_number_is_damaged(tmp_path):
    """Rewritten by another program that kept the manifest."""
    path = tmp_path / "a.parquet"
    write_table(path, ROWS, SCHEMA, manifest_of("rows"))
    table = pyarrow.parquet.read_table(path)
    better = table.set_column(1, "accuracy", pyarrow.array([0.99, 0.99]))
    pyarrow.parquet.write_table(better.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(ElfError, match="the checksum of its rows does not fit"):
        read_table(path, "rows", SCHEMA)


FULL = """\
import resource, sys
from pathlib import Path
import pyarrow, torch
from elf.artifacts.manifest import describe
from elf.artifacts.tables import write_table
from elf.artifacts.tensors import write_tensors
from elf.artifacts.checkpoints import Checkpoint
from elf.errors import ElfError
from elf.artifacts.files import write_bytes

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
manifest = describe("features", {}, inputs={}, code="{}", measured={})
large = {"x": torch.arange(500_000)}
rows = [{"x": i * 7919 % 1_000_003} for i in range(300_000)]
writers = {
    "a.safetensors": lambda path: write_tensors(path, large, manifest),
    "a.parquet": lambda path: write_table(path, rows, pyarrow.schema([("x", pyarrow.int64())]), manifest),
    "a.resume": lambda path: Checkpoint(path, "key").save_now(lambda: large),
    "a.txt": lambda path: write_bytes(path, bytes(4_000_000)),
}
for name, write in writers.items():
    try:
        write(folder / name)
    except ElfError as error:
        print(error)
"""


def fill_up(run_python, folder: Path, limit: int) -> None:
    """Let every writer run out of space in a process of its own; the old files must stay as they are."""
    names = ["a.safetensors", "a.parquet", "a.resume", "a.txt"]
    for name in names:
        (folder / name).write_text("the former file")
    done = run_python("-c", FULL, folder, limit, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(names), done.stdout + done.stderr
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{folder / name}: cannot be written: ")
        assert ("space" in line) if not limit else ("File too large" in line)
        assert (folder / name).read_text() == "the former file"
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)


def test_a_file_that_grows_too_large_leaves_nothing_behind(run_python, tmp_path):
    fill_up(run_python, tmp_path, limit=100_000)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_leaves_nothing_behind(run, run_python, tmp_path):
    mounted = run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        fill_up(run_python, tmp_path, limit=0)
    finally:
        run("umount", tmp_path, check=True)


READ_ONLY = """\
import os, sys
from pathlib import Path
from elf.errors import ElfError
from elf.artifacts.files import write_text

folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for path in (folder / "open" / "a.txt", folder / "closed" / "a.txt", folder / "closed" / "new" / "a.txt"):
    try:
        write_text(path, "text")
    except ElfError as error:
        print(error)
"""


def test_a_folder_that_cannot_be_written_to_is_named(run_python):
    """Root's permission is given up, because nothing is read-only for root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for child, mode in (("open", 0o777), ("closed", 0o555)):
            (folder / child).mkdir()
            (folder / child).chmod(mode)
        done = run_python("-c", READ_ONLY, name, check=True)
        closed, new = done.stdout.splitlines()
        assert closed.startswith(f"{folder}/closed/a.txt: cannot be written: {folder}/closed is not writable (Perm")
        assert new.startswith(f"{folder}/closed/new/a.txt: cannot be written: ")
        written = [path for path in folder.rglob("*") if path.is_file()]
        assert written == [folder / "open" / "a.txt"]


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(ElfError, match=r"folder/a\.txt: cannot be written"):
        write_text(tmp_path / "folder" / "a.txt", "text")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(ElfError, match=r"a\.txt: cannot be written"):
        write_text(tmp_path / "a.txt", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "results" / "a.safetensors"
    contents = [{"x": torch.full((20_000,), number)} for number in range(4)]
    identifiers = set()

    def write(tensors):
        for _ in range(10):
            identifiers.add(write_tensors(path, tensors, manifest_of())["id"])

    writers = [threading.Thread(target=write, args=(tensors,)) for tensors in contents]
    for writer in writers:
        writer.start()
    read = 0
    while any(writer.is_alive() for writer in writers) or not read:
        if path.exists():
            # One look at the file: it may be replaced between two.
            (tmp_path / "seen.safetensors").write_bytes(path.read_bytes())
            tensors, _ = read_tensors(tmp_path / "seen.safetensors", "features")
            assert len(tensors["x"].unique()) == 1
            read += 1
    for writer in writers:
        writer.join()
    assert read_tensors(path, "features")[1]["id"] in identifiers
    assert len(identifiers) == 4
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_fails_while_it_writes_leaves_the_former_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_files_have_the_permissions_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_texts_and_json_come_back(tmp_path):
    write_text(tmp_path / "a.txt", "Zoë 鳥\n")
    assert read_bytes(tmp_path / "a.txt") == "Zoë 鳥\n".encode()
    write_bytes(tmp_path / "a.txt", b"\0\1")
    assert read_bytes(tmp_path / "a.txt") == b"\0\1"
    write_json(tmp_path / "a.json", {"name": "Zoë", "numbers": [1, 0.1]})
    assert read_json(tmp_path / "a.json") == {"name": "Zoë", "numbers": [1, 0.1]}


@pytest.mark.parametrize("text", [b"", b"{", b"\xff"])
def test_broken_json_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ElfError, match=r"a\.json: cannot be read as JSON"):
        read_json(tmp_path / "a.json")


def test_an_absent_picture_is_one_line(tmp_path):
    with pytest.raises(ElfError, match=r"a\.png: cannot be read: No such file or directory"):
        read_bytes(tmp_path / "a.png")
