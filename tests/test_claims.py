"""The paper's claims, on its own numbers and on made-up measurements whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from elf.verdicts.claims import CLAIMS, MOSTLY, STATUSES, judge
from elf.verdicts.observations import observations_of_printed
from elf.verdicts.printed import SETTING, read_printed

NOTHING = observations_of_printed().iloc[:0]


@pytest.fixture(scope="module")
def printed():
    observations = observations_of_printed()
    return {claim.number: judge(claim, observations) for claim in CLAIMS}


def pairs_of(judgement, place=0):
    evidence = judgement.evidence[place]
    return evidence.supporting, evidence.contradicting


def observed(*rows) -> pd.DataFrame:
    """Return measurements: each a dict of what differs from DM's ELF cell on ResNet18-IN, and accuracies by seed."""
    default = {"experiment": "table05"} | dict.fromkeys(SETTING)
    default |= {"paper_dataset": "cifar10", "ipc": 10.0, "method": "dm", "paper_distill_network": "convnet-w128-d3-in"}
    default |= {"paper_eval_network": "resnet18-in", "objective": "task"}
    frame = []
    for changes, values in rows:
        series = pd.Series(values, dtype=float)
        numbers = {"mean": series.mean(), "std": series.std(ddof=0), "n": len(series), "accuracies": series}
        frame.append(default | changes | (numbers if len(series) else numbers | {"accuracies": None}))
    return pd.DataFrame(frame)


def elf(**changes) -> dict:
    return {"objective": "elf", "distance": "ce", "paper_teacher_network": "convnet-w512-d3-in"} | changes


def test_there_are_seven_claims_on_tables_that_are_printed():
    assert [claim.number for claim in CLAIMS] == [1, 2, 3, 4, 5, 6, 7]
    tables = {table for claim in CLAIMS for table in claim.tables}
    assert tables == {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12}


def test_statuses_of_the_paper_s_own_numbers(printed):
    assert {number: [e.status for e in judgement.evidence] for number, judgement in printed.items()} == {
        1: ["supported", "contradicted"],
        2: ["mostly supported", "mostly supported", "supported"],
        3: ["supported"],
        4: ["supported"],
        5: ["supported"],
        6: ["supported", "supported", "mostly supported"],
        7: ["supported"],
    }
    assert printed[1].status == "contradicted" and printed[4].status == "supported"


def test_claim_1_the_aligned_network_is_always_better(printed):
    supporting, contradicting = pairs_of(printed[1])
    # 6 sets with 5 other networks each; VGG11-BN of the three sets with BN is lost.
    assert (len(supporting), len(contradicting), len(printed[1].evidence[0].untested)) == (27, 0, 3)
    assert max(pair.difference for pair in supporting) == pytest.approx(63.48 - 42.32)


def test_claim_1_mtt_loses_most_on_images_of_networks_with_in_only(printed):
    supporting, contradicting = pairs_of(printed[1], 1)
    assert all("W128-D3-IN" in pair.where for pair in supporting) and len(supporting) == 2
    assert all("W128-D3-BN" in pair.where for pair in contradicting) and len(contradicting) == 2
    mtt, dm = supporting[0].higher_mean, supporting[0].lower_mean
    assert mtt == pytest.approx(63.48 - np.mean([47.27, 44.72, 42.32, 49.04, 46.95]))
    assert dm == pytest.approx(49.52 - np.mean([46.17, 37.38, 39.41, 41.06, 43.80]))


def test_claim_2_normalisation(printed):
    images, networks, large = printed[2].evidence
    assert (len(images.supporting), len(images.contradicting)) == (24, 3)
    assert (len(networks.supporting), len(networks.contradicting)) == (20, 7)
    assert {(round(pair.difference, 2)) for pair in large.supporting} == {1.21, 0.80}
    (dsa,) = [pair for pair in large.supporting if "DSA" in pair.where]
    assert (dsa.higher_mean, dsa.lower_mean) == (50.71, 49.50)


def test_claim_3_accuracy_falls_along_the_chain(printed):
    supporting, contradicting = pairs_of(printed[3])
    assert not contradicting
    means = [pair.higher_mean for pair in supporting] + [supporting[-1].lower_mean]
    assert means == [64.75, 63.48, 59.03, 39.91, 38.16, 34.11, 26.33]
    assert supporting[2].lower_mean == 44.72


def test_claim_4_elf_improves_every_cell(printed):
    supporting, contradicting = pairs_of(printed[4])
    assert (len(supporting), len(contradicting)) == (40, 0)
    cifar = [pair.difference for pair in supporting if "CIFAR" in pair.where]
    others = [pair.difference for pair in supporting if "CIFAR" not in pair.where]
    assert (len(cifar), len(others)) == (30, 10)
    assert (min(cifar), max(cifar)) == pytest.approx((0.31, 12.19))
    assert (min(others), max(others)) == pytest.approx((0.39, 9.71))
    # The same differences as printed, but for the two gains that are not those of the cells.
    gains = sorted(read_printed().query("kind == 'gain'")["mean"])
    off = set(np.round(gains, 2)) ^ set(np.round([pair.difference for pair in supporting], 2))
    assert {3.35, 1.31} <= off
    assert printed[4].evidence[0].significant(supporting) == 35


def test_claim_5_features_of_the_distillation(printed):
    supporting, contradicting = pairs_of(printed[5])
    assert (len(supporting), len(contradicting)) == (8, 0)
    assert {round(pair.difference, 2) for pair in supporting} == {8.01, 14.55, 5.11, 7.76, 11.48, 13.48, 3.83, 5.71}
    assert sum("on ResNet18-IN" in pair.where for pair in supporting) == 4


