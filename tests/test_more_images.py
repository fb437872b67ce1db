"""ELF beside more images: the pairs, their bytes and what they say, recomputed from the files."""

import pandas as pd
import pytest
from conftest import PROJECT

from elf.results.storage import Storage
from elf.verdicts.audit import audit
from elf.verdicts.more_images import more_images, more_images_text
from elf.verdicts.observations import observations_of_printed

CHANNELS = {"ConvNetW128-IN": 128, "ConvNetW512-IN": 512, "ResNet18-IN": 512}
WIDTHS = {"ConvNetW128-IN": "ConvNet-IN", "ConvNetW128-BN": "ConvNet-BN"}


@pytest.fixture(scope="module")
def pairs():
    return more_images(observations_of_printed())


@pytest.fixture(scope="module")
def naive():
    """Return the pairs by a loop over the files, read without the code under test: a row a pair."""
    files = [file for file in sorted((PROJECT / "elf/verdicts/paper").glob("table*.csv")) if file.stem != "table10"]
    rows = pd.concat([pd.read_csv(file, dtype={"ipc": str, "zca": str}) for file in files], ignore_index=True)
    rows = rows[rows["mean"].notna() & (rows["ipc"] != "full")]
    rows = rows.assign(ipc=rows["ipc"].astype(int), eval_model=rows["eval_model"].replace(WIDTHS))
    same = ["dataset", "zca", "method", "distill_model", "eval_model"]
    elf = rows[(rows["variant"] == "elf") & (rows["loss_terms"] == "task+front+rear")]
    plain = rows[rows["variant"] == "baseline"].groupby([*same, "ipc"], as_index=False)["mean"].min()
    found = []
    for key, members in elf.groupby([*same, "ipc", "distance", "feature_model"], dropna=False):
        larger = plain[(plain[same] == list(key[:5])).all(axis=1) & (plain["ipc"] > key[5])]
        if len(larger):
            nearest = larger.sort_values("ipc").iloc[0]
            found.append((key[5], nearest["ipc"], key[6], key[7], members["mean"].max(), nearest["mean"]))
    columns = ["n", "m", "distance", "teacher", "elf", "plain"]
    return pd.DataFrame(found, columns=columns)


def test_pairs_are_those_of_a_naive_loop(pairs, naive):
    found = sorted((one.elf["ipc"], one.plain["ipc"], one.elf["mean"], one.plain["mean"]) for one in pairs)
    assert found == sorted(naive[["n", "m", "elf", "plain"]].itertuples(index=False, name=None))
    assert (naive["plain"] > naive["elf"]).all()


def test_counts_by_distance_and_teacher(pairs):
    ce = [one for one in pairs if one.elf["distance"] == "ce"]
    convnet = [one for one in ce if one.elf["paper_teacher_network"] != "resnet18-in"]
    assert (len(pairs), len(ce), len(convnet)) == (37, 22, 18)
    assert [sum(one.smaller["8-bit pixels"] for one in group) for group in (ce, convnet)] == [19, 15]
    assert not any(one.smaller["float32"] for one in pairs)
    differences = [one.test.mean for one in ce]
    assert (min(differences), max(differences)) == pytest.approx((0.86, 23.13))


def test_bytes_by_hand(pairs):
    (one,) = [
        pair
        for pair in pairs
        if (pair.elf["paper_dataset"], pair.elf["method"]) == ("cifar10", "mtt")
        and pair.elf["paper_eval_network"] == "resnet18-bn"
    ]
    # 10 images of 32 x 32 x 3 bytes with features of 512 x 4 x 4 floats, against 50 images
    assert one.bytes_a_class(8) == (358_400, 153_600)
    assert one.bytes_a_class(32) == (450_560, 614_400)
    assert one.break_even_bits(8) == 12
    # int8 features turn the comparison round
    storage = Storage(32, (512, 4, 4))
    assert storage.bytes(10, image_bits=8, feature_bits=8) < Storage(32).bytes(50, image_bits=8)


def test_break_even_is_where_both_take_the_same(pairs):
    for one in pairs:
        n, m = int(one.elf["ipc"]), int(one.plain["ipc"])
        bits = one.break_even_bits(8)
        plain = Storage(one.storage.side).bytes(m, image_bits=8)
        assert one.storage.bytes(n, image_bits=8, feature_bits=bits) == pytest.approx(plain)


def test_sizes_of_features_are_those_of_the_teacher(pairs, naive):
    values = sorted(one.storage.values for one in pairs)
    assert values == sorted(CHANNELS[teacher] * 16 for teacher in naive["teacher"])


def test_what_the_summary_says(pairs):
    text = more_images_text(pairs)
    assert "37 of 37 pairs (+0.86 to +23.13 points)" in text
    assert "31 with images as 8-bit pixels, 0 with images as float32" in text


def test_the_audit_has_each_pair(pairs):
    findings = [finding for finding in audit() if finding.kind == "more images"]
    assert len(findings) == len(pairs)
    (finding,) = [one for one in findings if one.numbers["elf"] == 50.16]
    assert finding.tables == (3, 5)
    assert "358,400 bytes a class against 153,600, equal at 12 bits" in finding.text
