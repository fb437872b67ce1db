"""What each kind of job computes and writes: from its kind and specification to work and bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

from elf.planning import sizes as files
from elf.planning import work
from elf.planning.distillation_work import distillation_work
from elf.planning.work import Sizes, Work
from elf.specs import kinds
from elf.specs.base import Spec
from elf.specs.kinds import KINDS
from elf.status.jobs import Job


@dataclass(frozen=True)
class Surroundings:
    """What a job's cost depends on besides its specification.

    Attributes
    ----------
    sizes : dict of str to Sizes
        Of the datasets that are known, by name.
    ipc : dict of (str, str) to int
        Images per class of each synthetic set, by dataset and name.
    """

    sizes: Mapping[str, Sizes]
    ipc: Mapping[tuple[str, str], int]

    def sizes_for(self, spec: Spec) -> Sizes | None:
        """Return the size of the dataset that a job works on; None if it is not known."""
        return self.sizes.get(getattr(spec, "dataset", None) or spec.name)

    def images_for(self, spec: Spec) -> int:
        """Return the number of images of the synthetic set that a job works on."""
        return self.sizes[spec.dataset].classes * self.ipc[spec.dataset, spec.synthetic_set]


def stage_of(job: Job) -> str | None:
    """Return the stage whose speed a job has, that of a synthetic set with its method; None for jobs of a moment."""
    kind = KINDS[job.kind]
    if kind.is_brief:
        return None
    return f"{kind.command}/{job.spec.module}" if kind is kinds.SETS else kind.command


def work_of(job: Job, around: Surroundings) -> Work | None:
    """Return the work of a job; none of it for jobs of a moment, and None where it is not known."""
    if stage_of(job) is None:
        return Work()
    spec, sizes = job.spec, around.sizes_for(job.spec)
    if sizes is None:
        return None
    if job.kind == kinds.DATASETS.name:
        return work.dataset_work(spec, sizes)
    if job.kind == kinds.EXPERTS.name:
        return work.expert_work(spec, sizes)
    if job.kind == kinds.SETS.name:
        return distillation_work(spec, sizes)
    if job.kind == kinds.TRAININGS.name:
        return work.teacher_work(spec, sizes, job.epochs)
    if job.kind == kinds.FEATURES.name:
        return work.features_work(spec, sizes, around.images_for(spec))
    return work.evaluation_work(spec, sizes, around.images_for(spec))


def bytes_of(job: Job, around: Surroundings) -> int | None:
    """Return the size of a job's file; 0 for drawings, which are small, and None where it is not known."""
    if job.spec is None:
        return 0
    spec, sizes = job.spec, around.sizes_for(job.spec)
    if job.kind == kinds.EVALUATIONS.name:
        return files.EVALUATION
    if sizes is None:
        return None
    if job.kind == kinds.DATASETS.name:
        return files.dataset_bytes(spec, sizes)
    if job.kind == kinds.EXPERTS.name:
        return files.expert_bytes(spec, sizes)
    if job.kind == kinds.SETS.name:
        return files.synthetic_bytes(spec, sizes)
    if job.kind == kinds.FEATURES.name:
        return files.features_bytes(spec, sizes, around.images_for(spec))
    checkpoint = files.checkpoint_bytes(spec, sizes)
    return checkpoint and checkpoint * len(job.epochs)
