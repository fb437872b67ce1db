"""The jobs of the whole paper for benchmarks/scaling.py: what they compute and write, and how they are submitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import CPU, HERE, Submissions, contracted, grouped
from benchmarks.resuming import resume_bytes
from elf.planning.calibration import Calibration
from elf.planning.costs import Surroundings, bytes_of, stage_of, work_of
from elf.planning.forecast import surroundings
from elf.planning.priorities import priorities
from elf.planning.scheduling import chains
from elf.planning.work import Work
from elf.specs.kinds import KINDS
from elf.status.jobs import Job, jobs_of
from elf.status.states import State
from elf.study.plan import make_plan

# An order that does without counting operations, for comparison: experts before teachers before all else.
FIXED = {"experts": 20, "teacher trainings": 10, "teacher checkpoints": 10}
PLACES = {kind.name: HERE for kind in KINDS.values() if kind.spec is None} | {"datasets": CPU}
WITHOUT_LIMIT = 10**6
BY_RULES, BY_KIND, BY_SECONDS = ORDERS = ("priorities of the rules", "experts and teachers first", "chain of seconds")


@dataclass(frozen=True)
class Paper:
    """All jobs of the scale paper, with nothing done yet.

    Attributes
    ----------
    jobs : dict of str to Job
    parents : dict of str to list of str
    works : dict of str to Work
    bytes, resume_bytes : dict of str to int
        Of each job's file, and of its largest checkpoint.
    priorities : dict of str to int
        As the rules have them.
    around : Surroundings
    """

    jobs: Mapping[str, Job]
    parents: Mapping[str, Sequence[str]]
    works: Mapping[str, Work]
    bytes: Mapping[str, int]
    resume_bytes: Mapping[str, int]
    priorities: Mapping[str, int]
    around: Surroundings

    @property
    def stages(self) -> list[str]:
        """Stages whose speed matters, in the order of the jobs."""
        return [stage for stage in dict.fromkeys(map(stage_of, self.jobs.values())) if stage]

    def seconds(self, calibration: Calibration) -> dict[str, float]:
        """Return how long each job takes."""
        return {path: calibration.seconds(stage_of(job), self.works[path]) for path, job in self.jobs.items()}

    def submissions(
        self, seconds: Mapping[str, float], evaluations: int, order: str
    ) -> tuple[Submissions, dict[str, list[str]]]:
        """Return what is submitted, and the jobs of each submission.

        Parameters
        ----------
        seconds : dict of str to float
        evaluations : int
            How many evaluations of a synthetic set one submission runs, one after the other. 1: nothing is grouped, and
            each checkpoint of a teacher is a submission that waits for the training, which the first of them does.
        order : str
            One of ``ORDERS``: the job with the longest chain of operations behind it, as the rules have it; those of
            one kind after those of another; or the longest chain in seconds. Of equal ones Snakemake's greedy scheduler
            takes the one with the most bytes to read.
        """
        groups = self._groups(checkpoints=evaluations > 1)
        sizes = {group: evaluations if self._is_of_evaluations(group) else WITHOUT_LIMIT for group in groups.values()}
        members = grouped(self.parents, groups, sizes)
        parents = contracted(self.parents, members)
        durations = {name: sum(seconds[job] for job in jobs) for name, jobs in members.items()}
        shared: dict[str, str] = {}
        if evaluations == 1:
            parents, durations, shared = self._with_waiting_checkpoints(parents, durations)
        members |= {name: [training] for name, training in shared.items()}
        priority = {
            BY_RULES: lambda: {name: self._rank([name, *members[name]], self.priorities) for name in parents},
            BY_KIND: lambda: {name: self._rank([name, *members[name]], self._by_kind) for name in parents},
            BY_SECONDS: lambda: chains(parents, durations),
        }[order]()
        places = {name: PLACES[self.jobs[name].kind] for name in parents if self.jobs[name].kind in PLACES}
        return Submissions(parents, durations, priority, places, shared), members

    def files(self, path: str) -> list[str]:
        """Return the files of a job in the end: outputs, log, benchmark, and Snakemake's records of the outputs."""
        kind, outputs = KINDS[self.jobs[path].kind], self.jobs[path].files
        files = [f"results/paper/{output}" for output in outputs]
        if kind.rule is None:
            return files
        inside = path.partition("/")[2] or path
        # The records lie in one folder; their names are the outputs' in another alphabet.
        files += [f".snakemake/metadata/{output.replace('/', ' ')}" for output in outputs]
        return [
            *files,
            f"logs/paper/{kind.rule}/{inside}",
            *([f"timings/paper/{kind.rule}/{inside}"] if kind.spec else []),
        ]

    def _groups(self, *, checkpoints: bool) -> dict[str, str]:
        groups = {}
        for path, job in self.jobs.items():
            if job.kind == "evaluations":
                groups[path] = f"evaluations-{job.spec.dataset}-{job.spec.synthetic_set}"
            elif job.kind.startswith("teacher") and checkpoints:
                groups[path] = f"teacher-{job.spec.dataset}-{job.spec.network}"
        return groups

    @staticmethod
    def _is_of_evaluations(group: str) -> bool:
        return group.startswith("evaluations-")

    def _with_waiting_checkpoints(self, parents, durations):
        """Let the checkpoints of a teacher do its training, which is no submission of its own."""
        trainings = {path for path, job in self.jobs.items() if job.kind == "teacher trainings"}
        shared = {path: job.after[0] for path, job in self.jobs.items() if job.kind == "teacher checkpoints"}
        durations = {path: durations[shared.get(path, path)] for path in durations if path not in trainings}
        parents = {
            path: [parent for parent in needed if parent not in trainings]
            for path, needed in parents.items()
            if path not in trainings
        }
        return parents, durations, shared

    @property
    def _by_kind(self) -> dict[str, int]:
        return {path: FIXED.get(job.kind, 0) for path, job in self.jobs.items()}

    def _rank(self, jobs: Sequence[str], priorities: Mapping[str, int]) -> tuple[int, int]:
        read = {source for job in jobs for source in self.jobs[job].inputs.values()}
        return max(priorities[job] for job in jobs), sum(self.bytes[source] for source in read)


def read_paper(config: Path) -> Paper:
    """Derive the jobs of the scale paper from the configuration; neither images nor results are looked at."""
    plan = make_plan(config, "paper", Path("results"))
    jobs = jobs_of(plan)
    around = surroundings(plan, jobs, {path: State(None, ()) for path in jobs})
    return Paper(
        jobs=jobs,
        parents={path: [*dict.fromkeys(job.parents)] for path, job in jobs.items()},
        works={path: work_of(job, around) for path, job in jobs.items()},
        bytes={path: bytes_of(job, around) for path, job in jobs.items()},
        resume_bytes={path: resume_bytes(job, around) for path, job in jobs.items()},
        priorities=priorities(plan),
        around=around,
    )
