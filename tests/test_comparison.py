"""Measured cells held against printed ones: which cell belongs to which number, the tests, and the rule."""

import math

import numpy as np
import pytest
from fabricated_results import cell, frames
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from elf.results.columns import gather
from elf.verdicts.comparison import MARGIN_POINTS, RULE, VERDICTS, compare, margin
from elf.verdicts.observations import COLUMNS, observations_of_cells, observations_of_printed
from elf.verdicts.printed import read_printed

DM = "convnet-w128-d3-in"


def paper_cell(network="vgg11-in", objective="task", **changes) -> dict:
    """Return the key of a cell at the paper's scale."""
    elf = objective.startswith("elf")
    key = {
        "dataset": "cifar10",
        "distill_network": DM,
        "paper_distill_network": DM,
        "eval_network": network,
        "paper_teacher_network": "convnet-w512-d3-in" if elf else None,
        "teacher_network": "convnet-w512-d3-in" if elf else None,
    }
    return cell("dm", network, objective) | key | changes


def gathered(*entries):
    return gather(*frames(entries))


def only(comparisons, **wanted):
    (found,) = [one for one in comparisons if all(one.printed[column] == value for column, value in wanted.items())]
    return found


def compared(key, accuracies, *, comparable=True, reason="", experiment="table05"):
    """Return the comparison of the printed cell that a key belongs to."""
    comparisons = compare(experiment, gathered((key, accuracies)), comparable=comparable, reason=reason)
    wanted = ("method", "paper_eval_network", "objective", "paper_distill_network")
    found = [c for c in comparisons if all(c.printed[column] == key[column] for column in wanted)]
    return found[0]


def around(mean: float, spread: float, seeds=5) -> list[float]:
    """Return fractions with a mean and a population standard deviation, both in percent."""
    values = np.linspace(-1, 1, seeds)
    return list((mean + spread * values / values.std()) / 100)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12])
def test_every_printed_accuracy_is_compared_in_order(number):
    comparisons = compare(f"table{number:02d}", [], comparable=True, reason="")
    printed = read_printed().query("table == @number and kind == 'accuracy'")
    assert [one.printed["row"] for one in comparisons] == list(printed["row"])
    lost = printed["mean"].isna()
    assert [one.verdict for one in comparisons] == ["not printed" if is_lost else "not run" for is_lost in lost]


def test_an_experiment_of_which_the_paper_prints_nothing_gives_nothing():
    assert compare("figure4", [], comparable=True, reason="") == []


def test_numbers_of_a_comparison():
    # DM on VGG11-IN is printed as 41.06 ± 0.71.
    one = compared(paper_cell(), around(41.5, 0.8))
    test = stats.ttest_ind_from_stats(
        41.5, 0.8 * math.sqrt(5 / 4), 5, 41.06, 0.71 * math.sqrt(5 / 4), 5, equal_var=False
    )
    assert (one.measured_mean, one.measured_std, one.n) == pytest.approx((41.5, 0.8, 5))
    assert one.difference == pytest.approx(0.44)
    assert one.p == pytest.approx(test.pvalue)
    assert one.p_holm == one.p  # the only cell that was run
    assert one.low < 0.44 < one.high
    assert one.verdict == "reproduced"


def test_p_is_adjusted_for_the_cells_of_the_table():
    keys = [paper_cell(network) for network in ("vgg11-in", "vgg11-bn", "resnet18-bn")]
    comparisons = compare("table05", gathered(*[(key, around(41, 0.7)) for key in keys]), comparable=True, reason="")
    tested = sorted((one for one in comparisons if one.n), key=lambda one: one.p)
    assert len(tested) == 3
    assert tested[0].p_holm == pytest.approx(min(1, 3 * tested[0].p))
    assert tested[1].p_holm == pytest.approx(min(1, max(3 * tested[0].p, 2 * tested[1].p)))


