"""A study that was packed in one clone and unpacked in another: what Snakemake and the plan make of it there."""

import json
import os
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import failing, succeeding
from fabricated_runs import finish, write
from workflow_copy import make_copy

from elf.artifacts.checkpoints import Checkpoint
from elf.artifacts.fingerprint import fingerprint
from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tensors import write_tensors
from elf.importing.recipes import write_recipe
from elf.packing.packing import Limits, pack
from elf.packing.records import params_of
from elf.packing.unpacking import unpack
from elf.specs.kinds import KINDS
from elf.stages.prepare_dataset import main as prepare_dataset
from elf.status.jobs import jobs_of
from elf.study.plan import make_plan

pytest_plugins = ("workflow_copy",)

EVERYTHING = Limits(10**9, 10**9)
NOTHING_LARGE = Limits(0, 0)
SCALE = "config/scales/tiny.yaml"
TEACHER = "teachers/digits/convnet-w8-d3-in/epoch1.safetensors"
SHARD = "evaluations/digits/dm-convnet-w2-d3-in-ipc10-seed0/resnet18-w1-in/task-lr0.01/seeds0-1.parquet"


def plan(scale: str = "tiny"):
    return make_plan(Path("config"), scale, Path("results"))


COMPUTING = {kind.rule for kind in KINDS.values() if kind.spec is not None}


def of_rules(planned: set[str]) -> set[str]:
    """Return the jobs that compute something; nothing else is packed."""
    return {job for job in planned if job.split()[0] in COMPUTING}


def computing(copy) -> set[str]:
    return of_rules(copy.planned_by_elf())


def packed(copy, folder: Path, limits: Limits = EVERYTHING, **options):
    with chdir(copy.folder):
        return pack(plan(), folder, limits, **options)


def unpacked(copy, folder: Path, **options):
    with chdir(copy.folder):
        return unpack(folder, plan, prepare_dataset, lambda line: None, **options)


@pytest.fixture
def study(tmp_path):
    """A copy of which every file is there, without a training and without Snakemake."""
    copy = make_copy(tmp_path / "study")
    with chdir(copy.folder):
        finish(plan())
    write_card(copy)
    return copy


def write_card(copy) -> None:
    (copy.results / "datasets/digits/card.json").write_text("{}")


@pytest.fixture
def clone(tmp_path, other_processes):
    """A copy in which nothing was run."""
    return make_copy(tmp_path / "clone")


# With files that the workflow made


def test_records_are_those_that_snakemake_writes(finished):
    """The parameters, out of the manifests alone, for every kind of file."""
    from snakemake.persistence.file import FilePersistence

    with chdir(finished.folder):
        store, kinds = FilePersistence(), set()
        for job in jobs_of(plan()).values():
            path = f"results/tiny/{job.path}"
            if job.spec is not None and job.kind != "teacher trainings":
                kinds.add(job.kind)
                assert store._read_record(path).params == params_of(read_manifest(Path(path))), path
    assert kinds == {kind.name for kind in KINDS.values() if kind.spec} - {"teacher trainings"}


