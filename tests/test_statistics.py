"""Means, spreads, intervals and paired tests, against closed forms; the join of cells and results."""

import math

import numpy as np
import pandas as pd
import pytest
from fabricated_results import cell, frames, seeds, spread
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from elf.errors import ElfError
from elf.results.columns import REQUIRED_COLUMNS, baseline_of, gather
from elf.results.statistics import (
    contrast,
    holm,
    holm_by_key,
    paired_difference,
    published,
    summarise_seeds,
    welch,
)

T_975_4 = 2.7764451051977987  # quantile 0.975 of Student's t with 4 degrees of freedom, from printed tables
accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def student_cdf_2(t):
    """Distribution function of Student's t with 2 degrees of freedom, in closed form."""
    return 0.5 + t / (2 * math.sqrt(2 + t * t))


def test_summary_in_closed_form():
    summary = summarise_seeds(spread(0.5, 0.01))
    half = T_975_4 * math.sqrt(2.5) * 0.01 / math.sqrt(5)
    assert summary.mean == pytest.approx(0.5)
    assert summary.std == pytest.approx(math.sqrt(2) * 0.01)
    assert (summary.low, summary.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert summary.n == 5


def test_one_seed_has_no_interval():
    summary = summarise_seeds([0.25])
    assert (summary.mean, summary.std, summary.n) == (0.25, 0.0, 1)
    assert math.isnan(summary.low) and math.isnan(summary.high)


def test_no_seed_has_no_mean():
    summary = summarise_seeds([])
    assert summary.n == 0 and math.isnan(summary.mean)


def test_identical_values_have_an_interval_of_no_width():
    summary = summarise_seeds([0.5] * 4)
    assert (summary.low, summary.std, summary.high) == (0.5, 0.0, 0.5)


@given(accuracies)
def test_interval_agrees_with_scipy(values):
    summary = summarise_seeds(values)
    error = stats.sem(values)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert (summary.low, summary.high) == pytest.approx((low, high))


def test_paired_difference_in_closed_form():
    baseline = pd.Series([0.10, 0.20, 0.30])
    other = baseline + pd.Series([0.01, 0.02, 0.03])
    difference = paired_difference(baseline, other)
    t = 0.02 / (0.01 / math.sqrt(3))
    assert difference.mean == pytest.approx(0.02)
    assert difference.p == pytest.approx(2 * (1 - student_cdf_2(t)))
    assert difference.n == 3
    assert difference.high - difference.mean == pytest.approx(4.302652729911275 * 0.01 / math.sqrt(3))


@given(accuracies, st.randoms(use_true_random=False))
def test_paired_difference_agrees_with_scipy_and_changes_sign(values, random):
    baseline = pd.Series(values)
    other = pd.Series([random.random() for _ in values])
    assume(np.ptp(other - baseline) > 1e-6)
    forth, back = paired_difference(baseline, other), paired_difference(other, baseline)
    assert forth.p == pytest.approx(stats.ttest_rel(other, baseline).pvalue)
    assert forth.mean == pytest.approx(-back.mean)
    assert (forth.low, forth.p) == pytest.approx((-back.high, back.p))


def test_only_common_seeds_are_paired():
    baseline = pd.Series({0: 0.1, 1: 0.2, 2: 0.9})
    other = pd.Series({3: 0.7, 1: 0.25, 0: 0.11})
    difference = paired_difference(baseline, other)
    assert difference.n == 2
    assert difference.mean == pytest.approx((0.01 + 0.05) / 2)


def test_no_common_seed_gives_nothing():
    difference = paired_difference(pd.Series({0: 0.1}), pd.Series({1: 0.2}))
    assert difference.n == 0 and math.isnan(difference.mean) and math.isnan(difference.p)


def test_one_pair_has_a_mean_but_no_test():
    difference = paired_difference(pd.Series([0.25]), pd.Series([0.5]))
    assert difference.mean == 0.25
    assert math.isnan(difference.p) and math.isnan(difference.low)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_p_where_all_differences_are_the_same(shift, p):
    baseline = pd.Series([0.25, 0.5, 0.625])
    difference = paired_difference(baseline, baseline + shift)
    assert (difference.low, difference.mean, difference.high, difference.p) == (shift, shift, shift, p)


def test_a_seed_that_occurs_twice_is_refused():
    twice = pd.Series([0.1, 0.2], index=[7, 7])
    with pytest.raises(ElfError, match="seed 7 occurs twice"):
        paired_difference(twice, pd.Series({7: 0.1}))


def test_join_treats_missing_as_equal_and_numbers_by_value():
    cells, results = frames([(cell("random"), [0.5]), (cell("random", objective="elf"), [0.6, 0.7])])
    results["teacher_epoch"] = results["teacher_epoch"].astype("Int64")
    cells["teacher_epoch"] = cells["teacher_epoch"].astype(float)
    baseline, elf = gather(cells, results)
    assert list(baseline.accuracies) == [0.5]
    assert list(elf.accuracies) == [0.6, 0.7]
    assert baseline["distill_network"] is None and elf["teacher_epoch"] == 30


@pytest.mark.parametrize(
    "change", [{"lr": 0.005}, {"lambda_front": 0.5}, {"distance": "mse"}, {"teacher_epoch": 31}, {"epochs": 1}]
)
def test_join_keeps_cells_apart_that_differ_in_one_setting(change):
    cells, results = frames([(cell(objective="elf"), [0.5]), (cell(objective="elf", **change), [])])
    first, second = gather(cells, results)
    assert len(first.rows) == 1 and second.rows.empty
    assert first.anchor != second.anchor


def test_join_does_not_need_variants():
    cells, results = frames([(cell(), [0.5, 0.6])])
    (joined,) = gather(cells.drop(columns="synthetic_variant"), results.drop(columns="synthetic_variant"))
    assert len(joined.rows) == 2


def test_results_need_not_know_what_the_paper_calls_a_run():
    cells, results = frames([(cell(), [0.5]), (cell(paper_dataset="cifar100"), [])])
    first, second = gather(cells, results.drop(columns=["paper_dataset", "paper_eval_network"]))
    assert len(first.rows) == len(second.rows) == 1
    first, second = gather(cells, results)
    assert len(first.rows) == 1 and second.rows.empty


def test_join_refuses_variants_that_the_results_do_not_tell_apart():
    cells, results = frames([(cell(), [0.5]), (cell(synthetic_variant="zca"), [])])
    with pytest.raises(ElfError, match="synthetic_variant"):
        gather(cells, results.drop(columns="synthetic_variant"))


@pytest.mark.parametrize("column", REQUIRED_COLUMNS)
def test_a_missing_column_is_named(column):
    cells, results = frames([(cell(), [0.5])])
    with pytest.raises(ElfError, match=rf"lack the column\(s\) {column};"):
        gather(cells, results.drop(columns=column))


@pytest.mark.parametrize("accuracy", [math.nan, -0.1, 50.0])
def test_an_accuracy_that_is_no_fraction_is_refused(accuracy):
    cells, results = frames([(cell(), [0.5, accuracy])])
    with pytest.raises(ElfError, match="row 1 of the results"):
        gather(cells, results)


def test_a_seed_twice_in_the_results_is_refused():
    cells, results = frames([(cell(), [0.5, 0.6])])
    doubled = pd.concat([results, pd.DataFrame(seeds(cell(), [0.7], first_seed=1))], ignore_index=True)
    with pytest.raises(ElfError, match="seed 1 twice for DM baseline on resnet18-in"):
        gather(cells, doubled)


def test_baseline_with_the_same_learning_rate_is_preferred():
    keys = [cell(lr=0.02), cell(lr=0.01), cell(network="vgg11-in"), cell(objective="elf", lr=0.01)]
    cells = gather(*frames([(key, [0.5]) for key in keys]))
    assert baseline_of(cells[3], cells) is cells[1]
    assert baseline_of(cells[3], [cells[0], cells[3]]) is cells[0]
    assert baseline_of(cells[3], cells[2:]) is None


samples = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def naive_holm(p_values):
    """Holm as in the textbooks: the adjusted value is the largest step up to it, found by comparing all ranks."""
    tested = [p for p in p_values if not math.isnan(p)]
    steps = {}
    for p in tested:
        steps[p] = max((len(tested) - sum(other < q for other in tested)) * q for q in tested if q <= p)
    return [math.nan if math.isnan(p) else min(1.0, steps[p]) for p in p_values]


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_agrees_with_the_definition(p_values):
    assert list(holm(p_values)) == pytest.approx(naive_holm(p_values), nan_ok=True)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") of R.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, math.nan, 0.04], [0.04, math.nan, 0.04]),
        ([0.4, 0.6], [0.8, 0.8]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
        ([math.nan], [math.nan]),
    ],
)
def test_holm_by_examples(p_values, adjusted):
    assert list(holm(p_values)) == pytest.approx(adjusted, nan_ok=True)


