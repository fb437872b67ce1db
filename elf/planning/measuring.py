"""Finished jobs of a results folder: what they computed, and how long they took."""

import json
from collections.abc import Iterator
from pathlib import Path

from elf.artifacts.manifest import Manifest, read_manifest
from elf.errors import ElfError
from elf.planning.costs import Surroundings, stage_of, work_of
from elf.planning.fitting import Measurement
from elf.planning.sizes import sizes_in
from elf.specs import kinds
from elf.specs.base import Spec
from elf.specs.kinds import KINDS
from elf.status.jobs import Job


def measurements(results: Path, timings: Path) -> Iterator[Measurement]:
    """Yield the finished jobs of a scale.

    How long a job took stands in its benchmark, which Snakemake writes, or else, without the start of Python, in the
    manifest of its file. Files that cannot be read, or whose specification is of another version, are left out.

    Parameters
    ----------
    results, timings : Path
        Folders of the scale, such as ``results/laptop`` and ``timings/laptop``.
    """
    around = Surroundings({}, {})
    for kind in (kind for kind in KINDS.values() if not kind.is_brief):
        for file in sorted(results.glob(kind.pattern)):
            try:
                manifest = read_manifest(file, kind.manifest)
                spec = _narrowed(kind.spec, manifest["spec"])
            except (ElfError, ValueError):
                continue
            path = file.relative_to(results)
            if kind is kinds.DATASETS:
                around.sizes[spec.name] = sizes_in(file, manifest)
            if kind is kinds.SETS:
                around.ipc[spec.dataset, spec.name] = spec.ipc
            epochs = tuple(map(int, manifest["spec"]["test_accuracy"])) if kind is kinds.TRAININGS else ()
            job = Job(str(path), kind.name, spec, epochs=epochs)
            if _is_known(job, around) and (work := work_of(job, around)) is not None:
                # A training has no benchmark of its own, because jobs that wait for it have the same rule.
                seconds = _seconds(timings / (kind.rule or "none") / _benchmark(path), manifest)
                yield Measurement(stage_of(job), manifest["measured"]["device"], work, seconds)


def _narrowed(model: type[Spec], spec: dict) -> Spec:
    """Return a specification without what a manifest says besides."""
    return model(**{key: value for key, value in spec.items() if key in model.model_fields})


def _is_known(job: Job, around: Surroundings) -> bool:
    known = not hasattr(job.spec, "synthetic_set") or (job.spec.dataset, job.spec.synthetic_set) in around.ipc
    return known and around.sizes_for(job.spec) is not None


def _benchmark(path: Path) -> Path:
    """Return the benchmark of a file, below the folder of its rule."""
    inside = path.relative_to(path.parts[0])
    return (inside.parent if path.name == kinds.IMAGES else inside.with_suffix("")).with_suffix(".jsonl")


def _seconds(benchmark: Path, manifest: Manifest) -> float:
    inside = float(manifest["measured"]["wall_seconds"])
    try:
        record = json.loads(benchmark.read_text(encoding="utf-8").splitlines()[-1])
        # A job that ran again by hand has an old benchmark.
        return max(float(record["s"]), inside)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return inside
