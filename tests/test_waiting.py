"""Loops that learn never make a GPU wait for the host, nor do shapes change from step to step.

There need be no GPU: `pretended_gpu` stands in for one.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from naive_trajectories import SETTINGS, FakeExperts, random_dataset
from pretended_gpu import DEVICE, PretendedGpu
from torch import Tensor

from elf.data import augmentation, frepo_augmentation
from elf.data.normalised import NormalisedImages
from elf.data.preprocessing import CONSTANTS, Normalisation
from elf.distillation import dm, dsa, frepo, mtt, tesla
from elf.distillation.shared.synthetic import RealImages
from elf.machine.device import to_device
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.objectives import elf, kd, task
from elf.objectives import frepo as frepo_objective
from elf.specs.network import feature_shape
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.training import frepo as frepo_evaluation
from elf.training import protocol as training

CLASSES, SIDE, COUNT, PASSES = 3, 32, 9, 3
RECIPE = TrainingRecipe(
    epochs=PASSES, final_pass=False, lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=4, lr_drop=True,
    augmentation=augmentation.STRATEGY,
)  # fmt: skip
FREPO = FrepoRecipe(
    steps=12, lr=0.01, warmup_steps=2, lr_final_fraction=0.1, batch_size=4, augmentation=frepo_augmentation.STRATEGY
)
OBJECTIVES = {"task": task.loss, "elf": elf.loss, "kd": kd.loss}
NETWORKS = ["convnet-w4-d3-in", "convnet-w4-d3-bn", "resnet18-w2-in", "resnet18-w2-bn", "vgg11-w2-in", "vgg11-w2-bn"]


def streams() -> dict[str, torch.Generator]:
    return {name: generator(0, name) for name in ("order_generator", "augmentation_generator")}


def images(count: int = COUNT, side: int = SIDE) -> Tensor:
    return torch.randn(count, 3, side, side, generator=generator(0, "images"))


def targets_for(objective: str, network: str) -> Tensor | None:
    if objective == "task":
        return None
    shape = (CLASSES,) if objective == "kd" else feature_shape(network, SIDE)
    return torch.rand(COUNT, *shape, generator=generator(0, "targets")).to(DEVICE)


def train(name: str = NETWORKS[0], objective: str = "task", *, loss=None, recipe=RECIPE, data=None, **others):
    network = build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights")).to(DEVICE)
    labels = (torch.arange(COUNT) % CLASSES).to(DEVICE)
    training.train(
        network,
        images().to(DEVICE) if data is None else data,
        labels,
        recipe,
        objective=loss or OBJECTIVES[objective],
        targets=targets_for(objective, name),
        **streams(),
        **others,
    )


def waits_of_training(**arguments) -> list[str]:
    """Return what made somebody wait between the first and the last step of a training."""
    with PretendedGpu() as gpu:
        started = []
        loss = arguments.pop("loss", OBJECTIVES[arguments.get("objective", "task")])

        def marked(*batch):
            started or started.append(len(gpu.record.waits))
            return loss(*batch)

        train(loss=marked, **arguments)
        assert started
        return gpu.record.waits[started[0] :]


# --- the pretended GPU ------------------------------------------------------------------------------------


def look_at_a_number(network, images, labels, targets):
    loss = task.loss(network, images, labels)
    loss.item()
    return loss


def branch(network, images, labels, targets):
    loss = task.loss(network, images, labels)
    return loss if loss > 0 else -loss


def copy_to_the_host(network, images, labels, targets):
    images.cpu()
    return task.loss(network, images, labels)


def choose_by_a_mask(network, images, labels, targets):
    wanted = labels >= 0
    return task.loss(network, images[wanted], labels[wanted])


def count_what_is_not_zero(network, images, labels, targets):
    images.nonzero()
    return task.loss(network, images, labels)


def select_by_a_mask(network, images, labels, targets):
    images.masked_select(images > 0)
    return task.loss(network, images, labels)


def send_and_wait(network, images, labels, targets):
    return task.loss(network, images, labels) + torch.ones(2).to(images.device).sum()


def send_from_memory_that_is_not_pinned(network, images, labels, targets):
    return task.loss(network, images, labels) + torch.ones(2).to(images.device, non_blocking=True).sum()


def make_from_a_number(network, images, labels, targets):
    return task.loss(network, images, labels) + torch.tensor(2.0, device=images.device)


def index_with_positions_of_the_host(network, images, labels, targets):
    order = torch.arange(len(images))
    return task.loss(network, images[order], labels[order])


PLANTED = [
    (look_at_a_number, "a look at numbers of the device", "loss.item()"),
    (branch, "a look at numbers of the device", "if loss > 0"),
    (copy_to_the_host, "a copy to the host", "images.cpu()"),
    (choose_by_a_mask, "a search in a mask", "images[wanted]"),
    (count_what_is_not_zero, "a look at numbers of the device", "nonzero()"),
    (select_by_a_mask, "a look at numbers of the device", "masked_select"),
    (send_and_wait, "a copy to the device that blocks", "to(images.device)"),
    (send_from_memory_that_is_not_pinned, "from memory that is not pinned", "non_blocking=True"),
    (make_from_a_number, "a copy to the device that blocks", "torch.tensor(2.0"),
    (index_with_positions_of_the_host, "tensors of host and device", "images[order]"),
]


@pytest.mark.parametrize(("planted", "what", "where"), PLANTED, ids=[entry[0].__name__ for entry in PLANTED])
def test_what_would_make_a_gpu_wait_is_noticed_at_every_step_and_named(planted, what, where):
    found = waits_of_training(loss=planted)
    ours = [wait for wait in found if what in wait and where in wait]
    assert len(ours) >= PASSES * 3, found


def test_what_is_sent_from_pinned_memory_is_no_wait():
    def send(network, images, labels, targets):
        return task.loss(network, images, labels) + to_device(torch.ones(2), images.device).sum()

    assert only_checks(waits_of_training(loss=send), checks=1)


def test_the_pretended_gpu_computes_what_the_cpu_computes():
    results = []
    for device in (torch.device("cpu"), DEVICE):
        with PretendedGpu():
            network = build_network("convnet-w4-d3-bn", classes=CLASSES, side=SIDE, generator=generator(0, "weights"))
            network.to(device)
            labels = (torch.arange(COUNT) % CLASSES).to(device)
            training.train(network, images().to(device), labels, RECIPE, **streams())
            results.append({name: tensor.cpu() for name, tensor in network.state_dict().items()})
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name])


# --- trainings --------------------------------------------------------------------------------------------


def only_checks(waits: list[str], checks: int) -> bool:
    """Whether nothing but the looks for a diverged training made the device wait, each a look at loss and weights."""
    return len(waits) == 2 * checks and all("divergence(" in wait for wait in waits)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_waits_for_nothing_but_its_last_check(name, objective):
    found = waits_of_training(name=name, objective=objective)
    assert only_checks(found, checks=1), found


def test_the_host_looks_every_so_many_passes(monkeypatch):
    monkeypatch.setattr(training, "PASSES_BETWEEN_CHECKS", 2)
    # After the passes 2, 4 and 5.
    assert only_checks(waits_of_training(recipe=RECIPE.model_copy(update={"epochs": 5})), checks=3)


def test_split_batch_norm_and_images_in_a_file_make_nobody_wait():
    split = RECIPE.model_copy(update={"batch_norm_splits": 2})
    assert only_checks(waits_of_training(name="convnet-w4-d3-bn", recipe=split), checks=1)
    pixels = torch.randint(256, (COUNT, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator(0, "pixels"))
    in_file = NormalisedImages(pixels, Normalisation(*CONSTANTS["cifar"]), DEVICE)
    found = waits_of_training(data=in_file)
    assert only_checks(found, checks=1), found


@pytest.mark.parametrize("name", ["frepoconv-w2-bn", "convnet-w2-d3-in", "vgg11-w2-bn"])
def test_the_training_of_frepo_waits_for_nothing_but_its_last_check(name):
    with PretendedGpu() as gpu:
        network = build_network(name, classes=CLASSES, side=SIDE, generator=generator(0, "weights")).to(DEVICE)
        labels = torch.randn(COUNT, CLASSES, generator=generator(0, "labels")).to(DEVICE)
        marks = []
        frepo_evaluation.train(
            network,
            images().to(DEVICE),
            labels,
            FREPO,
            objective=frepo_objective.loss,
            **streams(),
            progress=lambda *_: marks.append(len(gpu.record.waits)),
        )
    assert len(marks) == FREPO.steps
    assert gpu.record.waits[marks[0] : marks[-2]] == []
    assert only_checks(gpu.record.waits[marks[-2] : marks[-1]], checks=1)


# --- distillation -----------------------------------------------------------------------------------------

PIXELS = {"lr": 0.1, "momentum": 0.5, "batch_real": 4, "align_corners": False, "augmentation": augmentation.STRATEGY}
GRADIENTS = {"lr_network": 0.01, "batch_inner": 4, "bn_real": 4, "distance": "ours"}
REGRESSION = {"ridge": 0.01, "precision": "float64", "mirror": True, "lr": 0.001, "lr_final_fraction": 0.1}
POOL = {"pool_size": 2, "online_steps": 1, "lr_network": 0.001, "batch_online": 4, "batch_real": 8}
METHODS = {
    "dm": (dm.distill, PIXELS | {"iterations": 4}),
    "dsa": (dsa.distill, PIXELS | GRADIENTS | {"iterations": 1, "outer_loop": 3, "inner_loop": 2}),
    "mtt": (mtt.distill, SETTINGS | {"gradient": "unrolled"}),
    "tesla": (tesla.distill, SETTINGS | {"soft_labels": True, "pixel_step": "official"}),
    "frepo": (frepo.distill, REGRESSION | POOL | {"iterations": 6}),
}


class SentExperts(FakeExperts):
    """Snapshots that are sent as everything else is."""

    def snapshot(self, index, epoch, device):
        return to_device(super().snapshot(index, epoch, torch.device("cpu")), device)


DISTILLATIONS = [
    ("dm", "convnet-w4-d2-in"),
    ("dm", "convnet-w4-d2-bn"),
    ("dsa", "convnet-w4-d2-in"),
    ("dsa", "convnet-w4-d2-bn"),
    ("mtt", "convnet-w4-d2-in"),
    ("tesla", "convnet-w4-d2-in"),
    ("frepo", "frepoconv-w4-bn"),
]


def distil(method: str, network: str, device: torch.device, progress: Callable[..., None], **changes) -> Tensor:
    """Return the images that some updates on a device make."""
    distill, settings = METHODS[method]
    real = random_dataset()
    others = {"experts": SentExperts()} if method in ("mtt", "tesla") else {}
    return distill(
        RealImages(real.images.to(device), real.labels.to(device), real.classes),
        settings=settings | changes,
        ipc=2,
        network=network,
        seed=0,
        progress=progress,
        **others,
    ).images


def marks_of_updates(method: str, network: str, gpu: PretendedGpu, **changes) -> list[tuple[int, int]]:
    """Return, after each update, how many waits and operations there had been."""
    marks = []

    def mark(*_) -> None:
        marks.append((len(gpu.record.waits), len(gpu.record.operations)))

    distil(method, network, DEVICE, mark, **changes)
    return marks


@pytest.mark.parametrize(("method", "network"), DISTILLATIONS)
def test_an_update_of_a_distillation_waits_for_nothing(method, network):
    with PretendedGpu() as gpu:
        marks = marks_of_updates(method, network, gpu)
    assert len(marks) > 4
    # The first update comes after what happens once, the last one before the check at the end.
    found = gpu.record.waits[marks[0][0] : marks[-2][0]]
    if method == "dsa":
        # Each training on the synthetic images ends with a look at its loss and its weights: in the updates 2, 4 and 5.
        assert only_checks(found, checks=3), found
    else:
        assert found == []


# --- shapes -----------------------------------------------------------------------------------------------


def kinds_of_steps(monkeypatch, loss) -> dict[tuple[str, int], set]:
    """Return what is done in a step, from its augmentation to its update, by category and size of the batch."""
    kinds: dict[tuple[str, int], set] = {}
    begun = []
    draw, step = augmentation.draw, training.step

    def marked_draw(strategy, count, *arguments):
        drawn = draw(strategy, count, *arguments)
        begun.append((drawn.category, count, len(gpu.record.operations)))
        return drawn

    def marked_step(*arguments, **others):
        result = step(*arguments, **others)
        category, count, start = begun[-1]
        kinds.setdefault((category, count), set()).add(tuple(gpu.record.operations[start:]))
        return result

    monkeypatch.setattr(augmentation, "draw", marked_draw)
    monkeypatch.setattr(training, "step", marked_step)
    with PretendedGpu() as gpu:
        train("convnet-w2-d3-bn", "elf", loss=loss, recipe=RECIPE.model_copy(update={"epochs": 60}))
    assert len(begun) == 60 * 3
    return kinds


def test_the_shapes_of_a_step_follow_from_its_augmentation_and_the_size_of_its_batch(monkeypatch):
    kinds = kinds_of_steps(monkeypatch, elf.loss)
    # Nine images in batches of four leave one for the last.
    assert set(kinds) == {(category, count) for category in augmentation.CATEGORIES for count in (4, 1)}
    assert all(len(seen) == 1 for seen in kinds.values())
    assert all(len(operations) > 50 for seen in kinds.values() for operations in seen)


def test_a_shape_that_depends_on_numbers_is_noticed(monkeypatch):
    def keep_some(network, images, labels, targets):
        kept = images.flatten()[: int(1000 * images.abs().sum()) % 7 + 1]
        return elf.loss(network, images, labels, targets) + 0 * kept.sum()

    assert max(len(seen) for seen in kinds_of_steps(monkeypatch, keep_some).values()) > 1


@pytest.mark.parametrize(
    ("method", "network", "changes"),
    [
        ("dm", "convnet-w4-d2-bn", {}),
        ("dsa", "convnet-w4-d2-in", {"iterations": 4, "outer_loop": 1}),
        ("mtt", "convnet-w4-d2-in", {}),
        ("tesla", "convnet-w4-d2-in", {}),
        ("frepo", "frepoconv-w4-bn", {"online_steps": 100}),
    ],
)
def test_all_updates_of_a_distillation_are_the_same_operations_on_the_same_shapes(method, network, changes):
    with PretendedGpu() as gpu:
        marks = marks_of_updates(
            method, network, gpu, **({"augmentation": "rotate"} if method != "frepo" else {}), **changes
        )
    ends = [operations for _, operations in marks[:-1]]
    updates = [gpu.record.operations[start:end] for start, end in pairwise(ends)]
    assert len(updates) >= 3 and len(updates[0]) > 50
    assert all(update == updates[0] for update in updates)
