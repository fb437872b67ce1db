"""Parameters and operations in closed form, against the networks and the loops themselves."""

from functools import partial
from typing import get_args

import pytest
import torch
from helpers import stream
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from elf.data import augmentation
from elf.distillation import dm, dsa, mtt, tesla
from elf.distillation.of_frepo import regression
from elf.distillation.shared.trajectories import draw_steps
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork, flatten
from elf.objectives.elf import loss as elf_loss
from elf.planning import work
from elf.planning.distillation_work import distillation_work
from elf.planning.sizes import checkpoint_bytes, expert_bytes
from elf.planning.work import FREPO_STEPS, Sizes, passes, updates
from elf.specs.counting import counts
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.expert import ExpertSpec
from elf.specs.objective import OBJECTIVES
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import TrainingRecipe
from elf.training.frepo import STEPS

TERMS = get_args(OBJECTIVES.read("elf").Settings.model_fields["terms"].annotation)
STRATEGY = "color_crop_cutout_flip_scale_rotate"
CPU = torch.device("cpu")
TRAINING = dict(final_pass=False, lr=0.1, momentum=0.0, weight_decay=0.0, lr_drop=False, augmentation="none")


class Operations(TorchDispatchMode):
    """Counts as ``FlopCounterMode`` does, but also where a gradient is taken with respect to an input."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function._overloadpacket in flop_registry:
            self.count += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def built(name, classes=4, side=32):
    return build_network(name, classes=classes, side=side, generator=stream())


def counted(run) -> int:
    with Operations() as operations:
        run()
    return operations.count


NAMES = st.one_of(
    st.builds("convnet-w{}-d{}-{}".format, st.integers(1, 9), st.integers(1, 4), st.sampled_from(["in", "bn"])),
    st.builds("frepoconv-w{}-{}".format, st.integers(1, 9), st.sampled_from(["bn", "none"])),
    st.builds(
        "{}-w{}-{}".format, st.sampled_from(["resnet18", "vgg11"]), st.integers(1, 4), st.sampled_from(["in", "bn"])
    ),
)


@given(NAMES, st.integers(2, 12), st.one_of(st.integers(32, 70), st.sampled_from([32, 63, 64, 65, 96, 97])))
def test_counts_are_those_of_the_network(name, classes, side):
    network = built(name, classes, side)
    found = counts(name, classes=classes, side=side)
    for part, module in ((found.front, network.front), (found.rear, network.rear)):
        assert part.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert found.state_bytes == sum(t.numel() * t.element_size() for t in network.state_dict().values())
    images = torch.zeros(2, 3, side, side)
    assert counted(lambda: network.front(images)) == 2 * found.front.flops
    assert counted(lambda: network(images)) == 2 * found.forward
    assert counted(lambda: network(images).sum().backward()) == 2 * found.training


@pytest.mark.parametrize(
    ("name", "classes", "side", "parameters"),
    [
        ("convnet-w128-d3-in", 10, 32, 320_010),
        ("convnet-w512-d3-in", 100, 32, 5_556_324),
        ("convnet-w128-d4-in", 1000, 64, 2_496_360),
        ("resnet18-bn", 100, 32, 11_220_132),
        ("resnet18-in", 1000, 64, 11_689_512),
        ("vgg11-bn", 10, 32, 9_231_114),
        ("vgg11-in", 200, 64, 35_219_400),
    ],
)
def test_parameters_in_the_paper_are_those_of_its_networks(name, classes, side, parameters):
    assert counts(name, classes=classes, side=side).parameters == parameters


def test_networks_of_torchvision_are_not_counted():
    assert counts("torchvision:mobilenet_v2", classes=10, side=32) is None


SIZES = Sizes(classes=3, train=60, test=30, side=32)
IPC = 4


def spec_of(module, network, **recipe):
    return SyntheticSpec(dataset="x", method="x", module=module, network=network, ipc=IPC, seed=0, recipe=recipe)


def draws(count, images):
    return [augmentation.draw(STRATEGY, images, 32, stream(), CPU) for _ in range(count)]


def synthetic():
    return torch.randn(SIZES.classes * IPC, 3, 32, 32), torch.arange(SIZES.classes).repeat_interleave(IPC)


REAL = [torch.randn(10, 3, 32, 32) for _ in range(SIZES.classes)]


def test_an_update_of_dm():
    network = built("convnet-w8-d3-in", 3).requires_grad_(False)
    images = synthetic()[0].requires_grad_()
    run = lambda: dm.matching_loss(network, REAL, images.split(IPC), draws(3, 1), align_corners=True).backward()  # noqa: E731
    assert (
        counted(run) == distillation_work(spec_of("dm", "convnet-w8-d3-in", iterations=0, batch_real=10), SIZES).flops
    )


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_an_update_of_dsa(norm):
    name, images = f"convnet-w8-d3-{norm}", synthetic()[0]
    network = built(name, 3)

    def run():
        if norm == "bn":
            dsa.fix_statistics(network, torch.cat(REAL))
        dsa.matching_loss(network, REAL, images.split(IPC), draws(3, 1), distance="ours", align_corners=True)

    recipe = dict(iterations=0, outer_loop=1, inner_loop=0, batch_inner=8, batch_real=10, bn_real=10)
    assert distillation_work(spec_of("dsa", name, **recipe), SIZES).flops == pytest.approx(counted(run), rel=0.02)


def test_networks_of_dsa_are_trained_between_its_matching_steps():
    recipe = dict(iterations=1, outer_loop=3, inner_loop=5, batch_inner=8, batch_real=10, bn_real=10)
    name = "convnet-w8-d3-in"
    without = distillation_work(spec_of("dsa", name, **(recipe | {"inner_loop": 0})), SIZES)
    inner = updates(counts(name, classes=3, side=32), SIZES.classes * IPC, 2)
    assert distillation_work(spec_of("dsa", name, **recipe), SIZES).flops == without.flops + inner.flops * 2 * 2 * 5


@pytest.mark.parametrize(
    ("module", "gradient", "recipe"),
    [
        ("mtt", mtt.unrolled, {"gradient": "unrolled"}),
        # No room at all: one step at once.
        ("mtt", partial(mtt.unrolled, at_once=1), {"gradient": "unrolled", "memory_budget_gb": 0.0}),
        ("mtt", tesla.constant_memory, {"gradient": "constant-memory"}),
        ("tesla", tesla.constant_memory, {}),
    ],
)
@pytest.mark.parametrize("batch", [0, 5])
def test_an_update_of_trajectory_matching(module, gradient, recipe, batch):
    name, steps = "convnet-w8-d3-in", 12
    network, (images, labels) = built(name, 3), synthetic()
    start = flatten(network)
    settings = {"synthetic_steps": steps, "batch_syn": batch, "augmentation": STRATEGY}
    drawn = draw_steps(len(images), 32, settings, stream(), stream(), CPU)
    flat, target, size = FlatNetwork(network), start + 0.01, torch.tensor(0.01)
    run = lambda: gradient(flat, start, target, images, labels, size, drawn, align_corners=True)  # noqa: E731
    found = distillation_work(spec_of(module, name, iterations=0, **settings, **recipe), SIZES)
    assert found.flops == pytest.approx(counted(run), rel=0.02)


def test_an_update_of_frepo():
    name = "frepoconv-w8-bn"
    network, (images, _) = built(name, 3).eval(), synthetic()
    images, labels = images.requires_grad_(), torch.randn(len(images), 3, requires_grad=True)

    def run():
        loss = regression.meta_loss(
            network.front, images, labels, torch.cat(REAL), torch.randn(30, 3), ridge=1e-3, mirror=True
        )
        torch.autograd.grad(loss.total, (images, labels))
        # The step of the online network.
        network(images.detach()).square().sum().backward()

    recipe = dict(iterations=1, batch_real=30, mirror=True, batch_online=100)
    assert distillation_work(spec_of("frepo", name, **recipe), SIZES).flops == pytest.approx(counted(run), rel=0.01)


@pytest.mark.parametrize("terms", TERMS)
def test_a_step_of_elf(terms):
    name, (images, labels) = "resnet18-w2-in", synthetic()
    network, network_counts = built(name, 3), counts(name, classes=3, side=32)
    targets = network.front(images).detach()
    settings = dict(terms=terms, distance="ce", lambda_front=1.0, lambda_rear=1.0, variant="official")
    counted_step = counted(lambda: elf_loss(network, images, labels, targets, **settings).backward())
    spec = EvaluationSpec(
        dataset="x",
        synthetic_set="s",
        network=name,
        objective=Objective(name="elf", **settings),
        teacher_network="t",
        teacher_epoch=1,
        recipe=TrainingRecipe(epochs=1, batch_size=100, **TRAINING),
        seeds=(0,),
    )
    tested = passes(network_counts, SIZES.test, 1)
    assert work.evaluation_work(spec, SIZES, len(images)).flops == counted_step + tested.flops


def test_trainings_count_passes_batches_and_tests():
    network = counts("convnet-w4-d3-in", classes=3, side=32)
    recipe = TrainingRecipe(epochs=9, batch_size=25, **TRAINING)
    found = work.training(network, 60, recipe, 4)
    assert found.flops == 4 * 60 * network.training
    assert found.calls == 4 * 3 * (3 * network.layers - 1)  # batches of 25, 25 and 10
    assert work.training(network, 60, recipe) == found * (9 / 4)
    teacher = TeacherSpec(dataset="x", network="convnet-w4-d3-in", seed=0, recipe=recipe)
    assert work.teacher_work(teacher, SIZES, {2, 4}).flops == found.flops + 2 * SIZES.test * network.forward


@pytest.mark.parametrize("name", ["convnet-w4-d3-bn", "resnet18-w4-bn", "vgg11-w4-bn", "resnet18-w4-in"])
def test_further_parts_of_batch_norms_cost_calls_alone(name):
    network = counts(name, classes=3, side=32)
    assert network.batch_norms == sum(isinstance(layer, nn.BatchNorm2d) for layer in built(name, 3).modules())
    one, four = (
        work.training(network, 60, TrainingRecipe(epochs=2, batch_size=25, batch_norm_splits=splits, **TRAINING))
        for splits in (1, 4)
    )
    extra = 2 * 3 * 3 * network.batch_norms * 3 * work.CALLS_OF_A_PART
    assert (four.flops, four.values) == (one.flops, one.values) and four.calls == pytest.approx(one.calls + extra)


def test_what_is_not_known_has_no_work():
    assert distillation_work(spec_of("a_new_method", "convnet-w4-d3-in"), SIZES) is None
    assert distillation_work(spec_of("dm", "torchvision:resnet18", iterations=1, batch_real=5), SIZES) is None


def test_selection_costs_networks_for_each_candidate():
    plain = dict(iterations=9, batch_real=10)
    chosen = plain | dict(selection="best_on_test", selection_every=5, selection_networks=2, selection_epochs=3)
    name = "convnet-w4-d3-bn"
    network = counts(name, classes=3, side=32)
    extra = 2 * 2 * (4 * SIZES.classes * IPC * network.training + SIZES.test * network.forward)
    found = distillation_work(spec_of("dm", name, **chosen), SIZES).flops
    assert found == distillation_work(spec_of("dm", name, **plain), SIZES).flops + extra


def test_repeated_tables_are_equal():
    assert FREPO_STEPS == STEPS


@pytest.mark.parametrize(("storage", "each"), [("float32", 4), ("bfloat16", 2)])
def test_bytes_of_an_expert_are_those_of_its_snapshots(storage, each):
    recipe = dict(epochs=9, batch_size=25, storage=storage, **TRAINING)
    spec = ExpertSpec(dataset="x", network="convnet-w4-d3-in", index=0, epochs=(0, 1, 5), recipe=recipe)
    exact = 3 * each * counts(spec.network, classes=3, side=32).parameters
    assert exact < expert_bytes(spec, SIZES) < exact + 10_000
    teacher = TeacherSpec(
        dataset="x", network="resnet18-bn", seed=0, recipe=TrainingRecipe(epochs=1, batch_size=2, **TRAINING)
    )
    state = sum(tensor.numel() * tensor.element_size() for tensor in built("resnet18-bn", 3).state_dict().values())
    assert state < checkpoint_bytes(teacher, SIZES) < state + 10_000