@pytest.mark.parametrize(
    ("accuracies", "verdict", "note"),
    [
        (around(41.06, 0.71), "reproduced", ""),
        (around(41.06, 0.71, seeds=3), "reproduced", ""),
        (around(41.06, 0.71, seeds=2), "close", ""),
        # Significant, but smaller than the margin.
        (around(42.6, 0.3), "close", ""),
        # As printed on average, but two points cannot be ruled out.
        (around(41.06, 4.0), "close", ""),
        ([0.4106], "close", "one seed, no test"),
        (around(43.5, 0.7), "deviates", ""),
        (around(38.0, 0.7), "deviates", ""),
        (around(44.0, 5.0), "deviates", "not significant: the spread is wide"),
        ([0.50], "deviates", "one seed, no test"),
    ],
)
def test_the_rule(accuracies, verdict, note):
    one = compared(paper_cell(), accuracies)
    assert (one.verdict, one.note) == (verdict, note) if note else one.verdict == verdict


@given(st.floats(0, 100), st.floats(0, 5), st.integers(1, 8))
def test_verdicts_say_what_their_rule_says(mean, spread, seeds):
    spread = min(spread, mean / 2, (100 - mean) / 2)
    one = compared(paper_cell(), around(mean, spread, seeds) if seeds > 1 else [mean / 100])
    assert one.verdict in VERDICTS
    if one.verdict == "reproduced":
        half = stats.t.ppf(0.95, seeds + 3) * math.hypot(one.measured_std / math.sqrt(max(seeds - 1, 1)), 0.71 / 2)
        assert abs(one.difference) + half * 0.99 < MARGIN_POINTS and one.p_holm >= 0.05
    assert (one.verdict == "deviates") == (abs(mean - 41.06) > MARGIN_POINTS + 1e-9)


@pytest.mark.parametrize(("printed", "expected"), [(41.06, 2.0), (20.0, 2.0), (8.83, 0.883), (92.6, 2.0)])
def test_the_margin_is_two_points_or_a_tenth(printed, expected):
    assert margin(printed) == pytest.approx(expected)


def test_a_number_without_a_spread_is_tested_as_known():
    # Full CIFAR-10 on VGG11-IN is printed as 88.05, once.
    key = cell("full-data", "vgg11-in", dataset="cifar10", ipc=None, distill_network=None, eval_network="vgg11-in")
    values = around(88.3, 0.4)
    cells = gathered((key, values))
    one = only(compare("table05", cells, comparable=True, reason=""), method="full-data", paper_eval_network="vgg11-in")
    assert one.p == pytest.approx(stats.ttest_1samp(np.multiply(values, 100), 88.05).pvalue)
    assert one.note == "no spread printed, tested against the printed number itself"


def test_another_scale_is_not_compared():
    one = compared(paper_cell(), around(41.06, 0.7), comparable=False, reason="scale smoke")
    assert (one.verdict, one.note) == ("not comparable", "scale smoke")
    assert one.measured_mean == pytest.approx(41.06)
    assert math.isnan(one.difference) and math.isnan(one.p) and math.isnan(one.p_holm)


def test_data_that_stand_in_are_not_compared():
    one = compared(paper_cell(dataset="digits"), around(41.06, 0.7))
    assert (one.verdict, one.note) == ("not comparable", "digits stands in for cifar10")
    both = compared(paper_cell(dataset="digits"), around(41.06, 0.7), comparable=False, reason="scale smoke")
    assert both.note == "scale smoke; digits stands in for cifar10"


def test_a_lost_value_is_not_compared_even_if_measured():
    key = paper_cell("vgg11-bn", distill_network="convnet-w128-d3-bn", paper_distill_network="convnet-w128-d3-bn")
    one = compared(key, around(40, 0.7), experiment="table01")
    assert one.verdict == "not printed" and one.measured_mean == pytest.approx(40)


