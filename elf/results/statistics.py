"""Means, spreads, intervals and differences of accuracies over seeds; tests, and their correction for many of them."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from elf.errors import ElfError

CONFIDENCE = 0.95
ROUNDING = 1e-12


@dataclass(frozen=True)
class Summary:
    """Accuracies of one cell over its seeds, in the unit of the accuracies.

    Attributes
    ----------
    mean : float
        NaN without seeds.
    std : float
        Population standard deviation (``ddof=0``), as the paper prints it.
    low, high : float
        95 % t-interval of the mean; NaN with fewer than two seeds.
    n : int
        Number of seeds.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Change from a baseline over the seeds that both have, in the unit of the accuracies.

    Attributes
    ----------
    mean : float
        NaN without common seeds.
    low, high : float
        95 % t-interval of the mean of the differences; NaN with fewer than two pairs.
    p : float
        Two-sided paired t-test; NaN with fewer than two pairs.
    n : int
        Number of pairs.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int


def t_interval(values) -> tuple[float, float]:
    """Return the 95 % interval of the mean by Student's t (sample standard deviation, n - 1 degrees).

    Fewer than two values give (NaN, NaN); identical values give an interval of width zero.
    """
    values = np.asarray(values, dtype=float)
    if values.size < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def summarise_seeds(values) -> Summary:
    """Return mean, population standard deviation and 95 % interval of accuracies, one per seed.

    Parameters
    ----------
    values : array-like of shape (seeds,)
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return Summary(math.nan, math.nan, math.nan, math.nan, 0)
    return Summary(float(values.mean()), float(values.std(ddof=0)), *t_interval(values), int(values.size))


def paired_difference(baseline: pd.Series, other: pd.Series) -> Difference:
    """Return the mean of ``other - baseline`` over the common seeds, its interval and its p-value.

    Parameters
    ----------
    baseline, other : Series of float, indexed by seed
        Seeds that only one of them has are left out.

    Raises
    ------
    ElfError
        When a seed occurs twice in one of them, because then pairs are not defined.

    Notes
    -----
    Where the t statistic is 0/0 (all differences zero) p is 1; where all differences are the same non-zero
    number it is 0, the limit of the test.
    """
    for name, values in (("baseline", baseline), ("other", other)):
        if not values.index.is_unique:
            seed = values.index[values.index.duplicated()][0]
            raise ElfError(f"seed {seed} occurs twice among the {name} accuracies; keep one row a seed")
    seeds = baseline.index.intersection(other.index)
    differences = (other.loc[seeds] - baseline.loc[seeds]).to_numpy(dtype=float)
    if differences.size == 0:
        return Difference(math.nan, math.nan, math.nan, math.nan, 0)
    return Difference(float(differences.mean()), *t_interval(differences), _p_value(differences), int(differences.size))


def _p_value(differences: np.ndarray) -> float:
    if differences.size < 2:
        return math.nan
    # Accuracies are fractions of whole numbers: what is closer than this differs by rounding alone.
    if np.ptp(differences) < ROUNDING:
        return 1.0 if abs(differences[0]) < ROUNDING else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


@dataclass(frozen=True)
class Welch:
    """Difference of the means of independent samples, in the unit of the samples.

    Attributes
    ----------
    mean : float
        Second minus first.
    error : float
        Standard error of the difference; NaN where it cannot be known.
    degrees : float
        Degrees of freedom by Welch and Satterthwaite; NaN without an error, infinite where it is zero.
    """

    mean: float
    error: float
    degrees: float

    @property
    def p(self) -> float:
        """Two-sided Welch test; without any spread 1 for equal means and otherwise 0, the limits of the test."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.degrees))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the interval of the difference; NaN where the error is not known."""
        if self.error == 0:
            return self.mean, self.mean
        half = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * self.error
        return self.mean - half, self.mean + half

    def is_within(self, margin: float, level: float = 0.05) -> bool:
        """Whether the difference is shown to be smaller than a margin: two one-sided tests, each at ``level``."""
        low, high = self.interval(1 - 2 * level)
        return -margin <= low and high <= margin


def published(mean: float, std: float, n: int) -> Summary:
    """Return what is printed of a mean over ``n`` seeds; ``std`` is NaN where no spread is printed."""
    return Summary(mean, std, math.nan, math.nan, n)


def welch(first: Summary, second: Summary) -> Welch:
    """Compare two means of independent samples from their summaries; see :func:`contrast`."""
    return contrast([(-1.0, first), (1.0, second)])


def contrast(terms: Iterable[tuple[float, Summary]]) -> Welch:
    """Return a weighted sum of the means of independent samples, with its error.

    Parameters
    ----------
    terms : iterable of (float, Summary)
        Weights and samples. Population standard deviations, as everywhere here: that of a sample is larger by
        sqrt(n / (n - 1)). A missing ``std`` makes a mean an exactly known number, so that the test of two means is
        a one-sample t-test of the other. One seed alone says nothing of its spread: no error, no p.
    """
    terms = list(terms)
    parts = [(weight**2 * _squared_error(sample), sample.n - 1) for weight, sample in terms]
    total = sum(part for part, _ in parts)
    degrees = math.nan if math.isnan(total) else math.inf
    if total > 0:
        degrees = total**2 / sum(part**2 / free for part, free in parts if part > 0)
    return Welch(sum(weight * sample.mean for weight, sample in terms), math.sqrt(total), degrees)


def _squared_error(sample: Summary) -> float:
    if sample.n > 0 and math.isnan(sample.std):
        return 0.0
    return sample.std**2 / (sample.n - 1) if sample.n > 1 else math.nan


def holm(p_values) -> np.ndarray:
    """Return p-values adjusted for their number by Holm's step-down procedure.

    Rejecting where the adjusted value is below 5 % keeps the chance of any wrong rejection below 5 %, whatever
    depends on what.

    Parameters
    ----------
    p_values : array-like of shape (tests,)
        NaN is no test: it stays NaN and does not count.

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    p_values = np.asarray(p_values, dtype=float)
    adjusted = np.full(p_values.shape, math.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted


def holm_by_key(differences: Mapping[Hashable, Difference | Welch]) -> dict[Hashable, float]:
    """Return the adjusted p-value of each difference of a table, such as the gains over the baseline."""
    adjusted = holm([difference.p for difference in differences.values()])
    return dict(zip(differences, (float(p) for p in adjusted), strict=True))
