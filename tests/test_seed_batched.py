"""Networks that are trained at once against the same networks trained one after the other."""

from functools import partial

import pandas as pd
import pytest
import torch
from helpers import Killed, MemoryCheckpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended_gpu import DEVICE, PretendedGpu
from small_jobs import SmallJobs
from torch import nn

from elf.artifacts.checkpoints import Checkpoint
from elf.cli import main
from elf.data.augmentation import STRATEGY
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork
from elf.objectives import elf, kd, task
from elf.specs.network import feature_shape
from elf.specs.training import TrainingRecipe
from elf.stages import evaluate
from elf.training import protocol as training
from elf.training import seeds_at_once as seed_batched

CLASSES, SIDE, COUNT, SEEDS = 4, 32, 10, (3, 0, 8)
OBJECTIVES = {"task": task.loss, "elf": elf.loss, "kd": kd.loss}
NETWORKS = ["convnet-w4-d3-in", "convnet-w4-d3-bn", "resnet18-w2-in", "resnet18-w2-bn", "vgg11-w2-in", "vgg11-w2-bn"]


def recipe(**changes) -> TrainingRecipe:
    values = dict(
        epochs=3, final_pass=True, lr=0.02, momentum=0.9, weight_decay=5e-4, batch_size=4, lr_drop=True,
        augmentation=STRATEGY,
    )  # fmt: skip
    return TrainingRecipe(**(values | changes))


def networks(name: str, dtype=torch.float64) -> list[nn.Module]:
    return [
        build_network(name, classes=CLASSES, side=SIDE, generator=generator(seed, "weights")).to(dtype)
        for seed in SEEDS
    ]


def data(name: str, objective: str, dtype=torch.float64, soft: bool = False) -> dict:
    draws = generator(0, "data")
    images = torch.randn(COUNT, 3, SIDE, SIDE, generator=draws, dtype=torch.float64)
    labels = torch.rand(COUNT, CLASSES, generator=draws).to(dtype) if soft else torch.arange(COUNT) % CLASSES
    targets = None
    if objective != "task":
        shape = (CLASSES,) if objective == "kd" else feature_shape(name, SIDE)
        targets = torch.rand(COUNT, *shape, generator=draws, dtype=torch.float64).to(dtype)
    return {"images": images.to(dtype), "labels": labels, "targets": targets, "objective": OBJECTIVES[objective]}


def streams(purpose: str) -> list[torch.Generator]:
    return [generator(seed, purpose) for seed in SEEDS]


def one_by_one(trained: list[nn.Module], training_recipe: TrainingRecipe, given: dict) -> list[nn.Module]:
    for network, order, augmentation in zip(trained, streams("order"), streams("augmentation"), strict=True):
        training.train(
            network, recipe=training_recipe, order_generator=order, augmentation_generator=augmentation, **given
        )
    return trained


def at_once(trained: list[nn.Module], training_recipe: TrainingRecipe, given: dict, **others) -> list[nn.Module]:
    seed_batched.train(
        trained,
        recipe=training_recipe,
        seeds=SEEDS,
        order_generators=streams("order"),
        augmentation_generators=streams("augmentation"),
        **given,
        **others,
    )
    return trained


def assert_close(ours: list[nn.Module], others: list[nn.Module]) -> None:
    for seed, network, expected in zip(SEEDS, ours, others, strict=True):
        for (key, tensor), wanted in zip(network.state_dict().items(), expected.state_dict().values(), strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-7, atol=1e-10, msg=f"seed {seed}: {key}")
    states = [torch.cat([parameter.flatten() for parameter in network.parameters()]) for network in ours]
    assert not any(torch.allclose(states[0], state) for state in states[1:])


# --- the same networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_trained_at_once_are_those_trained_one_by_one(name, objective):
    given = data(name, objective)
    # Ten images in batches of four: the last of a pass has two. The rate drops after the third of four passes.
    assert_close(at_once(networks(name), recipe(), given), one_by_one(networks(name), recipe(), given))


