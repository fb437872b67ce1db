"""One device that splits its batch norms against replicas on parts of the batch, as several GPUs have them."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_trajectories import (
    COUNT,
    IPC,
    SETTINGS,
    FakeExperts,
    ignore,
    naive_stopped_loss,
    naive_unrolled_loss,
    one_update,
    random_dataset,
)
from naive_trajectories import network as naive_network
from torch import nn

from elf.distillation import dsa, mtt
from elf.distillation.mtt import unrolled
from elf.distillation.tesla import constant_memory
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork
from elf.specs.training import TrainingRecipe
from elf.training.protocol import train


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


# --- while distilling -------------------------------------------------------------------------------------


def naive_batch_norm_in_parts(maps, scale, shift, splits):
    return torch.cat([nn.functional.batch_norm(part, None, None, scale, shift, True) for part in maps.chunk(splits)])


@pytest.mark.parametrize(("count", "splits"), [(10, 4), (8, 4), (7, 3), (5, 1)])
def test_first_and_second_derivatives_are_those_of_pytorch_piece_by_piece(count, splits):
    """Ten images in four parts leave one image for the last."""
    noise = torch.Generator().manual_seed(count)
    layer = nn.Sequential(nn.BatchNorm2d(3)).double()
    split_batch_norm(layer, splits)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=noise)
    maps = torch.randn(count, 3, 4, 4, dtype=torch.float64, generator=noise, requires_grad=True)
    into = torch.randn(maps.shape, dtype=torch.float64, generator=noise)
    scale, shift = (parameter.detach().clone().requires_grad_() for parameter in layer.parameters())
    results = []
    for output, variables in (
        (layer(maps), (maps, *layer.parameters())),
        (naive_batch_norm_in_parts(maps, scale, shift, splits), (maps, scale, shift)),
    ):
        first = torch.autograd.grad((output**3 * into).sum(), variables, create_graph=True)
        length = sum(gradient.square().sum() for gradient in first)
        results.append((output, *first, *torch.autograd.grad(length, variables)))
    torch.testing.assert_close(*results)
    assert all(tensor.abs().max() > 0 for tensor in results[0])


@pytest.mark.parametrize("gradient", [unrolled, constant_memory])
def test_a_student_in_four_parts_is_the_one_written_out(gradient):
    """Loss and gradients of trajectory matching, against a network of plain functions that is cut by hand."""
    update = one_update("bn", 3, 3, COUNT)
    student = naive_network("bn").double()
    split_batch_norm(student, 4)
    found = gradient(FlatNetwork(student), **update, align_corners=True)
    loss = naive_unrolled_loss if gradient is unrolled else naive_stopped_loss

    def in_parts(maps, scale, shift):
        return naive_batch_norm_in_parts(maps, scale.flatten(), shift.flatten(), 4)

    images, step_size = (update[name].clone().requires_grad_() for name in ("images", "step_size"))
    value = loss(**update | {"images": images, "step_size": step_size}, norm=in_parts)
    of_images, of_step_size = torch.autograd.grad(value, (images, step_size))
    torch.testing.assert_close(found.loss, value.detach())
    torch.testing.assert_close(found.images, of_images)
    torch.testing.assert_close(found.step_size, of_step_size)
    whole = gradient(FlatNetwork(naive_network("bn").double()), **update, align_corners=True)
    assert not torch.allclose(found.images, whole.images, rtol=0.01)


def test_mtt_takes_the_parts_from_its_recipe_and_leaves_one_piece_where_there_are_none():
    def distilled(norm="bn", **more):
        return mtt.distill(
            random_dataset(), settings=SETTINGS | {"gradient": "unrolled", "batch_syn": 0} | more, ipc=IPC,
            network=f"convnet-w4-d2-{norm}", seed=0, experts=FakeExperts(norm=norm), progress=ignore,
        ).images  # fmt: skip

    one, four = distilled(batch_norm_splits=1), distilled(batch_norm_splits=4)
    assert torch.equal(one, distilled()) and not torch.allclose(one, four, atol=1e-3)
    assert torch.equal(distilled("in", batch_norm_splits=4), distilled("in"))


def test_dsa_in_parts_has_its_running_statistics_from_the_first_images_alone():
    """As its official code on several GPUs: of real images that lie class by class, from the first classes."""
    whole, split = network().float(), network().float()
    split_batch_norm(split, 4)
    real = torch.randn(12, 3, 32, 32) + torch.arange(12)[:, None, None, None]
    dsa.fix_statistics(split, real)
    dsa.fix_statistics(whole, real[:3])
    assert all(torch.equal(one, other) for one, other in zip(whole.buffers(), split.buffers(), strict=True))
    # Matching has these statistics for all images, in one piece.
    torch.testing.assert_close(whole(real), split(real))


def test_dsa_takes_the_parts_by_name():
    settings = {
        "iterations": 1, "outer_loop": 2, "inner_loop": 1, "lr": 0.1, "momentum": 0.5, "lr_network": 0.01,
        "batch_real": 4, "batch_inner": 6, "bn_real": 3, "distance": "ours", "augmentation": "none",
        "align_corners": False,
    }  # fmt: skip

    def distilled(**more):
        arguments = {"ipc": IPC, "network": "convnet-w4-d2-bn", "seed": 0, "progress": ignore}
        return dsa.distill(random_dataset(), settings=settings | more, **arguments).images

    one = distilled()
    assert torch.equal(one, distilled(batch_norm_splits=1)) and not torch.equal(one, distilled(batch_norm_splits=4))


# --- what it asks of a network ----------------------------------------------------------------------------


def test_splitting_again_and_back():
    changed, plain = network(), network()
    for splits in (4, 2):
        split_batch_norm(changed, splits)
        assert {m.splits for m in changed.modules() if isinstance(m, nn.BatchNorm2d)} == {splits}
    split_batch_norm(changed, 1)
    assert [type(module) for module in changed.modules()] == [type(module) for module in plain.modules()]
    torch.testing.assert_close(changed(images(8)), plain(images(8)))


def test_another_kind_of_batch_normalisation_is_refused():
    strange = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    split_batch_norm(strange, 1)
    with pytest.raises(ElfError, match=r"batch_norm_splits: found 4, but a BatchNorm1d .* set it to 1"):
        split_batch_norm(strange, 4)


@given(count=st.integers(1, 60), batch=st.integers(1, 60), splits=st.integers(1, 7))
def test_the_smallest_part_is_the_one_that_a_network_sees(count, batch, splits):
    recipe = TrainingRecipe(
        epochs=1, final_pass=False, lr=0.1, momentum=0, weight_decay=0, batch_size=batch, lr_drop=False,
        augmentation="none", batch_norm_splits=splits,
    )  # fmt: skip
    parts = [len(part) for images in torch.arange(count).split(batch) for part in images.chunk(splits)]
    assert recipe.smallest_part(count) == min(parts)
