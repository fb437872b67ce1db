"""Figures 3 and 4: the points they show, what is missing, the same bytes twice."""

import csv
import io
import math

import matplotlib
import pytest
from fabricated_results import ABOUT, NETWORKS, cell, frames, spread

from elf.results import figure3, figure4
from elf.results.columns import gather

WEIGHTS = [0, 0.1, 0.5, 1, 2, 5, 10]
EPOCHS = [1, 5, 30]
HALF = 2.7764451051977987 * math.sqrt(2.5) / math.sqrt(5)


def weights(missing=()):
    """Accuracy 60 % plus the front's weight minus half the rear's; baseline 55 %."""
    pairs = [(front, 1) for front in WEIGHTS] + [(1, rear) for rear in WEIGHTS if rear != 1]
    entries = [(cell(), spread(0.55, 0.001))]
    for front, rear in pairs:
        accuracies = [] if (front, rear) in missing else spread(0.6 + (front - rear / 2) / 100, 0.002)
        entries.append((cell(objective="elf", lambda_front=front, lambda_rear=rear), accuracies))
    return entries


def epochs(missing=()):
    entries = []
    for index, network in enumerate(NETWORKS):
        entries.append((cell(network=network), spread(0.5 + index / 10, 0.001)))
        for epoch in EPOCHS:
            accuracies = [] if (network, epoch) in missing else spread(0.5 + index / 10 + epoch / 1000, 0.002)
            entries.append((cell(network=network, objective="elf", teacher_epoch=epoch), accuracies))
    return entries


def rows(files):
    return list(csv.DictReader(io.StringIO(files["csv"].decode())))


def test_figure3_shows_each_weight_with_the_other_one_at_one():
    shown = rows(figure3.render(*frames(weights()), ABOUT))
    front = [row for row in shown if row["series"] == "lambda_front"]
    rear = [row for row in shown if row["series"] == "lambda_rear"]
    assert [float(row["lambda_front"]) for row in front] == WEIGHTS
    assert [float(row["lambda_rear"]) for row in rear] == WEIGHTS
    assert {row["lambda_rear"] for row in front} == {row["lambda_front"] for row in rear} == {"1"}
    assert [float(row["mean"]) for row in front] == pytest.approx([59.5 + weight for weight in WEIGHTS])
    assert [float(row["mean"]) for row in rear] == pytest.approx([61 - weight / 2 for weight in WEIGHTS])
    assert float(front[0]["ci_high"]) - float(front[0]["mean"]) == pytest.approx(0.2 * HALF, rel=1e-3)
    (baseline,) = (row for row in shown if row["series"] == "baseline")
    assert float(baseline["mean"]) == pytest.approx(55)
    assert len(shown) == 1 + 2 * len(WEIGHTS)


def test_figure4_shows_a_line_and_a_baseline_a_network():
    shown = rows(figure4.render(*frames(epochs()), ABOUT))
    for index, network in enumerate(NETWORKS):
        line = [row for row in shown if (row["paper_eval_network"], row["series"]) == (network, "elf")]
        assert [int(row["teacher_epoch"]) for row in line] == EPOCHS
        assert [float(row["mean"]) for row in line] == pytest.approx([50 + 10 * index + e / 10 for e in EPOCHS])
    assert sum(row["series"] == "baseline" for row in shown) == len(NETWORKS)


def test_missing_points_are_absent_and_told():
    cells, results = frames(weights(missing=[(5, 1)]))
    shown = rows(figure3.render(cells, results, ABOUT))
    assert not any(row["series"] == "lambda_front" and row["lambda_front"] == "5" for row in shown)
    assert "Not run: λ front 5, λ rear 1." in figure3.caption(gather(cells, results), ABOUT)

    cells, results = frames(epochs(missing=[("vgg11-in", 5)]))
    assert len(rows(figure4.render(cells, results, ABOUT))) == len(NETWORKS) * (1 + len(EPOCHS)) - 1
    assert "Not run: VGG11-IN epoch 5." in figure4.caption(gather(cells, results), ABOUT)


def test_weights_on_neither_line_are_told():
    cells = gather(*frames([*weights(), (cell(objective="elf", lambda_front=2, lambda_rear=2), [0.5])]))
    assert "Not drawn, because neither weight is 1: λ front 2, λ rear 2." in figure3.caption(cells, ABOUT)


@pytest.mark.parametrize("figure", [figure3, figure4])
def test_captions_end_with_scale_and_stand_ins(figure):
    cells = gather(*frames(weights()))
    assert figure.caption(cells, ABOUT).endswith("Scale: smoke. CIFAR-10 is stood in for by digits.")


@pytest.mark.parametrize(("figure", "entries"), [(figure3, weights()), (figure4, epochs())])
def test_the_same_data_give_the_same_bytes_and_leave_the_style_alone(figure, entries):
    style = dict(matplotlib.rcParams)
    cells, results = frames(entries)
    first = figure.render(cells, results, ABOUT)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "another"}):
        second = figure.render(cells, results.sample(frac=1, random_state=1), ABOUT)
    assert first == second
    assert dict(matplotlib.rcParams) == style
    assert first["pdf"].startswith(b"%PDF") and first["png"].startswith(b"\x89PNG") and b"<svg" in first["svg"]


@pytest.mark.parametrize(("figure", "entries"), [(figure3, weights()), (figure4, epochs())])
def test_without_results_or_with_one_seed_a_figure_still_comes_out(figure, entries):
    empty = figure.render(*frames([(key, []) for key, _ in entries]), ABOUT)
    assert rows(empty) == [] and empty["png"].startswith(b"\x89PNG")
    single = rows(figure.render(*frames([(key, values[:1]) for key, values in entries]), ABOUT))
    assert {row["ci_low"] for row in single} == {""} and {row["n"] for row in single} == {"1"}


def test_a_title_is_text_and_never_a_formula():
    about = ABOUT | {"title": r"costs $5_{ & <b>", "stand_ins": r"$\undefined$"}
    svg = figure3.render(*frames(weights()), about)["svg"]
    assert b"<b>" not in svg
