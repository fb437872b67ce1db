"""Expert trajectories and trained networks that other code left behind."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.architectures import find_network, flat_vector, skeleton
from elf.importing.conclusions import Conclusion

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
_PREFIX = re.compile(r"^(module|_orig_mod)\.")


@dataclass(frozen=True, eq=False)
class Network:
    """Which network parameters belong to.

    Attributes
    ----------
    name : str
        As in `elf.specs.network`.
    classes, side : int
    conclusions : list of Conclusion
    """

    name: str
    classes: int
    side: int
    conclusions: list[Conclusion]


def kind_of(content: Any) -> Literal["set", "experts", "teacher"]:
    """Return what a file holds, by how it is nested."""
    if _trajectories(content) is not None:
        return "experts"
    return "teacher" if _state(content) is not None else "set"


def import_experts(
    content: Any, *, network: str | None = None, classes: int | None = None, side: int | None = None
) -> tuple[list[list[Tensor]], Network]:
    """Read a buffer of expert trajectories, as the code of MTT leaves it.

    Parameters
    ----------
    content
        A list of experts, each a list of snapshots, each a list of parameters in the order of the network's.
        One expert alone is taken too.
    network : str, optional
        Otherwise worked out from the shapes.
    classes, side : int, optional

    Returns
    -------
    experts : list of list of Tensor
        For each expert its snapshots, one flat float32 vector each, in the order of `SplitNetwork.parameters`.
    network : Network

    Raises
    ------
    ElfError
        If the shapes are not those of the network, differ between snapshots, or a value is not finite.
    """
    trajectories = _trajectories(content)
    if trajectories is None:
        raise ElfError("is no buffer of experts: expected a list of experts, each a list of lists of parameters")
    shapes = [tuple(parameter.shape) for parameter in trajectories[0][0]]
    name, classes, side, conclusions = find_network(shapes, network=network, classes=classes, side=side)
    experts = []
    for index, snapshots in enumerate(trajectories):
        for epoch, snapshot in enumerate(snapshots):
            found = [tuple(parameter.shape) for parameter in snapshot]
            if found != shapes:
                raise ElfError(f"expert {index} has other shapes at snapshot {epoch} than expert 0 at the first")
        experts.append([flat_vector(snapshot) for snapshot in snapshots])
        if not all(torch.isfinite(vector).all() for vector in experts[-1]):
            raise ElfError(f"expert {index} holds values that are not finite (NaN or infinity); leave it out")
    lengths = sorted({len(snapshots) for snapshots in experts})
    finding = f"{len(experts)} of {' or '.join(map(str, lengths))} snapshots"
    reason = "a list of experts, each a list of snapshots; the first is taken for the initial state, epoch 0"
    return experts, Network(name, classes, side, [Conclusion("experts", finding, reason), *conclusions])


def import_teacher(
    content: Any, *, network: str | None = None, classes: int | None = None, side: int | None = None
) -> tuple[dict[str, Tensor], Network]:
    """Read a state dict, and give its tensors the names that they have here.

    Names are mapped by order; shape, and whether it is a weight, a bias or a statistic, must agree at every place.

    Parameters
    ----------
    content
        A dictionary of tensors, alone or as one entry (``"state_dict"``, ``"model"``, ...) of a checkpoint.
    network, classes, side
        As in `import_experts`.

    Returns
    -------
    state : dict of str to Tensor
        Fits ``load_state_dict`` of the network.
    network : Network

    Raises
    ------
    ElfError
        If it fits no network, or not the named one.
    """
    state = _state(content)
    if state is None:
        raise ElfError("is no state dict: expected a dictionary of tensors with names like features.0.weight")
    state = {_PREFIX.sub("", name): tensor for name, tensor in state.items()}
    shapes = [tuple(tensor.shape) for name, tensor in state.items() if not _is_statistic(name)]
    norm = "bn" if any(name.endswith("running_mean") for name in state) else "in"
    name, classes, side, conclusions = find_network(shapes, network=network, classes=classes, side=side, norm=norm)
    expected = skeleton(name, classes=classes, side=side).state_dict()
    if len(expected) != len(state):
        raise ElfError(f"holds {len(state)} tensors, {name} has {len(expected)}; check --network")
    renamed = {}
    for (own_name, own), (found_name, found) in zip(expected.items(), state.items(), strict=True):
        if own.shape != found.shape or own_name.rpartition(".")[2] != found_name.rpartition(".")[2]:
            raise ElfError(
                f"{found_name} of shape {tuple(found.shape)} stands where {name} has {own_name} of shape "
                f"{tuple(own.shape)}; check --network"
            )
        if not torch.isfinite(found.double()).all():
            raise ElfError(f"{found_name} holds values that are not finite (NaN or infinity); get an intact copy")
        renamed[own_name] = found.to(own.dtype).contiguous()
    reason = "names mapped by their order; shapes and kinds of all tensors agree"
    return renamed, Network(
        name, classes, side, [Conclusion("state dict", f"{len(state)} tensors", reason), *conclusions]
    )


def _trajectories(content: Any) -> list[list[list[Tensor]]] | None:
    if _is_snapshots(content):
        return [content]
    experts = isinstance(content, list) and bool(content) and all(_is_snapshots(expert) for expert in content)
    return content if experts else None


def _is_snapshots(content: Any) -> bool:
    if not isinstance(content, list) or not content:
        return False
    return all(_is_snapshot(snapshot) for snapshot in content)


def _is_snapshot(content: Any) -> bool:
    # Lists of [images, labels] are nested alike; a network ends with a linear layer.
    if not isinstance(content, list) or len(content) < 4 or not all(isinstance(entry, Tensor) for entry in content):
        return False
    return (content[0].dim(), content[-2].dim(), content[-1].dim()) == (4, 2, 1)


def _state(content: Any) -> dict[str, Tensor] | None:
    if not isinstance(content, dict):
        return None
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            return _state(content[wrapper])
    tensors = content and all(isinstance(value, Tensor) for value in content.values())
    named = [str(name).endswith((".weight", ".bias")) for name in content]
    return dict(content) if tensors and sum(named) >= 2 else None


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def snapshot_names(snapshots: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an expert's file: ``epoch<k>`` for each snapshot."""
    return {f"epoch{epoch}": vector for epoch, vector in enumerate(snapshots)}
