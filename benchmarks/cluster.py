"""How long jobs take on a cluster: what Snakemake, SLURM and its executor add to a schedule, event by event.

The submitting process knows of an ended job only when it asks next, submits what has become ready in the order of
priorities as long as few enough are in flight, and takes time for each. The cluster gives devices to jobs in the order
in which they were submitted, and a job starts Snakemake before it computes. Nobody else is on the cluster.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DEVICE, CPU, HERE = "device", "cpu", "here"
"""Where a job runs: on a device; on a node without one, of which there are enough; or where Snakemake runs."""

ENDED, ARRIVED, ASKED = range(3)
"""Kinds of events, in the order in which those of the same moment count."""


@dataclass(frozen=True)
class Cluster:
    """A cluster and how it is used; all times in seconds.

    Attributes
    ----------
    devices : int
    in_flight : int
        Submitted jobs at a time, waiting ones included (Snakemake's ``jobs``).
    start_seconds : float
        Of a submitted job until its first member starts: the batch system, and Snakemake in the job.
    submission_seconds : float
        Of the submitting process for each job; it submits one after the other.
    first_interval, interval_step, longest_interval : float
        Between two looks at the jobs: the first after a look that found one ended, more than 0; what is added after
        each that found none; and the longest.
    """

    devices: int
    in_flight: int
    start_seconds: float = 0.0
    submission_seconds: float = 0.0
    first_interval: float = 1.0
    interval_step: float = 10.0
    longest_interval: float = 180.0


@dataclass(frozen=True)
class Submissions:
    """What is submitted, each after what it waits for.

    Attributes
    ----------
    parents : dict of str to sequence of str
        What each waits for, itself among the keys.
    durations : dict of str to float
        Seconds of its members together.
    priority : dict of str to comparable
        The largest that is ready is submitted first, of equal ones the first of ``parents``.
    places : dict of str to str
        ``DEVICE`` for those that are not named.
    shared : dict of str to str
        Work that several have in common: the first that starts does it, the others hold their devices until it ends.
    """

    parents: Mapping[str, Sequence[str]]
    durations: Mapping[str, float]
    priority: Mapping[str, object]
    places: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What happened, in seconds since the start.

    Attributes
    ----------
    makespan : float
        When the submitting process knows that all is done.
    submitted, starts, ends : dict of str to float
        When each was submitted (those that run ``HERE`` are not), and how long it held its place.
    """

    makespan: float
    submitted: dict[str, float]
    starts: dict[str, float]
    ends: dict[str, float]


def grouped(
    parents: Mapping[str, Sequence[str]], groups: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, list[str]]:
    """Return the members of each submission, by the name of its first.

    Parameters
    ----------
    parents : dict
        As in :class:`Submissions`, of single jobs.
    groups : dict of str to str
        From a job to its group; a job that is not named is a submission of its own.
    sizes : dict of str to int
        Members that a submission of each group has at most; they are taken in the order of ``parents``.

    Returns
    -------
    dict of str to list of str
        In the order of their last members, so that each comes after what it waits for, as long as nothing outside a
        group waits for one of its members while another member waits for it.
    """
    open_groups: dict[str, list[str]] = {}
    made: list[list[str]] = []
    for job in parents:
        group = groups.get(job)
        if group is None:
            made.append([job])
            continue
        members = open_groups.get(group)
        if members is None or len(members) == sizes[group]:
            members = open_groups[group] = []
            made.append(members)
        members.append(job)
    position = {job: number for number, job in enumerate(parents)}
    return {members[0]: members for members in sorted(made, key=lambda members: position[members[-1]])}


def contracted(parents: Mapping[str, Sequence[str]], members: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return what each submission waits for: those of all that its members wait for, itself left out."""
    owner = {job: name for name, jobs in members.items() for job in jobs}
    return {
        name: [*dict.fromkeys(owner[parent] for job in jobs for parent in parents[job] if owner[parent] != name)]
        for name, jobs in members.items()
    }


def simulate(work: Submissions, cluster: Cluster) -> Run:
    """Return what happens when all is submitted to a cluster that is empty."""
    simulation = _Simulation(work, cluster)
    simulation.release(job for job in work.parents if not work.parents[job])
    simulation.submit()
    while simulation.unfinished:
        simulation.step()
    return Run(simulation.now, simulation.submitted, simulation.starts, simulation.ends)


class _Simulation:
    """The state between two events."""

    def __init__(self, work: Submissions, cluster: Cluster) -> None:
        self._work, self._cluster = work, cluster
        self._position = {job: number for number, job in enumerate(work.parents)}
        self._names = [*work.parents]
        self._missing = {job: len(set(needed)) for job, needed in work.parents.items()}
        self._children: dict[str, list[str]] = {job: [] for job in work.parents}
        for job, needed in work.parents.items():
            for parent in set(needed):
                self._children[parent].append(job)
        ranks = sorted(work.parents, key=lambda job: work.priority[job], reverse=True)
        self._rank = {job: rank for rank, job in enumerate(ranks)}
        self._ready: list[tuple[int, str]] = []
        self._queue: deque[str] = deque()
        self._unnoticed: list[str] = []
        self._shared_ends: dict[str, float] = {}
        self._free, self._in_flight = cluster.devices, 0
        self._submitting_until, self._interval = 0.0, cluster.first_interval
        self._events: list[tuple[float, int, int]] = [(cluster.first_interval, ASKED, 0)]
        self.now, self.unfinished = 0.0, len(work.parents)
        self.submitted: dict[str, float] = {}
        self.starts: dict[str, float] = {}
        self.ends: dict[str, float] = {}

    def _place(self, job: str) -> str:
        return self._work.places.get(job, DEVICE)

    def release(self, jobs) -> None:
        for job in jobs:
            heapq.heappush(self._ready, (self._rank[job], job))

    def submit(self) -> None:
        """Submit what is ready, the largest priority first; what runs here starts at once."""
        held_back = []
        while self._ready:
            rank, job = heapq.heappop(self._ready)
            if self._place(job) == HERE:
                self._start(job, 0.0)
            elif self._in_flight < self._cluster.in_flight:
                self._in_flight += 1
                self._submitting_until = max(self.now, self._submitting_until) + self._cluster.submission_seconds
                self.submitted[job] = self._submitting_until
                self._add(self._submitting_until, ARRIVED, job)
            else:
                held_back.append((rank, job))
        self._ready = held_back

    def step(self) -> None:
        self.now, kind, number = heapq.heappop(self._events)
        if kind == ASKED:
            self._ask()
            return
        job = self._names[number]
        if kind == ARRIVED and self._place(job) == DEVICE:
            self._queue.append(job)
        elif kind == ARRIVED:
            self._start(job, self._cluster.start_seconds)
        elif self._place(job) == HERE:
            self._notice([job])
        else:
            self._free += self._place(job) == DEVICE
            self._unnoticed.append(job)
        while self._queue and self._free:
            self._free -= 1
            self._start(self._queue.popleft(), self._cluster.start_seconds)

    def _start(self, job: str, start_seconds: float) -> None:
        begin = self.now + start_seconds
        end = begin + self._work.durations[job]
        if job in self._work.shared:
            end = max(begin, self._shared_ends.setdefault(self._work.shared[job], end))
        self.starts[job], self.ends[job] = self.now, end
        self._add(end, ENDED, job)

    def _ask(self) -> None:
        cluster, ended = self._cluster, self._unnoticed
        longer = min(self._interval + cluster.interval_step, cluster.longest_interval)
        # With nothing in flight, the executor does not ask, and begins anew.
        self._interval = cluster.first_interval if ended or not self._in_flight else longer
        self._unnoticed = []
        self._in_flight -= len(ended)
        self._notice(ended)
        heapq.heappush(self._events, (self.now + self._interval, ASKED, 0))

    def _notice(self, ended: list[str]) -> None:
        self.unfinished -= len(ended)
        for child in (child for job in ended for child in self._children[job]):
            self._missing[child] -= 1
            if not self._missing[child]:
                self.release([child])
        if ended:
            self.submit()

    def _add(self, moment: float, kind: int, job: str) -> None:
        heapq.heappush(self._events, (moment, kind, self._position[job]))
