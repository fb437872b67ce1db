"""The augmentation of FrePo's own evaluation (official code of FrePo).

Written like elf/data/augmentation.py, from which it differs in its operators and in what lies outside an image: the
continuation of its edge. Every image has its own parameters.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from elf.errors import ElfError
from elf.machine.device import to_device

CATEGORIES = ("flip", "color", "zoom", "rotate", "translate", "cutout")
STRATEGY = "_".join(CATEGORIES)
NO_AUGMENTATION = "none"

_BRIGHTNESS = 0.25
_LOG_FACTOR = 0.25
_ZOOM = 1.25
_DEGREES = 15.0
_SHIFT = 0.125

Draw = tuple[str, dict[str, Tensor]]


def draw(strategy: str, count: int, side: int, generator: torch.Generator) -> Draw:
    """Draw one category of a strategy, uniformly, and its parameters for each of ``count`` images.

    Parameters
    ----------
    strategy : str
        Categories joined by ``_``, normally `STRATEGY`; or ``"none"``.
    count : int
        Number of images.
    side : int
        Height and width of the images in pixels.
    generator : torch.Generator
        On the CPU, for every device.

    Returns
    -------
    category : str
    parameters : dict of str to Tensor of shape (count,)
        On the CPU. ``flip``: ``mirrored`` (probability 0.5). ``color``: ``brightness`` (shift, uniform within 0.25,
        in units of the pixels), ``contrast`` and ``saturation`` (factors, log-uniform within e^0.25). ``zoom``:
        ``size`` of the window that becomes the image (in units of the image, log-uniform from 0.8 to 1.25), ``x``
        and ``y`` (its centre, where an image reaches from -1 to 1: uniform as far as the smaller of the two lies
        within the larger). ``rotate``: ``angle`` (radians, uniform within 15 degrees). ``translate``: ``x`` and
        ``y`` (in the same units as the centre: uniform within an eighth of the side). ``cutout``: ``row`` and
        ``column`` (centre of the square, integer pixels).

    Raises
    ------
    ElfError
        If the strategy names an unknown category.
    """
    if strategy == NO_AUGMENTATION:
        return NO_AUGMENTATION, {}
    categories = strategy.split("_")
    unknown = [category for category in categories if category not in CATEGORIES]
    if unknown:
        raise ElfError(
            f"augmentation {strategy!r}: unknown category {unknown[0]!r}; "
            f"allowed are {', '.join(CATEGORIES)} joined by '_', or {NO_AUGMENTATION!r}"
        )
    category = categories[int(torch.randint(len(categories), (), generator=generator))]

    def within(limit: float | Tensor) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    match category:
        case "flip":
            return category, {"mirrored": torch.rand(count, generator=generator) < 0.5}
        case "color":
            factors = {name: within(_LOG_FACTOR).exp() for name in ("contrast", "saturation")}
            return category, {"brightness": within(_BRIGHTNESS)} | factors
        case "zoom":
            size = within(math.log(_ZOOM)).exp()
            return category, {"size": size, "x": within((1 - size).abs()), "y": within((1 - size).abs())}
        case "rotate":
            return category, {"angle": within(math.radians(_DEGREES))}
        case "translate":
            return category, {"x": within(2 * _SHIFT), "y": within(2 * _SHIFT)}
        case _:
            return category, {name: torch.randint(side, (count,), generator=generator) for name in ("row", "column")}


def apply(images: Tensor, draw: Draw) -> Tensor:
    """Apply a draw to a batch (n, channels, side, side) in model-input space, an image a parameter set.

    Zoom, rotation and translation sample bilinearly and continue the edge; a cut-out square has a quarter of the
    side and is 0; it may stick out.
    """
    category, parameters = draw[0], {name: to_device(value, images.device) for name, value in draw[1].items()}
    match category:
        case "flip":
            return torch.where(_per_image(parameters["mirrored"]), images.flip(3), images)
        case "color":
            return _change_color(images, **parameters)
        case "zoom":
            size, zero = parameters["size"], torch.zeros_like(parameters["size"])
            return _warp(images, [[size, zero, parameters["x"]], [zero, size, parameters["y"]]])
        case "rotate":
            cosine, sine = parameters["angle"].cos(), parameters["angle"].sin()
            zero = torch.zeros_like(sine)
            return _warp(images, [[cosine, -sine, zero], [sine, cosine, zero]])
        case "translate":
            zero = torch.zeros_like(parameters["x"])
            one = torch.ones_like(zero)
            return _warp(images, [[one, zero, parameters["x"]], [zero, one, parameters["y"]]])
        case "cutout":
            return _cut_out(images, **parameters)
        case _:
            return images


def augment(images: Tensor, strategy: str, generator: torch.Generator) -> Tensor:
    """Augment a batch with one category drawn for the batch and parameters drawn for each image."""
    return apply(images, draw(strategy, len(images), images.shape[-1], generator))


def _change_color(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    # The order does not matter: each leaves the mean alone that another one starts from, or shifts both.
    images = images + _per_image(brightness)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * _per_image(contrast) + mean
    grey = images.mean(dim=1, keepdim=True)
    return (images - grey) * _per_image(saturation) + grey


def _warp(images: Tensor, rows: list[list[Tensor]]) -> Tensor:
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(images.dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _cut_out(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    square = images.shape[-1] // 4
    positions = torch.arange(images.shape[-1], device=images.device) + square // 2
    rows, columns = positions - row[:, None], positions - column[:, None]
    inside = ((rows >= 0) & (rows < square))[:, :, None] & ((columns >= 0) & (columns < square))[:, None, :]
    return images.masked_fill(inside[:, None], 0)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