def test_holm_by_key_keeps_the_names():
    pairs = {"a": [0.1, 0.2, 0.35], "b": [0.1, 0.1, 0.11], "one seed": [0.3]}
    differences = {name: paired_difference(pd.Series([0.0] * len(v)), pd.Series(v)) for name, v in pairs.items()}
    smaller, larger = sorted(("a", "b"), key=lambda name: differences[name].p)
    adjusted = holm_by_key(differences)
    assert adjusted[smaller] == pytest.approx(2 * differences[smaller].p)
    assert adjusted[larger] == pytest.approx(max(adjusted[smaller], differences[larger].p))
    assert math.isnan(adjusted["one seed"])


@given(samples, samples)
def test_welch_agrees_with_scipy(first, second):
    assume(np.ptp(first) > 1e-3 and np.ptp(second) > 1e-3)
    test = welch(summarise_seeds(first), summarise_seeds(second))
    known = stats.ttest_ind(second, first, equal_var=False)
    assert (test.mean, test.p) == pytest.approx((np.mean(second) - np.mean(first), known.pvalue))
    assert test.interval() == pytest.approx(tuple(known.confidence_interval(0.95)))


@given(samples, st.floats(0, 1))
def test_welch_against_a_known_number_is_a_one_sample_test(values, number):
    assume(np.ptp(values) > 1e-6)
    test = welch(published(number, math.nan, 5), summarise_seeds(values))
    assert test.p == pytest.approx(stats.ttest_1samp(values, number).pvalue)


