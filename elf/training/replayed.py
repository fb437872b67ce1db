"""Steps that a GPU replays: what to do is told once, as a graph of operations, and then only with which numbers.

A step on a few images is hundreds of operations, each over before the host has begun the next one: without graphs a
GPU waits for the host most of the time.
"""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from elf.machine import device as devices

STEPS_BEFORE_CAPTURE = 20
"""How often steps of one kind are made as usual first: to capture one takes as long as a few dozen steps."""

Step = Callable[..., tuple[Tensor, ...]]
"""From tensors, or None, and keywords to tensors."""


def replayed(step: Step, network: nn.Module, device: torch.device) -> Step:
    """Return a step that does the same, to the bit, by replaying graphs where the device does that.

    Parameters
    ----------
    step : callable
        Nothing in it depends on numbers of the device. What it changes it changes in place, and all that it reads
        beside its arguments stays where it is.
    network : nn.Module
        Of the step. One with dropout or of torchvision makes its steps as usual: nobody knows what it draws or changes.
    device : torch.device

    Returns
    -------
    callable
        With a graph for each combination of shapes and keywords.
    """
    unknown = any(isinstance(module, (_DropoutNd, fx.GraphModule)) for module in network.modules())
    return step if unknown or not devices.replays_steps(device) else _Replayed(step)


class _Replayed:
    def __init__(self, step: Step) -> None:
        self._step = step
        self._made: dict[tuple, int] = {}
        self._graphs: dict[tuple, _Graph] = {}
        # All graphs may use the same memory, because they never run at once.
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, *tensors: Tensor | None, **settings: object) -> tuple[Tensor, ...]:
        shapes = (None if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors)
        kind = (*shapes, *settings.items())
        made = self._made[kind] = self._made.get(kind, 0) + 1
        if made <= STEPS_BEFORE_CAPTURE:
            return self._step(*tensors, **settings)
        if kind not in self._graphs:
            self._graphs[kind] = _Graph(self._step, tensors, settings, self._memory)
        return self._graphs[kind].replay(tensors)


class _Graph:
    """One captured step."""

    def __init__(self, step: Step, tensors: tuple, settings: dict[str, object], memory: tuple[int, int]) -> None:
        self._tensors = [None if tensor is None else tensor.detach().clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory):
            self._results = step(*self._tensors, **settings)

    def replay(self, tensors: tuple) -> tuple[Tensor, ...]:
        for own, given in zip(self._tensors, tensors, strict=True):
            if own is not None:
                own.copy_(given)
        self._graph.replay()
        return tuple(result.clone() for result in self._results)
