"""On a machine with a GPU: what the CPU computes, up to rounding, and always the same bits; nothing waits."""

import json
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from naive_trajectories import random_dataset
from small_jobs import BATCH_NORM, FREPO, NETWORK, SmallJobs
from test_seed_batched import COUNT, OBJECTIVES, Killed, MemoryCheckpoint, at_once, data, networks, one_by_one
from test_seed_batched import recipe as short_recipe
from test_waiting import DISTILLATIONS, METHODS, SentExperts, distil
from torch import Tensor, nn

from elf.artifacts.manifest import read_manifest
from elf.cli import main
from elf.data import augmentation
from elf.distillation import dm, mtt
from elf.distillation.shared.synthetic import RealImages
from elf.machine import device as devices
from elf.machine.randomness import generator
from elf.networks.instance_norm import InstanceNorm
from elf.objectives import task
from elf.training import protocol as training
from elf.training import replayed as replayed_steps
from elf.training import seeds_at_once as seed_batched

if not torch.cuda.is_available():
    pytest.skip("PyTorch finds no GPU", allow_module_level=True)

GPU = torch.device("cuda")
NETWORKS = ["convnet-w4-d3-in", "convnet-w4-d3-bn", "resnet18-w2-in", "resnet18-w2-bn", "vgg11-w2-in", "vgg11-w2-bn"]


@pytest.fixture(autouse=True)
def prepared(monkeypatch) -> Iterator[None]:
    """The process as a job sets it up, in which a step is captured as soon as it can be."""
    monkeypatch.setattr(replayed_steps, "STEPS_BEFORE_CAPTURE", 1)
    threads = torch.get_num_threads()
    devices.prepare(1, GPU)
    # What only warns in a job is an error here.
    torch.use_deterministic_algorithms(True)
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(False)
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def there(given: dict) -> dict:
    return {name: value.to(GPU) if isinstance(value, Tensor) else value for name, value in given.items()}


def on_gpu(trained: list[nn.Module]) -> list[nn.Module]:
    return [network.to(GPU) for network in trained]


def recipe(**changes):
    """Eight passes of three steps, four kinds of step in all: two sizes of batches, two learning rates."""
    return short_recipe(**{"epochs": 7} | changes)


def states(trained: list[nn.Module]) -> list[dict[str, Tensor]]:
    return [{name: tensor.cpu() for name, tensor in network.state_dict().items()} for network in trained]


def assert_equal(ours: list[nn.Module], others: list[nn.Module]) -> None:
    for own, other in zip(states(ours), states(others), strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in own.items())


def assert_close(ours: list[nn.Module], others: list[nn.Module], rtol: float = 1e-7, atol: float = 1e-9) -> None:
    for own, other in zip(states(ours), states(others), strict=True):
        torch.testing.assert_close(own, other, rtol=rtol, atol=atol)


# --- trainings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_trainings_agree_with_the_cpu_in_float64(name, objective):
    given = data(name, objective)
    expected = one_by_one(networks(name), recipe(), given)
    assert_close(one_by_one(on_gpu(networks(name)), recipe(), there(given)), expected)
    assert_close(at_once(on_gpu(networks(name)), recipe(), there(given)), expected)


@pytest.mark.parametrize("changes", [{"memory_format": "channels_last"}, {"batch_norm_splits": 2}, {"momentum": 0.0}])
def test_recipes_of_all_kinds_agree_with_the_cpu(changes):
    given = data("convnet-w4-d3-bn", "elf", soft=True)
    expected = one_by_one(networks("convnet-w4-d3-bn"), recipe(**changes), given)
    assert_close(one_by_one(on_gpu(networks("convnet-w4-d3-bn")), recipe(**changes), there(given)), expected)


@pytest.mark.parametrize("product", [torch.matmul, partial(nn.functional.conv2d, padding=1)], ids=["matrix", "conv"])
def test_float32_products_are_computed_in_full_float32(product):
    shapes = {torch.matmul: [(512, 512), (512, 512)]}.get(product, [(8, 64, 16, 16), (64, 64, 3, 3)])
    given = [torch.randn(shape, generator=generator(index, "factors")).to(GPU) for index, shape in enumerate(shapes)]
    exact, found = product(*(factor.double() for factor in given)), product(*given)
    # With TF32 it would be some 3e-4.
    assert (found - exact).norm() / exact.norm() < 1e-5


def test_bfloat16_stays_near_float32():
    given = there(data("convnet-w4-d3-bn", "elf", torch.float32))
    exact = one_by_one(on_gpu(networks("convnet-w4-d3-bn", torch.float32)), recipe(epochs=1), given)
    fast = one_by_one(
        on_gpu(networks("convnet-w4-d3-bn", torch.float32)), recipe(epochs=1, precision="bfloat16"), given
    )
    assert_close(fast, exact, rtol=0.1, atol=0.02)
    assert not torch.equal(fast[0].front[0][0].weight, exact[0].front[0][0].weight)


