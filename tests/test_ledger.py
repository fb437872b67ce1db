"""What a job has spent is summed over its attempts, as far as they led to its result."""

import importlib

import pyarrow.parquet as pq
import pytest
import torch
from helpers import Killed
from hypothesis import given
from hypothesis import strategies as st
from small_jobs import EXPERT_EPOCHS, EXPERTS, NETWORK, TEACHER_EPOCHS, SmallJobs

from elf.artifacts.checkpoints import Checkpoint
from elf.artifacts.ledger import Ledger, Spent, peak_resident_bytes
from elf.artifacts.manifest import read_manifest
from elf.cli import main

pytestmark = pytest.mark.usefixtures("small_process")

THREADS = 3
"""CPU seconds a wall second on the clock of these tests."""


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def process_time(self) -> float:
        return 10.0 + THREADS * self.seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    monkeypatch.setattr("time.process_time", clock.process_time)
    return clock


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(3.0), "step": torch.tensor(7)}


@pytest.mark.parametrize("on_gpu", [False, True])
def test_attempts_are_summed_up_to_the_checkpoints_that_they_left(tmp_path, clock, on_gpu):
    device = 1 if on_gpu else THREADS

    def attempt(peak: int) -> tuple[Ledger, Checkpoint]:
        ledger = Ledger(on_gpu=on_gpu, peak_memory=lambda: peak)
        return ledger, Checkpoint(tmp_path / "job", "key", ledgers=[ledger])

    ledger, checkpoint = attempt(50)
    assert checkpoint.load() is None
    clock.seconds += 5
    checkpoint.save_now(state)
    clock.seconds += 100  # Killed here: lost.

    ledger, checkpoint = attempt(20)
    clock.seconds += 2
    assert checkpoint.load().keys() == state().keys()
    clock.seconds += 4
    # Loading the same file again adds nothing.
    checkpoint.load()
    assert ledger.spent() == Spent(5 + 6, (5 + 6) * device, 50)
    checkpoint.save_now(state)
    clock.seconds += 100

    ledger, checkpoint = attempt(70)
    checkpoint.load()
    clock.seconds += 3
    assert ledger.spent() == Spent(5 + 6 + 3, (5 + 6 + 3) * device, 70)


def test_of_several_checkpoints_the_one_that_holds_the_most_counts(tmp_path, clock):
    """As of an evaluation: a file a seed, each saved with what the whole job had spent."""
    ledger = Ledger()
    for seed in range(3):
        clock.seconds += 10
        Checkpoint(tmp_path / f"seed{seed}", "key", ledgers=[ledger]).save_now(state)
    again = Ledger()
    for seed in (0, 2, 1):
        Checkpoint(tmp_path / f"seed{seed}", "key", ledgers=[again]).load()
    clock.seconds += 1
    assert again.spent().wall_seconds == 31


def test_what_was_spent_is_no_part_of_the_state(tmp_path, clock):
    """A job continues from the same tensors, whatever its earlier attempts have cost, or did not say."""
    for ledgers in ([], [Ledger()], [Ledger(), Ledger()]):
        clock.seconds += 10
        Checkpoint(tmp_path / "job", "key", ledgers=ledgers).save_now(state)
        for readers in ([], [Ledger()], [Ledger(), Ledger()]):
            loaded = Checkpoint(tmp_path / "job", "key", ledgers=readers).load()
            assert loaded.keys() == state().keys()
            assert all(torch.equal(loaded[name], tensor) for name, tensor in state().items())


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 2, st.integers(0, 2**50)), min_size=1))
def test_sums_of_what_was_spent(parts):
    total = sum((Spent(*part) for part in parts), Spent())
    wall, device, memory = zip(*parts, strict=True)
    assert total.wall_seconds == pytest.approx(sum(wall)) and total.device_seconds == pytest.approx(sum(device))
    assert total.peak_memory_bytes == max(memory)


def test_memory_of_the_process_is_counted_in_bytes():
    # PyTorch alone takes more than 50 MB; no test needs 100 GB.
    assert 50e6 < peak_resident_bytes() < 100e9


# Whole jobs: a pass or an update takes a second, nothing else takes any time.

