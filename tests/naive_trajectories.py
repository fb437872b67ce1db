"""What the tests of MTT and TESLA compare with: a ConvNet, an unroll and a stop-gradient objective, written out."""

import weakref

import torch
import torch.nn.functional as F
from helpers import Killed, MemoryCheckpoint, ignore, stream
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elf.data import augmentation
from elf.data.augmentation import STRATEGY
from elf.distillation.shared.synthetic import RealImages
from elf.distillation.shared.trajectories import Step
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork, flatten

SIDE, CLASSES, IPC, DEPTH = 16, 3, 2, 2
COUNT = CLASSES * IPC
SETTINGS = {
    "iterations": 5,
    "synthetic_steps": 3,
    "expert_epochs": 2,
    "max_start_epoch": 2,
    "batch_syn": 4,
    "lr_img": 10.0,
    "lr_lr": 1e-4,
    "lr_teacher": 0.02,
    "momentum": 0.5,
    "experts": 2,
    "augmentation": STRATEGY,
    "align_corners": True,
}


def network(norm: str = "in", seed: int = 0):
    return build_network(f"convnet-w4-d{DEPTH}-{norm}", classes=CLASSES, side=SIDE, generator=stream(seed))


class FakeExperts:
    """A buffer in memory: from random weights, each epoch a random step further."""

    def __init__(self, count: int = 2, epochs=range(5), norm: str = "in", step: float = 0.02) -> None:
        self.epochs = tuple(epochs)
        self.asked = []
        self._snapshots = []
        for index in range(count):
            parameters, noise = flatten(network(norm, seed=index)), stream(100 + index)
            trajectory = {}
            for epoch in range(max(self.epochs) + 1):
                trajectory[epoch] = parameters.clone()
                parameters = parameters + step * torch.randn(len(parameters), generator=noise)
            self._snapshots.append(trajectory)

    def __len__(self) -> int:
        return len(self._snapshots)

    def put(self, index, epoch, parameters):
        self._snapshots[index][epoch] = parameters.detach().clone()

    def snapshot(self, index, epoch, device):
        assert epoch in self.epochs
        self.asked.append((index, epoch))
        return self._snapshots[index][epoch].to(device, copy=True)


def random_dataset(count: int = 6) -> RealImages:
    """Images whose mean depends on the class, in shuffled order."""
    labels = torch.arange(CLASSES).repeat(count)
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(1)) + labels[:, None, None, None]
    return RealImages(images, labels, CLASSES)


def finish_after_kills(start, kill_after, every: int = 1):
    """Start a run again and again, killing it after these many updates, then let it end; return its result."""
    checkpoint = MemoryCheckpoint(every)
    for last in kill_after:

        def die(finished, total, loss, last=last):
            if finished == last:
                raise Killed

        try:
            return start(progress=die, checkpoint=checkpoint)
        except Killed:
            pass
    return start(progress=ignore, checkpoint=checkpoint)


# A ConvNet as a function of one vector, layer by layer, without torch.nn.


