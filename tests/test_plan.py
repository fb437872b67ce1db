"""What is left to do: states of files, schedules, speeds, and what is printed of them."""

import itertools
import json
import math
import os
import shutil

import pytest
import yaml
from conftest import PROJECT
from fabricated_runs import CLASSES, DEVICE, PER_CLASS, TESTED, configuration, finish, plan_of, states, write
from hypothesis import given
from hypothesis import strategies as st

from elf.artifacts.manifest import read_manifest
from elf.errors import ElfError
from elf.planning.calibration import Calibration, Speed, read_calibration, write_calibration
from elf.planning.fitting import Measurement, calibrate
from elf.planning.forecast import forecast
from elf.planning.measuring import measurements
from elf.planning.scheduling import chains, longest_chain, schedule
from elf.planning.sizes import sizes_of
from elf.planning.work import Sizes, Work
from elf.specs.dataset import DatasetSpec
from elf.specs.kinds import KINDS
from elf.stages.forecast import main
from elf.status.jobs import jobs_of, selected
from elf.status.states import CODE, DAMAGED, FOLLOWS, INPUT, MISSING, SETTINGS, states_of
from elf.study.plan import make_plan

pytest_plugins = ("workflow_copy",)

DATASET = "datasets/digits/images.safetensors"
DM = "synthetic/digits/dm-convnet-w2-d3-in-ipc10-seed0/images.safetensors"
SHARD = "evaluations/digits/dm-convnet-w2-d3-in-ipc10-seed0/resnet18-w1-in/task-lr0.01/seeds0-1.parquet"
TEACHER = "teachers/digits/convnet-w8-d3-in"


# Schedules


@st.composite
def graphs(draw, most=6):
    """Jobs with parents among those before them, and durations."""
    count = draw(st.integers(1, most))
    parents = {}
    for number in range(count):
        earlier = [f"job{other}" for other in range(number)]
        parents[f"job{number}"] = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
    return parents, {job: float(draw(st.integers(0, 5))) for job in parents}


def best_makespan(parents, durations, devices):
    """Try every order in which devices could take the jobs."""
    best = math.inf
    for order in itertools.permutations(parents):
        ends, free = {}, [0.0] * devices
        for job in order:
            if any(parent not in ends for parent in parents[job]):
                break
            start = max([min(free), *(ends[parent] for parent in parents[job])])
            free[free.index(min(free))] = ends[job] = start + durations[job]
        else:
            best = min(best, max(ends.values()))
    return best


@given(graphs(), st.integers(1, 3))
def test_a_schedule_is_valid_and_within_its_bound(graph, devices):
    parents, durations = graph
    found = schedule(parents, durations, devices)
    ends = {job: start + durations[job] for job, start in found.starts.items()}
    assert found.starts.keys() == parents.keys()
    assert found.makespan == max(ends.values())
    for job, needed in parents.items():
        assert all(ends[parent] <= found.starts[job] for parent in needed)
    for moment in found.starts.values():
        assert sum(start <= moment < ends[job] for job, start in found.starts.items()) <= devices
    chain = sum(durations[job] for job in longest_chain(parents, durations))
    best = best_makespan(parents, durations, devices)
    assert max(chain, sum(durations.values()) / devices) <= best + 1e-9
    assert best <= found.makespan + 1e-9
    assert found.makespan <= (2 - 1 / devices) * best + 1e-9


@given(graphs())
def test_one_device_takes_the_sum_and_many_take_the_longest_chain(graph):
    parents, durations = graph
    assert schedule(parents, durations, 1).makespan == sum(durations.values())
    chain = longest_chain(parents, durations)
    assert schedule(parents, durations, len(parents)).makespan == sum(durations[job] for job in chain)
    assert all(earlier in parents[later] for earlier, later in itertools.pairwise(chain))
    assert max(chains(parents, durations).values()) == sum(durations[job] for job in chain)


def test_the_longest_chain_goes_first():
    parents = {"a": [], "b": [], "c": [], "d": ["c"]}
    found = schedule(parents, {"a": 2.0, "b": 2.0, "c": 1.0, "d": 3.0}, 2)
    assert found.starts == {"c": 0.0, "a": 0.0, "d": 1.0, "b": 2.0}
    assert found.makespan == 4.0


# States


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    configuration(folder)
    finish(plan_of(folder))
    return folder


