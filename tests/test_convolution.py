"""A convolution as one matrix product against PyTorch's own, and where it is used."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional

from elf.machine.randomness import generator
from elf.networks import convolution
from elf.networks.building import build_network
from elf.networks.convolution import Convolution


def maps(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    drawn = torch.randn(shape, generator=generator(seed, "maps"), dtype=dtype)
    return drawn.contiguous(memory_format=torch.channels_last)


def layer(channels_in: int, channels: int, **settings) -> Convolution:
    made = Convolution(channels_in, channels, **settings).double()
    with torch.no_grad():
        for index, parameter in enumerate(made.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(index, "weights"), dtype=torch.float64))
    return made


@pytest.fixture
def always(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "POSITIONS", 10**6)
    monkeypatch.setattr(convolution, "WEIGHTS", 0)


@pytest.mark.usefixtures("always")
@settings(max_examples=40)
@given(
    images=st.integers(1, 4),
    channels_in=st.integers(1, 4),
    channels=st.integers(1, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    stride=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_it_is_a_convolution_with_its_derivatives(images, channels_in, channels, height, width, stride, bias):
    made = layer(channels_in, channels, stride=stride, bias=bias)
    given_maps = maps(images, channels_in, height, width).requires_grad_()
    wanted = [given_maps, *made.parameters()]
    results = []
    for result in (made(given_maps), functional.conv2d(given_maps, made.weight, made.bias, stride, 1)):
        first = torch.autograd.grad(result.pow(3).sum(), wanted, create_graph=True)
        second = torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), wanted)
        results.append([result, *first, *second])
    assert results[0][0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("always")
def test_a_product_is_used_for_channels_last_maps_and_left_to_pytorch_elsewhere(monkeypatch):
    made, used = layer(2, 3), []
    multiply = Convolution._multiply
    monkeypatch.setattr(Convolution, "_multiply", lambda *arguments: used.append(1) or multiply(*arguments))
    expected = functional.conv2d(maps(4, 2, 5, 5), made.weight, made.bias, padding=1)
    torch.testing.assert_close(made(maps(4, 2, 5, 5)), expected)
    assert len(used) == 1
    torch.testing.assert_close(made(maps(4, 2, 5, 5).contiguous()), expected)
    parameters = {name: torch.stack([tensor, tensor]) for name, tensor in made.named_parameters()}
    stacked = torch.stack([maps(4, 2, 5, 5)] * 2)
    both = vmap(lambda weights, images: functional_call(made, weights, (images,)))(parameters, stacked)
    torch.testing.assert_close(both, torch.stack([expected] * 2))
    assert len(used) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vgg11-in", [4, 4, 2, 2]), ("resnet18-bn", [4, 4, 4, 4]), ("vgg11-w8-in", []), ("resnet18-w8-bn", [])],
)
def test_it_is_used_where_many_channels_meet_small_maps(monkeypatch, name, expected):
    sides, multiply = [], Convolution._multiply

    def watched(self, images: Tensor, height: int, width: int) -> Tensor:
        sides.append(height)
        return multiply(self, images, height, width)

    monkeypatch.setattr(Convolution, "_multiply", watched)
    network = build_network(name, classes=10, side=32, generator=generator(0)).eval()
    network.to(memory_format=torch.channels_last)
    images = maps(2, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        found = network(images)
        assert sides == expected
        plain = copy.deepcopy(network)
        monkeypatch.setattr(convolution, "WEIGHTS", 10**12)
        torch.testing.assert_close(found, plain(images), rtol=1e-4, atol=1e-5)
    assert len(sides) == len(expected)


def test_it_has_the_state_of_a_conv2d():
    made, plain = Convolution(3, 5, stride=2, bias=False), torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
    plain.load_state_dict(made.state_dict())
    images = torch.randn(2, 3, 9, 9, generator=generator(0, "images"))
    assert torch.equal(made(images), plain(images))
