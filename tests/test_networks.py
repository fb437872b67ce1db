"""Networks against the method sheet's tables and against plain networks written a second time."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from elf.errors import ElfError
from elf.networks import convnet, frepoconv, resnet, vgg
from elf.networks.building import build_network
from elf.networks.split import initialise
from elf.specs import network as names

FAMILIES = {"convnet": convnet, "resnet18": resnet, "vgg11": vgg, "frepoconv": frepoconv}
SPLIT_COUNTS = [
    ("convnet-w128-d3", 32, 10, 299_520, 20_490),
    ("convnet-w128-d3", 32, 100, 299_520, 204_900),
    ("convnet-w512-d3", 32, 10, 4_737_024, 81_930),
    ("convnet-w512-d3", 32, 100, 4_737_024, 819_300),
    ("resnet18", 32, 10, 6_448_192, 4_725_770),
    ("resnet18", 32, 100, 6_448_192, 4_771_940),
    ("vgg11", 32, 10, 2_143_488, 7_087_626),
    ("vgg11", 32, 100, 2_143_488, 7_133_796),
    ("convnet-w128-d4", 64, 200, 447_360, 409_800),
    ("convnet-w128-d4", 64, 1000, 447_360, 2_049_000),
    ("convnet-w256-d4", 64, 200, 1_779_456, 819_400),
    ("convnet-w256-d4", 64, 1000, 1_779_456, 4_097_000),
    ("convnet-w512-d4", 64, 200, 7_097_856, 1_638_600),
    ("convnet-w512-d4", 64, 1000, 7_097_856, 8_193_000),
    ("resnet18", 64, 200, 2_782_784, 8_496_328),
    ("resnet18", 64, 1000, 2_782_784, 8_906_728),
    ("vgg11", 64, 200, 4_504_320, 30_715_080),
    ("vgg11", 64, 1000, 4_504_320, 33_992_680),
]
TOTAL_COUNTS = [
    ("convnet-w128-d3", 32, 10, 320_010),
    ("convnet-w128-d3", 32, 100, 504_420),
    ("convnet-w256-d3", 32, 10, 1_229_834),
    ("convnet-w256-d3", 32, 100, 1_598_564),
    ("convnet-w512-d3", 32, 10, 4_818_954),
    ("convnet-w512-d3", 32, 100, 5_556_324),
    ("convnet-w128-d4", 32, 10, 452_490),
    ("convnet-w128-d4", 32, 100, 498_660),
    ("convnet-w128-d4", 64, 200, 857_160),
    ("convnet-w128-d4", 64, 1000, 2_496_360),
    ("convnet-w256-d4", 64, 200, 2_598_856),
    ("convnet-w256-d4", 64, 1000, 5_876_456),
    ("convnet-w512-d4", 64, 200, 8_736_456),
    ("convnet-w512-d4", 64, 1000, 15_290_856),
    ("resnet18", 32, 10, 11_173_962),
    ("resnet18", 32, 100, 11_220_132),
    ("resnet18", 64, 200, 11_279_112),
    ("resnet18", 64, 1000, 11_689_512),
    ("vgg11", 32, 10, 9_231_114),
    ("vgg11", 32, 100, 9_277_284),
    ("vgg11", 64, 200, 35_219_400),
    ("vgg11", 64, 1000, 38_497_000),
]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def skeleton(name, classes, side):
    """Build without memory for the weights, which keeps the tables' largest networks cheap."""
    parsed = names.parse(name)
    with torch.device("meta"):
        return FAMILIES[parsed.family].build(parsed, classes=classes, side=side)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize(("name", "side", "classes", "front", "rear"), SPLIT_COUNTS)
