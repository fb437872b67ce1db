"""Every kind of file is damaged for real: its readers stop with one line, and all is as before once it is deleted."""

import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import commands_in, failing, succeeding

from elf.artifacts.manifest import MANIFEST

pytest_plugins = ("workflow_copy",)
pytestmark = pytest.mark.usefixtures("small_process")

DM, MTT, RANDOM = "dm-convnet-w2-d3-in-ipc10-seed0", "mtt-convnet-w2-d3-in-ipc10-seed0", "random-ipc10-seed0"
WIDE, NARROW = "convnet-w8-d3-in", "convnet-w2-d3-in"
ELF = f"elf-ce-front1-rear1-{WIDE}-epoch2-lr0.01"
DATASET, CARD = "datasets/digits/images.safetensors", "datasets/digits/card.json"
IMAGES, SHEET = f"synthetic/digits/{DM}/images.safetensors", f"synthetic/digits/{DM}/contact_sheet.png"
EXPERT = f"experts/digits/{NARROW}/expert0.safetensors"
TRAINING, CHECKPOINT = (f"teachers/digits/{WIDE}/{name}.safetensors" for name in ("training", "epoch2"))
FULL_DATA = "teachers/digits/vgg11-w1-bn/epoch3.safetensors"
FEATURES = f"features/digits/{DM}/{WIDE}-epoch2.safetensors"
SHARD = f"evaluations/digits/{DM}/resnet18-w1-in/{ELF}/seeds0-1.parquet"
COLLECTED, RESULTS = "collected/figure4.parquet", "results.parquet"
REPORT = "report/index.html"


@dataclass(frozen=True)
class Kind:
    """A kind of file: one of its kind, a tensor in it that its reader uses, and what its reader makes."""

    file: str
    reader: str
    tensor: str | None = None
    call: int = 0


KINDS = {
    "dataset, for a method": Kind(DATASET, IMAGES, "train_images"),
    "dataset, for an evaluation": Kind(DATASET, SHARD, "test_labels"),
    "dataset, for a teacher": Kind(DATASET, CHECKPOINT, "test_images"),
    "dataset, for a contact sheet": Kind(DATASET, SHEET, "mean"),
    "expert": Kind(EXPERT, f"synthetic/digits/{MTT}/images.safetensors", "epoch1"),
    "synthetic set, for an evaluation": Kind(IMAGES, SHARD, "images"),
    "synthetic set, for features": Kind(IMAGES, FEATURES, "images"),
    "synthetic set, for a contact sheet": Kind(IMAGES, SHEET, "labels"),
    "teacher training": Kind(TRAINING, CHECKPOINT, "epoch2/rear.1.weight", call=1),
    "teacher checkpoint": Kind(CHECKPOINT, FEATURES, "rear.1.weight"),
    "features": Kind(FEATURES, SHARD, "features"),
    "evaluation": Kind(SHARD, COLLECTED),
    "collected rows": Kind(COLLECTED, "figures/figure4.pdf"),
    "results, for the verdicts": Kind(RESULTS, "verdicts/comparison.csv"),
    "results, for the report": Kind(RESULTS, REPORT),
    "figure, for the report": Kind("figures/figure4.svg", REPORT),
    "data of a figure, for the report": Kind("figures/figure4.csv", REPORT),
    "contact sheet, for the report": Kind(SHEET, REPORT),
    "data card, for the report": Kind(CARD, REPORT),
}


def in_the_data(kind: Kind, content: bytes) -> int:
    """Return the place of a byte that means something to the reader."""
    if kind.file.endswith(".safetensors"):
        start = 8 + int.from_bytes(content[:8], "little")
        return start + json.loads(content[8:start])[kind.tensor]["data_offsets"][0]
    if kind.file.endswith(".parquet"):
        # Within the first page, behind its header, are the values of the first column.
        return pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0).data_page_offset + 60
    return len(content) // 2


def in_the_header(kind: Kind, content: bytes) -> int:
    """Return the place of a byte of the manifest, or of the first bytes where there is none."""
    if kind.file.endswith(".parquet"):
        # Parquet holds the manifest twice; nothing reads the other one.
        return content.index(b"ARROW:schema") + 400
    return content.index(b"seal") + 9 if MANIFEST.encode() in content else 3


def flipped(place: Callable) -> Callable:
    def damage(kind: Kind, content: bytes) -> bytes:
        altered = bytearray(content)
        altered[place(kind, content)] ^= 1
        return bytes(altered)

    return damage