@pytest.fixture
def folder(finished_folder, tmp_path):
    """A folder with configuration and results that a test may change; younger files stay younger."""
    target = tmp_path / "copy"
    shutil.copytree(finished_folder, target)
    return target


def to_do(plan) -> dict[str, dict[str, tuple]]:
    """Return the reasons of all jobs that are to do, by their causes."""
    return {
        path: {reason.cause: reason.details for reason in state.reasons}
        for path, state in states(plan).items()
        if state.reasons
    }


def behind(plan, *paths) -> set[str]:
    """Return the files that are made from these, in any number of steps; a training serves its checkpoints alone."""
    jobs, found = jobs_of(plan), set(paths)
    for path, job in jobs.items():
        parents = job.inputs.values() if job.kind == "teacher checkpoints" else job.parents
        if found & set(parents):
            found.add(path)
    return found


def test_nothing_is_left_after_everything_was_made(folder):
    assert to_do(plan_of(folder)) == {}


def test_without_results_everything_is_missing(tmp_path):
    configuration(tmp_path)
    plan = plan_of(tmp_path)
    assert {state.first for state in states(plan).values()} == {MISSING}


CHAIN = (DM, SHARD, "collected/table05.parquet", "tables/table05.md")
"""Files that are made from each other."""


def lose(results) -> None:
    for path in CHAIN:
        (results / path).unlink()


def test_a_missing_file_is_made_for_what_needs_it(folder):
    plan = plan_of(folder)
    for path in CHAIN[:-1]:
        (plan.folder / path).unlink()
        assert to_do(plan) == {}
    (plan.folder / CHAIN[-1]).unlink()
    found = to_do(plan)
    assert found.keys() == behind(plan, DM)
    assert found[DM] == {MISSING: ()}
    assert found[SHARD] == {MISSING: (), FOLLOWS: ("synthetic sets",)}


def test_changed_settings_are_named(folder):
    file = folder / "config" / "scales" / "tiny.yaml"
    file.write_text(file.read_text().replace("dm: {iterations: 2,", "dm: {iterations: 3,"))
    plan = plan_of(folder)
    found = to_do(plan)
    assert found.keys() == behind(plan, DM)
    assert found[DM] == {SETTINGS: ("recipe.iterations",)}


def test_changed_code_is_named(folder):
    plan = plan_of(folder)
    job = jobs_of(plan)[SHARD]
    code = read_manifest(plan.folder / SHARD)["code"]
    write(plan, job, code={name: digest for name, digest in code.items() if name != "accuracy"} | {"gone": "1"})
    assert to_do(plan)[SHARD] == {CODE: ("accuracy", "gone")}


def test_another_state_of_an_input_is_named(folder):
    plan = plan_of(folder)
    write(plan, jobs_of(plan)[DM], content=1.0)
    found = to_do(plan)
    assert found[SHARD] == {INPUT: ("synthetic set",)}
    assert DM not in found
    assert found.keys() == behind(plan, DM) - {DM}


def test_a_damaged_file_is_named(folder):
    plan = plan_of(folder)
    file = plan.folder / DM
    file.write_bytes(file.read_bytes().replace(b"made up", b"made UP"))
    ((cause, (text,)),) = to_do(plan)[DM].items()
    assert cause == DAMAGED
    assert str(file) in text
    assert "its manifest does not fit its seal" in text


def test_a_new_epoch_needs_the_training_but_no_other_checkpoint(folder):
    file = folder / "config" / "scales" / "tiny.yaml"
    file.write_text(file.read_text().replace("teacher_epoch: [1, 2]", "teacher_epoch: [1, 2, 3]"))
    found = to_do(plan_of(folder))
    assert found[f"{TEACHER}/training.safetensors"] == {SETTINGS: ("epochs",)}
    assert found[f"{TEACHER}/epoch3.safetensors"] == {MISSING: ()}
    assert f"{TEACHER}/epoch1.safetensors" not in found
    assert SHARD not in found


def test_a_training_whose_checkpoints_are_there_may_be_gone(folder):
    plan = plan_of(folder)
    (plan.folder / TEACHER / "training.safetensors").unlink()
    assert to_do(plan) == {}
    checkpoint = f"{TEACHER}/epoch2.safetensors"
    (plan.folder / checkpoint).unlink()
    assert to_do(plan) == {}
    alone = states_of(selected(plan, jobs_of(plan), [checkpoint]), plan.folder, plan.folder / "no images")
    assert alone[f"{TEACHER}/training.safetensors"].first == alone[checkpoint].first == MISSING


