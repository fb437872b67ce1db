"""The table of artifact kinds says what the rules say, seen in the jobs that Snakemake itself plans."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.artifacts.code import code_of
from elf.artifacts.fingerprint import code_id
from elf.importing.recipes import write_recipe
from elf.specs import kinds
from elf.specs.kinds import KINDS
from elf.status.jobs import Job, jobs_of, lineage
from elf.study.plan import Plan, make_plan

pytest_plugins = ("workflow_copy",)

SCALES = ("smoke", "laptop", "paper")
SCALE_FILE = "config/scales/tiny.yaml"
IMPORTED = "imported/theirs.safetensors"


@dataclass(frozen=True)
class Planned:
    """A job as Snakemake prints it: its rule, its files, and the words of its commands."""

    rule: str
    inputs: frozenset[str]
    outputs: tuple[str, ...]
    words: tuple[str, ...]

    def told(self, option: str) -> str:
        """Return the value of an option of the (first) command."""
        return self.words[self.words.index(option) + 1]


def planned(copy, scale: str, *targets: str) -> dict[str, Planned]:
    """Return the jobs that Snakemake plans, by their first file; targets that only collect others have none."""
    ended = copy.run(*targets, "--dry-run", "--printshellcmds", scale=scale)
    assert ended.status == 0, ended.output
    parts = re.split(r"^(?:local)?rule (\w+):\n", ended.output, flags=re.MULTILINE)[1:]
    jobs = {}
    for rule, text in zip(parts[::2], parts[1::2], strict=True):
        found = dict(re.findall(r"^    (input|output): (.*)$", text, flags=re.MULTILINE))
        if "output" in found:
            command = text.partition("Shell command: ")[2].partition("\n\n")[0]
            inputs = frozenset(filter(None, found.get("input", "").split(", ")))
            outputs = tuple(found["output"].split(", "))
            jobs[outputs[0]] = Planned(rule, inputs, outputs, tuple(shlex.split(command)))
    announced = re.search(r"^total +(\d+)$", ended.output, flags=re.MULTILINE)
    assert len(parts) // 2 == int(announced[1])
    return jobs


def check_agreement(plan: Plan, jobs: dict[str, Job], found: dict[str, Planned]) -> None:
    """Compare rule, outputs, inputs, command, specification, code and digest of every job."""
    results = f"results/{plan.settings.name}"
    expected = {f"{results}/{path}": job for path, job in jobs.items() if KINDS[job.kind].rule is not None}
    assert found.keys() == expected.keys()
    # Drawings wait for other files of a job than its first, such as the data of a figure.
    makers = {f"{results}/{file}": path for path, job in jobs.items() for file in job.files}
    for path, job in expected.items():
        kind, seen = KINDS[job.kind], found[path]
        assert seen.rule == kind.rule
        assert seen.outputs == tuple(f"{results}/{file}" for file in job.files)
        # The training of a teacher is no job of Snakemake's.
        parents = {parent for parent in job.parents if KINDS[jobs[parent].kind].rule is not None}
        assert {makers[file] for file in seen.inputs & makers.keys()} == parents, path
        shown = {file.relative_to(PROJECT).as_posix() for pattern in kind.shows for file in PROJECT.glob(pattern)}
        assert seen.inputs - makers.keys() == shown | {*job.given.values()}, path
        assert kind.command in seen.words
        if job.spec is not None:
            assert seen.told("--settings") == job.spec.canonical()
            assert seen.told("--code") == code_id(code_of(kind, job.spec))
        if job.digest is not None:
            assert seen.told("--digest") == job.digest()


def test_the_table_is_what_the_rules_say(fresh, monkeypatch):
    found = planned(fresh, "smoke")
    monkeypatch.chdir(fresh.folder)
    plan = make_plan(Path("config"), "smoke", Path("results"))
    jobs = jobs_of(plan)
    check_agreement(plan, jobs, found)
    assert {job.kind for job in jobs.values()} == {*KINDS}


def test_an_imported_set_is_what_the_rules_say(fresh, monkeypatch):
    write_recipe(
        fresh.folder / "config/recipes/theirs.yaml",
        description="A set",
        file=IMPORTED,
        identifier="0123456789abcdef",
        sources=[("theirs.npz", "0")],
    )
    (fresh.folder / IMPORTED).parent.mkdir()
    (fresh.folder / IMPORTED).write_text("There are only names in a plan.")
    fresh.edit(SCALE_FILE, "methods: [dm, dsa,", "methods: [theirs, dm, dsa,")
    fresh.edit(SCALE_FILE, "method: [tesla, herding", "method: [theirs, tesla, herding")
    found = planned(fresh, "tiny")
    monkeypatch.chdir(fresh.folder)
    plan = make_plan(Path("config"), "tiny", Path("results"))
    jobs = jobs_of(plan)
    check_agreement(plan, jobs, found)
    assert [job.given for job in jobs.values() if job.given] == [{"imported set": IMPORTED}]


@pytest.mark.parametrize("scale", SCALES)
def test_paths_are_those_of_the_table(scale):
    """Each kind gives the paths of its own files, and names those of others, in the words of the table."""
    jobs = jobs_of(make_plan(PROJECT / "config", scale, PROJECT / "results"))
    seen: set[str] = set()
    for path, job in jobs.items():
        kind = KINDS[job.kind]
        assert Path(path).match(kind.pattern), path
        assert job.files[0] == path
        assert {*kind.inputs(job.spec).values()} <= seen, path
        seen.add(path)


def test_a_kind_may_be_made_from_any_other(monkeypatch):
    """A teacher trained on a synthetic set, and a set that is chosen with that teacher."""
    plan = make_plan(PROJECT / "config", "smoke", PROJECT / "results")
    made_of = {job.kind: job for job in jobs_of(plan).values()}
    teacher, chosen = made_of["teacher checkpoints"], made_of["synthetic sets"]
    source = next(job for job in jobs_of(plan).values() if job.kind == "synthetic sets")

    def inputs(spec):
        if spec == chosen.spec:
            return {"teacher": teacher.path, "candidates": source.path}
        return {"dataset": kinds.DATASETS.at(dataset=spec.dataset)}

    def of_teacher(spec):
        return {"synthetic set": source.path} if spec == teacher.spec else inputs(spec)

    for kind, function in ((kinds.SETS, inputs), (kinds.TRAININGS, of_teacher), (kinds.CHECKPOINTS, of_teacher)):
        monkeypatch.setitem(vars(kind), "inputs", function)
    jobs = jobs_of(plan)
    order = [*jobs]
    for path, job in jobs.items():
        assert all(order.index(parent) < order.index(path) for parent in job.parents), path
    found = [job.path for job in lineage(jobs, [chosen.path])]
    assert found[0] == chosen.path
    assert found[-1].startswith("datasets/")
    assert found.index(teacher.path) < found.index(source.path)
