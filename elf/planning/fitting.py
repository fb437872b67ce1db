"""Speeds from finished jobs, by least squares of relative errors; and how far they can be trusted."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from elf.errors import ElfError
from elf.planning.calibration import ANY, PREPARE, Calibration, Fit, Speed
from elf.planning.work import Work

ROUNDS = 20
"""Rounds of reweighting, after which nothing changes any more."""
LARGEST_FACTOR = 4.0
"""By which a stage may be slower or faster than all together: what is more can only be its start."""
LARGEST_RATE = 10.0
"""Times the operations a second of the fastest job: jobs that are all small show no limit at all."""


@dataclass(frozen=True)
class Measurement:
    """A finished job.

    Attributes
    ----------
    stage, device : str
    work : Work
    seconds : float
        From its start to its end.
    """

    stage: str
    device: str
    work: Work
    seconds: float


def calibrate(measurements: Iterable[Measurement]) -> Calibration:
    """Fit the speeds of the device that most jobs ran on.

    All stages together give the start and the proportions of operations, numbers and calls, because the jobs of one
    stage are too much alike to tell these apart; from its own jobs a stage takes how much faster or slower it is.

    Raises
    ------
    ElfError
        If there is nothing to fit.
    """
    measurements = list(measurements)
    devices = [measurement.device for measurement in measurements]
    if not devices:
        raise ElfError("there is no finished job to measure speeds of; run some, or write a calibration by hand")
    device = max(sorted(set(devices)), key=devices.count)
    of_device = [measurement for measurement in measurements if measurement.device == device]
    return Calibration(device=device, stages=_speeds(of_device), fit=_cross_validated(of_device))


def _speeds(measurements: Sequence[Measurement]) -> dict[str, Speed]:
    by_stage: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        by_stage[measurement.stage].append(measurement)
    networks = [m for m in measurements if m.stage != PREPARE]
    speeds = {ANY: _fitted(networks)} if networks else {}
    for stage, own in sorted(by_stage.items()):
        speeds[stage] = _fitted(own) if stage == PREPARE else _scaled(speeds[ANY], own)
    return speeds


def _fitted(measurements: Sequence[Measurement]) -> Speed:
    """Return the start and the speeds that fit best, none of them negative."""
    columns = np.array([[1.0, m.work.flops, m.work.values, m.work.calls] for m in measurements])
    seconds = np.array([m.seconds for m in measurements])
    scale = np.maximum(columns.max(axis=0), 1e-300)
    expected = seconds
    for _ in range(ROUNDS):
        # Weighted by what is expected rather than found: otherwise jobs that happened to be fast would count more.
        found, _ = nnls(columns / scale / expected[:, None], seconds / expected)
        expected = np.maximum(columns / scale @ found, 1e-3 * seconds)
    start, per_flop, per_value, per_call = (float(value) for value in found / scale)
    fastest = max(m.work.flops / m.seconds for m in measurements)
    per_flop = max(per_flop, 1 / (LARGEST_RATE * fastest)) if fastest else 0.0
    return Speed(
        start_seconds=start,
        flops_per_second=1 / per_flop if per_flop else math.inf,
        seconds_per_value=per_value,
        seconds_per_call=per_call,
        jobs=len(measurements),
    )


def _scaled(together: Speed, own: Sequence[Measurement]) -> Speed:
    """Return the speed of all stages, as much faster or slower as the jobs of one stage were."""
    start, computing = together.start_seconds, [together.seconds(m.work) - together.start_seconds for m in own]
    ratios = [(m.seconds - start) / expected for m, expected in zip(own, computing, strict=True) if expected > 0]
    times = statistics.median(ratios) if ratios else 1.0
    if not 1 / LARGEST_FACTOR <= times <= LARGEST_FACTOR or not ratios:
        times = min(max(times, 1 / LARGEST_FACTOR), LARGEST_FACTOR)
        rest = [m.seconds - times * expected for m, expected in zip(own, computing, strict=True)]
        start = max(statistics.median(rest), 0.0)
    return Speed(
        start_seconds=start,
        flops_per_second=together.flops_per_second / times,
        seconds_per_value=together.seconds_per_value * times,
        seconds_per_call=together.seconds_per_call * times,
        jobs=len(own),
    )


def _cross_validated(measurements: Sequence[Measurement]) -> Fit | None:
    """Predict each job from those of all other amounts of work in its stage, and of all other stages."""
    groups: dict[tuple, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        groups[measurement.stage, measurement.work].append(measurement)
    errors = []
    for (stage, work), own in groups.items():
        others = [m for m in measurements if (m.stage, m.work) != (stage, work)]
        if not others:
            continue
        speeds = Calibration(device="", stages=_speeds(others))
        if (expected := speeds.seconds(stage, work)) is not None:
            errors += [math.log(m.seconds / expected) for m in own]
    if not errors:
        return None
    errors = sorted(map(abs, errors))
    largest = max(m.work.flops / max(m.work.calls, 1) for m in measurements)
    return Fit(
        median_error=math.expm1(statistics.median(errors)),
        factor_of_nine_in_ten=math.exp(errors[math.ceil(0.9 * len(errors)) - 1]),
        factor_of_repeats=_of_repeats(groups),
        largest_flops_per_call=largest,
    )


def _of_repeats(groups: Mapping[tuple, Sequence[Measurement]]) -> float | None:
    """Return by which factor a job typically differs from the mean of its repetitions; None if there are none."""
    squares = [
        np.var([math.log(m.seconds) for m in own], ddof=1) * (len(own) - 1) for own in groups.values() if len(own) > 1
    ]
    degrees = sum(len(own) - 1 for own in groups.values())
    return math.exp(math.sqrt(sum(squares) / degrees)) if squares else None