@pytest.mark.parametrize(
    "change",
    [
        {"lambda_front": 0.5},
        {"lambda_rear": 2.0},
        {"variant": "paper"},
        {"synthetic_variant": "best_on_test"},
        {"distance": "mse"},
        {"paper_teacher_network": "resnet18-in"},
        {"paper_distill_network": "convnet-w128-d3-bn"},
        {"ipc": 50},
        {"method": "dsa"},
        {"paper_dataset": "cifar100"},
    ],
)
def test_other_settings_are_not_taken_for_those_of_the_paper(change):
    key = paper_cell(objective="elf")
    with_it, without = (
        compare("table05", gathered((key | changes, around(47, 0.5))), comparable=True, reason="")
        for changes in (change, {})
    )
    wanted = {"method": "dm", "paper_eval_network": "vgg11-in", "objective": "elf"}
    assert only(with_it, **wanted).verdict == "not run"
    assert only(without, **wanted).verdict == "reproduced"


def test_the_printed_epoch_of_the_teacher_is_preferred_and_another_is_said():
    keys = [paper_cell(objective="elf", teacher_epoch=epoch) for epoch in (20, 30)]
    cells = gathered((keys[0], around(40, 0.5)), (keys[1], around(47.5, 0.5)))
    wanted = {"method": "dm", "paper_eval_network": "vgg11-in", "objective": "elf"}
    assert only(compare("table05", cells, comparable=True, reason=""), **wanted).measured_mean == pytest.approx(47.5)
    other = only(compare("table05", cells[:1], comparable=True, reason=""), **wanted)
    assert other.note.startswith("teacher of epoch 20 instead of 30")


def test_the_rear_term_alone_needs_no_distance():
    key = paper_cell("resnet18-in", "elf[rear+task]", paper_dataset="cifar100", dataset="cifar100", method="mtt")
    one = compared(key, around(27.77, 0.5), experiment="table09")
    assert one.printed["distance"] is None
    comparisons = compare("table09", gathered((key, around(27.77, 0.5))), comparable=True, reason="")
    assert only(comparisons, objective="elf[rear+task]", ipc=10.0).verdict == "reproduced"


def test_networks_stand_for_their_names_where_the_paper_s_are_not_known():
    key = paper_cell(objective="elf")
    cells = gathered((key, around(47.5, 0.5)))
    for name in ("paper_distill_network", "paper_teacher_network"):
        cells[0].key.pop(name, None)
    wanted = {"method": "dm", "paper_eval_network": "vgg11-in", "objective": "elf"}
    assert only(compare("table05", cells, comparable=True, reason=""), **wanted).n == 5


def test_the_paper_s_own_numbers_are_reproduced_where_their_spread_allows_it():
    """Five seeds with the printed mean and deviation: nothing deviates, and only a wide spread stays open."""
    printed = read_printed().query("experiment == 'table05' and objective == 'task' and method == 'dm'")
    entries = [
        (paper_cell(row["paper_eval_network"]), around(row["mean"], row["std"])) for row in printed.to_dict("records")
    ]
    comparisons = [one for one in compare("table05", gathered(*entries), comparable=True, reason="") if one.n]
    assert {one.printed["paper_eval_network"]: one.verdict for one in comparisons} == {
        network: "close" if network == "resnet18-in" else "reproduced" for network in printed["paper_eval_network"]
    }


def test_the_rule_names_every_verdict():
    assert all(verdict in RULE.lower() for verdict in VERDICTS)


def test_observations_of_both_sources_have_the_same_form():
    entries = [(paper_cell(), around(41, 0.5)), (paper_cell(objective="elf"), []), (paper_cell(objective="kd"), [0.5])]
    measured = observations_of_cells({"table05": gathered(*entries)})
    printed = observations_of_printed()
    assert tuple(measured.columns) == tuple(printed.columns) == COLUMNS
    assert len(printed) == (read_printed()["kind"] == "accuracy").sum()
    row = measured.iloc[0]
    assert (row["mean"], row["std"], row["n"]) == pytest.approx((41, 0.5, 5))
    assert list(row["accuracies"]) == pytest.approx(list(np.multiply(around(41, 0.5), 100)))
    assert measured.iloc[1]["n"] == 0 and math.isnan(measured.iloc[1]["mean"])
    assert set(printed["n"]) == {0, 1, 5}