def test_each_file_of_a_drawing_counts(folder):
    plan = plan_of(folder)
    (plan.folder / "datasets/digits/card.json").unlink()
    assert to_do(plan) == {}
    (plan.folder / "figures/figure3.svg").unlink()
    assert to_do(plan).keys() == {"figures/figure3.pdf", "report/index.html"}


def test_drawings_are_as_old_as_what_they_show(folder):
    plan = plan_of(folder)
    collected = plan.folder / "collected" / "table05.parquet"
    os.utime(collected, (collected.stat().st_mtime + 100,) * 2)
    assert to_do(plan) == {"tables/table05.md": {INPUT: ("what it shows",)}}


def test_results_of_other_evaluations_are_collected_again(folder):
    file = folder / "config" / "scales" / "tiny.yaml"
    file.write_text(
        file.read_text().replace(
            "elf: {method: [dm], eval_network: [resnet18-in], teacher_epoch: [1, 2]",
            "elf: {method: [dm], eval_network: [resnet18-in], teacher_epoch: [1]",
        )
    )
    found = to_do(plan_of(folder))
    assert found["collected/figure4.parquet"] == {INPUT: ("what it shows",)}
    assert found.keys() == {
        "collected/figure4.parquet",
        "figures/figure4.pdf",
        *behind(plan_of(folder), "results.parquet"),
    }


def test_targets(folder):
    plan = plan_of(folder)
    jobs = jobs_of(plan)
    assert selected(plan, jobs, []) == selected(plan, jobs, ["all"]) == jobs
    assert selected(plan, jobs, [DATASET]).keys() == {DATASET}
    table = selected(plan, jobs, ["table01"])
    assert table == selected(plan, jobs, ["tables/table01.tex"])
    assert {"tables/table01.md", "collected/table01.parquet", DATASET} <= table.keys()
    assert "tables/table05.md" not in table
    assert {"figures/figure3.pdf", "figures/figure4.pdf"} <= selected(plan, jobs, ["all_figures"]).keys()
    experts = selected(plan, jobs, [f"{plan.folder}/experts/"])
    assert {job.kind for job in experts.values()} == {"datasets", "experts"}
    with pytest.raises(ElfError, match="'table99' is no target of the scale tiny; allowed: table01, table05"):
        selected(plan, jobs, ["table99"])


def test_jobs_come_after_their_parents_at_every_scale():
    for scale in ("smoke", "laptop", "paper"):
        jobs = jobs_of(make_plan(PROJECT / "config", scale, PROJECT / "results"))
        seen = set()
        for path, job in jobs.items():
            assert job.kind in KINDS
            assert seen >= set(job.parents), path
            seen.add(path)


def test_a_fresh_plan_is_that_of_snakemake(fresh):
    jobs = fresh.planned_by_elf()
    assert jobs == fresh.planned()
    assert len(jobs) > 30


# Speeds

TRUTH = Speed(start_seconds=4.0, flops_per_second=1e10, seconds_per_value=1e-7, seconds_per_call=1e-3)
STAGES = {"train-expert": 1.0, "train-teacher": 1.0, "evaluate": 2.0, "distill/dm": 0.5}


def made_up(noise=0.0):
    """Jobs of several stages, each with its own factor on the time beyond the start."""
    for stage, factor in STAGES.items():
        for number in range(1, 9):
            work = Work(2e10 * number**2, 1e7 * (9 - number), 1e3 * (number % 4 + 1))
            seconds = TRUTH.start_seconds + factor * (TRUTH.seconds(work) - TRUTH.start_seconds)
            yield Measurement(stage, "gpu", work, seconds * (1 + noise * (-1) ** number))


def test_speeds_are_found_again():
    plain = [measurement for measurement in made_up() if STAGES[measurement.stage] == 1.0]
    found = calibrate(plain)
    for name in ("start_seconds", "flops_per_second", "seconds_per_value", "seconds_per_call"):
        assert getattr(found.stages["any"], name) == pytest.approx(getattr(TRUTH, name), rel=1e-6)
    assert found.fit.median_error < 1e-6
    assert found.fit.factor_of_repeats is None


