"""What is measured: each case twice, as the published scripts do it and as the project does it, from equal inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.plain import distillation as plain_distillation
from benchmarks.plain import training as plain_training
from benchmarks.plain.networks import build as build_plainly
from elf.data import augmentation
from elf.data.preprocessing import CONSTANTS, Normalisation
from elf.distillation import dm, dsa, mtt, tesla
from elf.distillation.dsa import STREAMS
from elf.distillation.shared import loop
from elf.distillation.shared.synthetic import RealImages, indices_by_class, real_initialisation
from elf.distillation.shared.trajectories import draw_segment, draw_steps
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.flat import flatten
from elf.objectives import elf as elf_objective
from elf.objectives import task
from elf.specs.network import feature_shape
from elf.specs.training import TrainingRecipe
from elf.training.protocol import train

Run = Callable[[int], dict[str, Tensor]]
"""Does some units of work, from the same start each time, and returns what came out."""


@dataclass(frozen=True)
class Size:
    """How much work a unit is.

    Attributes
    ----------
    network : str
    classes, per_class, ipc : int
        Classes; real images and synthetic images of each.
    batch_real : int
        Real images of a class in a step of DM or DSA.
    steps : int
        Synthetic steps of MTT and TESLA.
    dtype : torch.dtype
        Of images and parameters.
    device : torch.device
        Where they are.
    """

    network: str = "convnet-w128-d3-in"
    classes: int = 10
    per_class: int = 256
    ipc: int = 10
    batch_real: int = 256
    steps: int = 10
    dtype: torch.dtype = torch.float32
    device: torch.device = augmentation.CPU

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Return real images as bytes, and their labels, class by class."""
        count = self.classes * self.per_class
        pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator(0, "pixels"))
        return pixels, torch.arange(self.classes).repeat_interleave(self.per_class)

    def real(self) -> RealImages:
        pixels, labels = self.pixels()
        images = Normalisation(*CONSTANTS["cifar"]).transform(pixels).to(self.device, self.dtype)
        return RealImages(images, labels.to(self.device), self.classes)

    def synthetic(self) -> tuple[Tensor, Tensor]:
        chosen = real_initialisation(self.real(), self.ipc, generator(0, "distillation", "initial images"))
        return chosen.images, chosen.labels

    def network_of_the_project(self, seed: int = 0) -> nn.Module:
        network = build_network(self.network, classes=self.classes, side=32, generator=generator(seed, "network"))
        return network.to(self.device, self.dtype)

    def plain_network(self, seed: int = 0) -> nn.Module:
        """Return the plain network with the same weights."""
        network = build_plainly(self.network, self.classes).to(self.device, self.dtype)
        with torch.no_grad():
            ours = self.network_of_the_project(seed).parameters()
            for parameter, value in zip(network.parameters(), ours, strict=True):
                parameter.copy_(value)
        return network


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes
    ----------
    name, unit : str
        What is done, and what one unit of it is.
    plain, ours : callable (Size) -> Run
    size : Size
    units : int
        How many are timed at once.
    goal : float
        Ratio that was hoped for.
    """

    name: str
    unit: str
    plain: Callable[[Size], Run]
    ours: Callable[[Size], Run]
    size: Size = field(default_factory=Size)
    units: int = 1
    goal: float | None = None


def recipe(passes: int, **changes: object) -> TrainingRecipe:
    values = {"epochs": passes, "final_pass": False, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    values |= {"batch_size": 256, "lr_drop": False, "augmentation": augmentation.STRATEGY}
    return TrainingRecipe(**values | changes)


def outcome(network: nn.Module) -> dict[str, Tensor]:
    return {"parameters": flatten(network)}


# Evaluations: the ELF loss on a synthetic set.


def _features(size: Size) -> Tensor:
    shape = (size.classes * size.ipc, *feature_shape(size.network, 32))
    return torch.rand(shape, generator=generator(0, "features"), dtype=size.dtype).to(size.device)


def evaluation_plainly(size: Size) -> Run:
    images, labels = size.synthetic()
    dataset = plain_training.tensors(images, labels, _features(size))
    network = size.plain_network()

    def run(units: int) -> dict[str, Tensor]:
        streams = generator(0, "order"), generator(0, "augmentation")
        plain_training.train(network, dataset, recipe(units), plain_training.elf_loss, *streams)
        return outcome(network)

    return run


def evaluation(size: Size) -> Run:
    (images, labels), features, network = size.synthetic(), _features(size), size.network_of_the_project()

    def run(units: int) -> dict[str, Tensor]:
        streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
        train(network, images, labels, recipe(units), objective=elf_objective.loss, targets=features, **streams)
        return outcome(network)

    return run


# Teachers and experts: real images.


def teacher_plainly(size: Size) -> Run:
    dataset = plain_training.Pictures(*size.pixels(), *CONSTANTS["cifar"])
    return _real_plainly(size, dataset, {})


def expert_plainly(size: Size) -> Run:
    real = size.real()
    return _real_plainly(size, plain_training.tensors(real.images, real.labels), EXPERT)


EXPERT = {"momentum": 0.0, "weight_decay": 0.0}


def _real_plainly(size: Size, dataset, changes: Mapping[str, float]) -> Run:
    network = size.plain_network()

    def run(units: int) -> dict[str, Tensor]:
        streams = generator(0, "order"), generator(0, "augmentation")
        plain_training.train(network, dataset, recipe(units, **changes), plain_training.task_loss, *streams)
        return outcome(network)

    return run


def teacher(size: Size, changes: Mapping[str, float] | None = None) -> Run:
    real, network = size.real(), size.network_of_the_project()

    def run(units: int) -> dict[str, Tensor]:
        streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
        train(network, real.images, real.labels, recipe(units, **changes or {}), objective=task.loss, **streams)
        return outcome(network)

    return run


# Distillation: synthetic images after some steps.

PIXELS = {"lr": 1.0, "momentum": 0.5}
MATCHING = {"augmentation": augmentation.STRATEGY, "align_corners": False}
DSA = MATCHING | {"outer_loop": 1, "inner_loop": 1, "lr": 0.1, "momentum": 0.5, "lr_network": 0.01, "batch_inner": 256}
DSA |= {"bn_real": 16, "distance": "ours"}


def matching_plainly(size: Size, step: Callable[..., None], lr: float) -> Run:
    """Return the run of DM or DSA."""
    real = size.real()
    members = indices_by_class(real)

    def run(units: int) -> dict[str, Tensor]:
        streams = {name: generator(0, "distillation", name) for name in STREAMS}
        images = size.synthetic()[0].requires_grad_()
        optimiser = torch.optim.SGD([images], lr=lr, momentum=PIXELS["momentum"])
        draw = partial(_new_plain_network, size, streams["network"])
        for _ in range(units):
            step(
                images,
                optimiser,
                real.images,
                members,
                batch_real=size.batch_real,
                new_network=draw,
                streams=streams,
            )
        return {"images": images.detach()}

    return run


def _new_plain_network(size: Size, _stream: torch.Generator) -> nn.Module:
    return build_plainly(size.network, size.classes).to(size.device, size.dtype)


def _ignore(finished: int, total: int, loss: Tensor | None) -> None:
    pass


def distilling(size: Size, method, settings: Mapping[str, object]) -> Run:
    """Return the run of DM or DSA."""
    real = size.real()

    def run(units: int) -> dict[str, Tensor]:
        all_settings = dict(settings) | {"iterations": units - 1, "batch_real": size.batch_real}
        made = method.distill(real, settings=all_settings, ipc=size.ipc, network=size.network, seed=0, progress=_ignore)
        return {"images": made.images}

    return run


class TwoSnapshots:
    """The least that trajectory matching needs of experts."""

    epochs = (0, 1)

    def __init__(self, size: Size) -> None:
        begin, other = (flatten(size.network_of_the_project(seed)) for seed in (0, 1))
        self._snapshots = (begin, begin + 0.01 * other)

    def __len__(self) -> int:
        return 1

    def snapshot(self, index: int, epoch: int, device: torch.device) -> Tensor:
        return self._snapshots[epoch].to(device)


def _trajectory_settings(size: Size, units: int) -> dict[str, object]:
    settings = {"iterations": units - 1, "synthetic_steps": size.steps, "batch_syn": 0, "experts": 1}
    settings |= {"max_start_epoch": 1, "expert_epochs": 1, "lr_img": 100.0, "lr_lr": 1e-8, "lr_teacher": 0.01}
    return settings | {"momentum": 0.5, "augmentation": augmentation.STRATEGY, "align_corners": True}


def trajectories_plainly(size: Size, gradients: Callable[..., tuple[Tensor, Tensor]]) -> Run:
    network, experts = size.plain_network(), TwoSnapshots(size)
    begin, target = (experts.snapshot(0, epoch, size.device) for epoch in experts.epochs)

    def run(units: int) -> dict[str, Tensor]:
        streams = {name: generator(0, "distillation", name) for name in ("experts", "batches", "augmentation")}
        settings = _trajectory_settings(size, units)
        images, labels = size.synthetic()
        step_size = torch.tensor(settings["lr_teacher"], dtype=size.dtype, device=size.device)
        velocities = [torch.zeros_like(images), torch.zeros_like(step_size)]
        for _ in range(units):
            draw_segment(experts, settings, streams["experts"], begin.device)
            drawn = draw_steps(len(images), 32, settings, streams["batches"], streams["augmentation"], begin.device)
            steps = [(step.indices, step.draw) for step in drawn]
            found = gradients(network, begin, target, images, labels, step_size, steps)
            for tensor, of_it, velocity, lr in zip(
                (images, step_size), found, velocities, (settings["lr_img"], settings["lr_lr"]), strict=True
            ):
                loop.descend(tensor, of_it, velocity, lr=lr, momentum=0.5)
        return {"images": images, "step size": step_size}

    return run


def trajectories(size: Size, method, more: Mapping[str, object]) -> Run:
    real, experts = size.real(), TwoSnapshots(size)

    def run(units: int) -> dict[str, Tensor]:
        settings = _trajectory_settings(size, units) | dict(more)
        made = method.distill(
            real, settings=settings, ipc=size.ipc, network=size.network, seed=0, experts=experts, progress=_ignore
        )
        return {"images": made.images, "step size": torch.tensor(made.extra["step_size"])}

    return run


NETWORKS = {
    "convnet-w128-d3-in": (6, 2.4),
    "convnet-w128-d3-bn": (6, 2.4),
    "vgg11-in": (3, 2.1),
    "vgg11-bn": (3, 2.1),
    "resnet18-in": (1, 1.6),
    "resnet18-bn": (1, 1.6),
}
"""By evaluation network: passes that are timed at once, so that each takes seconds, and the goal."""

SIZE = Size()
CASES = {
    case.name: case
    for case in (
        *(
            Case(f"evaluate {name}", "pass", evaluation_plainly, evaluation, replace(SIZE, network=name), units, goal)
            for name, (units, goal) in NETWORKS.items()
        ),
        Case("teacher", "epoch", teacher_plainly, teacher, replace(SIZE, per_class=103), goal=2),
        Case("expert", "epoch", expert_plainly, partial(teacher, changes=EXPERT), replace(SIZE, per_class=103), goal=2),
        *(
            Case(
                f"dm, {size.classes} classes",
                "step",
                partial(matching_plainly, step=plain_distillation.dm_step, lr=PIXELS["lr"]),
                partial(distilling, method=dm, settings=MATCHING | PIXELS),
                size,
                goal=goal,
            )
            for size, goal in ((SIZE, 2), (replace(SIZE, classes=100, per_class=32, batch_real=32, ipc=1), 3))
        ),
        Case(
            "dsa",
            "step",
            partial(matching_plainly, step=plain_distillation.dsa_step, lr=DSA["lr"]),
            partial(distilling, method=dsa, settings=DSA),
            replace(SIZE, batch_real=64, per_class=64),
            goal=1.5,
        ),
        Case(
            "mtt",
            "step",
            partial(trajectories_plainly, gradients=plain_distillation.mtt_gradients),
            partial(trajectories, method=mtt, more={"gradient": "unrolled"}),
            replace(SIZE, ipc=5, steps=4),
            goal=1.3,
        ),
        Case(
            "tesla",
            "step",
            partial(trajectories_plainly, gradients=plain_distillation.tesla_gradients),
            partial(trajectories, method=tesla, more={"soft_labels": False, "pixel_step": "derivative"}),
            replace(SIZE, ipc=5, steps=4),
        ),
    )
}
