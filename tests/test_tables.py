"""Tables: layout, the numbers in every format, missing cells, hostile names."""

import csv
import io
import math
import re
from html.parser import HTMLParser

import pytest
from fabricated_results import ABOUT, ALIGNED, NETWORKS, cell, frames, spread

from elf.results.layout import lay_out
from elf.results.summary import summarise
from elf.results.tables import html, render, tidy

HALF = 2.7764451051977987 * math.sqrt(2.5) / math.sqrt(5)  # of the 95 % interval of five STEPS of 1


def table5():
    """DM: baseline 50, ELF 52 (each seed one step further), KD 51 turned round; random: baseline 40, ELF 39."""
    entries = [(cell(network=ALIGNED, aligned=True), spread(0.6, 0.001))]
    for network in NETWORKS:
        entries += [
            (cell(network=network), spread(0.50, 0.001)),
            (cell(network=network, objective="elf"), spread(0.52, 0.002)),
            (cell(network=network, objective="kd"), spread(0.51, 0.001, order=-1)),
            (cell("random", network), spread(0.40, 0.001)),
            (cell("random", network, "elf"), spread(0.39, 0.002)),
        ]
    return entries


def markdown_rows(text):
    return [[field.strip() for field in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown_holds_the_numbers_in_the_papers_order():
    head, _, *rows = markdown_rows(render(*frames(table5()), ABOUT)["md"])
    assert head[2:] == ["ConvNet-IN (aligned)", "ConvNet-BN", "ResNet18-IN", "ResNet18-BN", "VGG11-IN", "VGG11-BN"]
    low, high = 2 - 0.1 * HALF, 2 + 0.1 * HALF
    assert rows[0] == ["DM", "baseline", "60.00 ± 0.14", *["50.00 ± 0.14"] * 5]
    assert rows[1] == ["", "+ ELF", "", *["**52.00 ± 0.28**"] * 5]
    assert rows[2] == ["", "gain", "", *[r"+2.00\*"] * 5]
    assert rows[3] == ["", "95 % interval", "", *[f"[+{low:.2f}, +{high:.2f}]"] * 5]
    assert [row[1] for row in rows[4:7]] == ["+ KD", "gain", "95 % interval"]
    assert rows[7] == ["Random real images", "baseline", "", *["**40.00 ± 0.14**"] * 5]
    assert rows[9] == ["", "gain", "", *[r"−1.00\*"] * 5]


def test_columns_do_not_depend_on_the_order_of_the_cells():
    cells, results = frames(table5())
    turned = lay_out(cells.iloc[::-1], results.sample(frac=1, random_state=0), ABOUT)
    assert turned.columns == lay_out(cells, results, ABOUT).columns
    assert turned.groups[-1].label == "DM"
    assert [row.label for row in turned.groups[-1].rows] == ["baseline", "+ ELF", "+ KD"]


def test_csv_has_a_row_a_cell_with_its_statistics():
    rows = csv_rows(render(*frames(table5()), ABOUT)["csv"])
    assert len(rows) == 1 + 5 * 5
    (kd,) = (r for r in rows if (r["row"], r["column"]) == ("+ KD", "VGG11-BN"))
    assert float(kd["mean"]) == pytest.approx(51)
    assert float(kd["std"]) == pytest.approx(0.1 * math.sqrt(2), rel=1e-5)
    assert float(kd["ci_high"]) == pytest.approx(51 + 0.1 * HALF, rel=1e-5)
    # The order of the seeds is turned round, so the differences have twice the step.
    assert float(kd["gain"]) == pytest.approx(1)
    assert float(kd["gain_ci_low"]) == pytest.approx(1 - 0.2 * HALF, rel=1e-4)
    assert (kd["n"], kd["pairs"], kd["unit"], kd["objective"], kd["distance"]) == ("5", "5", "percent", "kd", "")
    baseline = rows[0]
    assert (baseline["gain"], baseline["p"], baseline["pairs"]) == ("", "", "0")


def test_caption_names_scale_stand_ins_and_seeds():
    for text in render(*frames(table5()), ABOUT).values():
        if not text.startswith("title,"):
            assert "Scale: smoke. CIFAR-10 is stood in for by digits." in text
            assert "over 5 seeds" in text
            assert "CIFAR-10 (stand-in: digits), 10 images per class" in text


def test_a_cell_that_was_not_run_is_marked_and_one_that_is_not_wanted_is_empty():
    entries = [
        (cell(network=ALIGNED, aligned=True), spread(0.6, 0.001)),
        (cell(), spread(0.5, 0.001)),
        (cell(objective="elf"), []),
    ]
    files = render(*frames(entries), ABOUT)
    _, _, *rows = markdown_rows(files["md"])
    assert rows[0][3] == "50.00 ± 0.14"
    assert rows[1][2:] == ["", "—"]
    assert rows[2][2:] == ["", ""]
    assert "— not run." in files["md"] and "--- not run." in files["tex"] and "— not run." in files["html"]
    (missing,) = (row for row in csv_rows(files["csv"]) if row["row"] == "+ ELF")
    assert (missing["n"], missing["mean"], missing["gain"]) == ("0", "", "")


def test_without_any_results_a_table_still_comes_out():
    files = render(*frames([(key, []) for key, _ in table5()]), ABOUT)
    assert files["md"].count(" — ") == 26
    assert "over 0 of 5 seeds" in files["md"]


def test_fewer_seeds_are_told():
    entries = [(cell(), spread(0.5, 0.001)), (cell(objective="elf"), [0.51, None, 0.53])]
    text = render(*frames(entries), ABOUT)["md"]
    assert "**52.00 ± 1.00**†" in text
    assert "over 2 to 5 of 5 seeds" in text
    assert "† fewer seeds than 5: DM + ELF on ResNet18-IN: 2." in text


def test_a_single_seed_shows_no_spread():
    _, _, *rows = markdown_rows(render(*frames([(cell(), [0.5]), (cell(objective="kd"), [0.75])]), ABOUT)["md"])
    assert [row[2] for row in rows] == ["50.00†", "**75.00**†", "+25.00", ""]


def test_no_common_seed_gives_no_gain():
    cells, results = frames([(cell(), [0.5, None]), (cell(objective="kd"), [None, 0.6])])
    _, _, *rows = markdown_rows(render(cells, results, ABOUT)["md"])
    assert rows[2][2] == "n/a"


def test_cells_that_round_to_the_same_are_bold_together():
    table = lay_out(
        *frames([(cell(), [0.5]), (cell(objective="elf"), [0.500001]), (cell(objective="kd"), [0.4])]), ABOUT
    )
    assert list(tidy(table)["best"]) == [True, True, False]


def test_settings_that_differ_within_a_column_get_rows_of_their_own():
    entries = [(cell(), [0.5])]
    entries += [(cell(objective="elf", distance=name), [0.5]) for name in ("ce", "mse")]
    entries += [(cell(network="vgg11-in", objective="elf", teacher_network="convnet-w8-d3-in"), [0.5])]
    table = lay_out(*frames(entries), ABOUT)
    assert [row.label for row in table.groups[0].rows] == ["baseline", "+ ELF, distance CE", "+ ELF, distance MSE"]
    assert set(table.groups[0].rows[1].cells) == {"resnet18-in", "vgg11-in"}


def test_sets_of_one_method_are_told_apart():
    table = lay_out(*frames([(cell(ipc=1), [0.5]), (cell(), [0.5]), (cell("random"), [0.5])]), ABOUT)
    assert [group.label for group in table.groups] == ["DM, IPC 1", "DM, IPC 10", "Random real images"]


def test_networks_that_would_share_a_label_get_the_full_one():
    entries = [(cell(network=name), [0.5]) for name in ("convnet-w128-d3-in", "convnet-w128-d4-in", "vgg11-in")]
    labels = [column.label for column in lay_out(*frames(entries), ABOUT).columns]
    assert labels == ["ConvNet-W128-D3-IN", "ConvNet-W128-D4-IN", "VGG11-IN"]


def test_a_gain_that_also_holds_another_learning_rate_is_told():
    text = render(*frames([(cell(), [0.5]), (cell(objective="elf", lr=0.005), [0.6])]), ABOUT)["md"]
    assert "DM: + ELF used lr 0.005, the baseline 0.01." in text


class Structure(HTMLParser):
    """Collects tags, links and the text of the fields."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.fields = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name == "href"]
        if tag in ("td", "th"):
            self.fields.append("")

    def handle_data(self, data):
        if self.fields:
            self.fields[-1] += data.strip()


def test_html_has_every_field_and_links_only_in_the_report():
    table = lay_out(*frames(table5()), ABOUT)
    structure = Structure(html(table, links=True))
    assert structure.fields.count("52.00 ± 0.28") == 5
    assert structure.fields.count("+2.00*") == 5
    assert structure.tags.count("tr") == 1 + 7 + 4
    assert len(structure.links) == len(set(structure.links)) == 26
    assert Structure(html(table)).links == []


HOSTILE = r"<script>alert(1)</script> 50% & $x_1^2$ #{~} \input|[a](b) *`c`"


@pytest.mark.parametrize("where", ["title", "stand_ins", "method", "network"])
def test_hostile_names_are_escaped(where):
    about = ABOUT | ({where: HOSTILE} if where in ABOUT else {})
    method, network = (
        HOSTILE if where == name else usual for name, usual in (("method", "dm"), ("network", "vgg11-in"))
    )
    files = render(*frames([(cell(method, network), [0.5])]), about)
    assert "script" not in Structure(files["html"]).tags
    assert "<script" not in files["html"] and "<script" not in files["md"]
    assert "&lt;script&gt;" in files["html"] and "&lt;script&gt;" in files["md"]
    assert r"50\% \& \$x\_1\textasciicircum{}2\$ \#\{\textasciitilde{}\} \textbackslash{}input" in files["tex"]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in files["md"].splitlines() if line[:1] == "|"} == {5}
    assert csv_rows(files["csv"])[0]["objective"] == "task"


def test_latex_braces_and_columns_fit():
    text = render(*frames(table5()), ABOUT)["tex"]
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {8}
    assert r"\textbf{52.00 $\pm$ 0.28}" in text and r"$-$1.00$^*$" in text
    assert r"\begin{tabular}{llrrrrrr}" in text


def test_the_same_data_give_the_same_text():
    assert render(*frames(table5()), ABOUT) == render(*frames(table5()), ABOUT)


def test_summary_tells_gains_losses_and_the_control():
    text = " ".join(summarise(*frames(table5()), ABOUT).split())
    assert (
        "DM: ELF against the baseline: +2.00 points on average over 5 networks; higher on 5 (5 significantly)" in text
    )
    assert "KD against the baseline: +1.00 points on average over 5 networks; higher on 5 (5 significantly)" in text
    assert "ELF against KD: +1.00 points" in text
    assert (
        "Random real images: ELF against the baseline: −1.00 points on average over 5 networks; higher on 0 "
        "(0 significantly), lower on 5 (5 significantly): it hurts." in text
    )
    assert "DM against random real images, both without a teacher: +10.00 points" in text
    assert "Scale: smoke. CIFAR-10 is stood in for by digits." in text


def test_summary_leaves_the_aligned_network_out_and_counts_what_is_missing():
    entries = [
        (cell(network=ALIGNED, aligned=True), [0.5]),
        (cell(network=ALIGNED, aligned=True, objective="elf"), [0.9]),
        (cell(), spread(0.5, 0.01)),
        (cell(objective="elf"), spread(0.501, 0.01, order=-1)),
        (cell(network="vgg11-in"), spread(0.5, 0.01)),
        (cell(network="vgg11-in", objective="elf"), []),
    ]
    text = " ".join(summarise(*frames(entries), ABOUT).split())
    assert "+0.10 points on average over 1 network; higher on 1 (0 significantly)" in text
    assert "no effect beyond the spread of the seeds. 1 of 2 networks not run." in text


def test_methods_are_compared_with_random_images_in_the_same_protocol():
    frepo = {"method": "frepo", "objective": "frepo", "paper_dataset": "cifar10-frepo"}
    entries = [
        (cell(), spread(0.5, 0.001)),
        (cell(method="random"), spread(0.4, 0.001)),
        (cell(**frepo), spread(0.3, 0.001)),
        (cell(**frepo | {"method": "random"}), spread(0.25, 0.001)),
    ]
    text = " ".join(summarise(*frames(entries), ABOUT).split())
    assert "DM against random real images, both without a teacher: +10.00 points" in text
    assert "FrePo against random real images, both without a teacher: +5.00 points" in text
    assert text.count("against random real images") == 2
    assert "FrePo:" not in text
    table = render(*frames(entries), ABOUT)["md"]
    assert "FrePo protocol | 30.00" in table
    assert "gain" not in table.split("| --- |")[1]


def test_summary_without_results():
    text = summarise(*frames([(key, []) for key, _ in table5()]), ABOUT)
    assert "no results yet (0 of 5 networks)" in text
