"""Which steps are captured, and when, and that trainings stay what they are; a GPU need not be there.

What stands in for a graph does its step anew for every replay, on tensors of its own as a graph has them. How real
graphs compute is in `test_on_gpu`.
"""

import pytest
import torch
from test_seed_batched import OBJECTIVES, at_once, data, networks, one_by_one
from test_seed_batched import recipe as short_recipe
from torch import Tensor, nn

from elf.data import augmentation
from elf.distillation import dsa
from elf.distillation.shared.synthetic import RealImages
from elf.machine import device as devices
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.training import replayed as replayed_steps
from elf.training.replayed import replayed

CPU = torch.device("cpu")


class StandIn:
    """Keeps tensors of its own, like a captured step."""

    def __init__(self, step, tensors, settings, memory) -> None:
        self.step, self.settings = step, settings
        self.tensors = [None if tensor is None else tensor.clone() for tensor in tensors]
        self.replays = 0

    def replay(self, tensors: tuple) -> tuple[Tensor, ...]:
        self.replays += 1
        for own, given in zip(self.tensors, tensors, strict=True):
            if own is not None:
                own.copy_(given)
        return self.step(*self.tensors, **self.settings)


@pytest.fixture
def captured(monkeypatch) -> list[StandIn]:
    """The stand-ins that are made; a step is captured the third time."""
    monkeypatch.setattr(devices, "replays_steps", lambda device: True)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(replayed_steps, "STEPS_BEFORE_CAPTURE", 2)
    made = []

    def capture(*arguments) -> StandIn:
        made.append(StandIn(*arguments))
        return made[-1]

    monkeypatch.setattr(replayed_steps, "_Graph", capture)
    return made


def recipe():
    """Eight passes of two steps of four images and one of two; the rate drops after the fifth."""
    return short_recipe(epochs=7)


def assert_equal(ours: list[nn.Module], others: list[nn.Module]) -> None:
    for network, other in zip(ours, others, strict=True):
        for (key, tensor), wanted in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(tensor, wanted), key


def test_each_kind_is_captured_once_and_replayed_from_then_on(captured):
    calls = []

    def double(tensor: Tensor, *_, by: float) -> tuple[Tensor]:
        calls.append(tensor)
        return (tensor * by,)

    step = replayed(double, nn.Linear(1, 1), CPU)
    for number in range(5):
        for count in (1, 2):
            given = torch.full((count,), float(number))
            for by in (2.0, 3.0):
                assert torch.equal(step(given, None, by=by)[0], given * by)
    assert [(len(graph.tensors[0]), graph.settings["by"]) for graph in captured] == [(1, 2), (1, 3), (2, 2), (2, 3)]
    # Of five steps of a kind two are made as usual.
    assert [graph.replays for graph in captured] == [3] * 4
    assert len(calls) == 20


def test_nothing_is_captured_on_a_cpu():
    assert not devices.replays_steps(CPU) and devices.replays_steps(torch.device("cuda"))
    step = object()
    assert replayed(step, nn.Linear(1, 1), CPU) is step


@pytest.mark.parametrize("name", ["dropout", "torchvision"])
def test_networks_of_which_nobody_knows_what_they_draw_are_left_alone(captured, name):
    if name == "dropout":
        network = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    else:
        network = build_network("torchvision:resnet18", classes=2, side=32, generator=generator(0))
    step = object()
    assert replayed(step, network, CPU) is step


@pytest.mark.parametrize("train", [one_by_one, at_once])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trainings_are_the_same_to_the_bit(captured, monkeypatch, objective, train):
    name, given = "convnet-w4-d3-bn", data("convnet-w4-d3-bn", objective, torch.float32)
    found = train(networks(name, torch.float32), recipe(), given)
    # Two sizes of batches and two rates, for each training.
    trainings = 1 if train is at_once else len(found)
    assert len(captured) == 4 * trainings
    # 24 steps, of which two of each kind are made as usual.
    assert sum(graph.replays for graph in captured) == (24 - 2 * 4) * trainings
    monkeypatch.setattr(devices, "replays_steps", lambda device: False)
    assert_equal(found, train(networks(name, torch.float32), recipe(), given))


def test_dsa_captures_the_matching_of_a_class_once_for_all(captured, monkeypatch):
    settings = {"iterations": 3, "outer_loop": 1, "inner_loop": 1, "lr": 0.1, "momentum": 0.5, "lr_network": 0.01}
    settings |= {"batch_real": 4, "batch_inner": 4, "bn_real": 4, "distance": "ours", "align_corners": False}
    settings |= {"augmentation": augmentation.STRATEGY}
    labels = torch.arange(3).repeat(6)
    real = RealImages(torch.randn(18, 3, 16, 16, generator=generator(0, "images")), labels, 3)

    def distil() -> Tensor:
        given = {"settings": settings, "ipc": 2, "network": "convnet-w4-d2-in", "seed": 0}
        return dsa.distill(real, **given, progress=lambda *_: None).images

    found = distil()
    (matching,) = captured
    # Four updates of three classes.
    assert matching.replays == 4 * 3 - 2
    monkeypatch.setattr(devices, "replays_steps", lambda device: False)
    assert torch.equal(found, distil())
