"""A scale of which every file is there without a training: contents made up, manifests as the jobs would write them."""

import json
import shutil
from pathlib import Path

import torch
from conftest import PROJECT

from elf.artifacts.code import code_of
from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tables import write_table
from elf.artifacts.tensors import write_tensors
from elf.results.columns import RESULTS
from elf.specs.kinds import COLLECTED, KINDS
from elf.specs.shard import MEASURED, SHARD
from elf.status.jobs import Job, jobs_of
from elf.status.states import State, elsewhere, states_of
from elf.study.plan import Plan, make_plan

DEVICE = "cpu (made up)"
CLASSES, PER_CLASS, TESTED = 10, 12, 10


def configuration(folder: Path) -> Path:
    """Return a copy of the configuration with the tiny scale, which a test may change."""
    # Not before pytest has loaded it, where it is a plugin.
    from workflow_copy import TINY

    config = folder / "config"
    shutil.copytree(PROJECT / "config", config)
    (config / "scales" / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return config


def plan_of(folder: Path) -> Plan:
    """Return the plan of the tiny scale in a folder with its configuration."""
    return make_plan(folder / "config", "tiny", folder / "results")


def finish(plan: Plan, jobs=None) -> None:
    """Write the files of some jobs, by default of all; each after those that it is made from."""
    for job in (jobs or jobs_of(plan)).values():
        write(plan, job)


def write(
    plan: Plan, job: Job, *, content: float = 0.0, code: dict | None = None, spec: dict | None = None, **measured
):
    """Write the file of a job; its content, code, specification and measurements may be made others."""
    path = plan.folder / job.path
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = KINDS[job.kind]
    if kind.manifest is None:
        for file in job.files:
            (plan.folder / file).write_text("drawn")
        return
    own = {} if job.spec is None else job.spec.model_dump(mode="json") | _said(job, content)
    text = code_of(kind, job.spec or job.name)
    manifest = describe(
        kind.manifest,
        own | (spec or {}),
        inputs={role: read_manifest(plan.folder / source) for role, source in job.inputs.items()}
        | {role: read_manifest(elsewhere(plan.folder, source)) for role, source in job.given.items()},
        code=text if code is None else json.dumps(code),
        measured={"device": DEVICE, "wall_seconds": 2.0, "peak_memory_bytes": 1} | measured,
    )
    if job.group == COLLECTED:
        shards = [source for source in job.after if not source.endswith("images.safetensors")]
        write_table(path, [dict.fromkeys(RESULTS.names) | {"shard": shard} for shard in shards], RESULTS, manifest)
    elif job.kind == "evaluations":
        row = dict.fromkeys(SHARD.names) | {"synthetic_set_id": manifest["inputs"]["synthetic set"]["id"]}
        rows = [row | {"seed": seed, "accuracy": 0.5 + 0.1 * seed + content} for seed in job.spec.seeds]
        write_table(path, rows, SHARD, manifest, MEASURED)
    else:
        write_tensors(path, _tensors(job, content), manifest)
    for file in job.files[1:]:
        (plan.folder / file).write_text("a card")


def _said(job: Job, content: float) -> dict:
    """Return what a manifest says besides the specification."""
    if job.kind == "datasets":
        return {"class_names": [str(label) for label in range(CLASSES)], "source_state": []}
    if job.kind == "teacher trainings":
        return {"test_accuracy": {str(epoch): 0.5 for epoch in job.epochs}}
    return {"epoch": job.epochs[0], "test_accuracy": 0.7 + content} if job.kind == "teacher checkpoints" else {}


def _tensors(job: Job, content: float) -> dict[str, torch.Tensor]:
    if job.kind != "datasets":
        return {"content": torch.tensor([content])}
    side = job.spec.side
    counts = {"train": CLASSES * PER_CLASS, "test": CLASSES * TESTED}
    images = {
        f"{split}_images": torch.zeros(count, 3, side, side, dtype=torch.uint8) for split, count in counts.items()
    }
    return images | {"mean": torch.tensor([content])}


def states(plan: Plan) -> dict[str, State]:
    """Return the states of all jobs."""
    return states_of(jobs_of(plan), plan.folder, plan.folder / "no images")