EDITS = {
    "nothing": lambda copy: None,
    "settings": lambda copy: copy.edit(SCALE, "mtt: {iterations: 2,", "mtt: {iterations: 3,"),
    "code": lambda copy: copy.edit(
        "elf/objectives/elf.py", "return total  # Equation 9", "return 1 * total  # Equation 9"
    ),
    "rule": lambda copy: copy.edit("rules/features.smk", "--features {output.features:q}", "--features {output[0]:q}"),
    "seeds": lambda copy: copy.edit(SCALE, "seeds: 2\n", "seeds: 4\n"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_in_another_clone_just_what_is_missing_or_stale_is_made(finished, clone, tmp_path, edit):
    contents = packed(finished, tmp_path / "pack")
    EDITS[edit](clone)
    unpacked(clone, tmp_path / "pack")
    here = finished.duplicate(tmp_path / "here")
    EDITS[edit](here)
    expected = of_rules(here.planned())
    assert of_rules(clone.planned()) == expected
    assert bool(expected) == (edit != "nothing")
    if edit != "rule":  # Of which only Snakemake knows.
        assert computing(clone) == expected
    assert not contents.left_out


def test_what_is_too_large_is_not_made_again_unless_it_is_needed(finished, clone, tmp_path):
    contents = packed(finished, tmp_path / "pack", NOTHING_LARGE)
    kinds = [Path(file.path).parts[2] for file in contents.left_out]
    assert sorted(set(kinds)) == ["datasets", "experts", "teachers"]
    unpacked(clone, tmp_path / "pack")
    # Teachers whose accuracy a table prints are needed for it.
    full_data = {"train_teacher teachers/digits/convnet-w2-d3-in/epoch3.safetensors"}
    full_data |= {"train_teacher teachers/digits/vgg11-w1-bn/epoch3.safetensors"}
    assert of_rules(clone.planned()) == computing(clone) == full_data
    assert of_rules(clone.planned("figure4")) == set()
    # A shard that is lost needs no teacher, features that are lost do, and what was made from it follows.
    (clone.results / SHARD).unlink()
    assert of_rules(clone.planned("figure4")) == {f"evaluate {SHARD}"}


def test_the_other_clone_goes_on_to_the_same_table(finished, clone, tmp_path):
    """Run to its end, with the data set made again: Snakemake makes what is drawn and nothing else."""
    packed(finished, tmp_path / "pack", Limits(10**9, 0))
    unpacked(clone, tmp_path / "pack")
    ended = clone.run("figure4")
    assert ended.status == 0, ended.output
    assert of_rules(ended.jobs) == set()
    assert {job.split()[0] for job in ended.jobs} == {"collect_experiment", "draw_figure"}
    drawn = [copy.results / "figures/figure4.csv" for copy in (clone, finished)]
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


# With files that were made up


def test_a_pack_says_what_it_holds_and_keeps_times(study, clone, tmp_path):
    contents = packed(study, tmp_path / "pack")
    listed = json.loads((tmp_path / "pack/pack.json").read_text())
    files = {
        path.relative_to(tmp_path / "pack").as_posix() for path in (tmp_path / "pack").rglob("*") if path.is_file()
    }
    assert files == {entry["path"] for entry in listed["files"]} | {"pack.json"}
    with chdir(study.folder):
        wanted = {f"results/tiny/{path}" for path, job in jobs_of(plan()).items() if job.spec is not None}
    trainings = {path for path in wanted if path.endswith("training.safetensors")}
    assert files == wanted - trainings | {"results/tiny/datasets/digits/card.json", "pack.json"}
    done = unpacked(clone, tmp_path / "pack")
    assert set(done.written) == files - {"pack.json"} and not done.kept and not done.stale and not done.withheld
    for entry in contents.files:
        assert (clone.folder / entry.path).read_bytes() == (study.folder / entry.path).read_bytes()
        assert (clone.folder / entry.path).stat().st_mtime_ns == (study.folder / entry.path).stat().st_mtime_ns
    again = unpacked(clone, tmp_path / "pack")
    assert not again.written and set(again.kept) == set(done.written)


def test_a_second_pack_follows_the_study(study, tmp_path):
    packed(study, tmp_path / "pack")
    first = (tmp_path / "pack/results/tiny" / TEACHER).stat()
    (study.results / SHARD).unlink()
    packed(study, tmp_path / "pack")
    assert not (tmp_path / "pack/results/tiny" / SHARD).exists()
    # What has not changed is not copied again.
    assert (tmp_path / "pack/results/tiny" / TEACHER).stat().st_ino == first.st_ino


@pytest.mark.parametrize("path", [SHARD, TEACHER])
def test_a_damaged_file_is_not_packed(study, tmp_path, capsys, path):
    file = study.results / path
    content = bytearray(file.read_bytes())
    place = len(content) // 2 if path == SHARD else len(content) - 1
    content[place] ^= 255
    file.write_bytes(content)
    with chdir(study.folder):
        line = failing(["pack", "--scale", "tiny", tmp_path / "pack"], capsys)
    assert f"results/tiny/{path}: is damaged or was altered" in line
    assert not (tmp_path / "pack/pack.json").exists()


def test_a_damaged_pack_writes_nothing(study, clone, tmp_path, capsys):
    packed(study, tmp_path / "pack")
    with open(tmp_path / "pack/results/tiny" / SHARD, "ab") as stream:
        stream.write(b"x")
    with chdir(clone.folder):
        line = failing(["unpack", tmp_path / "pack"], capsys)
    assert f"{SHARD}: is damaged" in line
    assert not (clone.folder / "results").exists()


@pytest.mark.parametrize("path", ["/etc/x.json", "results/tiny/../../x.json", "results/other/x.json", ".git/x.json"])
def test_no_file_of_a_pack_leads_out_of_the_results(study, clone, tmp_path, capsys, path):
    from elf.artifacts.manifest import seal_of

    packed(study, tmp_path / "pack")
    listed = json.loads((tmp_path / "pack/pack.json").read_text())
    listed["files"][0]["path"] = path
    (tmp_path / "pack/pack.json").write_text(json.dumps(listed | {"seal": seal_of(listed)}))
    with chdir(clone.folder):
        line = failing(["unpack", tmp_path / "pack"], capsys)
    assert "allowed is" in line or "no place" in line
    assert not (clone.folder / "results").exists()


def test_other_files_are_replaced_only_when_told(study, clone, tmp_path, capsys):
    packed(study, tmp_path / "pack")
    with chdir(clone.folder):
        finish(plan())
        write_card(clone)
        own = jobs_of(plan())[TEACHER]
        write(plan(), own, content=1.0)
        before = (clone.results / TEACHER).read_bytes()
        line = failing(["unpack", tmp_path / "pack"], capsys)
        assert TEACHER in line and "--force" in line
        assert (clone.results / TEACHER).read_bytes() == before
    unpacked(clone, tmp_path / "pack", force=True)
    assert (clone.results / TEACHER).read_bytes() == (study.results / TEACHER).read_bytes()


def test_what_was_made_from_another_file_than_the_one_here_is_stale_to_both(study, clone, tmp_path):
    """A teacher of the same settings with other numbers, older than the features: times and settings say nothing."""
    packed(study, tmp_path / "pack", Limits(0, 10**9))
    with chdir(clone.folder):
        jobs = jobs_of(plan())
        write(plan(), jobs["datasets/digits/images.safetensors"])
        write_card(clone)
        write(plan(), jobs[TEACHER], content=1.0)
        os.utime(f"results/tiny/{TEACHER}", (10**9, 10**9))
    unpacked(clone, tmp_path / "pack", force=True)
    stale = computing(clone)
    features = {job for job in stale if job.startswith("extract_features") and "convnet-w8-d3-in-epoch1" in job}
    assert len(features) == 2
    assert of_rules(clone.planned()) == stale


def test_nothing_comes_that_was_made_from_a_teacher_that_would_be_another(study, clone, tmp_path):
    packed(study, tmp_path / "pack", Limits(0, 10**9))
    clone.edit(SCALE, "teacher: {epochs: 3,", "teacher: {epochs: 4,")
    done = unpacked(clone, tmp_path / "pack")
    assert done.withheld and all(path.split("/")[2] in ("features", "evaluations") for path in done.withheld)
    planned, below = computing(clone), "results/tiny/"
    features = {path.removeprefix(below) for path in done.withheld if path.startswith(f"{below}features")}
    assert features and {f"extract_features {path}" for path in features} <= planned
    assert of_rules(clone.planned()) == planned


def test_states_of_unfinished_jobs_come_when_asked_for(study, clone, tmp_path):
    shard = study.results / SHARD
    state = shard.with_name(f".{shard.name}.seed0.resume")
    Checkpoint(state, "key").save_now(lambda: {"x": torch.ones(3)})
    training = study.results / "teachers/digits/convnet-w8-d3-in/training.safetensors"
    teacher_state = training.with_name(f".{training.name}.resume")
    Checkpoint(teacher_state, "key").save_now(lambda: {"x": torch.ones(3)})
    # Both jobs are done: nobody needs their states.
    packed(study, tmp_path / "done", running=True)
    assert not [*(tmp_path / "done").rglob("*.resume"), *(tmp_path / "done").rglob("training.*")]
    shard.unlink()
    (study.results / TEACHER).unlink()
    packed(study, tmp_path / "without")
    assert not [*(tmp_path / "without").rglob("*.resume"), *(tmp_path / "without").rglob("training.*")]
    packed(study, tmp_path / "pack", running=True)
    unpacked(clone, tmp_path / "pack")
    for file in (state, training, teacher_state):
        assert (clone.folder / file.relative_to(study.folder)).read_bytes() == file.read_bytes()
    loaded = Checkpoint(clone.folder / state.relative_to(study.folder), "key").load()
    assert torch.equal(loaded["x"], torch.ones(3))


def test_a_damaged_state_is_not_packed(study, tmp_path, capsys):
    shard = study.results / SHARD
    shard.unlink()
    state = shard.with_name(f".{shard.name}.seed0.resume")
    safetensors.torch.save_file({"x": torch.ones(3)}, state, metadata={"key": "key", "digest": "other"})
    with chdir(study.folder):
        assert "is damaged" in failing(["pack", "--scale", "tiny", "--running", tmp_path / "pack"], capsys)


def test_imported_sets_come_with_their_files_and_recipes(study, clone, tmp_path, capsys):
    with chdir(study.folder):
        file = "imported/theirs.safetensors"
        told = {"inputs": {}, "code": fingerprint("elf.stages.import_files"), "measured": {}}
        manifest = write_tensors(file, {"images": torch.zeros(1)}, describe("imported set", {"name": "theirs"}, **told))
        recipe = Path("config/recipes/theirs.yaml")
        write_recipe(recipe, description="theirs", file=file, identifier=manifest["id"], sources=[("a", "b")])
    for copy in (study, clone):
        copy.edit(SCALE, "methods: [dm,", "methods: [theirs, dm,")
        copy.edit(SCALE, "baseline: {method: [dm, random], eval", "baseline: {method: [theirs, dm, random], eval")
    with chdir(study.folder):
        jobs = jobs_of(plan())
        finish(plan(), {path: job for path, job in jobs.items() if job.spec and not (study.results / path).exists()})
        succeeding(["pack", "--scale", "tiny", tmp_path / "pack"], capsys)
    unpacked(clone, tmp_path / "pack")
    assert (clone.folder / file).read_bytes() == (study.folder / file).read_bytes()
    assert computing(clone) == of_rules(clone.planned()) == set()


def test_a_pack_is_of_one_scale_and_never_somebody_elses_folder(study, tmp_path, capsys):
    packed(study, tmp_path / "pack")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear")
    with chdir(study.folder):
        assert "is a pack of the scale tiny" in failing(["pack", "--scale", "smoke", tmp_path / "pack"], capsys)
        assert "no pack" in failing(["pack", "--scale", "tiny", tmp_path / "other"], capsys)
        assert "no pack" in failing(["unpack", tmp_path / "other"], capsys)
    shutil.rmtree(tmp_path / "other")
