"""Any of torchvision's classification networks, split where its map fits the teacher's."""

import difflib
import warnings

import torch
from torch import fx, nn
from torchvision import models

from elf.errors import ElfError
from elf.networks.split import SplitNetwork, drawing_from, initialise
from elf.specs.network import NetworkName


def build(
    name: NetworkName,
    *,
    classes: int,
    side: int,
    feature_shape: tuple[int, int, int] | None,
    generator: torch.Generator,
) -> SplitNetwork:
    """Return a torchvision network, split at the deepest layer whose map has the teacher's shape.

    The network is traced into a graph; it can be cut after every layer through whose output alone the later
    layers see the images. Weights are PyTorch's defaults rather than torchvision's own, as for all other
    networks; the few parameters without such defaults (ConvNeXt's layer scale) are the constructor's.

    Parameters
    ----------
    name : NetworkName
        Of the family ``"torchvision"``.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.
    feature_shape : tuple of int or None
        Channels, height and width of the teacher's features. Objectives that use no features need no split:
        with None the rear is the whole network, with the same weights as when it is split.
    generator : torch.Generator
        On the CPU; draws the weights.

    Returns
    -------
    SplitNetwork
        In training mode. Its front need not end in a ReLU, so its features may be negative.

    Raises
    ------
    ElfError
        If torchvision has no such model, if it cannot be traced or takes no images of this side, or if none
        of its maps has the wanted shape; the message then lists those it has.
    """
    with drawing_from(generator):
        network = traced(name, classes)
    if feature_shape is None:
        whole = SplitNetwork(nn.Identity(), network)
        initialise(whole, generator, strict=False)
        return whole.train()
    split = _split(network, cut_for(name, network, side, feature_shape))
    initialise(split, generator, strict=False)
    return split.train()


def traced(name: NetworkName, classes: int) -> fx.GraphModule:
    """Return the graph of one of torchvision's networks, in evaluation mode; for its errors see :func:`build`."""
    return _trace(name, _construct(name, classes))


def cut_for(
    name: NetworkName, network: fx.GraphModule, side: int, feature_shape: tuple[int, int, int] | None
) -> fx.Node | None:
    """Return the deepest layer whose map has a shape, None for none; for its errors see :func:`build`."""
    shapes = _map_shapes(name, network, side)
    if feature_shape is None:
        return None
    maps = {node: shapes[node] for node in cut_points(network.graph) if node in shapes}
    fitting = [node for node, shape in maps.items() if shape == tuple(feature_shape)]
    if not fitting:
        raise ElfError(_nothing_fits(name, side, feature_shape, maps))
    return fitting[-1]


def cut_points(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes through which all that depends on the input passes, in the order of the forward pass.

    Parameters
    ----------
    graph : torch.fx.Graph
        With one input and no dead code.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    cuts = []
    last_use = 0
    for node in _dependent_on_input(graph):
        if node.op not in ("placeholder", "output") and last_use <= order[node]:
            cuts.append(node)
        last_use = max([last_use, *(order[user] for user in node.users)])
    return cuts


def _dependent_on_input(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that change with the input; the others stand for parameters and constants."""
    dependent: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in dependent for source in node.all_input_nodes):
            dependent[node] = None
    return list(dependent)


class _LayerTracer(fx.Tracer):
    """Keeps every module without children whole, so that it still tells training from evaluation.

    PyTorch's own layers are kept anyway; this adds torchvision's, of which stochastic depth would otherwise
    be frozen in the mode of the moment.
    """

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return super().is_leaf_module(module, qualified_name) or not any(module.children())


def _construct(name: NetworkName, classes: int) -> nn.Module:
    known = models.list_models(module=models)
    if name.model not in known:
        close = difflib.get_close_matches(name.model, known, n=5, cutoff=0.4) or known[:5]
        raise ElfError(f"torchvision has no classification network {name.model!r}; close are {', '.join(close)}")
    with warnings.catch_warnings():
        # GoogLeNet and Inception announce a change of their own initialisation, which is replaced here.
        warnings.simplefilter("ignore", FutureWarning)
        return models.get_model(name.model, weights=None, num_classes=classes)


def _trace(name: NetworkName, model: nn.Module) -> fx.GraphModule:
    # In evaluation mode, because GoogLeNet and Inception return auxiliary logits besides in training mode.
    model.eval()
    try:
        network = fx.GraphModule(model, _LayerTracer().trace(model))
    except Exception as error:
        raise ElfError(
            f"{name} cannot be split: tracing its forward pass failed ({_first_line(error)}); choose another network"
        ) from error
    network.graph.eliminate_dead_code()
    network.recompile()
    return network


class _ShapeRecorder(fx.Interpreter):
    """Runs a traced network and keeps the C x H x W of every feature map."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, node: fx.Node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor) and result.ndim == 4:
            self.shapes[node] = tuple(result.shape[1:])
        return result


def _map_shapes(name: NetworkName, network: fx.GraphModule, side: int) -> dict[fx.Node, tuple[int, ...]]:
    recorder = _ShapeRecorder(network)
    try:
        with torch.no_grad():
            recorder.run(torch.zeros(2, 3, side, side))
    except Exception as error:
        raise ElfError(
            f"{name} cannot process images of side {side} ({_first_line(error)}); choose another network or side"
        ) from error
    return recorder.shapes


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _nothing_fits(
    name: NetworkName, side: int, wanted: tuple[int, int, int], maps: dict[fx.Node, tuple[int, ...]]
) -> str:
    """Return the error message; it lists each map that a ConvNet could have, with the deepest layer it follows."""
    depth_of = {side >> depth: depth for depth in range(1, side.bit_length() - 1)}
    deepest = {shape: node for node, shape in maps.items() if shape[1] == shape[2] and shape[1] in depth_of}
    problem = f"{name} on images of side {side} has no feature map of shape {_times(wanted)} to split at"
    if not deepest:
        return f"{problem}, nor any that a ConvNet teacher could have; choose another network or side"
    listed = ", ".join(f"{_times(shape)} (after {_location(node)})" for shape, node in deepest.items())
    channels, height, _ = next((shape for shape in reversed(deepest) if shape[1] == wanted[1]), list(deepest)[-1])
    teacher = NetworkName("convnet", channels, depth_of[height], "in")
    return f"{problem}; it has {listed}; choose a teacher with one of these maps, such as {teacher}"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _location(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _split(network: fx.GraphModule, cut: fx.Node) -> SplitNetwork:
    nodes = _dependent_on_input(network.graph)
    end = nodes.index(cut) + 1
    front, rear = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    _copy_nodes(nodes[:end], front, copies)
    front.output(copies[cut])
    _copy_nodes(nodes[end:], rear, {cut: rear.placeholder("features")})
    return SplitNetwork(fx.GraphModule(network, front), fx.GraphModule(network, rear))


def _copy_nodes(nodes: list[fx.Node], graph: fx.Graph, copies: dict[fx.Node, fx.Node]) -> None:
    """Append copies of the nodes, and before each those of the parameters and constants that it reads."""

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = graph.node_copy(node, copied)
        return copies[node]

    for node in nodes:
        copied(node)