def test_claim_6_terms_of_the_loss(printed):
    front, without_task, collapse = printed[6].evidence
    assert [round(pair.difference, 2) for pair in front.supporting] == [7.42, 9.60, 5.82]
    assert [round(pair.difference, 2) for pair in without_task.supporting] == [5.68, 21.16, 25.21]
    # At one image a class it does not fall below the baseline.
    (pair,) = collapse.contradicting
    assert "IPC 1," in pair.where and (pair.higher_mean, pair.lower_mean) == (12.43, 16.05)


def test_claim_7_exceptions_of_the_distances(printed):
    supporting, contradicting = pairs_of(printed[7])
    assert len(supporting) == 8
    found = {(pair.where.split(", ")[2], pair.where.split(", ")[4], pair.lower) for pair in contradicting}
    assert found == {("MTT", "on ConvNet-W128-D3-BN", "MSE"), ("DSA", "on VGG11-BN", "Cos")}


def test_p_of_printed_pairs_is_welch_s(printed):
    pair = next(pair for pair in pairs_of(printed[4])[0] if (pair.higher_mean, pair.lower_mean) == (42.29, 41.98))
    scale = math.sqrt(5 / 4)
    test = stats.ttest_ind_from_stats(42.29, 0.40 * scale, 5, 41.98, 0.85 * scale, 5, equal_var=False)
    assert pair.p == pytest.approx(test.pvalue)
    assert (pair.experiment, pair.higher, pair.lower) == ("table05", "+ ELF", "baseline")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_nothing_run_is_not_testable(claim):
    judgement = judge(claim, NOTHING)
    assert judgement.status == "not testable" and judgement.tested == 0


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_cells_without_results_are_counted_as_untested(claim):
    observations = observations_of_printed().assign(mean=math.nan, std=math.nan, n=0)
    judgement = judge(claim, observations)
    assert judgement.status == "not testable"
    assert judgement.untested > 0


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_the_opposite_numbers_do_not_support_a_claim(claim):
    observations = observations_of_printed()
    opposite = observations.assign(mean=100 - observations["mean"])
    before, after = judge(claim, observations), judge(claim, opposite)
    assert after.status in ("contradicted", "undecided")
    if claim.number != 7:  # there the best other changes
        for first, second in zip(before.evidence, after.evidence, strict=True):
            assert (len(first.supporting), len(first.contradicting)) == (
                len(second.contradicting),
                len(second.supporting),
            )


def test_measured_pairs_are_paired_by_seed():
    baseline, other = {0: 40.0, 1: 42.0, 2: 47.0}, {0: 41.0, 1: 42.9, 2: 48.1}
    (pair,) = pairs_of(judge(CLAIMS[3], observed(({}, baseline), (elf(), other))))[0]
    differences = [other[seed] - baseline[seed] for seed in baseline]
    assert pair.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert pair.difference == pytest.approx(np.mean(differences))


def test_seeds_that_are_not_the_same_are_not_paired():
    baseline, other = {0: 40.0, 1: 42.0, 2: 47.0}, {3: 41.0, 4: 42.9, 5: 48.1}
    (pair,) = pairs_of(judge(CLAIMS[3], observed(({}, baseline), (elf(), other))))[0]
    test = stats.ttest_ind(list(other.values()), list(baseline.values()), equal_var=False)
    assert pair.p == pytest.approx(test.pvalue)


def test_other_networks_are_not_paired():
    aligned = {"experiment": "table01", "paper_eval_network": "convnet-w128-d3-in"}
    values = {0: 50.0, 1: 51.0, 2: 55.0}, {0: 40.0, 1: 41.5, 2: 45.0}
    rows = observed((aligned, values[0]), ({"experiment": "table01"}, values[1]))
    (pair,) = pairs_of(judge(CLAIMS[0], rows))[0]
    test = stats.ttest_ind(list(values[0].values()), list(values[1].values()), equal_var=False)
    assert pair.p == pytest.approx(test.pvalue)


def test_tables_that_a_claim_is_not_about_do_not_count():
    rows = observed(({}, [40.0, 41.0]), (elf(), [50.0, 51.0]))
    assert judge(CLAIMS[3], rows.assign(experiment="table12")).status == "not testable"
    assert judge(CLAIMS[3], rows).tested == 1


def test_one_seed_leaves_a_claim_undecided():
    assert judge(CLAIMS[3], observed(({}, [40.0]), (elf(), [50.0]))).status == "undecided"


NETWORKS = ["resnet18-in", "resnet18-bn", "vgg11-in", "vgg11-bn", "convnet-w128-d3-bn"]


@given(st.lists(st.sampled_from([-10.0, -0.001, 0.001, 10.0]), min_size=1, max_size=5))
def test_status_by_the_share_of_pairs_that_agree(gains):
    """A change of 10 is significant, one of 0.001 is not."""
    rows = []
    for network, gain in zip(NETWORKS, gains, strict=False):
        baseline = np.array([40.0, 41.0, 42.0, 43.0, 44.0])
        noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0])
        rows += [
            ({"paper_eval_network": network}, baseline),
            (elf(paper_eval_network=network), baseline + gain + noise),
        ]
    share = sum(gain > 0 for gain in gains) / len(gains)
    if max(map(abs, gains)) < 1:
        expected = "undecided"
    elif share == 1:
        expected = "supported"
    elif share >= MOSTLY:
        expected = "mostly supported"
    else:
        expected = "contradicted" if min(gains) < -1 else "undecided"
    judgement = judge(CLAIMS[3], observed(*rows))
    assert judgement.status == expected
    assert judgement.status in STATUSES