@pytest.mark.parametrize(
    ("name", "changes", "soft"),
    [
        ("convnet-w4-d3-bn", {"batch_norm_splits": 2, "batch_size": 5}, False),
        ("convnet-w4-d3-in", {"memory_format": "contiguous"}, True),
        ("resnet18-w2-bn", {"memory_format": "contiguous", "momentum": 0.0, "lr_drop": False}, False),
        ("vgg11-w2-in", {"batch_size": 3, "weight_decay": 0.0, "augmentation": "none"}, True),
    ],
    ids=["splits", "soft labels", "no momentum", "a last batch of one"],
)
def test_recipes_and_labels_of_all_kinds(name, changes, soft):
    given = data(name, "elf", soft=soft)
    own = recipe(**changes)
    assert_close(at_once(networks(name), own, given), one_by_one(networks(name), own, given))


def test_mixed_precision_stays_near_float32():
    name, given = "convnet-w4-d3-bn", data("convnet-w4-d3-bn", "elf", torch.float32)
    short = {"epochs": 1, "final_pass": False, "batch_size": COUNT}
    exact = at_once(networks(name, torch.float32), recipe(**short), given)
    fast = at_once(networks(name, torch.float32), recipe(precision="bfloat16", **short), given)
    for network, wanted in zip(fast, exact, strict=True):
        for tensor, close in zip(network.parameters(), wanted.parameters(), strict=True):
            assert tensor.dtype == torch.float32
            torch.testing.assert_close(tensor, close, rtol=0.1, atol=0.02)
    assert not torch.equal(fast[0].front[0][0].weight, exact[0].front[0][0].weight)


def test_progress_gets_the_mean_loss_over_networks_as_a_tensor():
    given = data("convnet-w4-d3-in", "task")
    reports, expected = [], torch.zeros(4, dtype=torch.float64)
    at_once(networks("convnet-w4-d3-in"), recipe(), given, progress=lambda *report: reports.append(report))
    for network, order, augmentation in zip(
        networks("convnet-w4-d3-in"), streams("order"), streams("augmentation"), strict=True
    ):
        losses = []
        training.train(
            network, recipe=recipe(), order_generator=order, augmentation_generator=augmentation,
            progress=lambda _, __, loss, losses=losses: losses.append(loss), **given,
        )  # fmt: skip
        expected += torch.stack(losses) / len(SEEDS)
    assert [report[:2] for report in reports] == [(number, 4) for number in range(1, 5)]
    # The mean of a pass is summed in float32 where networks are trained one by one.
    torch.testing.assert_close(torch.stack([loss for *_, loss in reports]), expected, rtol=1e-5, atol=0)


# --- interruptions ----------------------------------------------------------------------------------------


def small() -> list[nn.Module]:
    return networks("convnet-w4-d3-bn", torch.float32)


@settings(max_examples=10)
@given(kill=st.integers(1, 11), every=st.integers(1, 4))
def test_killed_and_started_again_is_bit_identical(kill, every):
    """Twelve steps: four passes of three; the rate drops after the third."""
    given = data("convnet-w4-d3-bn", "elf", torch.float32)
    checkpoint = MemoryCheckpoint(every)
    checkpoint.die_at = kill
    with pytest.raises(Killed):
        at_once(small(), recipe(), given, checkpoint=checkpoint)
    resumed, whole = at_once(small(), recipe(), given, checkpoint=checkpoint), at_once(small(), recipe(), given)
    for network, expected in zip(resumed, whole, strict=True):
        for (key, tensor), wanted in zip(network.state_dict().items(), expected.state_dict().values(), strict=True):
            assert torch.equal(tensor, wanted), key


def test_a_finished_run_in_a_file_is_not_trained_further(tmp_path):
    given = data("convnet-w4-d3-bn", "elf", torch.float32)
    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=0)
    first = at_once(small(), recipe(), given, checkpoint=checkpoint)
    again = at_once(small(), recipe(), given, checkpoint=checkpoint)
    assert checkpoint.load()["finished"] == 4
    for network, expected in zip(again, first, strict=True):
        for tensor, wanted in zip(network.state_dict().values(), expected.state_dict().values(), strict=True):
            assert torch.equal(tensor, wanted)


