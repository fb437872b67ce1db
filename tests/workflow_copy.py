"""A copy of the project in which tests may run the workflow, edit code and configuration, and break files.

The copy has one scale more, ``tiny``: every rule, method and objective in two minutes.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

# Characters that need quotes in shells, and one that is not ASCII.
FOLDER = "it's a cöpy"
COPIED = ("Snakefile", "rules", "config", "profiles", "slurm", "elf", "envs", "pyproject.toml")

TINY = """\
description: tiny scale of the tests
methods: [dm, dsa, mtt, tesla, frepo, random, herding, k-center, k-means]
experiments: [table01, table05, figure3, figure4]
stand_ins: {cifar10: digits, cifar10-frepo: digits, cifar100: digits}
width: 0.015625
seeds: 2
seeds_per_job: 2
datasets:
  digits: {train_per_class: 12, test_per_class: 10}
recipes:
  dm: {iterations: 2, batch_real: 8, constants: dataset}
  dsa: {iterations: 1, outer_loop: 2, inner_loop: 1, batch_real: 8, constants: dataset}
  mtt: {iterations: 2, synthetic_steps: 2, expert_epochs: 1, max_start_epoch: 2, experts: 2}
  tesla: {iterations: 2, synthetic_steps: 2, expert_epochs: 1, max_start_epoch: 1, experts: 1}
  frepo: {iterations: 3, batch_real: 20}
  frepo-evaluation: {steps: 4, warmup_steps: 2}
  expert: {epochs: 2, batch_size: 40}
  teacher: {epochs: 3, batch_size: 40}
  evaluation: {epochs: 1, batch_size: 50}
changes:
  table01:
    blocks:
      aligned: {method: [dsa, mtt]}
      baseline: {enabled: false}
      batch-norm-aligned: {enabled: false}
      batch-norm: {enabled: false}
      frepo: {method: [frepo], eval_network: [convnet-w128-d3-in]}
      full-data: {enabled: false}
      others:
        method: [tesla, herding, k-center, k-means]
        eval_network: [convnet-w128-d3-in]
        enabled: true
  table05:
    blocks:
      aligned: {method: [dm, random]}
      baseline: {method: [dm, random], eval_network: [resnet18-in, vgg11-bn]}
      elf: {method: [dm, random], eval_network: [resnet18-in, vgg11-bn], teacher_epoch: 1, lr: 0.01}
      kd: {method: [dm], eval_network: [convnet-w128-d3-bn], teacher_epoch: 1, lr: 0.01, enabled: true}
      full-data: {eval_network: [convnet-w128-d3-in, vgg11-bn]}
  figure3:
    blocks:
      baseline: {method: [dm]}
      front: {method: [dm], teacher_epoch: 1, objective: [{name: elf, lambda_front: [0, 1]}]}
      rear: {method: [dm], teacher_epoch: 1, objective: [{name: elf, lambda_rear: [0, 1]}]}
  figure4:
    blocks:
      baseline: {method: [dm], eval_network: [resnet18-in]}
      elf: {method: [dm], eval_network: [resnet18-in], teacher_epoch: [1, 2]}
