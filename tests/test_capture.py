"""A step of training is one graph of operations, which gives the same bits when it is replayed for other batches."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives import elf, kd, task
from elf.specs.network import feature_shape
from elf.specs.training import TrainingRecipe
from elf.training.step import Batch, empty_momenta, step

CLASSES, SIDE, COUNT = 5, 32, 6
RECIPE = TrainingRecipe(
    epochs=1, final_pass=False, lr=0.05, momentum=0.9, weight_decay=5e-4, batch_size=COUNT, lr_drop=False,
    augmentation="none",
)  # fmt: skip
OBJECTIVES = {"task": task.loss, "elf": elf.loss, "kd": kd.loss}
NETWORKS = ["convnet-w4-d3-in", "convnet-w4-d3-bn", "resnet18-w2-in", "resnet18-w2-bn", "vgg11-w2-in", "vgg11-w2-bn"]


class Learner:
    """A network that makes steps, on its own or by a graph that was captured of one."""

    def __init__(self, name: str, objective) -> None:
        built = build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights"))
        self.network = built.train().to(memory_format=torch.channels_last)
        self.parameters = dict(self.network.named_parameters())
        self.momenta = empty_momenta(self.parameters, RECIPE)
        self.objective = objective

    def step(self, *batch: Tensor | None) -> Tensor:
        return step(
            self.network,
            self.parameters,
            self.momenta,
            Batch(*batch),
            objective=self.objective,
            recipe=RECIPE,
            lr=RECIPE.lr,
        )

    def captured(self, batch: Batch) -> nn.Module:
        """Return the graph of a step; to capture it, the step is made, and then undone."""
        before = copy.deepcopy(self.network.state_dict())
        graph = make_fx(self.step)(*batch)
        self.network.load_state_dict(before)
        for momentum in self.momenta.values():
            momentum.zero_()
        return graph


def batches(name: str, objective: str, count: int = 4) -> list[Batch]:
    draws = generator(0, "batches")

    def one() -> Batch:
        targets = None
        if objective != "task":
            shape = (CLASSES,) if objective == "kd" else feature_shape(name, SIDE)
            targets = torch.rand(COUNT, *shape, generator=draws)
        labels = torch.randint(CLASSES, (COUNT,), generator=draws)
        return Batch(torch.randn(COUNT, 3, SIDE, SIDE, generator=draws), labels, targets)

    return [one() for _ in range(count)]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_captured_step_replayed_equals_the_step_bit_for_bit(name, objective):
    data = batches(name, objective)
    eager, replayed = Learner(name, OBJECTIVES[objective]), Learner(name, OBJECTIVES[objective])
    graph = replayed.captured(data[0])
    losses = [eager.step(*batch) for batch in data]
    with torch.no_grad():
        again = [graph(*batch) for batch in data]
    assert len(set(map(float, losses))) == len(data)
    assert list(map(float, losses)) == list(map(float, again))
    for (key, tensor), other in zip(
        eager.network.state_dict().items(), replayed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), key
    for key, momentum in eager.momenta.items():
        assert torch.equal(momentum, replayed.momenta[key]) and momentum.count_nonzero(), key


def read_the_loss(network, images, labels, targets):
    loss = task.loss(network, images, labels)
    return loss * (2.0 if loss.item() > 1e9 else 1.0)


def branch_on_the_loss(network, images, labels, targets):
    loss = task.loss(network, images, labels)
    return loss if loss > 0 else -loss


@pytest.mark.parametrize("objective", [read_the_loss, branch_on_the_loss])
def test_a_step_that_asks_for_numbers_cannot_be_captured(objective):
    with pytest.raises(RuntimeError, match="value out of a tracing tensor"):
        Learner(NETWORKS[0], objective).captured(batches(NETWORKS[0], "task")[0])