# --- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("diverged", [0, 1, 2])
def test_the_seed_that_diverged_is_named_and_nothing_of_it_saved(diverged):
    given = data("convnet-w4-d3-in", "task", torch.float32)
    broken = networks("convnet-w4-d3-in", torch.float32)
    with torch.no_grad():
        broken[diverged].rear[1].weight[0, 0] = torch.nan
    checkpoint = MemoryCheckpoint(every=1)
    with pytest.raises(ElfError, match=rf"seed {SEEDS[diverged]}: training diverged: the loss of pass 0 is nan \(lr"):
        at_once(broken, recipe(), given, checkpoint=checkpoint)
    assert checkpoint.state is None


def test_weights_that_the_last_step_breaks_are_noticed():
    def objective(network, images, labels, targets):
        # The square root has an infinite slope at zero: a finite loss with a gradient that is not.
        return (network.rear[1].bias * 0).sum().sqrt() + task.loss(network, images, labels)

    given = data("convnet-w4-d3-in", "task") | {"objective": objective}
    with pytest.raises(ElfError, match=r"seed 3: training diverged: a weight is not finite after pass 0"):
        at_once(networks("convnet-w4-d3-in"), recipe(epochs=1, final_pass=False, batch_size=COUNT), given)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("torchvision:resnet18", {}, "one of torchvision's"),
        ("convnet-w4-d3-bn", {"batch_size": 9}, "normalisation of a single image"),
        ("vgg11-w2-bn", {"batch_size": 5, "batch_norm_splits": 3}, "normalisation of a single image"),
        ("convnet-w4-d3-in", {"batch_size": 9}, None),
        ("vgg11-w2-bn", {"batch_size": 5, "batch_norm_splits": 2}, None),
    ],
)
def test_networks_that_cannot_be_trained_at_once_are_refused(name, changes, reason):
    network = build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights"))
    found = seed_batched.refusal(network, COUNT, recipe(**changes))
    assert reason in found if reason else found is None


def test_dropout_is_refused():
    with_dropout = [SplitNetwork(nn.Conv2d(3, 2, 3), nn.Sequential(nn.Flatten(), nn.Dropout(0.5))) for _ in SEEDS]
    with pytest.raises(ElfError, match=r"cannot be trained at once: the masks of its dropout .* one after the other"):
        at_once(with_dropout, recipe(), data("convnet-w4-d3-in", "task"))


# --- on a GPU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["convnet-w2-d3-in", "convnet-w2-d3-bn", "resnet18-w2-in", "vgg11-w2-bn"])
def test_training_at_once_waits_for_nothing_but_its_last_check(name, objective):
    with PretendedGpu() as gpu:
        given = data(name, objective, torch.float32)
        given |= {key: tensor.to(DEVICE) for key, tensor in given.items() if isinstance(tensor, torch.Tensor)}
        sent = [network.to(DEVICE) for network in networks(name, torch.float32)]
        marks = []
        at_once(sent, recipe(), given, progress=lambda *_: marks.append(len(gpu.record.waits)))
    assert len(marks) == 4
    assert gpu.record.waits[marks[0] : marks[2]] == []
    # The check copies the losses of all seeds and whether their weights are finite.
    assert marks[3] - marks[2] == 2, gpu.record.waits[marks[2] :]


# --- the stage --------------------------------------------------------------------------------------------

RECIPE = {"epochs": 6, "batch_size": 10, "lr": 0.01}
KINDS = {"task": {"name": "task"}, "kd": {"name": "kd", "temperature": 4.0, "weight": 1.0}}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    jobs = SmallJobs(tmp_path_factory.mktemp("inputs"))
    jobs.make_inputs()
    return jobs


