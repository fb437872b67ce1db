"""How long jobs take on a number of devices: list scheduling, the longest remaining chain first."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A schedule of jobs on equal devices, one job a device at a time.

    Attributes
    ----------
    makespan : float
        When the last job ends.
    starts : dict of str to float
        When each job starts.
    """

    makespan: float
    starts: dict[str, float]


def chains(parents: Mapping[str, Sequence[str]], durations: Mapping[str, float]) -> dict[str, float]:
    """Return, for each job, its duration and that of the longest chain of jobs behind it.

    Parameters
    ----------
    parents : dict of str to sequence of str
        What each job waits for, itself among the keys; each after its parents.
    durations : dict of str to float
    """
    longest = dict(durations)
    for job in reversed(parents):
        for parent in parents[job]:
            longest[parent] = max(longest[parent], durations[parent] + longest[job])
    return longest


def longest_chain(parents: Mapping[str, Sequence[str]], durations: Mapping[str, float]) -> list[str]:
    """Return the jobs of the longest chain in their order: no number of devices is faster than they are."""
    remaining = chains(parents, durations)
    children: dict[str, list[str]] = {job: [] for job in parents}
    for job, needed in parents.items():
        for parent in needed:
            children[parent].append(job)
    chain: list[str] = []
    candidates = [job for job in parents if not parents[job]]
    while candidates:
        chain.append(max(candidates, key=lambda job: (remaining[job], job)))
        candidates = children[chain[-1]]
    return chain


def schedule(parents: Mapping[str, Sequence[str]], durations: Mapping[str, float], devices: int) -> Schedule:
    """Return the schedule that gives each free device the ready job with the longest chain behind it.

    Never more than 2 - 1 / devices times as long as the best one (Graham, "Bounds on multiprocessing timing
    anomalies", 1969); equally long chains go by name, so that the answer is always the same.

    Parameters
    ----------
    parents, durations
        As for :func:`chains`.
    devices : int
        At least 1.
    """
    remaining = chains(parents, durations)
    missing = {job: len(set(needed)) for job, needed in parents.items()}
    children: dict[str, list[str]] = {job: [] for job in parents}
    for job, needed in parents.items():
        for parent in set(needed):
            children[parent].append(job)
    ready = [(-remaining[job], job) for job, count in missing.items() if count == 0]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    starts: dict[str, float] = {}
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            _, job = heapq.heappop(ready)
            starts[job] = now
            heapq.heappush(running, (now + durations[job], job))
        now, ended = heapq.heappop(running)
        for child in sorted(children[ended]):
            missing[child] -= 1
            if missing[child] == 0:
                heapq.heappush(ready, (-remaining[child], child))
    return Schedule(now, starts)
