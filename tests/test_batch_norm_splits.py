"""One device that splits its batch norms against replicas on parts of the batch, as several GPUs have them."""

import copy

import pytest
import torch
from torch import nn

from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.randomness import generator
from elf.specs.training import TrainingRecipe
from elf.training import train


def network(name: str = "convnet-w4-d3-bn") -> nn.Module:
    built = build_network(name, classes=3, side=32, generator=generator(0, "network")).double()
    return built.train()


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("name", ["convnet-w4-d3-bn", "resnet18-w4-bn"])
@pytest.mark.parametrize("count", [20, 18, 9])
def test_outputs_gradients_and_statistics_are_those_of_replicas(name, count):
    plain, batch = network(name), images(count)
    split = copy.deepcopy(plain)
    split_batch_norm(split, 4)
    weights = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = split(batch)
    (found * weights).sum().backward()
    replicas = [copy.deepcopy(plain) for _ in batch.chunk(4)]
    outputs = torch.cat([replica(part) for replica, part in zip(replicas, batch.chunk(4), strict=True)])
    (outputs * weights).sum().backward()
    torch.testing.assert_close(found, outputs)
    for place, parameter in enumerate(split.parameters()):
        summed = sum(list(replica.parameters())[place].grad for replica in replicas)
        torch.testing.assert_close(parameter.grad, summed)
    for kept, first in zip(split.buffers(), replicas[0].buffers(), strict=True):
        torch.testing.assert_close(kept, first)
    with torch.no_grad():
        torch.testing.assert_close(split.eval()(batch), replicas[0].eval()(batch))


def test_one_part_and_instance_normalisation_stay_as_they_are():
    for name, splits in (("convnet-w4-d3-bn", 1), ("convnet-w4-d3-in", 4)):
        changed = network(name)
        split_batch_norm(changed, splits)
        assert [type(module) for module in changed.modules()] == [type(module) for module in network(name).modules()]


def test_the_recipe_of_a_training_reaches_the_network():
    states = []
    for splits in (1, 4):
        trained = network().float()
        recipe = TrainingRecipe(
            epochs=2, final_pass=False, lr=0.1, momentum=0.9, weight_decay=0, batch_size=12, lr_drop=False,
            augmentation="none", batch_norm_splits=splits,
        )  # fmt: skip
        generators = {
            "order_generator": generator(0, "order"),
            "augmentation_generator": generator(0, "augmentation"),
        }
        train(trained, images(12).float(), torch.arange(12) % 3, recipe, **generators)
        states.append(trained.state_dict())
    assert states[0].keys() == states[1].keys()
    assert not all(torch.equal(states[0][name], states[1][name]) for name in states[0])
