"""The simulated cluster against a clock that ticks, sizes of checkpoints against real ones, and the page's tables."""

import itertools
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cluster import CPU, DEVICE, HERE, Cluster, Submissions, contracted, grouped, simulate
from benchmarks.peaks import busiest, largest_at_once
from benchmarks.resuming import resume_bytes
from elf.planning.calibration import read_calibration
from elf.planning.costs import Surroundings
from elf.planning.priorities import priorities
from elf.planning.sizes import HEADER
from elf.planning.work import Sizes
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.expert import ExpertRecipe, ExpertSpec
from elf.specs.kinds import KINDS
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import TrainingRecipe
from elf.status.jobs import Job, jobs_of
from elf.study.plan import make_plan

BENCHMARKS = PROJECT / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """The scripts' own modules, which are no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import scaling_document
        import scaling_jobs
        import scaling_memory

        yield SimpleNamespace(document=scaling_document, jobs=scaling_jobs, memory=scaling_memory)
    for name in [name for name in sys.modules if name.startswith("scaling_")]:
        del sys.modules[name]


# A cluster, second by second


@st.composite
def workloads(draw, most=9):
    """Jobs with parents among those before them; some share their work, some need no device."""
    count = draw(st.integers(1, most))
    names = [f"job{number}" for number in range(count)]
    parents = {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=2)) if number else []
        for number, name in enumerate(names)
    }
    places = {name: draw(st.sampled_from([DEVICE, DEVICE, DEVICE, CPU, HERE])) for name in names}
    shared = [name for name in names if places[name] == DEVICE and not parents[name]][: draw(st.integers(0, 3))]
    length = draw(st.integers(0, 6))
    durations = {name: float(length if name in shared else draw(st.integers(0, 9))) for name in names}
    priority = {name: draw(st.integers(0, 2)) for name in names}
    return Submissions(parents, durations, priority, places, dict.fromkeys(shared, "work"))


clusters = st.builds(
    Cluster,
    devices=st.integers(1, 3),
    in_flight=st.integers(1, 4),
    start_seconds=st.integers(0, 2).map(float),
    submission_seconds=st.integers(0, 2).map(float),
    first_interval=st.integers(1, 3).map(float),
    interval_step=st.integers(0, 3).map(float),
    longest_interval=st.integers(3, 6).map(float),
)


class Ticking:
    """A cluster whose clock ticks by seconds; at each tick everything is looked at anew, without queues of events."""

    def __init__(self, work, cluster):
        self.work, self.cluster, self.now = work, cluster, 0
        self.submitted, self.arrived, self.starts, self.ends, self.known = {}, [], {}, {}, set()
        self.interval, self.asks_at = cluster.first_interval, cluster.first_interval
        self.submit()

    def place(self, job):
        return self.work.places.get(job, DEVICE)

    def running(self, *places):
        return [job for job in self.starts if self.place(job) in places and job not in self.gone]

    gone = frozenset()

    def start(self, job, wait):
        begin = self.now + wait
        partners = [other for other in self.starts if other in self.work.shared] if job in self.work.shared else []
        alone = begin + self.work.durations[job]
        self.ends[job] = max(begin, self.ends[partners[0]]) if partners else alone
        self.starts[job] = self.now

    def submit(self):
        order = list(self.work.parents)
        waiting = [job for job in order if job not in self.submitted and job not in self.starts]
        ready = [job for job in waiting if all(parent in self.known for parent in self.work.parents[job])]
        for job in sorted(ready, key=lambda job: (-self.work.priority[job], order.index(job))):
            in_flight = sum(other not in self.known for other in self.submitted)
            if self.place(job) == HERE:
                self.start(job, 0)
            elif in_flight < self.cluster.in_flight:
                before = max([self.now, *self.submitted.values()])
                self.submitted[job] = before + self.cluster.submission_seconds

    def happens(self):
        """Let one thing happen at this second; return whether there was one."""
        order = list(self.work.parents)
        for job in order:
            if job in self.ends and self.ends[job] <= self.now and job not in self.gone:
                self.gone |= {job}
                if self.place(job) == HERE:
                    self.known.add(job)
                    self.submit()
                self.fill()
                return True
        for job in order:
            if job in self.submitted and self.submitted[job] <= self.now and job not in self.arrived:
                self.arrived.append(job)
                if self.place(job) == CPU:
                    self.start(job, self.cluster.start_seconds)
                self.fill()
                return True
        if self.asks_at <= self.now:
            self.ask()
            return True
        return False

    def fill(self):
        for job in self.arrived:
            if job not in self.starts and len(self.running(DEVICE)) < self.cluster.devices:
                self.start(job, self.cluster.start_seconds)

    def ask(self):
        found = {job for job in self.gone if job in self.submitted} - self.known
        idle = not set(self.submitted) - self.known
        longer = min(self.interval + self.cluster.interval_step, self.cluster.longest_interval)
        self.interval = self.cluster.first_interval if found or idle else longer
        self.known |= found
        if found:
            self.submit()
        self.asks_at = self.now + self.interval

    def run(self):
        while True:
            while self.happens():
                if len(self.known) == len(self.work.parents):
                    return
            self.now += 1


@settings(max_examples=300)
@given(workloads(), clusters)
def test_events_are_those_of_a_ticking_clock(work, cluster):
    found, ticking = simulate(work, cluster), Ticking(work, cluster)
    ticking.run()
    assert (found.submitted, found.starts, found.ends) == (ticking.submitted, ticking.starts, ticking.ends)
    assert found.makespan == ticking.now


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 9), st.integers(0, 3))
def test_equal_jobs_run_in_rounds(count, devices, duration, start):
    jobs = [f"job{number}" for number in range(count)]
    work = Submissions({job: [] for job in jobs}, dict.fromkeys(jobs, float(duration)), dict.fromkeys(jobs, 0))
    cluster = Cluster(devices, in_flight=count, start_seconds=start, first_interval=1.0, interval_step=0.0)
    assert simulate(work, cluster).makespan == math.ceil(count / devices) * (duration + start)


@given(st.integers(0, 2000), st.integers(1, 40))
def test_a_job_is_known_to_have_ended_at_the_next_look(duration, first):
    intervals = itertools.chain([first], (min(first + 10 * look, 180) for look in itertools.count(1)))
    look = next(moment for moment in itertools.accumulate(intervals) if moment >= duration)
    found = simulate(
        Submissions({"job": []}, {"job": float(duration)}, {"job": 0}), Cluster(1, 1, first_interval=first)
    )
    assert (found.ends["job"], found.makespan) == (duration, look)


def test_one_job_in_flight_uses_one_device():
    jobs = ["a", "b", "c"]
    work = Submissions({job: [] for job in jobs}, dict.fromkeys(jobs, 4.0), {"a": 0, "b": 2, "c": 1})
    found = simulate(work, Cluster(8, in_flight=1, first_interval=1.0, interval_step=0.0))
    assert sorted(found.starts, key=found.starts.get) == ["b", "c", "a"]
    assert found.makespan == 12.0


def test_checkpoints_of_a_teacher_hold_their_devices_until_it_is_trained():
    jobs = ["epoch10", "epoch20", "epoch30"]
    work = Submissions(
        {job: [] for job in jobs}, dict.fromkeys(jobs, 100.0), dict.fromkeys(jobs, 0), shared=dict.fromkeys(jobs, "t")
    )
    many = simulate(work, Cluster(3, 3, start_seconds=5.0, submission_seconds=1.0))
    assert set(many.ends.values()) == {106.0}
    # The third finds the training finished.
    few = simulate(work, Cluster(2, 3, start_seconds=5.0))
    assert few.ends == {"epoch10": 105.0, "epoch20": 105.0, "epoch30": 110.0}


# Groups


@given(workloads(most=9), st.integers(1, 4), st.data())
def test_groups_hold_each_job_once_after_what_it_waits_for(work, size, data):
    # As in the grid, what is grouped waits for nothing of its group and is waited for by what is not grouped.
    inner = {parent for needed in work.parents.values() for parent in needed}
    groups = {job: data.draw(st.sampled_from("ab")) for job in work.parents if job not in inner}
    members = grouped(work.parents, groups, {"a": size, "b": 2})
    assert sorted(itertools.chain(*members.values())) == sorted(work.parents)
    parents = contracted(work.parents, members)
    seen: set[str] = set()
    for name, jobs in members.items():
        assert {groups.get(job) for job in jobs} == {groups.get(name)} and name == jobs[0]
        assert len(jobs) <= {"a": size, "b": 2, None: 1}[groups.get(name)]
        assert {*itertools.chain(*(work.parents[job] for job in jobs))} <= seen
        assert {*itertools.chain(*(members[parent] for parent in parents[name]))} <= seen
        seen |= set(jobs)
    for group, most in (("a", size), ("b", 2)):
        own = sum(of == group for of in groups.values())
        assert sum(groups.get(name) == group for name in members) == math.ceil(own / most)


# The busiest moments


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 10))
def test_the_busiest_stretch(moments, seconds):
    expected = max((sum(first <= moment < first + seconds for moment in moments) for first in moments), default=0)
    assert busiest(moments, seconds) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5)), max_size=8))
def test_the_largest_sum_at_once(raw):
    intervals = [(start, start + length, amount) for start, length, amount in raw]
    expected = max(
        (sum(amount for start, end, amount in intervals if start <= now < end) for now in range(20)), default=0
    )
    assert largest_at_once(intervals) == expected


# Checkpoints


class Recorder:
    """Takes a checkpoint at every occasion and keeps how large the last one was."""

    def load(self):
        return None

    def save_if_due(self, make_state):
        # States of random streams are left out of the closed forms.
        random = ("stream.", "order_generator", "augmentation_generator", "dropout")
        self.bytes = sum(t.numel() * t.element_size() for key, t in make_state().items() if not key.startswith(random))


SIZES = Sizes(classes=3, train=18, test=6, side=16)
RECIPE = {"epochs": 3, "final_pass": False, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 9}
RECIPE |= {"lr_drop": False, "augmentation": "none"}


def images():
    import torch

    from elf.distillation.shared.synthetic import RealImages

    generator = torch.Generator().manual_seed(0)
    return RealImages(torch.randn(18, 3, 16, 16, generator=generator), torch.arange(3).repeat(6), 3)


def expected(kind, spec, **others):
    return resume_bytes(Job("job", kind, spec, **others), Surroundings({"digits": SIZES}, {}))


def test_checkpoints_of_trainings():
    from elf.stages.train_expert import train_expert
    from elf.stages.train_teacher import train_teacher

    real, network, recorder = images(), "convnet-w16-d2-bn", Recorder()
    expert = ExpertSpec(
        dataset="digits", network=network, index=0, epochs=(0, 1, 3), recipe=ExpertRecipe(**RECIPE, storage="float32")
    )
    train_expert(expert, real.images, real.labels, 3, recorder)
    assert recorder.bytes == pytest.approx(expected("experts", expert) - 2 * HEADER, abs=100)
    teacher = TeacherSpec(dataset="digits", network=network, seed=0, recipe=TrainingRecipe(**RECIPE))
    split = SimpleNamespace(images=real.images, labels=real.labels, classes=3, side=16)
    train_teacher(teacher, split, split, [1, 3], recorder)
    assert recorder.bytes == pytest.approx(expected("teacher trainings", teacher, epochs=(1, 3)) - HEADER, abs=100)


def test_a_checkpoint_of_an_evaluation():
    import torch

    from elf.networks.building import build_network
    from elf.objectives import task
    from elf.training.protocol import train

    real, recorder, recipe = images(), Recorder(), TrainingRecipe(**RECIPE)
    network = build_network("resnet18-w4-bn", classes=3, side=16, generator=torch.Generator().manual_seed(0))
    streams = [torch.Generator().manual_seed(seed) for seed in range(2)]
    train(
        network,
        real.images,
        real.labels,
        recipe,
        objective=task.loss,
        order_generator=streams[0],
        augmentation_generator=streams[1],
        checkpoint=recorder,
    )
    spec = EvaluationSpec(
        dataset="digits",
        synthetic_set="set",
        network="resnet18-w4-bn",
        objective=Objective(name="task"),
        teacher_network=None,
        teacher_epoch=None,
        recipe=recipe,
        seeds=(0,),
    )
    assert recorder.bytes == pytest.approx(expected("evaluations", spec) - HEADER, abs=100)


@pytest.mark.parametrize(
    "module, network, recipe",
    [
        ("dm", "convnet-w16-d2-in", {"iterations": 1, "lr": 1.0, "batch_real": 6}),
        (
            "dsa",
            "convnet-w16-d2-bn",
            {"iterations": 1, "outer_loop": 2, "inner_loop": 1, "lr": 0.1, "lr_network": 0.01, "distance": "ours"}
            | {"batch_real": 5, "batch_inner": 4, "bn_real": 3},
        ),
        (
            "frepo",
            "frepoconv-w4-bn",
            {"iterations": 2, "lr": 0.01, "lr_final_fraction": 0.1, "batch_real": 8, "ridge": 1e-6, "mirror": True}
            | {"precision": "float64", "pool_size": 3, "online_steps": 21, "lr_network": 0.01, "batch_online": 4},
        ),
    ],
)
def test_checkpoints_of_methods(module, network, recipe):
    import importlib

    recipe |= {"momentum": 0.5, "augmentation": "none", "align_corners": False}
    spec = SyntheticSpec(dataset="digits", method=module, module=module, network=network, ipc=4, seed=0, recipe=recipe)
    recorder = Recorder()
    importlib.import_module(f"elf.distillation.{module}").distill(
        images(), settings=recipe, ipc=4, network=network, seed=0, progress=lambda *_: None, checkpoint=recorder
    )
    # With images and their momenta, the header and the labels of a set's file are counted each time.
    headers = (3 if module == "frepo" else 2) * HEADER
    assert recorder.bytes == pytest.approx(expected("synthetic sets", spec) - headers, abs=300)


def test_jobs_without_checkpoints_have_none():
    assert expected("features", None) == 0
    coreset = SyntheticSpec(dataset="digits", method="random", module="random", network=None, ipc=1, seed=0, recipe={})
    assert expected("synthetic sets", coreset) == 0


# What the page says


def test_tables_of_the_page_are_those_of_its_files(benchmarks):
    text = (PROJECT / "docs/scaling.md").read_text(encoding="utf-8")
    assert benchmarks.document.filled(text, PROJECT / "docs/results/scaling") == text
    for name in benchmarks.document.BLOCKS:
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


def test_the_speeds_are_called_assumed():
    calibration = read_calibration(BENCHMARKS / "assumed_gpu.yaml")
    assert calibration.fit is None and "ASSUMED" in calibration.device
    assert all(speed.jobs == 0 for speed in calibration.stages.values())


def test_every_rule_that_computes_has_the_priority_of_its_job():
    """By the paths in the rules: a path that no job has would be a job that always comes last."""
    plan = make_plan(PROJECT / "config", "smoke", Path("results"))
    found = priorities(plan)
    kinds = {path: job.kind for path, job in jobs_of(plan).items()}
    asked = set()
    for file in (PROJECT / "rules").glob("*.smk"):
        for path in re.findall(r'priority: priority_of\("(.*)"\)$', file.read_text(encoding="utf-8"), re.MULTILINE):
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
            asked |= {job for job in found if re.fullmatch(pattern, job)}
    computing = {kind.name for kind in KINDS.values() if kind.rule is not None and kind.spec is not None}
    assert {kinds[job] for job in asked} == computing
    assert asked == {job for job in found if kinds[job] in computing}
    assert all(found[job] > 0 for job in asked)


def test_a_job_comes_before_those_behind_it():
    plan = make_plan(PROJECT / "config", "paper", Path("results"))
    found = priorities(plan)
    for path, job in jobs_of(plan).items():
        for parent in job.parents:
            assert found[parent] >= found[path], (parent, path)
    # The widest network on the largest dataset.
    first = max((path for path in found if path.startswith("teachers/")), key=found.get)
    assert "imagenet-1k/convnet-w512" in first


def test_unrolled_memory_is_the_measured_one_where_it_was_measured(benchmarks):
    memory = benchmarks.memory
    spec = SyntheticSpec(
        dataset="cifar10",
        method="mtt",
        module="mtt",
        network=memory.MEASURED["network"],
        ipc=10,
        seed=0,
        recipe={"gradient": "unrolled", "batch_syn": 0, "synthetic_steps": 40},
    )
    around = Surroundings({"cifar10": Sizes(10, 50_000, 10_000, 32)}, {})
    paper = SimpleNamespace(jobs={"set": Job("set", "synthetic sets", spec)}, around=around)
    found = memory.unrolled(paper, PROJECT / "docs/results/unroll_memory/memory.csv")
    assert found["gigabytes"].item() == pytest.approx(13381 * 2**20 / 1e9, rel=0.1)


def test_files_of_the_paper_have_names_of_their_own(benchmarks):
    paper = benchmarks.jobs.read_paper(PROJECT / "config")
    files = list(itertools.chain(*(paper.files(path) for path in paper.jobs)))
    assert len(files) == len(set(files))
    table = paper.files("tables/table05.md")
    assert [file for file in table if file.startswith("results/")] == [
        f"results/paper/tables/table05.{ending}" for ending in ("md", "tex", "csv", "html")
    ]
