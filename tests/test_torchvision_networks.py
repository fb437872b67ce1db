"""torchvision's networks: where they are cut, that cutting changes nothing, and what the errors tell."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn
from torchvision import models

from elf.errors import ElfError
from elf.networks.building import build_network
from elf.networks.checking import problem
from elf.networks.torchvision_models import cut_points
from elf.specs.objective import Objective
from elf.study.networks import check_networks, torchvision_networks

FITTING = [
    ("mobilenet_v2", 32, (32, 4, 4)),
    ("mobilenet_v2", 64, (96, 4, 4)),
    ("resnet18", 32, (128, 4, 4)),
    ("resnet18", 64, (256, 4, 4)),
    ("densenet121", 32, (128, 4, 4)),
    ("shufflenet_v2_x0_5", 32, (48, 4, 4)),
    ("efficientnet_b0", 32, (40, 4, 4)),
    ("googlenet", 32, (480, 4, 4)),
    ("convnext_tiny", 32, (192, 4, 4)),
]


def build(model, side=32, feature_shape=None, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    name = f"torchvision:{model}"
    return build_network(name, classes=classes, side=side, generator=generator, feature_shape=feature_shape)


def random_images(count, side, seed=5):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("model", "side", "shape"), FITTING)
def test_split_network_equals_torchvisions_own_on_the_same_weights(model, side, shape):
    """In both modes; a front and a rear that share no parameter and leave none out."""
    network = build(model, side, shape)
    with torch.random.fork_rng(devices=[]):
        options = {"aux_logits": False, "init_weights": False} if model == "googlenet" else {}
        whole = models.get_model(model, weights=None, num_classes=10, **options)
    ours, theirs = dict(network.named_parameters()), dict(whole.named_parameters())
    assert {key.split(".", 1)[1] for key in ours} == set(theirs) and len(ours) == len(theirs)
    whole.load_state_dict({key.split(".", 1)[1]: value for key, value in network.state_dict().items()})

    images = random_images(4, side)
    network.eval(), whole.eval()
    features = network.front(images)
    assert features.shape == (4, *shape)
    before = features.detach().clone()
    torch.testing.assert_close(network.rear(features), whole(images), rtol=1e-5, atol=1e-6)
    assert torch.equal(features, before)

    network.train(), whole.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = whole(images)
        torch.manual_seed(1)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


def test_the_cut_is_the_deepest_that_fits():
    """After the two blocks of ResNet18's third stage, as in the project's own ResNet18 for large images."""
    network = build("resnet18", 64, (256, 4, 4))
    front = {key.split(".")[0] for key, _ in network.front.named_parameters()}
    rear = {key.split(".")[0] for key, _ in network.rear.named_parameters()}
    assert front == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert rear == {"layer4", "fc"}
    images = random_images(2, 64)
    own = build_network("resnet18-bn", classes=10, side=64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(own.parameters(), network.parameters(), strict=True):
            ours.copy_(theirs)
    torch.testing.assert_close(own.front(images), network.front(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own(images), network(images), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """Two parallel paths, a constant and a plain path: only some nodes see all of the data flow."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right, self.last = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        start = self.first(images)
        left, right = self.left(start), self.right(start)
        return self.last((left + right) * self.scale) + 1


def test_cut_points_are_the_nodes_that_no_path_avoids():
    """Against the definition: without the node, the output can no longer be reached from the input."""
    graph = fx.symbolic_trace(Branches()).graph
    images = next(node for node in graph.nodes if node.op == "placeholder")

    def reached(avoiding):
        seen, waiting = set(), [images]
        while waiting:
            node = waiting.pop()
            if node is not avoiding and node not in seen:
                seen.add(node)
                waiting += node.users
        return seen

    output = next(node for node in graph.nodes if node.op == "output")
    inner = [node for node in reached(None) if node.op not in ("placeholder", "output")]
    expected = {node for node in inner if output not in reached(node)}
    assert set(cut_points(graph)) == expected
    assert {node.name for node in inner} - {node.name for node in expected} == {"left", "right"}