@pytest.mark.parametrize("train", [one_by_one, at_once])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seeds_give_the_same_bits_whether_steps_are_replayed_or_not(monkeypatch, name, train):
    wide = name.replace("-w4", "-w32").replace("-w2", "-w16")
    given = data(wide, "elf", torch.float32)
    given = there(given | {key: given[key].repeat(20, *[1] * (given[key].dim() - 1)) for key in ("images", "targets")})
    given["labels"] = given["labels"].repeat(20)
    own = recipe(batch_size=64)
    first, second = (train(on_gpu(networks(wide, torch.float32)), own, given) for _ in range(2))
    monkeypatch.setattr(devices, "replays_steps", lambda device: False)
    third = train(on_gpu(networks(wide, torch.float32)), own, given)
    assert_equal(first, second)
    assert_equal(first, third)


@pytest.mark.parametrize("kill", [1, 5, 12, 17, 23])
@pytest.mark.parametrize("module", [training, seed_batched])
def test_killed_and_started_again_is_bit_identical(module, kill):
    """Eight passes of three steps; the rate drops after the fifth."""
    given = there(data("convnet-w4-d3-bn", "elf", torch.float32))

    def train(checkpoint=None) -> list[nn.Module]:
        started = on_gpu(networks("convnet-w4-d3-bn", torch.float32))
        if module is seed_batched:
            return at_once(started, recipe(), given, checkpoint=checkpoint)
        streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
        training.train(started[0], recipe=recipe(), checkpoint=checkpoint, **streams, **given)
        return started[:1]

    checkpoint = MemoryCheckpoint(2)
    checkpoint.die_at = kill
    with pytest.raises(Killed):
        train(checkpoint)
    assert_equal(train(checkpoint), train())


def with_dropout() -> nn.Module:
    network = networks("convnet-w4-d3-in", torch.float32)[0]
    network.front.append(nn.Dropout(0.5))
    return network.to(GPU)


def test_masks_of_dropout_are_the_same_again_and_when_a_run_goes_on():
    given = there(data("convnet-w4-d3-in", "task", torch.float32))

    def train(checkpoint=None) -> nn.Module:
        network = with_dropout()
        streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
        training.train(network, recipe=recipe(), checkpoint=checkpoint, **streams, **given)
        return network

    checkpoint = MemoryCheckpoint(2)
    checkpoint.die_at = 8
    with pytest.raises(Killed):
        train(checkpoint)
    assert_equal([train(checkpoint)], [train()])


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_waits_in_a_training(monkeypatch, name):
    check, given = training._check_finite, there(data(name, "elf", torch.float32))

    def allowed(*arguments) -> None:
        torch.cuda.set_sync_debug_mode("default")
        check(*arguments)

    monkeypatch.setattr(training, "_check_finite", allowed)
    # The first steps may wait, when libraries are loaded.
    one_by_one(on_gpu(networks(name, torch.float32)), recipe(), given)
    trained = on_gpu(networks(name, torch.float32))[:1]
    torch.cuda.set_sync_debug_mode("error")
    streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
    training.train(trained[0], recipe=recipe(), **streams, **given)
    assert torch.cuda.get_sync_debug_mode() == 0


def test_steps_are_captured_once_for_each_kind_and_replayed_otherwise(monkeypatch):
    captured = []

    class Counted(replayed_steps._Graph):
        def __init__(self, *arguments) -> None:
            captured.append(arguments[2]["lr"])
            super().__init__(*arguments)

    monkeypatch.setattr(replayed_steps, "_Graph", Counted)
    calls = []

    def counting(*batch):
        calls.append(len(batch[1]))
        return task.loss(*batch)

    given = there(data("convnet-w4-d3-in", "task", torch.float32)) | {"objective": counting}
    streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
    training.train(on_gpu(networks("convnet-w4-d3-in", torch.float32))[0], recipe=recipe(), **streams, **given)
    assert len(captured) == 4 and len(set(captured)) == 2
    # Twenty-four steps: of each kind one as usual and one to capture it.
    assert len(calls) == 8 and COUNT == 10


# --- distillation -----------------------------------------------------------------------------------------


def ignore(*_) -> None:
    pass


@pytest.mark.parametrize(("method", "network"), DISTILLATIONS)
def test_distillations_agree_with_the_cpu_and_are_bit_equal(method, network):
    expected = distil(method, network, torch.device("cpu"), ignore)
    found = [distil(method, network, GPU, ignore).cpu() for _ in range(3)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-3)
    assert not torch.equal(random_dataset().images[:2], expected[:2])


