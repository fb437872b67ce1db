"""What the paper claims, and whether numbers, its own or measured ones, bear it out."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from elf.results.statistics import holm
from elf.verdicts import pairs
from elf.verdicts.pairs import Pair

LEVEL = 0.05
MOSTLY = 2 / 3
STATUSES = ("supported", "mostly supported", "undecided", "contradicted", "not testable")

RULE = (
    "A claim is one or more statements, each over pairs of numbers of which the first should be higher. "
    "A statement on every pair is supported if all pairs agree, one on most pairs if more than half of them do, one "
    "that something can happen if any does. Otherwise it is mostly supported if at least two thirds agree; "
    f"contradicted if fewer do and a pair against it is significant (p < {LEVEL:g}, adjusted over the statement by "
    "Holm); and undecided if fewer do but none against it is, or if no pair is significant at all. Not testable: none "
    "of its pairs has both numbers. A claim is as good as the worst of its statements that can be tested. p is paired "
    "by seed where both networks started from the same weights and saw the same batches, otherwise Welch's."
)
"""The rule of the statuses, for reports."""


@dataclass(frozen=True)
class Statement:
    """One part of a claim.

    Attributes
    ----------
    text : str
    tables : tuple of int
        The tables that it is about.
    find : callable
        Observations to pairs.
    needs : {"every", "most", "any"}
        How many of the pairs the claim speaks of.
    """

    text: str
    tables: tuple[int, ...]
    find: Callable[[pd.DataFrame], Iterator[Pair]]
    needs: str = "every"


@dataclass(frozen=True)
class Claim:
    """A directional claim of the paper."""

    number: int
    text: str
    statements: tuple[Statement, ...]

    @property
    def tables(self) -> tuple[int, ...]:
        """Tables that the claim rests on."""
        return tuple(sorted({table for statement in self.statements for table in statement.tables}))


@dataclass(frozen=True)
class Evidence:
    """What numbers say of a statement.

    Attributes
    ----------
    statement : Statement
    supporting, contradicting, untested : tuple of Pair
        Untested are pairs of which a number is not printed or was not measured.
    adjusted : dict
        p of each tested pair, adjusted over the statement by Holm.
    status : str
        One of ``STATUSES``, by ``RULE``.
    """

    statement: Statement
    supporting: tuple[Pair, ...]
    contradicting: tuple[Pair, ...]
    untested: tuple[Pair, ...]
    adjusted: dict[Pair, float]
    status: str

    def significant(self, members: tuple[Pair, ...]) -> int:
        """Return how many of some tested pairs are significant."""
        return sum(self.adjusted[pair] < LEVEL for pair in members)


@dataclass(frozen=True)
class Judgement:
    """What numbers say of a claim: the evidence on its statements, and the worst of their statuses."""

    claim: Claim
    evidence: tuple[Evidence, ...]
    status: str

    @property
    def tested(self) -> int:
        """Number of pairs with both numbers."""
        return sum(len(evidence.adjusted) for evidence in self.evidence)

    @property
    def untested(self) -> int:
        """Number of pairs of which a number is not printed or was not measured."""
        return sum(len(evidence.untested) for evidence in self.evidence)


CLAIMS = (
    Claim(
        1,
        "Every method loses accuracy when the evaluation network differs from that of the distillation; MTT most.",
        (
            Statement("the aligned network does better than each other one", (1,), pairs.aligned_over_crossed),
            Statement("MTT loses more on average than each other method", (1,), pairs.losses_of_mtt_over_others),
        ),
    ),
    Claim(
        2,
        "Matching normalisation of distillation and evaluation helps; at IPC 50 large networks can do better with BN.",
        (
            Statement(
                "a network does better on images distilled with its normalisation",
                (1, 4),
                pairs.matching_images_over_others,
            ),
            Statement(
                "on the same images, the network with their normalisation does better than its twin",
                (1, 4),
                pairs.matching_networks_over_others,
            ),
            Statement(
                "at IPC 50 a large network with BN can beat its twin on images of a network with IN",
                (3,),
                pairs.large_batch_norm_over_matching,
                "any",
            ),
        ),
    ),
    Claim(
        3,
        "Accuracy falls with the distance of the networks: ConvNetW256 ≥ ConvNetW128 > ConvNetD4 > ResNet18.",
        (Statement("each network of the chain does better than the next", (2,), pairs.near_over_far),),
    ),
    Claim(
        4,
        "ELF improves the accuracy on every network that the images were not distilled with.",
        (Statement("ELF does better than the baseline", (5, 6, 7), pairs.elf_over_baseline),),
    ),
    Claim(
        5,
        "Features of the distillation's ConvNet are better than those of the evaluation's ResNet, even for the ResNet.",
        (Statement("the distillation's features do better", (8, 11), pairs.distilling_features_over_evaluating),),
    ),
    Claim(
        6,
        "The front term contributes most; without the task loss training collapses.",
        (
            Statement("the front term does better than the rear term", (9,), pairs.front_over_rear),
            Statement("without the task loss accuracy falls below that of ELF", (9,), pairs.task_over_none),
            Statement(
                "without the task loss accuracy falls below that of the baseline", (9,), pairs.baseline_over_no_task
            ),
        ),
    ),
    Claim(
        7,
        "The distance CE is better than MAE, MSE and Cos in most cells.",
        (Statement("CE does better than the best other", (12,), pairs.cross_entropy_over_best_other, "most"),),
    ),
)


def judge(claim: Claim, observations: pd.DataFrame) -> Judgement:
    """Return what observations say of a claim.

    Parameters
    ----------
    claim : Claim
    observations : DataFrame
        As :mod:`elf.verdicts.observations` gives them; tables that the claim is not about are left out.
    """
    evidence = tuple(_find(statement, observations) for statement in claim.statements)
    tested = [finding.status for finding in evidence if finding.status != "not testable"]
    return Judgement(claim, evidence, max(tested, key=STATUSES.index, default="not testable"))


def _find(statement: Statement, observations: pd.DataFrame) -> Evidence:
    experiments = [f"table{number:02d}" for number in statement.tables]
    found = list(statement.find(observations[observations["experiment"].isin(experiments)]))
    tested = [pair for pair in found if not math.isnan(pair.difference)]
    adjusted = dict(zip(tested, (float(p) for p in holm([pair.p for pair in tested])), strict=True))
    supporting = tuple(pair for pair in tested if pair.difference > 0)
    contradicting = tuple(pair for pair in tested if pair.difference <= 0)
    untested = tuple(pair for pair in found if math.isnan(pair.difference))
    status = _status(statement.needs, supporting, contradicting, adjusted)
    return Evidence(statement, supporting, contradicting, untested, adjusted, status)


def _status(needs: str, supporting: tuple, contradicting: tuple, adjusted: dict[Pair, float]) -> str:
    if not adjusted:
        return "not testable"
    if not any(p < LEVEL for p in adjusted.values()):
        return "undecided"
    share = len(supporting) / len(adjusted)
    enough = {"every": share == 1, "most": share > 0.5, "any": share > 0}
    if enough[needs]:
        return "supported"
    if share >= MOSTLY:
        return "mostly supported"
    return "contradicted" if any(adjusted[pair] < LEVEL for pair in contradicting) else "undecided"
