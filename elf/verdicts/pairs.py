"""Pairs of numbers of which a claim of the paper says that the first is higher."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from elf.results.labels import method_label
from elf.results.statistics import Difference, Welch, contrast, paired_difference, welch
from elf.specs.network import parse
from elf.verdicts.observations import summary_of
from elf.verdicts.setting_text import contrast_texts, setting_texts

IMAGES = ("experiment", "paper_dataset", "ipc", "method", "paper_distill_network")
"""What numbers share that were measured on the same images, for the same table."""


@dataclass(frozen=True)
class Pair:
    """Two accuracies (or losses of accuracy) in percent; the claim says that the first is higher.

    Attributes
    ----------
    experiment : str
    where, higher, lower : str
        What both share, and what each is.
    higher_mean, lower_mean : float
        NaN where the value is not printed or was not measured.
    difference : float
        In percentage points; positive where the numbers agree with the claim.
    p : float
        Two-sided: paired by seed where both trainings share weights and batches, else Welch's test. NaN where
        the spread of one is not known.
    """

    experiment: str
    where: str
    higher: str
    lower: str
    higher_mean: float
    lower_mean: float
    difference: float
    p: float


def _pair(higher: Mapping, lower: Mapping, *, paired: bool = False) -> Pair:
    where, first, second = contrast_texts(higher, lower)
    test = _test(higher, lower, paired)
    means = (float(higher["mean"]), float(lower["mean"]))
    return Pair(higher["experiment"], where, first, second, *means, test.mean, test.p)


def _test(higher: Mapping, lower: Mapping, paired: bool) -> Difference | Welch:
    if pd.isna(higher["mean"]) or pd.isna(lower["mean"]):
        return Welch(math.nan, math.nan, math.nan)
    if paired and higher["accuracies"] is not None and lower["accuracies"] is not None:
        difference = paired_difference(lower["accuracies"], higher["accuracies"])
        if difference.n == len(higher["accuracies"]) == len(lower["accuracies"]):
            return difference
    return welch(summary_of(lower), summary_of(higher))


def _groups(observations: pd.DataFrame, columns: Iterable[str], **wanted) -> Iterator[list[dict]]:
    """Yield the rows that have the wanted values, those that agree on the columns together."""
    groups: dict[tuple, list[dict]] = {}
    columns = list(columns)
    for row in observations.to_dict("records"):
        if all(row[column] == value for column, value in wanted.items()):
            key = tuple(None if pd.isna(row[column]) else row[column] for column in columns)
            groups.setdefault(key, []).append(row)
    yield from groups.values()


def _norm(network: str | None) -> str | None:
    return None if pd.isna(network) else parse(network).norm


def _by(column: str, rows: Iterable[dict]) -> dict[str, dict]:
    return {row[column]: row for row in rows}


def _aligned_and_crossed(rows: list[dict]) -> tuple[dict | None, list[dict]]:
    aligned = [row for row in rows if row["paper_eval_network"] == row["paper_distill_network"]]
    return next(iter(aligned), None), [row for row in rows if row["paper_eval_network"] != row["paper_distill_network"]]


def aligned_over_crossed(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield the network that the images were distilled with, above each other one on the same images."""
    for rows in _groups(observations, IMAGES, objective="task"):
        aligned, crossed = _aligned_and_crossed(rows)
        if aligned is not None:
            yield from (_pair(aligned, row) for row in crossed)


