"""A device that computes on the CPU and pretends to be elsewhere, so that tests see what would make a GPU wait.

Autograd with tensors that call themselves ``cuda`` needs a driver. These call themselves ``meta``, but hold numbers:
what is computed with them is real, and so is what the host asks them for.
"""

import traceback
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

DEVICE = torch.device("meta", 0)

aten = torch.ops.aten

SHAPES_OF_VALUES = {aten.nonzero, aten.masked_select, aten.bincount, aten.repeat_interleave, aten.unique_dim}
"""Operations whose result has a shape that depends on numbers, beside those that PyTorch tags so."""

MASKS = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Operations that look for the nonzero elements of a mask among their arguments."""


MAKING = {aten.empty_like, aten.zeros_like, aten.ones_like, aten.new_empty, aten.new_zeros}
"""Operations that take the shape of a tensor alone."""


class DeviceTensor(Tensor):
    """A tensor whose numbers lie in ``numbers``, on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "DeviceTensor":
        tensor = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=DEVICE,
        )
        tensor.numbers = numbers.detach()
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments, keywords=None):
        raise AssertionError(f"{operation} was called outside of PretendedGpu")


@dataclass(frozen=True)
class Operation:
    """What was computed on the device: its name and the shapes of all tensors that it gave."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass
class Record:
    """What a piece of code did.

    Attributes
    ----------
    waits : list of str
        Each time that the device was made to wait for the host or the host for the device: what, and where.
    operations : list of Operation
    """

    waits: list[str] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


class PretendedGpu(TorchDispatchMode):
    """Within it, tensors can be sent to ``DEVICE``; what is done with them there is recorded.

    Attributes
    ----------
    record : Record
    """

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()
        self._pinned = WeakIdKeyDictionary()
        self._making = _MakingTensors()

    def __enter__(self):
        self._making.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._making.__exit__(*error)

    def __torch_dispatch__(self, operation, types, arguments, keywords=None):
        keywords = keywords or {}
        if operation is aten.is_pinned.default:
            return arguments[0] in self._pinned
        if operation is aten._pin_memory.default:
            pinned = arguments[0].clone()
            self._pinned[pinned] = True
            return pinned
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        here = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
        device = torch.device(keywords["device"]) if keywords.get("device") is not None else None
        goes_there = bool(there) if device is None else device == DEVICE
        if goes_there or there:
            reason = self._wait(operation, arguments, keywords, there, here, goes_there)
            if reason:
                self.record.waits.append(f"{reason}, {operation}, {_where()}")
        if device is not None:
            keywords = keywords | {"device": torch.device("cpu")}
        on_cpu = tree_map_only(DeviceTensor, lambda tensor: tensor.numbers, (arguments, keywords))
        results = operation(*on_cpu[0], **on_cpu[1])
        if not goes_there:
            return results
        wrapped = tree_map_only(Tensor, DeviceTensor, results)
        shapes = tuple(tuple(leaf.shape) for leaf in tree_leaves(wrapped) if isinstance(leaf, Tensor))
        self.record.operations.append(Operation(str(operation), shapes))
        # What an operation changes in place, or writes into, is what it returns.
        return return_and_correct_aliasing(operation, arguments, keywords, wrapped) if there else wrapped

    def _wait(self, operation, arguments, keywords, there, here, goes_there: bool) -> str | None:
        """Return why this operation would make somebody wait on a GPU; None if it would not."""
        if not goes_there:
            return None if operation.overloadpacket in MAKING else "a copy to the host"
        if operation is aten.copy_.default and not isinstance(arguments[0], DeviceTensor):
            return "a copy to the host"
        if here and operation in (aten.copy_.default, aten._to_copy.default):
            non_blocking = arguments[2] if len(arguments) > 2 else keywords.get("non_blocking", False)
            if not non_blocking:
                return "a copy to the device that blocks"
            if here[0] not in self._pinned:
                return "a copy to the device from memory that is not pinned"
            return None
        if any(tensor.dim() for tensor in here) and there:
            return "an operation on tensors of host and device"
        if not there:
            return None
        tags = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
        packet = operation.overloadpacket
        if packet in MASKS:
            masks = [leaf for leaf in tree_leaves(arguments[1]) if isinstance(leaf, Tensor)]
            return "a search in a mask" if any(mask.dtype in (torch.bool, torch.uint8) for mask in masks) else None
        if packet in SHAPES_OF_VALUES or any(tag in operation.tags for tag in tags):
            return "a look at numbers of the device"
        return None


class _MakingTensors(TorchFunctionMode):
    """Lets ``torch.tensor`` put numbers on the pretended device, as it does on a GPU: by a copy that blocks."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        if function is torch.tensor and keywords.get("device") == DEVICE:
            del keywords["device"]
            return torch.tensor(*arguments, **keywords).to(DEVICE)
        return function(*arguments, **keywords)


def _where() -> str:
    """Return the line of the project, or of a test, that led here."""
    frames = [frame for frame in traceback.extract_stack() if "pretended_gpu" not in frame.filename]
    own = [frame for frame in frames if "/elf/" in frame.filename or "/tests/" in frame.filename]
    return f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}: {own[-1].line}" if own else "unknown"