def test_networks_start_and_stay_in_the_mode_they_are_set_to():
    network = build("efficientnet_b0", 32, (40, 4, 4))
    assert all(module.training for module in network.modules())
    images = random_images(2, 32)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(network(images), network(images))


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    network, same, other = (build("convnext_tiny", 32, (192, 4, 4), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    state, same_state, other_state = network.state_dict(), same.state_dict(), other.state_dict()
    assert all(torch.equal(state[key], same_state[key]) for key in state)
    assert not torch.equal(state["rear.classifier.2.weight"], other_state["rear.classifier.2.weight"])


def test_weights_are_pytorchs_defaults():
    """MobileNetV2's own constructor gives its last layer a normal distribution and a zero bias."""
    network = build("mobilenet_v2", 32, (32, 4, 4))
    last = network.rear.get_submodule("classifier.1")
    bound = last.in_features**-0.5
    assert last.weight.abs().max() <= bound and last.bias.abs().max() <= bound
    assert last.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert last.bias.abs().max() > 0


def test_a_copy_is_independent():
    network = build("mobilenet_v2", 32, (32, 4, 4)).eval()
    images = random_images(2, 32)
    before = network(images)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(network(images), before)


def test_nothing_fits_lists_the_maps_there_are():
    with pytest.raises(ElfError) as caught:
        build("mobilenet_v2", 32, (128, 4, 4))
    message = str(caught.value)
    assert message.startswith("torchvision:mobilenet_v2 on images of side 32 has no feature map of shape 128x4x4")
    assert "32x4x4 (after add_2)" in message and "192x4x4 (after features.7.conv.0.2)" in message
    shapes = re.findall(r"([0-9x]+) \(after", message)
    assert len(set(shapes)) == len(shapes) == 14
    assert message.endswith("such as convnet-w192-d3-in") and "\n" not in message


def test_the_suggested_teacher_fits():
    build("mobilenet_v2", 32, (192, 4, 4))


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ("mobilenet_v22", (32, 4, 4), "no classification network 'mobilenet_v22'; close are mobilenet_v2"),
        ("fasterrcnn_resnet50_fpn", (32, 4, 4), "no classification network"),
        ("alexnet", (32, 4, 4), "alexnet cannot process images of side 32 .*too small"),
        ("vit_b_32", (32, 4, 4), "vit_b_32 cannot process images of side 32 .*Wrong image height"),
    ],
)
def test_errors_say_what_is_wrong(model, shape, expected):
    with pytest.raises(ElfError, match=expected) as caught:
        build(model, 32, shape)
    assert "\n" not in str(caught.value)


def test_an_untraceable_network_is_named(monkeypatch):
    class Untraceable(nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    monkeypatch.setattr(models, "get_model", lambda *_, **__: Untraceable())
    with pytest.raises(ElfError, match="torchvision:resnet18 cannot be split: tracing its forward pass failed"):
        build("resnet18", 32, (128, 4, 4))


def test_without_features_it_has_the_weights_of_the_split_network():
    split = build("mobilenet_v2", feature_shape=(32, 4, 4), seed=3).eval()
    whole = build("mobilenet_v2", feature_shape=None, seed=3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole(images), split(images), rtol=0, atol=0)


# --- before a workflow starts ----------------------------------------------------------------------------


def grid_of(network: str, *, objective: str = "task", teacher: str | None = None) -> SimpleNamespace:
    evaluation = SimpleNamespace(
        dataset="cifar10", network=network, objective=Objective(name=objective), teacher_network=teacher
    )
    empty = {name: {} for name in ("experts", "synthetic_sets", "teachers")}
    datasets = {"cifar10": SimpleNamespace(name="cifar10", side=32)}
    return SimpleNamespace(datasets=datasets, evaluations={"one": evaluation}, **empty)


def test_networks_of_a_grid_are_looked_at_in_another_process(other_processes):
    check_networks(grid_of("convnet-w128-d3-in"))
    with pytest.raises(ElfError, match="alexnet cannot process images of side 32") as caught:
        check_networks(grid_of("torchvision:alexnet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ("mobilenet_v2", (32, 4, 4), None),
        ("mobilenet_v2", None, None),
        ("regnet_y_400mf", None, None),
        ("mobilenet_v2", (33, 4, 4), "has no feature map of shape 33x4x4"),
        ("mobilenet_v22", None, "no classification network 'mobilenet_v22'; close are mobilenet_v2"),
        ("alexnet", None, "alexnet cannot process images of side 32"),
    ],
)
def test_what_is_looked_at_is_what_would_be_built(model, shape, expected):
    found = problem(f"torchvision:{model}", 32, shape)
    assert (found is None) if expected is None else (expected in found and "\n" not in found)


def test_objectives_on_features_ask_for_the_teachers_map():
    grid = grid_of("torchvision:mobilenet_v2", objective="elf", teacher="convnet-w192-d3-in")
    assert torchvision_networks(grid) == [("torchvision:mobilenet_v2", 32, (192, 4, 4))]
