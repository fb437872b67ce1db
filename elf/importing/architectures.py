"""Which network a list of parameter shapes belongs to."""

import importlib
from collections.abc import Sequence

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.conclusions import Conclusion
from elf.networks.split import SplitNetwork
from elf.specs import network as names
from elf.specs.network import NetworkName

SIDES = (32, 64, 28, 16, 96, 128, 224, 48, 256, 8)
"""Sides that are tried, the usual ones first."""
DEPTHS = range(1, 7)

Shapes = list[tuple[int, ...]]


def skeleton(network: str, *, classes: int, side: int) -> SplitNetwork:
    """Build a network without values, for its names and shapes alone.

    Raises
    ------
    ElfError
        If the name is unknown, or that of a network of torchvision, which has no plain order of parameters.
    """
    name = names.parse(network)
    if names.feature_shape(name, side) is None:
        raise ElfError(f"{network}: parameters of torchvision's networks cannot be imported; name another --network")
    with torch.device("meta"):
        return importlib.import_module(name.module).build(name, classes=classes, side=side)


def find_network(
    shapes: Sequence[tuple[int, ...]],
    *,
    network: str | None = None,
    classes: int | None = None,
    side: int | None = None,
    norm: str | None = None,
) -> tuple[str, int, int, list[Conclusion]]:
    """Find the network whose parameters have these shapes, in this order.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of all parameters in the order of the forward pass, without buffers.
    network : str, optional
        What the user says; then the shapes are only compared.
    classes, side : int, optional
    norm : {"in", "bn"}, optional
        Where it is known; both have the same shapes.

    Returns
    -------
    network : str
    classes, side : int
    conclusions : list of Conclusion

    Raises
    ------
    ElfError
        If no network fits; the message names the first parameter that differs from the named one.
    """
    shapes = [tuple(shape) for shape in shapes]
    if not shapes or len(shapes[-1]) != 1:
        raise ElfError("the last parameter is not the bias of a linear layer; expected parameters in order")
    found_classes = shapes[-1][0]
    if classes is not None and found_classes != classes:
        raise ElfError(f"the parameters belong to {found_classes} classes, but {classes} are told")
    candidates = [network] if network else _candidates(shapes, norm or "in")
    sides = [side] if side else SIDES
    differences = []
    for name in candidates:
        for tried in sides:
            difference = _difference(name, shapes, found_classes, tried)
            if difference is None:
                return name, found_classes, tried, _conclusions(name, network, norm, side, tried, shapes)
            differences.append(difference)
    if network:
        raise ElfError(f"the parameters are not those of {network}: {max(differences)[1]}; check --network and --side")
    raise ElfError(
        f"no convnet, resnet18 or vgg11 has the {len(shapes)} parameters found (the first of shape {shapes[0]}); name "
        "--network and --side"
    )


def _candidates(shapes: Shapes, norm: str) -> list[str]:
    width = shapes[0][0]
    plain = [NetworkName("convnet", width, depth, norm) for depth in DEPTHS]
    others = [NetworkName(family, width, norm=norm) for family in ("resnet18", "vgg11")]
    return [str(name) for name in [*plain, *others]]


def _difference(network: str, shapes: Shapes, classes: int, side: int) -> tuple[int, str] | None:
    """Return the first parameter that differs from a network's, and how in words; None if there is none."""
    try:
        parameters = list(skeleton(network, classes=classes, side=side).named_parameters())
    except ElfError as error:
        return -1, str(error)
    for index, ((name, parameter), shape) in enumerate(zip(parameters, shapes, strict=False)):
        if tuple(parameter.shape) != shape:
            return (
                index,
                f"parameter {index} ({name}) has shape {shape}, expected {tuple(parameter.shape)} at side {side}",
            )
    if len(parameters) != len(shapes):
        return len(shapes), f"{len(shapes)} parameters, expected {len(parameters)}"
    return None


def _conclusions(
    name: str, told: str | None, norm: str | None, side: int | None, found_side: int, shapes: Shapes
) -> list[Conclusion]:
    count = f"the shapes of all {len(shapes)} parameters fit"
    if told:
        conclusions = [Conclusion("network", name, f"as told; {count}")]
    else:
        kind = "it has running statistics" if norm == "bn" else "no running statistics"
        doubt = "; batch normalisation has the same shapes, so name --network if it was that" if norm is None else ""
        conclusions = [Conclusion("network", name, f"{count}; {kind}{doubt}")]
    if side is None:
        how = "the first usual one whose shapes fit; name --side if it is another"
        conclusions.append(Conclusion("side", str(found_side), how))
    return conclusions


def flat_vector(parameters: Sequence[Tensor]) -> Tensor:
    """Return parameters as one float32 vector, in their order."""
    return torch.cat([parameter.detach().to(torch.float32).flatten() for parameter in parameters])