def test_of_several_cells_for_one_setting_that_with_most_seeds_is_observed():
    entries = [(paper_cell(lr=0.02), [0.4]), (paper_cell(lr=0.01), [0.5, 0.5]), (paper_cell(lr=0.03), [0.6, 0.6])]
    (row,) = observations_of_cells({"table05": gathered(*entries)}).to_dict("records")
    assert row["mean"] == pytest.approx(50)


OTHERS = {"theirs": ("dm", DM), "more-of-theirs": ("dm", DM)}


def of_others(name: str, network: str, accuracies, objective: str = "task"):
    """Return a cell of a set that others distilled: nothing in the results says with which network."""
    key = paper_cell(network, objective, method=name, distill_network=None, paper_distill_network=None)
    return key, accuracies


# DM on VGG11-IN is printed as 41.06 ± 0.71.
@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        (around(41.06, 0.7), "as printed, other set"),
        ([0.4106], "close, other set"),
        (around(45, 0.7), "deviates, other set"),
    ],
)
def test_a_set_of_others_has_verdicts_of_its_own(accuracies, verdict):
    cells = gathered(of_others("theirs", "vgg11-in", accuracies))
    comparisons = compare("table05", cells, comparable=True, reason="", others=OTHERS)
    one = only(comparisons, method="dm", paper_eval_network="vgg11-in", objective="task")
    assert (one.verdict, one.other_set, one.n) == (verdict, "theirs", len(accuracies))
    assert one.anchor == cells[0].anchor
    # The numbers are those that an own set would have.
    own = compared(paper_cell("vgg11-in"), accuracies)
    assert (one.difference, one.low, one.high, one.p) == pytest.approx(
        (own.difference, own.low, own.high, own.p), nan_ok=True
    )
    assert own.other_set is None and "other set" not in own.verdict


def test_own_sets_and_each_set_of_others_have_rows_and_corrections_of_their_own():
    cells = gathered(
        (paper_cell("vgg11-in"), around(41.06, 0.7)),
        of_others("theirs", "vgg11-in", around(41.5, 0.8)),
        of_others("theirs", "vgg11-bn", around(38, 0.8)),
        of_others("more-of-theirs", "vgg11-in", around(46, 0.8)),
    )
    comparisons = compare("table05", cells, comparable=True, reason="", others=OTHERS)
    run = [one for one in comparisons if one.n]
    assert [(one.other_set, one.printed["paper_eval_network"]) for one in run] == [
        (None, "vgg11-in"),
        ("theirs", "vgg11-in"),
        ("more-of-theirs", "vgg11-in"),
        ("theirs", "vgg11-bn"),
    ]
    # Alone in its set a test needs no correction; of two the smaller p is doubled.
    by_set = {name: [one for one in run if one.other_set == name] for name in (None, "theirs", "more-of-theirs")}
    assert all(one.p_holm == one.p for name in (None, "more-of-theirs") for one in by_set[name])
    smaller = min(by_set["theirs"], key=lambda one: one.p)
    assert smaller.p_holm == pytest.approx(min(1, 2 * smaller.p))
    printed = len(compare("table05", [], comparable=True, reason=""))
    assert len(comparisons) == printed + 2


def test_at_another_scale_a_set_of_others_is_not_comparable_either():
    cells = gathered(of_others("theirs", "vgg11-in", around(41, 0.7)))
    comparisons = compare("table05", cells, comparable=False, reason="scale smoke", others=OTHERS)
    assert only(comparisons, method="dm", paper_eval_network="vgg11-in", objective="task").verdict == "not comparable"
    assert not [one for one in comparisons if one.other_set is None and one.n]
