"""Instance normalisation with ReLU and pooling against PyTorch's layers, and its derivatives against differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from elf.machine import device as devices
from elf.networks.instance_norm import InstanceNorm

FOLLOWED_BY = [(False, False), (True, False), (False, True), (True, True)]


def make(channels: int, relu: bool, pool: bool, seed: int = 0) -> InstanceNorm:
    generator = torch.Generator().manual_seed(seed)
    layer = InstanceNorm(channels, relu=relu, pool=pool).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(channels, generator=generator, dtype=torch.double))
    return layer


def reference(layer: InstanceNorm, maps: Tensor) -> Tensor:
    """The same with PyTorch's InstanceNorm2d, which goes by way of batch normalisation."""
    norm = nn.InstanceNorm2d(layer.num_channels, affine=True, eps=1e-5).to(maps.dtype)
    result = functional_call(norm, {"weight": layer.weight, "bias": layer.bias}, (maps,))
    result = result.clamp(min=0) if layer.relu else result
    return functional.avg_pool2d(result, 2) if layer.pool else result


def channels_last(*shape: int, seed: int = 1) -> Tensor:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + 0.5
    return maps.contiguous(memory_format=torch.channels_last)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 9),
    channels=st.integers(1, 6),
    height=st.integers(2, 7),
    width=st.integers(2, 7),
    relu=st.booleans(),
    pool=st.booleans(),
    bytes_per_block=st.sampled_from([1, 400, 2**21]),
)
def test_it_is_instance_normalisation_in_blocks_of_any_size(
    images, channels, height, width, relu, pool, bytes_per_block
):
    layer, maps = make(channels, relu, pool), channels_last(images, channels, height, width).requires_grad_()
    expected = reference(layer, maps)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    wanted = [maps, layer.weight, layer.bias]
    of_expected = torch.autograd.grad((expected * weights).sum(), wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "bytes_per_block", lambda device: bytes_per_block)
        found = layer(maps)
        of_found = torch.autograd.grad((found * weights).sum(), wanted)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_found, of_expected)
    torch.testing.assert_close(layer(maps.contiguous()), expected)


@pytest.mark.parametrize(("relu", "pool"), FOLLOWED_BY)
@pytest.mark.parametrize("bytes_per_block", [1, 2**21])
def test_both_derivatives_agree_with_finite_differences(relu, pool, bytes_per_block, monkeypatch):
    monkeypatch.setattr(devices, "bytes_per_block", lambda device: bytes_per_block)
    layer = make(3, relu, pool)

    def call(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight, "bias": bias}, (maps,))

    inputs = [channels_last(2, 3, 4, 4), layer.weight.detach().clone(), layer.bias.detach().clone()]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(("relu", "pool"), FOLLOWED_BY)
def test_the_gradient_of_a_gradient_is_that_of_elementary_operations(relu, pool):
    """A norm of gradients, as gradient matching has it, from maps that other layers made."""
    layer, maps = make(4, relu, pool), channels_last(3, 4, 6, 6).requires_grad_()
    mixing = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.double).requires_grad_()

    def second(normalise) -> tuple[Tensor, ...]:
        result = normalise(functional.conv2d(maps, mixing, padding=1).contiguous(memory_format=torch.channels_last))
        first = torch.autograd.grad(result.pow(3).sum(), [mixing, layer.weight, layer.bias], create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), [maps, mixing, layer.weight])

    torch.testing.assert_close(second(layer), second(lambda maps: reference(layer, maps)))


def test_what_is_kept_for_the_backward_pass_is_the_input_and_two_numbers_a_row():
    layer, maps = make(4, True, True), channels_last(8, 4, 16, 16).requires_grad_()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(maps)
    assert sum(kept.values()) == maps.nbytes + (2 * 8 * 4 + 2 * 4) * maps.itemsize


@pytest.mark.parametrize(("relu", "pool"), FOLLOWED_BY)
def test_several_networks_at_once_through_vmap(relu, pool):
    layers = [make(3, relu, pool, seed) for seed in range(2)]
    stacked = {
        name: torch.stack([dict(layer.named_parameters())[name] for layer in layers]) for name in ("weight", "bias")
    }
    maps = torch.stack([channels_last(2, 3, 4, 4, seed=seed) for seed in range(2)])
    found = torch.func.vmap(lambda parameters, maps: functional_call(layers[0], parameters, (maps,)))(stacked, maps)
    torch.testing.assert_close(found, torch.stack([layer(own) for layer, own in zip(layers, maps, strict=True)]))


def test_reduced_precision_is_normalised_in_float32():
    layer = make(3, True, False).float()
    maps = channels_last(2, 3, 4, 4).bfloat16().requires_grad_()
    found = layer(maps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(maps.float()))
    found.sum().backward()
    assert maps.grad.dtype == torch.bfloat16