def test_a_stage_is_as_much_slower_as_its_jobs_were():
    found = calibrate(made_up(noise=0.1))
    work = Work(1e12, 1e8, 1e4)
    reference = found.seconds("train-expert", work)
    assert found.seconds("evaluate", work) / reference == pytest.approx(2.0, rel=0.2)
    assert found.seconds("distill/dm", work) / reference == pytest.approx(0.5, rel=0.2)
    assert 0.0 < found.fit.median_error < 0.5


def test_repeated_jobs_say_how_far_an_estimate_can_go():
    repeated = [Measurement("evaluate", "gpu", Work(1e12), 50 * factor) for factor in (0.8, 1.25)]
    expected = math.exp(math.sqrt(2) * math.log(1.25))
    assert calibrate([*made_up(), *repeated]).fit.factor_of_repeats == pytest.approx(expected)


def test_a_stage_that_was_not_measured_has_the_speed_of_all():
    found = calibrate(made_up())
    assert found.seconds("distill/mtt", Work(1e12)) == found.seconds("any", Work(1e12))
    assert found.seconds("prepare-dataset", Work(1e12)) is None
    assert found.seconds(None, Work()) == 0.0


def test_the_device_of_most_jobs_is_calibrated():
    other = Measurement("evaluate", "another", Work(1.0), 1e9)
    assert calibrate([other, *made_up()]) == calibrate(made_up())
    with pytest.raises(ElfError, match="no finished job"):
        calibrate([])


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "speeds.yaml"
    calibration = calibrate(made_up())
    write_calibration(file, calibration)
    read = read_calibration(file)
    assert read.device == "gpu"
    assert read.seconds("evaluate", Work(1e12)) == pytest.approx(calibration.seconds("evaluate", Work(1e12)), rel=1e-3)
    file.write_text("device: mine\nstages: {any: {start_seconds: 10, flops_per_second: 0}}")
    with pytest.raises(ElfError, match=r"speeds.yaml: stages.any.flops_per_second: found 0: "):
        read_calibration(file)


