"""Finished jobs of a results folder: what they computed, and how long they took."""

import json
from collections.abc import Iterator
from pathlib import Path

from elf.artifacts.manifest import Manifest, read_manifest
from elf.errors import ElfError
from elf.planning.costs import Surroundings, stage_of, work_of
from elf.planning.fitting import Measurement
from elf.planning.jobs import Job
from elf.planning.sizes import sizes_in
from elf.planning.states import MANIFEST_KINDS
from elf.specs.base import Spec
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec

FILES = {
    "datasets": ("datasets/*/images.safetensors", DatasetSpec, "prepare_dataset"),
    "synthetic sets": ("synthetic/*/*/images.safetensors", SyntheticSpec, "distill"),
    "experts": ("experts/*/*/expert*.safetensors", ExpertSpec, "train_expert"),
    "teacher trainings": ("teachers/*/*/training.safetensors", TeacherSpec, None),
    "features": ("features/*/*/*.safetensors", FeaturesSpec, "extract_features"),
    "evaluations": ("evaluations/*/*/*/*/*.parquet", EvaluationSpec, "evaluate"),
}
"""By kind: where its files lie, its specification, and the rule of its benchmark. A teacher has no benchmark of its
own, because jobs that wait for its training have the same rule."""


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
    for kind, (pattern, model, rule) in FILES.items():
        for file in sorted(results.glob(pattern)):
            try:
                manifest = read_manifest(file, MANIFEST_KINDS[kind])
                spec = _narrowed(model, manifest["spec"])
            except (ElfError, ValueError):
                continue
            path = file.relative_to(results)
            if kind == "datasets":
                around.sizes[spec.name] = sizes_in(file, manifest)
            if kind == "synthetic sets":
                around.ipc[spec.dataset, spec.name] = spec.ipc
            epochs = tuple(map(int, manifest["spec"]["test_accuracy"])) if kind == "teacher trainings" else ()
            job = Job(str(path), kind, spec, epochs=epochs)
            if _is_known(job, around) and (work := work_of(job, around)) is not None:
                seconds = _seconds(timings / (rule or "none") / _benchmark(path), manifest)
                yield Measurement(stage_of(job), manifest["measured"]["device"], work, seconds)


def _narrowed(model: type[Spec], spec: dict) -> Spec:
    """Return a specification without what a manifest says besides."""
    return model(**{key: value for key, value in spec.items() if key in model.model_fields})


def _is_known(job: Job, around: Surroundings) -> bool:
    needs_set = job.kind in ("features", "evaluations")
    known = not needs_set or (job.spec.dataset, job.spec.synthetic_set) in around.ipc
    return known and around.sizes_for(job.spec) is not None


def _benchmark(path: Path) -> Path:
    """Return the benchmark of a file, below the folder of its rule."""
    inside = path.relative_to(path.parts[0])
    return (inside.parent if path.name == "images.safetensors" else inside.with_suffix("")).with_suffix(".jsonl")


def _seconds(benchmark: Path, manifest: Manifest) -> float:
    inside = float(manifest["measured"]["wall_seconds"])
    try:
        record = json.loads(benchmark.read_text(encoding="utf-8").splitlines()[-1])
        # A job that ran again by hand has an old benchmark.
        return max(float(record["s"]), inside)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return inside