def test_welch_from_printed_numbers():
    # VGG11-BN with DM in the paper's Table 5; a printed deviation is smaller than the sample's by sqrt(4 / 5).
    test = welch(published(43.80, 0.41, 5), published(46.43, 1.70, 5))
    scale = math.sqrt(5 / 4)
    known = stats.ttest_ind_from_stats(46.43, 1.70 * scale, 5, 43.80, 0.41 * scale, 5, equal_var=False)
    assert (test.mean, test.p) == pytest.approx((2.63, known.pvalue))


@pytest.mark.parametrize(("first", "second", "p"), [(0.5, 0.5, 1.0), (0.5, 0.75, 0.0)])
def test_welch_without_any_spread(first, second, p):
    test = welch(published(first, 0.0, 5), published(second, 0.0, 3))
    assert (test.p, *test.interval()) == (p, second - first, second - first)


def test_one_seed_has_no_welch_test():
    test = welch(published(0.5, 0.1, 5), summarise_seeds([0.75]))
    assert test.mean == 0.25
    assert math.isnan(test.p) and math.isnan(test.interval()[0]) and not test.is_within(1.0)


@given(samples, samples, st.floats(0.01, 1))
def test_a_difference_is_within_a_margin_if_two_one_sided_tests_say_so(first, second, margin):
    assume(np.ptp(first) > 1e-3 and np.ptp(second) > 1e-3)
    test = welch(summarise_seeds(first), summarise_seeds(second))
    above, below = (
        stats.ttest_ind(np.add(second, shift), first, equal_var=False, alternative=side).pvalue
        for shift, side in ((margin, "greater"), (-margin, "less"))
    )
    assume(min(abs(above - 0.05), abs(below - 0.05)) > 1e-9)
    assert test.is_within(margin) == (max(above, below) <= 0.05)


@given(samples, samples, samples)
def test_contrast_of_three_means_has_the_variance_of_their_sum(first, second, third):
    values = [first, second, third]
    assume(any(np.ptp(sample) > 1e-6 for sample in values))
    test = contrast(zip((1.0, -0.5, -0.5), map(summarise_seeds, values), strict=True))
    variances = [np.var(sample, ddof=1) / len(sample) for sample in values]
    assert test.mean == pytest.approx(np.mean(first) - (np.mean(second) + np.mean(third)) / 2)
    assert test.error == pytest.approx(math.sqrt(variances[0] + variances[1] / 4 + variances[2] / 4))
    weighted = [variances[0], variances[1] / 4, variances[2] / 4]
    degrees = sum(weighted) ** 2 / sum(v**2 / (len(s) - 1) for v, s in zip(weighted, values, strict=True))
    assert test.degrees == pytest.approx(degrees)