def losses_of_mtt_over_others(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield MTT's mean loss of accuracy on other networks, above that of each other method on the same networks."""
    columns = [column for column in IMAGES if column != "method"]
    for rows in _groups(observations, columns, objective="task"):
        known = [row for row in rows if not pd.isna(row["mean"])]
        methods: dict[str, list[dict]] = {}
        for row in known:
            methods.setdefault(row["method"], []).append(row)
        for method, others in methods.items():
            if method != "mtt" and "mtt" in methods:
                yield from _losses(methods["mtt"], others)


def _losses(first: list[dict], second: list[dict]) -> Iterator[Pair]:
    sides = [_aligned_and_crossed(rows) for rows in (first, second)]
    shared = set.intersection(*({row["paper_eval_network"] for row in crossed} for _, crossed in sides))
    if not shared or any(aligned is None for aligned, _ in sides):
        return
    terms = []
    for aligned, crossed in sides:
        crossed = [summary_of(row) for row in crossed if row["paper_eval_network"] in shared]
        terms.append([(1.0, summary_of(aligned)), *((-1 / len(shared), summary) for summary in crossed)])
    test = contrast([*terms[0], *((-weight, summary) for weight, summary in terms[1])])
    means = [sum(weight * summary.mean for weight, summary in side) for side in terms]
    texts = setting_texts(first[0])
    where = ", ".join(texts[column] for column in ("paper_dataset", "ipc", "paper_distill_network"))
    names = [f"loss of {method_label(rows[0]['method'])} on {len(shared)} networks" for rows in (first, second)]
    yield Pair(first[0]["experiment"], where, *names, *means, test.mean, test.p)


def matching_images_over_others(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield a network on images distilled with its normalisation, above itself on images of the other."""
    columns = ("experiment", "paper_dataset", "ipc", "method", "paper_eval_network")
    for rows in _groups(observations, columns, objective="task"):
        norm = _norm(rows[0]["paper_eval_network"])
        by_norm = {_norm(row["paper_distill_network"]): row for row in rows}
        yield from (_pair(by_norm[norm], row) for other, row in by_norm.items() if other != norm and norm in by_norm)


def matching_networks_over_others(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield the network with the normalisation of the images' network, above its twin with the other."""
    for rows in _groups(observations, IMAGES, objective="task"):
        norm = _norm(rows[0]["paper_distill_network"])
        for instance_norm, batch_norm in _twins(rows):
            if norm is not None:
                yield _pair(instance_norm, batch_norm) if norm == "in" else _pair(batch_norm, instance_norm)


def large_batch_norm_over_matching(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield large networks with BN above their twins with IN, on 50 images a class of a ConvNet with IN."""
    for rows in _groups(observations, IMAGES, objective="task", ipc=50.0):
        for instance_norm, batch_norm in _twins(rows):
            is_large = parse(batch_norm["paper_eval_network"]).family in ("resnet18", "vgg11")
            if is_large and _norm(rows[0]["paper_distill_network"]) == "in":
                yield _pair(batch_norm, instance_norm)


def _twins(rows: list[dict]) -> Iterator[tuple[dict, dict]]:
    """Yield each network with IN and the same one with BN."""
    by_network = _by("paper_eval_network", rows)
    for network, row in by_network.items():
        twin = f"{network.removesuffix('-in')}-bn"
        if network.endswith("-in") and twin in by_network:
            yield row, by_network[twin]


CHAIN = ("convnet-w256-d3-in", "convnet-w128-d3-in", "convnet-w128-d4-in", "resnet18-in")
"""Networks farther and farther from ConvNetW128-IN, as Table 2 orders them."""


def near_over_far(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield each network of the chain above the next, on distilled images."""
    # Trained on all images, larger networks are better: the claim is about synthetic ones.
    for rows in _groups(observations[observations["ipc"].notna()], IMAGES, objective="task"):
        by_network = _by("paper_eval_network", rows)
        steps = [(by_network.get(near), by_network.get(far)) for near, far in pairwise(CHAIN)]
        yield from (_pair(near, far) for near, far in steps if near is not None and far is not None)


def elf_over_baseline(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield ELF above the baseline on each network that the images were not distilled with."""
    for rows in _groups(observations, (*IMAGES, "paper_eval_network")):
        baselines = [row for row in rows if row["objective"] == "task"]
        for row in rows:
            is_crossed = row["paper_eval_network"] != row["paper_distill_network"]
            if row["objective"] == "elf" and row["distance"] == "ce" and is_crossed and baselines:
                yield _pair(row, baselines[0], paired=True)


def distilling_features_over_evaluating(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield features of the network that the images were distilled with, above those of any other network."""
    for rows in _groups(observations, (*IMAGES, "paper_eval_network"), objective="elf"):
        own = [row for row in rows if row["paper_teacher_network"] == row["paper_distill_network"]]
        yield from (_pair(own[0], row, paired=True) for row in rows if own and row is not own[0])


def front_over_rear(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield the task loss with the front term above that with the rear term."""
    yield from _terms(observations, "elf[front+task]", "elf[rear+task]")


def task_over_none(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield all three terms above the two without the task loss."""
    yield from _terms(observations, "elf", "elf[front+rear]")


def baseline_over_no_task(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield the baseline above the two terms without the task loss."""
    yield from _terms(observations, "task", "elf[front+rear]")


def _terms(observations: pd.DataFrame, higher: str, lower: str) -> Iterator[Pair]:
    for rows in _groups(observations, (*IMAGES, "paper_eval_network")):
        by_objective = _by("objective", rows)
        if higher in by_objective and lower in by_objective:
            yield _pair(by_objective[higher], by_objective[lower], paired=True)


def cross_entropy_over_best_other(observations: pd.DataFrame) -> Iterator[Pair]:
    """Yield the distance CE above the best of the others."""
    for rows in _groups(observations, (*IMAGES, "paper_eval_network"), objective="elf"):
        by_distance = _by("distance", rows)
        others = [row for name, row in by_distance.items() if name != "ce"]
        known = [row for row in others if not pd.isna(row["mean"])]
        if "ce" in by_distance and others:
            best = max(known, key=lambda row: row["mean"], default=others[0])
            yield _pair(by_distance["ce"], best, paired=True)