def test_parameters_of_front_and_rear(name, side, classes, front, rear, norm):
    network = skeleton(f"{name}-{norm}", classes, side)
    assert (count(network.front), count(network.rear)) == (front, rear)


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize(("name", "side", "classes", "total"), TOTAL_COUNTS)
def test_parameters_of_the_whole(name, side, classes, total, norm):
    assert count(skeleton(f"{name}-{norm}", classes, side)) == total


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("convnet-w128-d3", 32, (128, 4, 4)),
        ("convnet-w512-d3", 32, (512, 4, 4)),
        ("convnet-w128-d4", 32, (128, 2, 2)),
        ("resnet18", 32, (512, 4, 4)),
        ("vgg11", 32, (512, 4, 4)),
        ("convnet-w128-d4", 64, (128, 4, 4)),
        ("resnet18", 64, (256, 4, 4)),
        ("vgg11", 64, (512, 4, 4)),
    ],
)
def test_feature_maps_of_the_tables(name, side, shape, norm):
    network = skeleton(f"{name}-{norm}", 10, side)
    assert network.front(torch.empty(2, 3, side, side, device="meta")).shape[1:] == shape


@given(
    name=st.sampled_from(
        ["convnet-w{}-d2-{}", "convnet-w{}-d4-{}", "resnet18-w{}-{}", "vgg11-w{}-{}", "frepoconv-w{}-{}"]
    ),
    width=st.integers(1, 4),
    norm=st.sampled_from(["in", "bn"]),
    side=st.integers(32, 140),
    classes=st.integers(1, 12),
)
def test_closed_form_feature_shape_holds_for_any_width_and_side(name, width, norm, side, classes):
    name = name.format(width, "none" if name.startswith("frepoconv") and norm == "in" else norm)
    network = skeleton(name, classes, side)
    features = network.front(torch.empty(2, 3, side, side, device="meta"))
    assert tuple(features.shape[1:]) == names.feature_shape(name, side)
    assert network.rear(features).shape == (2, classes)


class Plain:
    """Unsplit networks, written with functions alone, that read one flat parameter vector from its start."""

    def __init__(self, vector, norm):
        self.vector, self.norm_axes, self.position = vector, {"in": (2, 3), "bn": (0, 2, 3)}[norm], 0

    def take(self, *shape):
        size = torch.Size(shape).numel()
        self.position += size
        return self.vector[self.position - size : self.position].view(shape)

    def norm(self, x):
        weight, bias = self.take(x.shape[1]), self.take(x.shape[1])
        mean = x.mean(self.norm_axes, keepdim=True)
        variance = ((x - mean) ** 2).mean(self.norm_axes, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]

    def conv(self, x, channels, kernel=3, stride=1, padding=1, bias=False):
        weight = self.take(channels, x.shape[1], kernel, kernel)
        return self.norm(F.conv2d(x, weight, self.take(channels) if bias else None, stride, padding))

    def linear(self, x, size):
        return x @ self.take(size, x.shape[1]).T + self.take(size)

    def convnet(self, x, width, depth, classes):
        for _ in range(depth):
            x = F.avg_pool2d(self.conv(x, width, bias=True).relu(), 2)
        return self.linear(x.flatten(1), classes)

    def resnet18(self, x, width, classes, large):
        if large:
            x = F.max_pool2d(self.conv(x, width, kernel=7, stride=2, padding=3).relu(), 3, 2, 1)
        else:
            x = self.conv(x, width).relu()
        for stage in range(4):
            for block in range(2):
                stride = 2 if block == 0 and stage > 0 else 1
                out = self.conv(x, width * 2**stage, stride=stride).relu()
                out = self.conv(out, width * 2**stage)
                if stride == 2:
                    x = self.conv(x, width * 2**stage, kernel=1, stride=2, padding=0)
                x = (x + out).relu()
        return self.linear(x.mean((2, 3)), classes)

    def vgg11(self, x, base, classes, large):
        for entry in [1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M"]:
            x = F.max_pool2d(x, 2) if entry == "M" else self.conv(x, base * entry, bias=True).relu()
        x = x.flatten(1)
        if large:
            x = self.linear(self.linear(x, 64 * base).relu(), 64 * base).relu()
        return self.linear(x, classes)


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize(
    ("name", "side", "plain"),
    [
        ("convnet-w5-d3", 32, lambda net, x: net.convnet(x, 5, 3, 7)),
        ("convnet-w4-d4", 64, lambda net, x: net.convnet(x, 4, 4, 7)),
        ("resnet18-w4", 32, lambda net, x: net.resnet18(x, 4, 7, large=False)),
        ("resnet18-w4", 64, lambda net, x: net.resnet18(x, 4, 7, large=True)),
        ("vgg11-w4", 32, lambda net, x: net.vgg11(x, 4, 7, large=False)),
        ("vgg11-w4", 64, lambda net, x: net.vgg11(x, 4, 7, large=True)),
    ],
)
def test_split_network_equals_the_plain_one_on_the_same_flat_vector(name, side, plain, norm):
    """In training mode and double precision, logits and the gradient of every parameter."""
    network = build_network(f"{name}-{norm}", classes=7, side=side, generator=seeded(0)).double()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    images = torch.randn(3, 3, side, side, generator=seeded(1), dtype=torch.float64)
    vector = parameters_to_vector(network.parameters()).detach()
    vector += 0.1 * torch.randn(vector.shape, generator=seeded(2), dtype=torch.float64)
    vector_to_parameters(vector, network.parameters())
    vector = vector.clone().requires_grad_()

    reference = Plain(vector, norm)
    expected = plain(reference, images)
    logits = network(images)

    assert reference.position == len(vector)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), vector)
    scale = expected_gradient.abs().max()
    torch.testing.assert_close(parameters_to_vector(gradients) / scale, expected_gradient / scale)


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize(
    ("name", "side"), [("convnet-w8-d3", 32), ("resnet18-w8", 32), ("vgg11-w8", 64), ("resnet18-w8", 64)]
)
def test_features_are_non_negative_and_the_rear_leaves_them_alone(name, side, norm):
    network = build_network(f"{name}-{norm}", classes=10, side=side, generator=seeded(0))
    features = network.front(torch.randn(4, 3, side, side, generator=seeded(1)))
    before = features.detach().clone()
    network.rear(features).sum().backward()
    assert (features >= 0).all() and (features > 0).any()
    assert torch.equal(features, before)