def naive_logits(vector, images, norm):
    """``norm`` is ``"in"``, ``"bn"``, or a function of maps, scale and shift."""
    position = 0

    def take(*shape):
        nonlocal position
        size = torch.Size(shape).numel()
        position += size
        return vector[position - size : position].reshape(shape)

    maps, channels = images, 3
    for _ in range(DEPTH):
        maps = F.conv2d(maps, take(4, channels, 3, 3), take(4), padding=1)
        if callable(norm):
            maps = norm(maps, take(1, 4, 1, 1), take(1, 4, 1, 1)).clamp(min=0)
        else:
            over = (2, 3) if norm == "in" else (0, 2, 3)
            centred = maps - maps.mean(over, keepdim=True)
            maps = centred / (centred.square().mean(over, keepdim=True) + 1e-5).sqrt()
            maps = (maps * take(1, 4, 1, 1) + take(1, 4, 1, 1)).clamp(min=0)
        n, channels, side, _ = maps.shape
        maps = maps.reshape(n, channels, side // 2, 2, side // 2, 2).mean((3, 5))
    flat = maps.reshape(len(maps), -1)
    weight, bias = take(CLASSES, flat.shape[1]), take(CLASSES)
    assert position == len(vector)
    return flat @ weight.T + bias


def naive_cross_entropy(logits, labels):
    total = 0
    for row, label in zip(logits, labels, strict=True):
        log_probabilities = row - row.exp().sum().log()
        total = total - (label * log_probabilities).sum() if label.ndim else total - log_probabilities[label]
    return total / len(logits)


def naive_steps(start, images, labels, step_size, steps, norm, *, stop: bool):
    """Yield the gradient of every step and the state after it, with all graphs; `stop` cuts those of the states."""
    student = start.clone().requires_grad_()
    for step in steps:
        if stop:
            student = student.detach().requires_grad_()
        batch = augmentation.apply(images[step.indices], step.draw, align_corners=True)
        loss = naive_cross_entropy(naive_logits(student, batch, norm), labels[step.indices])
        (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
        student = student - step_size * gradient
        yield gradient, student


def naive_unrolled_loss(start, target, images, labels, step_size, steps, norm):
    *_, (_, student) = naive_steps(start, images, labels, step_size, steps, norm, stop=False)
    return ((student - target) ** 2).mean() / ((start - target) ** 2).mean()


def naive_stopped_loss(start, target, images, labels, step_size, steps, norm):
    """The loss in which the states where gradients are taken are constants; step size and gradients are not."""
    gradients = [g for g, _ in naive_steps(start, images, labels, step_size.detach(), steps, norm, stop=True)]
    end = start - step_size * sum(gradients)
    return ((end - target) ** 2).sum() / ((start - target) ** 2).sum()


# One update's arguments, in float64.


def one_update(norm: str, seed: int, steps: int, batch: int, soft: bool = False) -> dict:
    """Return the arguments of a gradient function, random in everything."""
    source = stream(seed)
    start = flatten(network(norm, seed)).double()
    labels = torch.arange(CLASSES).repeat_interleave(IPC)
    if soft:
        labels = torch.randn(COUNT, CLASSES, generator=source, dtype=torch.float64).softmax(1)
    chosen = [torch.randperm(COUNT, generator=source)[:batch] for _ in range(steps)]
    return {
        "start": start,
        "target": start + 0.05 * torch.randn(len(start), generator=source, dtype=torch.float64),
        "images": torch.randn(COUNT, 3, SIDE, SIDE, generator=source, dtype=torch.float64),
        "labels": labels,
        "step_size": torch.tensor(0.05, dtype=torch.float64),
        "steps": [Step(indices, augmentation.draw(STRATEGY, batch, SIDE, source)) for indices in chosen],
    }


def ours(gradient, norm: str, update: dict):
    return gradient(FlatNetwork(network(norm).double()), **update, align_corners=True)


def naive(loss, norm: str, update: dict):
    """Return a naive loss and its gradients by automatic differentiation."""
    images, step_size = (update[name].clone().requires_grad_() for name in ("images", "step_size"))
    value = loss(**update | {"images": images, "step_size": step_size}, norm=norm)
    return value.detach(), *torch.autograd.grad(value, (images, step_size))


# Memory.


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that came into being inside and still exist, and their largest number."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {self._key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and self._key(tensor) not in self._seen | given:
                storage = tensor.untyped_storage()
                self._seen.add(key := self._key(tensor))
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _key(self, tensor):
        return tensor.untyped_storage()._cdata

    def _forget(self, key, size):
        self._seen.discard(key)
        self.now -= size


def peak_bytes(gradient, steps: int) -> int:
    update = one_update("in", 0, steps, COUNT)
    with LiveBytes() as live:
        ours(gradient, "in", update)
    return live.peak