def shard(jobs: SmallJobs, out, wanted: str, kind: str = "task", seeds: tuple[int, ...] = (4, 2, 0)) -> list[str]:
    command = jobs.evaluate(out, KINDS[kind], RECIPE, seeds)
    place = command.index("--settings") + 1
    assert '"seeds_at_once":"auto"' in command[place]
    command[place] = command[place].replace('"seeds_at_once":"auto"', f'"seeds_at_once":"{wanted}"')
    return command


@pytest.mark.usefixtures("small_process")
@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_has_the_rows_of_its_seeds_either_way(jobs, tmp_path, kind, monkeypatch):
    states = {}

    def remembered(network, *arguments, tested):
        tested.append({key: tensor.clone() for key, tensor in network.state_dict().items()})
        return training.accuracy(network, *arguments)

    rows = {}
    for wanted in ("always", "never", "auto"):
        monkeypatch.setattr(evaluate, "accuracy", partial(remembered, tested=states.setdefault(wanted, [])))
        assert main(shard(jobs, tmp_path / f"{wanted}.parquet", wanted, kind)) == 0
        rows[wanted] = pd.read_parquet(tmp_path / f"{wanted}.parquet")
        assert rows[wanted]["seed"].tolist() == [4, 2, 0]
        assert not list(tmp_path.glob(".*"))
    for one, other in zip(states["always"], states["never"], strict=True):
        for key, tensor in one.items():
            torch.testing.assert_close(tensor, other[key], rtol=1e-3, atol=1e-4)
    # On a CPU, auto is one by one.
    assert rows["auto"]["accuracy"].tolist() == rows["never"]["accuracy"].tolist()
    assert (rows["always"]["accuracy"] - rows["never"]["accuracy"]).abs().max() <= 1 / 30 + 1e-9
    assert rows["always"]["train_seconds"].nunique() == 1 < rows["never"]["train_seconds"].nunique()
    assert (rows["always"]["train_seconds"] > 0).all()


@pytest.mark.usefixtures("small_process")
def test_a_killed_shard_continues_and_has_the_same_rows(jobs, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ELF_CHECKPOINT_SECONDS", "0")
    command = shard(jobs, tmp_path / "killed.parquet", "always")

    def dying(label, total):
        def report(finished, total, loss):
            if finished == 4:
                raise Killed

        return report

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(evaluate, "reporter", dying)
        main(command)
    (state,) = tmp_path.glob(".*")
    assert state.name == ".killed.parquet.seeds.resume"
    with caplog.at_level("INFO"):
        assert main(command) == 0
    assert f"continuing from the checkpoint {state}" in caplog.text
    assert main(shard(jobs, tmp_path / "whole.parquet", "always")) == 0
    killed, whole = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("killed", "whole"))
    assert killed["accuracy"].tolist() == whole["accuracy"].tolist()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("small_process")
def test_a_seed_that_diverges_is_named_by_the_job(jobs, tmp_path, capsys):
    command = shard(jobs, tmp_path / "wild.parquet", "always")
    place = command.index("--settings") + 1
    command[place] = command[place].replace('"lr":0.01', '"lr":1e30')
    assert main(command) == 1
    assert "seed 4: training diverged" in capsys.readouterr().err


@pytest.mark.usefixtures("small_process")
def test_protocols_of_their_own_and_single_seeds_go_one_by_one(jobs, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(seed_batched, "train", lambda *_, **__: pytest.fail("trained at once"))
    command = jobs.evaluate(tmp_path / "frepo.parquet", {"name": "frepo"}, {"steps": 3, "warmup_steps": 1})
    place = command.index("--settings") + 1
    command[place] = command[place].replace('"seeds_at_once":"auto"', '"seeds_at_once":"always"')
    with caplog.at_level("INFO"):
        assert main(command) == 0
    assert "trained one after the other: its objective has a protocol of its own" in caplog.text
    assert main(shard(jobs, tmp_path / "single.parquet", "always", seeds=(7,))) == 0