def test_the_document_shows_a_calibration_that_can_be_read(tmp_path):
    text = (PROJECT / "docs" / "planning.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "speeds.yaml").write_text(text)
    assert read_calibration(tmp_path / "speeds.yaml").seconds("distill/mtt", Work(5e12)) == 11.0


def test_finished_jobs_are_measured(folder):
    plan = plan_of(folder)
    benchmark = folder / "timings" / "tiny" / "evaluate" / SHARD.removeprefix("evaluations/")
    benchmark.with_suffix(".jsonl").parent.mkdir(parents=True)
    benchmark.with_suffix(".jsonl").write_text(json.dumps({"s": 7.5}) + "\n")
    found = list(measurements(plan.folder, folder / "timings" / "tiny"))
    assert {measurement.device for measurement in found} == {DEVICE}
    assert sorted({measurement.seconds for measurement in found}) == [2.0, 7.5]
    jobs = jobs_of(plan)
    kinds = [job.kind for job in jobs.values()]
    measured = ("datasets", "experts", "synthetic sets", "teacher trainings", "features", "evaluations")
    assert len(found) == sum(kinds.count(kind) for kind in measured)


# Forecasts


def test_sizes_of_datasets(folder):
    plan = plan_of(folder)
    spec = plan.grid.datasets["datasets/digits"]
    manifest = read_manifest(plan.folder / DATASET)
    prepared = Sizes(CLASSES, CLASSES * PER_CLASS, CLASSES * TESTED, 32)
    assert sizes_of(spec, plan.folder / DATASET, manifest) == sizes_of(spec, plan.folder / DATASET, None) == prepared
    known = {"source": "folder", "location": "x", "side": 64, "normalisation": "imagenet"}
    assert sizes_of(DatasetSpec(name="imagenet-1k", **known), plan.folder, None) == Sizes(1000, 1_281_167, 50_000, 64)
    assert sizes_of(DatasetSpec(name="cifar10-frepo", **known), plan.folder, None).train == 50_000
    assert sizes_of(DatasetSpec(name="flowers", **known), plan.folder, None) is None


CALIBRATION = Calibration(
    device="gpu", stages={name: Speed(start_seconds=1.0, flops_per_second=1e12) for name in ("any", "prepare-dataset")}
)


def forecast_of(plan, targets=(), calibration=CALIBRATION, devices=(1, 2)):
    jobs = selected(plan, jobs_of(plan), targets)
    return forecast(plan, jobs, states_of(jobs, plan.folder, plan.folder / "no images"), calibration, devices)


def test_a_forecast_of_everything(tmp_path):
    configuration(tmp_path)
    plan = plan_of(tmp_path)
    found = forecast_of(plan)
    kinds = {kind.name: kind for kind in found.kinds}
    assert list(kinds) == list(dict.fromkeys(kind.group for kind in KINDS.values()))
    assert kinds["experts"].jobs == kinds["experts"].missing == 2
    assert kinds["experts"].seconds == pytest.approx(2.0 + kinds["experts"].flops / 1e12)
    assert kinds["experts"].bytes == kinds["experts"].bytes_to_come > 0
    assert kinds["teacher checkpoints"].seconds == 0.0
    assert found.makespans[1] == pytest.approx(found.seconds)
    assert found.makespans[2] >= max(found.seconds / 2, sum(seconds for _, seconds in found.chain))
    assert found.chain[0][0] == DATASET
    assert not any(kind.uncounted or kind.unknown for kind in found.kinds)


def test_a_forecast_counts_what_is_left(folder):
    file = folder / "config" / "scales" / "tiny.yaml"
    file.write_text(file.read_text().replace("dm: {iterations: 2,", "dm: {iterations: 3,"))
    plan = plan_of(folder)
    (plan.folder / SHARD).unlink()
    found = forecast_of(plan)
    kinds = {kind.name: kind for kind in found.kinds}
    sets, shards = kinds["synthetic sets"], kinds["evaluations"]
    assert (sets.stale, sets.done, sets.follows) == (1, sets.jobs - 1, 0)
    assert (shards.missing, shards.stale) == (1, 0)
    assert shards.follows + shards.done + 1 == shards.jobs
    assert found.reasons == {(SETTINGS, "recipe.iterations"): {"synthetic sets": 1}}
    assert kinds["experts"].seconds == 0.0


def test_what_cannot_be_counted_is_said(folder):
    plan = plan_of(folder)
    lose(plan.folder)
    without = Calibration(device="gpu", stages={"evaluate": CALIBRATION.stages["any"]})
    kinds = {kind.name: kind for kind in forecast_of(plan, calibration=without).kinds}
    assert (kinds["synthetic sets"].unknown, kinds["synthetic sets"].uncounted) == (1, 0)
    assert kinds["evaluations"].unknown == 0


# The command


def printed(capsys, folder, *arguments) -> str:
    options = ["--config", str(folder / "config"), "--results-folder", str(folder / "results"), "--scale", "tiny"]
    main([*options, *map(str, arguments)])
    return capsys.readouterr().out


def test_without_finished_jobs_hours_are_not_estimated(tmp_path, capsys):
    configuration(tmp_path)
    text = printed(capsys, tmp_path)
    assert "Hours: cannot be estimated, because no job in" in " ".join(text.split())
    assert "busy" not in text
    assert all(len(line) <= 100 for line in text.splitlines())
    row = next(line for line in text.splitlines() if line.startswith("experts")).split()
    assert row[1:6] == ["2", "0", "2", "0", "0"]


def test_calibrating_and_planning(folder, capsys):
    file = folder / "speeds.yaml"
    assert f"{file}: {DEVICE}, from " in printed(capsys, folder, "--calibrate", file)
    assert yaml.safe_load(file.read_text())["device"] == DEVICE
    assert "Nothing is left to do." in printed(capsys, folder)
    lose(folder / "results" / "tiny")
    text = printed(capsys, folder, "table05", "--calibration", file, "--devices", "1", "3")
    assert "Longest chain: " in text
    assert [line.split()[0] for line in text.split("devices ")[1].splitlines()[1:3]] == ["1", "3"]
    assert text.startswith("Scale tiny, table05: ")


def test_a_wrong_number_of_devices(folder, capsys):
    with pytest.raises(SystemExit):
        printed(capsys, folder, "--devices", "0")
    assert "found '0', allowed are 1 and more" in capsys.readouterr().err


def test_planning_the_paper_is_fast_and_without_torch(run_python):
    code = (
        "import sys, time; from elf.stages.forecast import main; started = time.process_time(); "
        "main(['--scale', 'paper']); assert 'torch' not in sys.modules; assert time.process_time() - started < 10"
    )
    ended = run_python("-c", code)
    assert ended.returncode == 0, ended.stderr
    assert "experts" in ended.stdout