def test_large_head_drops_half_of_both_hidden_layers_in_training_only():
    head = [type(layer).__name__ for layer in skeleton("vgg11-in", 10, 64).rear][-8:]
    assert head == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert {layer.p for layer in skeleton("vgg11-in", 10, 64).rear if isinstance(layer, nn.Dropout)} == {0.5}
    assert not any(isinstance(layer, nn.Dropout) for layer in skeleton("vgg11-in", 10, 32).modules())


INITIALISED = [("convnet-w8-d3-bn", 32), ("resnet18-w4-in", 32), ("resnet18-w4-bn", 64), ("vgg11-w4-bn", 64)]


@pytest.mark.parametrize(("name", "side"), INITIALISED)
def test_initialisation_equals_reset_parameters_layer_by_layer(name, side):
    network = build_network(name, classes=10, side=side, generator=seeded(123))
    reference = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        for module in reference.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    for key, value in network.state_dict().items():
        assert torch.equal(value, reference.state_dict()[key]), key


@pytest.mark.parametrize(("name", "side"), INITIALISED)
def test_initialisation_follows_the_documented_distributions(name, side):
    """Kaiming-uniform weights (slope sqrt(5)), biases uniform within 1/sqrt(fan in), in this order."""
    network = build_network(name, classes=10, side=side, generator=seeded(7))
    generator = seeded(7)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = torch.empty_like(module.weight)
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
            assert torch.equal(module.weight, weight)
            if module.bias is not None:
                bound = weight[0].numel() ** -0.5
                bias = torch.empty_like(module.bias).uniform_(-bound, bound, generator=generator)
                assert torch.equal(module.bias, bias)


def test_initialisation_forgets_training_and_moves_only_its_own_generator():
    network = build_network("resnet18-w4-bn", classes=10, side=32, generator=seeded(3))
    fresh = copy.deepcopy(network.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(8, 3, 32, 32, generator=seeded(4))).sum().backward()
    optimiser.step()
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, fresh[key])]
    assert any("running_mean" in key for key in changed) and any("num_batches" in key for key in changed)

    before = torch.get_rng_state()
    generator = seeded(3)
    initialise(network, generator)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in network.state_dict().items():
        assert torch.equal(value, fresh[key]), key
    initialise(network, generator)
    assert not torch.equal(network.front[0].weight, fresh["front.0.weight"])