@pytest.mark.parametrize("category", augmentation.CATEGORIES)
@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_gradients_of_large_images_through_augmentation_are_bit_equal(method, category):
    distill = {"dm": dm, "mtt": mtt}[method].distill
    settings = METHODS[method][1] | {"augmentation": category, "iterations": 1, "batch_syn": 0}
    images = torch.randn(90, 3, 16, 16, generator=generator(0, "images"))
    real = RealImages(images.to(GPU), (torch.arange(90) % 3).to(GPU), 3)
    others = {"experts": SentExperts()} if method == "mtt" else {}
    found = [
        distill(real, settings=settings, ipc=30, network="convnet-w4-d2-in", seed=0, progress=ignore, **others).images
        for _ in range(4)
    ]
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("category", ["scale", "rotate"])
def test_warped_images_and_their_gradients_are_those_of_the_cpu(category, align_corners):
    images = torch.randn(5, 3, 9, 9, generator=generator(0, "images"), dtype=torch.float64)
    weights = torch.randn(5, 3, 9, 9, generator=generator(0, "weights"), dtype=torch.float64)
    drawn = augmentation.draw(category, 5, 9, generator(0, "draw"))
    results = []
    for device in (torch.device("cpu"), GPU):
        own = images.to(device).requires_grad_()
        warped = augmentation.apply(own, drawn, align_corners=align_corners)
        (gradient,) = torch.autograd.grad((warped * weights.to(device)).sum(), own)
        results.append((warped.detach().cpu(), gradient.cpu()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("method", "network"), DISTILLATIONS)
def test_nothing_waits_in_a_distillation(method, network):
    # Each training on the synthetic images within DSA ends with a look at its loss.
    changes = {"iterations": 4, "outer_loop": 1} if method == "dsa" else {}
    distil(method, network, GPU, ignore, **changes)

    def watch(finished: int, total: int, _: Tensor | None) -> None:
        # The first update comes after what happens once; after the last one the host looks.
        torch.cuda.set_sync_debug_mode("error" if finished < total - 1 else "default")

    distil(method, network, GPU, watch, **changes)


# --- layers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("relu", "pool"), [(False, False), (True, False), (True, True)])
def test_instance_normalisation_has_the_derivatives_of_the_cpu(relu, pool, layout):
    maps = torch.randn(4, 3, 6, 6, generator=generator(0, "maps"), dtype=torch.float64)
    results = []
    for device in (torch.device("cpu"), GPU):
        layer = InstanceNorm(3, relu=relu, pool=pool).double().to(device)
        own = maps.to(device).contiguous(memory_format=layout).requires_grad_()
        (first,) = torch.autograd.grad(layer(own).pow(3).sum(), own, create_graph=True)
        second = torch.autograd.grad(first.pow(2).sum(), (own, *layer.parameters()))
        results.append([tensor.detach().cpu() for tensor in (first, *second)])
    torch.testing.assert_close(results[1], results[0])


# --- commands ---------------------------------------------------------------------------------------------

EVALUATIONS = {
    "at once": ({"name": "elf"}, {}),
    "frepo": ({"name": "frepo"}, {"steps": 30, "warmup_steps": 5}),
}
SETS = {"dm": NETWORK, "dsa": BATCH_NORM, "mtt": NETWORK, "tesla": NETWORK, "frepo": FREPO}
MATCHED = {"iterations": 2, "experts": 2, "max_start_epoch": 1, "expert_epochs": 1, "lr_lr": 1e-8}
SHORT = {
    "dm": {"iterations": 3},
    "dsa": {"iterations": 2},
    "mtt": MATCHED,
    "tesla": MATCHED,
    "frepo": {"iterations": 3},
}


def test_all_commands_make_the_same_files_again(tmp_path):
    made = []
    for name in ("first", "second"):
        jobs = SmallJobs(tmp_path / name, device="cuda")
        jobs.folder.mkdir()
        jobs.make_inputs()
        for method, network in SETS.items():
            file = jobs.folder / f"{method}.safetensors"
            assert main(jobs.distill(file, method, network, SHORT[method])) == 0
        for label, (objective, changes) in EVALUATIONS.items():
            assert main(jobs.evaluate(jobs.folder / f"{label}.parquet", objective, changes)) == 0
        files = sorted(file for file in jobs.folder.iterdir() if file.suffix in (".parquet", ".safetensors"))
        manifests = {file.name: read_manifest(file) for file in files}
        made.append({name: manifest["id"] for name, manifest in manifests.items()})
        for manifest in manifests.values():
            assert manifest["measured"]["device"].startswith("cuda ("), json.dumps(manifest["measured"])
            assert manifest["measured"]["device_seconds"] > 0
    assert made[0] == made[1] and len(made[0]) > 10
