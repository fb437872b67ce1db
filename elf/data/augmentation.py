"""Differentiable siamese augmentation (DSA): random operators that let gradients through to the pixels.

What is random is drawn first, as explicit parameters (`draw`), and applied afterwards (`apply`), so that
batches of different size can share one draw and nothing ever touches the global random state.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from elf.errors import ElfError
from elf.machine.device import to_device

CATEGORIES = ("color", "crop", "cutout", "flip", "scale", "rotate")
STRATEGY = "_".join(CATEGORIES)
NO_AUGMENTATION = "none"

CPU = torch.device("cpu")

_BRIGHTNESS = 1.0
_SATURATION = 2.0
_CONTRAST = 0.5
_SHIFT = 0.125
_CUTOUT = 0.5
_FLIP_PROBABILITY = 0.5
_SCALE = 1.2
_DEGREES = 15.0


@dataclass(frozen=True)
class Draw:
    """One category and its parameters, either one set for all images (siamese) or one set an image.

    Attributes
    ----------
    category : str
        One of `CATEGORIES`, or ``"none"`` for the identity.
    parameters : dict of str to Tensor of shape (count,)
        ``color``: ``brightness`` (shift, in units of the pixels), ``saturation`` and ``contrast`` (factors).
        ``crop``: ``down`` and ``right`` (integer pixels by which the window moves). ``cutout``: ``row`` and
        ``column`` (integer pixels, centre of the square). ``flip``: ``mirrored`` (bool). ``scale``: ``x``
        and ``y`` (factors of the sampling grid; above 1 shrinks). ``rotate``: ``angle`` (radians).
    """

    category: str
    parameters: dict[str, Tensor]


def draw(strategy: str, count: int, side: int, generator: torch.Generator, device: torch.device = CPU) -> Draw:
    """Draw one category of a strategy, uniformly, and the parameters for ``count`` images.

    Parameters
    ----------
    strategy : str
        Categories joined by ``_``, normally `STRATEGY`; or ``"none"``.
    count : int
        Number of parameter sets. One (siamese mode) serves a batch of any size; otherwise it is the size
        of the batch.
    side : int
        Height and width of the images in pixels; it limits shifts and the cutout.
    generator : torch.Generator
        On the CPU, for every device.
    device : torch.device
        Where the parameters are put.

    Raises
    ------
    ElfError
        If the strategy names an unknown category.

    Notes
    -----
    Ranges as in the official DSA code (the same in DC, MTT, TESLA and ELF): brightness shift U[-0.5, 0.5),
    saturation U[0, 2), contrast U[0.5, 1.5), shifts uniform integers up to an eighth of the side, cutout of
    half the side, flip with probability 0.5, scale factors U[1/1.2, 1.2), angle U[-15°, 15°).
    """
    if strategy == NO_AUGMENTATION:
        return Draw(NO_AUGMENTATION, {})
    categories = strategy.split("_")
    unknown = [category for category in categories if category not in CATEGORIES]
    if unknown:
        raise ElfError(
            f"augmentation {strategy!r}: unknown category {unknown[0]!r}; "
            f"allowed are {', '.join(CATEGORIES)} joined by '_', or {NO_AUGMENTATION!r}"
        )
    category = categories[int(torch.randint(len(categories), (), generator=generator))]
    parameters = _draw_parameters(category, count, side, generator)
    return Draw(category, {name: to_device(value, device) for name, value in parameters.items()})


def apply(images: Tensor, draw: Draw, *, align_corners: bool) -> Tensor:
    """Apply one draw to a batch; differentiable with respect to the pixels.

    Parameters
    ----------
    images : Tensor of shape (n, channels, side, side)
        Floating point, in model-input space; whatever is moved in from outside is 0 in that space.
    draw : Draw
        With one parameter set, or with n.
    align_corners : bool
        Grid convention of scale and rotate: whether -1 and 1 are the centres of the corner pixels (True:
        official code of MTT, TESLA and ELF's evaluation and teachers) or the outer edges of the image
        (False: official code of DC, that is of DSA and DM, and ELF's fork of it). It applies to the grid
        and to the sampling alike. Since both maps leave the centre of a square image where it is, the two
        conventions sample the same points and differ by rounding only.

    Returns
    -------
    Tensor of shape (n, channels, side, side)
    """
    parameters = {name: to_device(value, images.device) for name, value in draw.parameters.items()}
    for name, value in parameters.items():
        if len(value) not in (1, len(images)):
            raise ValueError(f"draw holds {len(value)} values of {name!r} for a batch of {len(images)} images")
    match draw.category:
        case "color":
            return _change_color(images, **parameters)
        case "crop":
            return _Moved.apply(images, parameters["down"], parameters["right"])
        case "cutout":
            return _cut_out(images, **parameters)
        case "flip":
            return torch.where(_per_image(parameters["mirrored"]), images.flip(3), images)
        case "scale":
            zero = torch.zeros_like(parameters["x"])
            rows = [[parameters["x"], zero, zero], [zero, parameters["y"], zero]]
            return _warp(images, rows, align_corners)
        case "rotate":
            angle = parameters["angle"].to(images.dtype)
            cosine, sine = angle.cos(), angle.sin()
            zero = torch.zeros_like(sine)
            return _warp(images, [[cosine, -sine, zero], [sine, cosine, zero]], align_corners)
        case _:
            return images


def augment(images: Tensor, strategy: str, generator: torch.Generator, *, align_corners: bool = True) -> Tensor:
    """Augment a batch with one category drawn for the batch and parameters drawn for each image.

    See `draw` and `apply` for the parameters.
    """
    return apply(
        images,
        draw(strategy, len(images), images.shape[-1], generator, images.device),
        align_corners=align_corners,
    )


def _draw_parameters(category: str, count: int, side: int, generator: torch.Generator) -> dict[str, Tensor]:
    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (count,), generator=generator)

    match category:
        case "color":
            return {
                "brightness": uniform(-_BRIGHTNESS / 2, _BRIGHTNESS / 2),
                "saturation": uniform(0.0, _SATURATION),
                "contrast": uniform(_CONTRAST, _CONTRAST + 1),
            }
        case "crop":
            limit = int(_SHIFT * side + 0.5)
            return {"down": integers(-limit, limit), "right": integers(-limit, limit)}
        case "cutout":
            # The official range has one more position where the square has no central pixel.
            last = side - _cutout_side(side) % 2
            return {"row": integers(0, last), "column": integers(0, last)}
        case "flip":
            return {"mirrored": torch.rand(count, generator=generator) < _FLIP_PROBABILITY}
        case "scale":
            return {"x": uniform(1 / _SCALE, _SCALE), "y": uniform(1 / _SCALE, _SCALE)}
        case _:
            return {"angle": uniform(-math.radians(_DEGREES), math.radians(_DEGREES))}


def _change_color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    brightness, saturation, contrast = (
        _per_image(factor.to(images.dtype)) for factor in (brightness, saturation, contrast)
    )
    images = images + brightness
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * saturation + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean


class _Moved(Function):
    """Images (n, channels, side, side) seen through a window that is ``down`` and ``right`` of them.

    The gradient moves the other way. PyTorch would add it up pixel by pixel, on a GPU in a random order.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        return _move(images, down, right)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        down, right = ctx.saved_tensors
        return _Moved.apply(gradient, -down, -right), None, None


def _move(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    positions = torch.arange(images.shape[-1], device=images.device)
    rows = positions + down[:, None]
    columns = positions + right[:, None]
    inside = _is_inside(rows, len(positions))[:, :, None] & _is_inside(columns, len(positions))[:, None, :]
    rows, columns = rows.clamp(0, len(positions) - 1), columns.clamp(0, len(positions) - 1)
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    moved = moved.gather(3, columns[:, None, None, :].expand_as(images))
    return moved.masked_fill(~inside[:, None], 0)


def _cut_out(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    cutout = _cutout_side(images.shape[-1])
    positions = torch.arange(images.shape[-1], device=images.device) + cutout // 2
    in_rows = _is_inside(positions - row[:, None], cutout)
    in_columns = _is_inside(positions - column[:, None], cutout)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)


def _warp(images: Tensor, rows: list[list[Tensor]], align_corners: bool) -> Tensor:
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(images.dtype)
    grid = F.affine_grid(theta, [len(theta), *images.shape[1:]], align_corners=align_corners)
    grid = grid.expand(len(images), -1, -1, -1)
    if images.requires_grad and images.is_cuda:
        return _Sampled.apply(images, grid, align_corners)
    return _sample(images, grid, align_corners)


def _sample(images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)


class _Sampled(Function):
    """Images (n, channels, side, side) at the places of a grid (n, side, side, 2), bilinearly.

    On a GPU PyTorch adds up the gradient in an order that changes from run to run. Here it is one ``index_add``, which
    has an order where that is asked for.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
        return _sample(images, grid, align_corners)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        _, grid, ctx.align_corners = inputs
        ctx.save_for_backward(grid)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (grid,) = ctx.saved_tensors
        count, channels, side, _ = gradient.shape
        x, y = ((grid + 1) * (side - 1) / 2 if ctx.align_corners else ((grid + 1) * side - 1) / 2).unbind(-1)
        firsts = torch.arange(count, device=grid.device)[:, None, None] * side**2
        places, weights = [], []
        for column in (x.floor(), x.floor() + 1):
            for row in (y.floor(), y.floor() + 1):
                weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
                weights.append(weight * (_is_inside(column, side) & _is_inside(row, side)))
                places.append(firsts + (row.clamp(0, side - 1) * side + column.clamp(0, side - 1)).long())
        pixels = gradient.permute(0, 2, 3, 1)
        parts = torch.stack([pixels * weight[..., None] for weight in weights]).view(-1, channels)
        result = gradient.new_zeros(count * side**2, channels).index_add_(0, torch.stack(places).flatten(), parts)
        return result.view(count, side, side, channels).permute(0, 3, 1, 2), None, None


def _cutout_side(side: int) -> int:
    return int(_CUTOUT * side + 0.5)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _is_inside(positions: Tensor, length: int) -> Tensor:
    return (positions >= 0) & (positions < length)