DAMAGES = {
    "a byte of the data": flipped(in_the_data),
    "a byte of the header": flipped(in_the_header),
    "half of it": lambda kind, content: content[: len(content) // 2],
    "emptied": lambda kind, content: b"",
}


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """A finished copy, in whose folder the commands of its jobs are called, and these commands."""
    with commands_in(finished.duplicate(tmp_path_factory.mktemp("damage"))) as both:
        yield both


def outputs(workflow) -> dict[str, tuple[int, int]]:
    return {
        file.relative_to(workflow.results).as_posix(): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in workflow.results.rglob("*")
        if file.is_file() and "report" not in file.parts
    }


def test_an_altered_number_of_a_card_is_noticed(study, capsys):
    workflow, commands = study
    card = workflow.results / CARD
    intact = card.read_bytes()
    place = intact.index(b"sha256", intact.index(b'"train"')) + 12
    card.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
    try:
        assert "card.json" in failing(commands[REPORT][0], capsys)
    finally:
        card.write_bytes(intact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_whatever_reads_it(study, kind, damage, capsys):
    """The reader's command says which file is damaged and what to do, and leaves everything else as it was."""
    workflow, commands = study
    wanted = KINDS[kind]
    file = workflow.results / wanted.file
    intact, times = file.read_bytes(), file.stat()
    file.write_bytes(DAMAGES[damage](wanted, intact))
    assert file.read_bytes() != intact
    try:
        before = outputs(workflow)
        line = failing(commands[wanted.reader][wanted.call], capsys)
        assert Path(wanted.file).name in line and "delete" in line and "start again" in line, line
        assert outputs(workflow) == before
    finally:
        file.write_bytes(intact)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def damage_silently(file: Path, content: bytes) -> None:
    """Change what a file holds, as a failing disk does: its time stays."""
    times = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def heal(workflow, *targets: str) -> list[str]:
    """Do what a user does: start, delete what the message names, start again; return what was deleted, in order."""
    deleted = []
    while True:
        ended = workflow.run(*targets)
        if ended.status == 0:
            return deleted
        assert "Traceback" not in ended.output
        named = re.findall(r"^elf \S+: error: (\S+): .*damaged.*delete it and start again", ended.output, re.MULTILINE)
        assert named, ended.output
        for name in dict.fromkeys(named):
            (workflow.folder / name).unlink()
            deleted.append(name.removeprefix("results/tiny/"))


CHAIN = {
    COLLECTED: "emptied",
    SHARD: "a byte of the header",
    FEATURES: "emptied",
    CHECKPOINT: "half of it",
    TRAINING: "a byte of the data",
}


def test_a_disk_that_rots_is_noticed_by_whatever_reads_and_all_comes_back_the_same(workflow, capsys, monkeypatch):
    """Every file behind a figure is damaged without a new time; the figure is made again after each deletion."""
    before = workflow.content_ids()
    kinds = {kind.file: kind for kind in reversed(KINDS.values())}
    for path, damage in CHAIN.items():
        file = workflow.results / path
        damage_silently(file, DAMAGES[damage](kinds[path], file.read_bytes()))

    # Everything was made from intact files and is there: nothing reads, and nothing has to run.
    monkeypatch.chdir(workflow.folder)
    assert workflow.planned("figure4", "report") == set()
    # Who asks is told, as far as a header tells it, and for a number that is asked for, its rows.
    planned = " ".join(succeeding(["plan", "figure4", "--scale", "tiny"], capsys).split())
    assert "damaged" in planned, planned
    explained = " ".join(succeeding(["explain", "figure4/epoch2", "--scale", "tiny"], capsys).split())
    for path in (SHARD, FEATURES, CHECKPOINT):
        assert f"results/tiny/{path}: is damaged or was altered" in explained

    for ending in ("pdf", "png", "svg", "csv"):
        (workflow.results / f"figures/figure4.{ending}").unlink()
    deleted = heal(workflow, "figure4")
    assert sorted(deleted) == sorted(CHAIN)
    assert workflow.content_ids() == before


# What was deleted, and what else its job makes first.
REMADE = {DATASET: DATASET, CARD: DATASET, EXPERT: EXPERT, IMAGES: IMAGES}


@pytest.mark.parametrize("path", REMADE)
def test_what_was_deleted_is_made_again_the_same(study, path, capsys):
    """The rest of the chain, without the workflow: its reader refuses it, its maker makes it again, as it was."""
    workflow, commands = study
    before = workflow.content_ids(), (workflow.results / CARD).read_bytes()
    (workflow.results / path).unlink()
    succeeding(commands[REMADE[path]][0], capsys)
    assert (workflow.content_ids(), (workflow.results / CARD).read_bytes()) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_of_an_interrupted_job_costs_time_and_nothing_else(
    study, damage, capsys, monkeypatch, caplog
):
    """What an interrupted evaluation left says that its seed is finished; altered, it must not be believed."""
    workflow, commands = study
    shard = workflow.results / SHARD
    wanted = pq.read_table(shard).drop_columns(["train_seconds", "peak_memory_bytes"])
    command = commands[SHARD][0]
    resume = shard.with_name(f".{shard.name}.seed0.resume")
    with monkeypatch.context() as patch:
        patch.setattr("elf.artifacts.checkpoints.Checkpoint.remove", lambda self: None)
        succeeding(command, capsys)
    assert resume.is_file()
    kind = Kind("checkpoint.safetensors", SHARD, "accuracy")
    resume.write_bytes(DAMAGES[damage](kind, resume.read_bytes()))
    shard.unlink()
    caplog.clear()
    succeeding(command, capsys)
    assert f"starting afresh: the checkpoint results/tiny/{resume.relative_to(workflow.results)}" in caplog.text
    assert pq.read_table(shard).drop_columns(["train_seconds", "peak_memory_bytes"]) == wanted
    assert not list(shard.parent.glob(".*"))
