"""What the paper's numbers say of the paper: each known inconsistency is found, and no other."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from scipy import stats

from elf.verdicts import audit as module
from elf.verdicts.audit import KINDS, audit, changes_by_elf, recomputed_gains

FILES = sorted((PROJECT / "elf/verdicts/paper").glob("table*.csv"))


@pytest.fixture(scope="module")
def findings():
    return audit()


@pytest.fixture(scope="module")
def raw():
    """Return the files as they are, read without the code under test."""
    frames = [pd.read_csv(file, dtype={"ipc": str, "zca": str}) for file in FILES if file.stem != "table10"]
    return pd.concat(frames, ignore_index=True)


def of_kind(findings, kind):
    return [finding for finding in findings if finding.kind == kind]


def test_kinds_are_in_order_and_texts_are_lines(findings):
    kinds = [finding.kind for finding in findings]
    assert list(dict.fromkeys(kinds)) == list(KINDS)
    assert all("\n" not in finding.text and finding.tables and finding.cells for finding in findings)


def test_all_gains_but_two_are_those_of_the_cells(findings, raw):
    first, second = of_kind(findings, "gain")
    assert (first.numbers["printed"], second.numbers["printed"]) == (3.35, 1.31)
    assert (first.numbers["recomputed"], second.numbers["recomputed"]) == pytest.approx((2.63, 0.31))
    assert "DM" in first.text and "VGG11-BN" in first.text and "DSA" in second.text and "ResNet18-IN" in second.text
    keys = ["table", "dataset", "method", "eval_model"]
    wide = raw[raw["table"].isin([5, 6, 7])].pivot_table(index=keys, columns="variant", values="mean")
    wide = wide.dropna(subset="gain_as_printed")
    assert len(wide) == len(recomputed_gains()) == 40
    off = (wide["elf"] - wide["baseline"] - wide["gain_as_printed"]).abs() > 0.0101
    assert list(off[off].index) == [(5, "CIFAR-10", "DM", "VGG11-BN"), (5, "CIFAR-10", "DSA", "ResNet18-IN")]


def test_settings_that_two_tables_print_differently(findings):
    found = {
        (finding.tables, *(round(finding.numbers[name], 2) for name in ("lowest", "highest")))
        for finding in of_kind(findings, "repeated")
    }
    assert found == {
        ((1, 2, 3, 5), 92.36, 92.60),  # full CIFAR-10, ResNet18-IN
        ((2, 4, 6), 57.68, 57.78),  # full CIFAR-100, ConvNet-IN
        ((2, 4, 6), 38.16, 39.58),  # MTT CIFAR-100 IPC 10 ConvNet-IN
        ((2, 4, 6, 9, 12), 26.33, 26.39),  # and on ResNet18-IN
        ((4, 9), 39.67, 41.17),  # and at IPC 50
    }


def test_repeated_settings_against_a_count_of_the_files(findings, raw):
    names = {"ConvNetW128-IN": "ConvNet-IN", "ConvNetW128-BN": "ConvNet-BN"}
    rows = raw[(raw["variant"] != "gain_as_printed") & raw["mean"].notna()]
    rows = rows.assign(eval_model=rows["eval_model"].replace(names))
    keys = ["dataset", "ipc", "zca", "method", "distill_model", "feature_model", "eval_model", "loss_terms", "distance"]
    means = rows.groupby(keys, dropna=False)["mean"].nunique()
    assert (means > 1).sum() == len(of_kind(findings, "repeated"))


def test_how_far_apart_and_how_surely(findings):
    (finding,) = [one for one in of_kind(findings, "repeated") if one.tables == (4, 9)]
    scale = math.sqrt(5 / 4)
    test = stats.ttest_ind_from_stats(41.17, 0.52 * scale, 5, 39.67, 0.61 * scale, 5, equal_var=False)
    assert finding.numbers["difference"] == pytest.approx(1.50)
    assert finding.numbers["p"] == pytest.approx(test.pvalue)
    assert "39.67 ± 0.61 (Table 9) and 41.17 ± 0.52 (Table 4); 1.50 points apart, p = 0.0059" in finding.text
    (alone,) = [one for one in of_kind(findings, "repeated") if one.tables == (1, 2, 3, 5)]
    assert math.isnan(alone.numbers["p"]) and "no spread printed" in alone.text
    assert "92.36 (Table 2) and 92.39 (Tables 3, 5) and 92.60 (Table 1); 0.24 points apart" in alone.text


def test_tables_8_and_11_show_other_images(findings):
    found = {(one.tables, one.numbers["lowest"], one.numbers["highest"]) for one in of_kind(findings, "other images")}
    assert found == {
        ((2, 4, 6, 9, 11, 12), 24.40, 26.39),
        ((9, 11), 8.49, 12.43),
        ((6, 9, 11, 12), 36.31, 38.48),
        ((9, 11), 18.87, 21.73),
    }


def test_gains_that_may_be_chance(findings):
    found = of_kind(findings, "not significant")
    by_table = {number: [one for one in found if one.tables == (number,)] for number in (5, 6, 7, 9, 12)}
    assert {number: len(members) for number, members in by_table.items()} == {5: 5, 6: 0, 7: 0, 9: 2, 12: 4}
    assert len(found) == 11
    changes = sorted(round(one.numbers["change"], 2) for one in by_table[5])
    assert changes == [0.31, 1.43, 1.96, 2.47, 2.63]
    # One change for the worse: MSE on ResNet18-IN with DSA.
    assert [round(one.numbers["change"], 2) for one in found if one.numbers["change"] < 0] == [-0.07]


def test_p_values_of_table_5_against_scipy_and_a_naive_correction(raw):
    rows = raw[raw["table"] == 5].set_index(["method", "eval_model", "variant"])
    p_values = {}
    for method, network in {key[:2] for key in rows.index if key[2] == "elf"}:
        elf, base = (rows.loc[(method, network, variant)] for variant in ("elf", "baseline"))
        stds = [row["std"] * math.sqrt(5 / 4) for row in (elf, base)]
        test = stats.ttest_ind_from_stats(elf["mean"], stds[0], 5, base["mean"], stds[1], 5, equal_var=False)
        p_values[round(elf["mean"], 2), round(base["mean"], 2)] = test.pvalue
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    adjusted, largest = {}, 0.0
    for rank, (key, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        adjusted[key] = largest
    changes = {(e["mean"], b["mean"]): (test.p, p) for e, b, test, p in changes_by_elf() if e["table"] == 5}
    assert {key: p for key, (p, _) in changes.items()} == pytest.approx(p_values)
    assert {key: p for key, (_, p) in changes.items()} == pytest.approx(adjusted)


def test_changes_by_elf_are_all_that_have_a_baseline(raw):
    elf = raw[raw["variant"].str.startswith("elf")]
    assert len(changes_by_elf()) == len(elf) == 108


def test_cells_above_the_aligned_model(findings):
    found = of_kind(findings, "above aligned")
    values = {(one.tables[0], one.numbers["elf"], one.numbers["aligned"]) for one in found}
    assert (7, 19.96, 17.8) in values
    assert values == {
        (5, 55.19, 49.52),
        (5, 54.01, 51.70),
        (6, 35.74, 29.45),
        (6, 29.94, 29.45),
        (6, 36.02, 31.76),
        (7, 23.80, 23.11),
        (7, 19.01, 17.8),
        (7, 19.96, 17.8),
        (7, 19.56, 17.8),
        (11, 18.87, 18.13),
    }


def test_lost_values(findings, raw):
    lost = of_kind(findings, "lost")
    assert [one.tables[0] for one in lost] == [1] * 5 + [3] * 4
    assert sum("printed as a dash" in one.text for one in lost) == 1
    assert len(lost) == raw["mean"].isna().sum()


def test_a_gain_that_is_changed_is_noticed(monkeypatch):
    printed = module.read_printed()
    place = printed.index[(printed["kind"] == "gain") & (printed["mean"] == 12.19)]
    printed.loc[place, "mean"] += np.float64(0.02)
    monkeypatch.setattr(module, "read_printed", lambda: printed)
    assert len(of_kind(audit(), "gain")) == 3