"""
SCALE_FILE = "config/scales/tiny.yaml"

LISTED = """
import json, sys
from pathlib import Path
from elf.study.images import data_folder
from elf.status.jobs import jobs_of, selected
from elf.status.states import check_can_run, states_of
from elf.specs.kinds import KINDS
from elf.study.plan import make_plan
plan = make_plan(Path("config"), "tiny", Path("results"))
jobs = selected(plan, jobs_of(plan), sys.argv[1:])
states = states_of(jobs, plan.folder, data_folder())
check_can_run(plan, jobs, states, sys.argv[1:])
rules = {path: KINDS[job.kind].rule for path, job in jobs.items() if not states[path].done}
print(json.dumps([f"{rule} {path}" for path, rule in rules.items() if rule]))
"""


@dataclass(frozen=True)
class WorkflowCopy:
    """A folder with everything that the workflow needs.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @property
    def results(self) -> Path:
        """Results of the tiny scale."""
        return self.folder / "results" / "tiny"

    def duplicate(self, parent: Path) -> "WorkflowCopy":
        """Return a copy with the same results, modification times and records of Snakemake."""
        target = parent / FOLDER
        shutil.copytree(self.folder, target, symlinks=True)
        return WorkflowCopy(target)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that occurs once; the file is newer afterwards, as after an edit."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} holds {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        """Add text to the end of a file."""
        with open(self.folder / file, "a", encoding="utf-8") as stream:
            stream.write(text)

    def command(self, *arguments: str, scale: str = "tiny", cores: int = 2) -> list[str]:
        """Return the command that runs the workflow, targets first: options that take lists come last."""
        return [
            *(sys.executable, "-m", "snakemake", *arguments, "--profile", "profiles/local"),
            *(f"--cores={cores}", "--config", f"scale={scale}"),
        ]

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of a user who activated nothing and installed nothing else."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "PYTHON"))}
        return kept | {"OMP_NUM_THREADS": "1", "ELF_DEVICE": "cpu"} | changes

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start the workflow as the leader of a process group."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, scale: str = "tiny", config: tuple[str, ...] = (), **changes: str) -> "Ended":
        """Run the workflow to its end; ``changes`` are of the environment."""
        return self.call([*self.command(*arguments, scale=scale), *config], **changes)

    def call(self, command: list[str], **changes: str) -> "Ended":
        """Run any command in the folder."""
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout)

    def planned(self, *targets: str, **changes: str) -> set[str]:
        """Return the jobs that Snakemake would run, as ``rule path-of-the-first-output``.

        The dry run finds a package ``torch`` that cannot be imported: planning never needs the real one.
        """
        poison = self.folder.parent / "poison" / "torch"
        poison.mkdir(parents=True, exist_ok=True)
        (poison / "__init__.py").write_text("raise RuntimeError('planning imported torch')\n")
        ended = self.run(*targets, "--dry-run", PYTHONPATH=str(poison.parent), **changes)
        assert ended.status == 0, ended.output
        return ended.jobs

    def planned_by_elf(self, *targets: str, **changes: str) -> set[str]:
        """Return the jobs that are to do as ``elf plan`` has them, in the same words."""
        ended = self.call([sys.executable, "-c", LISTED, *targets], PYTHONPATH=str(self.folder), **changes)
        assert ended.status == 0, ended.output
        return set(json.loads(ended.output))

    def read_manifests(self) -> dict[str, dict]:
        """Return the manifest of every artifact, by path below the results."""
        return read_manifests(self.results)

    def content_ids(self) -> dict[str, str]:
        """Return what does not depend on the time of the run: identifiers, and accuracies of evaluations."""
        return content_ids(self.results)


MEASURED = ("train_seconds", "peak_memory_bytes")


def read_manifests(results: Path) -> dict[str, dict]:
    """Return the manifest of every artifact of a scale, by path below its results."""
    from elf.artifacts.manifest import read_manifest

    files = [file for ending in ("safetensors", "parquet") for file in results.rglob(f"[!.]*.{ending}")]
    return {file.relative_to(results).as_posix(): read_manifest(file) for file in files}


def content_ids(results: Path) -> dict[str, str]:
    """Return what does not depend on the time of the run: identifiers, and accuracies of evaluations."""
    import pyarrow.parquet

    content = {}
    for path, manifest in read_manifests(results).items():
        if path.endswith(".parquet"):
            rows = pyarrow.parquet.read_table(results / path).to_pylist()
            timeless = [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
            content[path] = str(sorted(timeless, key=str))
        else:
            content[path] = manifest["id"]
    return content


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status and everything that it printed."""

    status: int
    output: str

    @property
    def jobs(self) -> set[str]:
        """Jobs that were run, or would have been: ``rule path-of-the-first-output``, without collecting targets."""
        jobs = set()
        for rule, details in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", self.output, flags=re.MULTILINE):
            outputs = re.search(r"^    output: ([^\n,]+)", details, flags=re.MULTILINE)
            if outputs:
                jobs.add(f"{rule} {outputs[1].removeprefix('results/tiny/')}")
        announced = re.search(r"^total +(\d+)$", self.output, flags=re.MULTILINE)
        targets = len(re.findall(r"^(?:local)?rule (?:all\w*|report|table\d\d|figure\d):$", self.output, re.MULTILINE))
        # A change in how Snakemake prints jobs must not look like 'nothing is stale'.
        assert len(jobs) + targets == (int(announced[1]) if announced else 0), self.output
        assert announced or "Nothing to be done" in self.output, self.output
        return jobs


def make_copy(parent: Path) -> WorkflowCopy:
    """Return a copy of the project's own files, with the tiny scale and without any results."""
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    for name in COPIED:
        source = PROJECT / name
        if source.is_symlink():
            (folder / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    (folder / SCALE_FILE).write_text(TINY, encoding="utf-8")
    return WorkflowCopy(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, other_processes) -> WorkflowCopy:
    """A copy in which the tiny scale was run; never changed by a test. Workers of one test run share it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    copy = WorkflowCopy(base / "finished" / FOLDER)
    with _locked(base / "finished.lock"):
        log = base / "finished.log"
        if not log.exists():
            copy = make_copy(base / "finished")
            ended = copy.run()
            log.write_text(ended.output, encoding="utf-8")
            (base / "finished.status").write_text(str(ended.status))
        status = int((base / "finished.status").read_text())
    assert status == 0, log.read_text(encoding="utf-8")
    return copy


@pytest.fixture
def workflow(finished, tmp_path) -> WorkflowCopy:
    """A copy with finished results that a test may change."""
    return finished.duplicate(tmp_path)


@pytest.fixture
def fresh(tmp_path, other_processes) -> WorkflowCopy:
    """A copy in which nothing was run."""
    return make_copy(tmp_path)


@pytest.fixture
def kill():
    """Function that kills a workflow and its jobs without warning, as a machine that goes down does."""
    return _kill_all


@contextmanager
def _locked(path: Path):
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _kill_all(process: subprocess.Popen) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children)
    process.communicate()