def test_initialisation_does_not_depend_on_the_memory_layout():
    network = build_network("resnet18-w4-bn", classes=10, side=32, generator=seeded(3))
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    initialise(other, seeded(3))
    assert other.front[3].residual[0].weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_initialisation_names_a_layer_it_cannot_initialise():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    network = nn.Sequential(nn.Linear(2, 2), Scale())
    with pytest.raises(ElfError, match=r"parameter 1\.factor: its layer type Scale"):
        initialise(network, seeded(0))
    initialise(network, seeded(0), strict=False)
    assert network[1].factor == 1


def test_building_checks_the_teachers_map():
    shape = names.feature_shape("convnet-w64-d3-in", 32)
    generator = seeded(0)
    build_network("resnet18-w8-in", classes=10, side=32, generator=generator, feature_shape=shape)
    with pytest.raises(ElfError, match=r"128x4x4 feature map.*teacher's is 64x4x4.*convnet-w128-d3-in"):
        build_network("resnet18-w16-in", classes=10, side=32, generator=generator, feature_shape=shape)


@pytest.mark.parametrize(("name", "side"), [("vgg11-in", 28), ("convnet-w8-d6-in", 32)])
def test_building_refuses_images_too_small(name, side):
    with pytest.raises(ElfError, match="needs images of side"):
        build_network(name, classes=10, side=side, generator=seeded(0))


# --- FrePo's ConvNet ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["bn", "none"])
@pytest.mark.parametrize(("width", "side", "classes"), [(128, 32, 10), (128, 64, 200), (8, 32, 100)])
def test_parameters_of_frepoconv(width, side, classes, norm):
    kernels = 9 * (3 * width + width * 2 * width + 2 * width * 4 * width)
    front = kernels + 7 * width + (2 * (width + 2 * width) if norm == "bn" else 0)
    rear = 4 * width * (side // 8) ** 2 * classes + classes
    network = skeleton(f"frepoconv-w{width}-{norm}", classes, side)
    assert (count(network.front), count(network.rear)) == (front, rear)


@pytest.mark.parametrize("norm", ["bn", "none"])
def test_frepoconv_equals_functions_alone(norm):
    """Batch normalisation before the convolution of the second and third block, over batch and positions."""
    network = build_network(f"frepoconv-w4-{norm}", classes=5, side=16, generator=seeded(0)).double()
    images = torch.randn(6, 3, 16, 16, generator=seeded(1), dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel()), dtype=torch.float64)
    parameters = iter(list(network.parameters()))
    x = images
    for block in range(3):
        if norm == "bn" and block > 0:
            weight, bias = (next(parameters)[:, None, None] for _ in range(2))
            mean = x.mean((0, 2, 3), keepdim=True)
            x = (x - mean) / (((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt() * weight + bias
        x = F.avg_pool2d(F.conv2d(x, next(parameters), next(parameters), padding=1).relu(), 2)
    torch.testing.assert_close(network.front(images), x)
    torch.testing.assert_close(network(images), x.flatten(1) @ next(parameters).T + next(parameters))


def test_frepoconv_keeps_a_tenth_of_the_old_running_average():
    network = build_network("frepoconv-w4-bn", classes=5, side=16, generator=seeded(0))
    images = torch.randn(6, 3, 16, 16, generator=seeded(1))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.num_features for layer in norms] == [4, 8]
    inputs = []
    norms[0].register_forward_pre_hook(lambda layer, given: inputs.append(given[0].detach()))
    for _ in range(2):
        network(images)
    mean = inputs[0].mean((0, 2, 3))
    torch.testing.assert_close(norms[0].running_mean, 0.1 * 0.9 * mean + 0.9 * mean)


def test_frepoconv_starts_with_lecun_normal_kernels_and_zero_biases():
    """Variance 1 / fan in, nothing beyond two standard deviations of the normal that was cut."""
    network = build_network("frepoconv-w128-bn", classes=10, side=32, generator=seeded(0))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        fan_in = layer.weight[0].numel()
        torch.testing.assert_close(layer.weight.var().item() * fan_in, 1.0, rtol=0.05, atol=0)
        assert abs(layer.weight.mean().item()) < 0.05 * fan_in**-0.5
        cut = 2 * fan_in**-0.5 / 0.8796256610342398
        assert 0.97 * cut < layer.weight.abs().max() <= cut * (1 + 1e-6)
        assert not layer.bias.any()
