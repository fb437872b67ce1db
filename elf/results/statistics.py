"""Means, spreads, intervals and paired differences of accuracies over seeds."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from elf.errors import ElfError

CONFIDENCE = 0.95


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
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)