PASSES = 6
RECIPE = {"epochs": PASSES - 1, "final_pass": True, "batch_size": 20}
STAGES = {
    "distill": ("images.safetensors", 12),
    "train_expert": ("expert.safetensors", max(EXPERT_EPOCHS)),
    "train_teacher": ("training.safetensors", max(TEACHER_EPOCHS)),
    "evaluate": ("shard.parquet", 2 * PASSES),
}
"""The file that a stage makes, and its passes or updates."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> SmallJobs:
    jobs = SmallJobs(tmp_path_factory.mktemp("inputs"))
    jobs.make_inputs()
    return jobs


def command_of(jobs: SmallJobs, stage: str, out) -> list[str]:
    if stage == "distill":
        return jobs.distill(out, "dm", NETWORK, {"iterations": 11, "batch_real": 4})
    return jobs.evaluate(out, {"name": "task"}, RECIPE) if stage == "evaluate" else getattr(jobs, stage)(out)


def attempts(monkeypatch, clock: Clock, stage: str, command: list[str], killed_after: list[int]) -> None:
    """Run a stage to its end, after attempts that were killed after so many passes or updates."""
    module = importlib.import_module(f"elf.stages.{stage}")
    for limit in [*killed_after, None]:
        reports = 0

        def report(finished, total, loss, limit=limit) -> None:
            nonlocal reports
            reports += 1
            clock.seconds += 1
            if reports == limit:
                raise Killed

        monkeypatch.setattr(module, "reporter", lambda *_, **__: report)
        if limit is None:
            assert main(command) == 0
        else:
            with pytest.raises(Killed):
                module.main(command[1:])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kills", [0, 1, 2])
def test_a_continued_job_says_what_an_uninterrupted_one_says(jobs, clock, monkeypatch, tmp_path, stage, kills):
    """Each attempt dies in the second after that of a checkpoint: what it lost is one second, and is not counted."""
    name, seconds = STAGES[stage]
    out = tmp_path / name
    monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", "1")
    attempts(monkeypatch, clock, stage, command_of(jobs, stage, out), [2] * min(kills, seconds - 1))
    assert clock.seconds == seconds + min(kills, seconds - 1)
    measured = read_manifest(out)["measured"]
    assert measured["wall_seconds"] == seconds
    assert measured["device_seconds"] == THREADS * seconds
    assert measured["images_per_second"] == pytest.approx(measured["images"] / seconds, abs=1e-3)


@pytest.mark.parametrize("killed_after", [[], [3], [PASSES + 4], [2, PASSES]])
def test_training_seconds_of_a_seed_are_those_of_all_attempts(jobs, clock, monkeypatch, tmp_path, killed_after):
    monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", "1")
    out = tmp_path / "shard.parquet"
    attempts(monkeypatch, clock, "evaluate", command_of(jobs, "evaluate", out), killed_after)
    assert clock.seconds == 2 * PASSES + len(killed_after)
    assert pq.read_table(out).column("train_seconds").to_pylist() == [PASSES, PASSES]


def test_waiting_for_the_training_of_another_job_is_no_computation(jobs, clock, monkeypatch, tmp_path):
    from elf.stages import train_teacher

    locked = train_teacher._locked

    def waiting(training):
        clock.seconds += 1000
        return locked(training)

    monkeypatch.setattr(train_teacher, "_locked", waiting)
    out = tmp_path / "training.safetensors"
    attempts(monkeypatch, clock, "train_teacher", jobs.train_teacher(out), [])
    assert read_manifest(out)["measured"]["wall_seconds"] == max(TEACHER_EPOCHS)


def test_a_teacher_checkpoint_says_what_its_training_says(jobs):
    measured = read_manifest(jobs.folder / "training.safetensors")["measured"]
    assert read_manifest(jobs.folder / "teacher.safetensors")["measured"] == measured


def test_every_kind_of_file_says_what_it_took(jobs):
    files = [*jobs.folder.glob("*.safetensors")]
    assert len(files) == 5 + EXPERTS
    for file in files:
        measured = read_manifest(file)["measured"]
        assert min(measured[key] for key in ("wall_seconds", "device_seconds", "peak_memory_bytes")) > 0, file
