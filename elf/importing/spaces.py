"""Which space pixels are in: bytes, 0 to 1, normalised or whitened; decided by rules in the order of their strength.

docs/importing.md has the measurements behind the limits.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from elf.data.preprocessing import WHITENED, ZCA, Normalisation
from elf.errors import ElfError
from elf.importing.conclusions import Conclusion
from elf.importing.constants import ALL_CONSTANTS as CONSTANTS
from elf.importing.names import Said

CHOICES = ("auto", "bytes", "unit", "normalised", *WHITENED, *CONSTANTS)
GREY_LEVEL_TOLERANCE = 0.1
"""Of 255 levels. Normalised float16 is off by less; values that are no levels at all pass once in five."""
INSIDE, DOUBTFUL_INSIDE = 0.9, 0.75
"""Share of values within the range of pixels. It is 1 for pixels, and at most one half for values around 0."""
FEWEST_IMAGES = 4
NOISE = 0.15
"""Correlation of neighbours below which nothing is left of images."""
WHITENED_SPREAD, NORMALISED_SPREAD = 0.4, 1.0
"""Standard deviations: whitened real images stay below the first, normalised ones are around the second."""
LIMIT_NARROW, LIMIT_WIDE = 0.78, 0.66
"""Correlation of neighbours that separates whitened from normalised, below the first and above the second spread."""


@dataclass(frozen=True)
class Space:
    """A pixel space.

    Attributes
    ----------
    name : str
        ``"bytes"`` (0 to 255), ``"unit"`` (0 to 1), ``"normalised"`` or ``"zca"``.
    constants : str or None
        Name in `ALL_CONSTANTS` of what normalised, or in `WHITENED` of what whitened; None if that is not known, and
        for pixels.
    """

    name: str
    constants: str | None
    conclusion: Conclusion


def understand_space(
    images: Tensor,
    *,
    told: str = "auto",
    said: Said | None = None,
    whitened: str | None = None,
    whitening: ZCA | None = None,
) -> Space:
    """Work out the pixel space of images, or refuse.

    Parameters
    ----------
    images : Tensor of shape (n, 3, side, side)
        As found, in any number format.
    told : str
        One of `CHOICES`: what the user says.
    said : Said, optional
        What the name of the file or the data set says; asked only if the values do not tell.
    whitened : str, optional
        Name of the data set's whitening, if it has one.
    whitening : ZCA, optional
        The whitening itself, by which real images can be recognised.

    Raises
    ------
    ElfError
        If a value is not finite, or the values do not tell the space.
    """
    if images.is_floating_point() and not torch.isfinite(images).all():
        where = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ElfError(f"image {where} holds values that are not finite (NaN or infinity); get an intact copy")
    if told != "auto":
        name = "normalised" if told in CONSTANTS else "zca" if told in WHITENED else told
        constants = told if told in CONSTANTS or told in WHITENED else None
        return Space(name, constants, Conclusion("pixel space", _named(name, constants), "as told"))
    values = images.double()
    if said is not None and said.space == "unit" and images.is_floating_point():
        return _as_unit(values, said)
    pixels = _as_pixels(images, values)
    if pixels is not None:
        return pixels
    exact = _as_real_images(values, whitened, whitening)
    return exact if exact is not None else by_statistics(values, said, whitened)


def _as_unit(values: Tensor, said: Said) -> Space:
    """Return that values are pixels because the file's name says so, if that is what they can be."""
    measured = f"mean {float(values.mean()):.3g}, neighbours correlate by {neighbour_correlation(values):.3f}"
    centred = bool(((values.mean((0, 2, 3)) > 0.1) & (values.mean((0, 2, 3)) < 0.9)).all())
    whole = centred and neighbour_correlation(values) > limit(_spread(values))
    if not whole:
        raise _doubtful(f"{said.reason}, but these values are none ({measured})")
    inside = float(((values >= 0) & (values <= 1)).double().mean())
    reason = f"{said.reason}; {inside:.1%} of the values are within 0 and 1, {measured}"
    return Space("unit", None, Conclusion("pixel space", "pixels from 0 to 1, not clipped", reason))


def _as_pixels(images: Tensor, values: Tensor) -> Space | None:
    low, high = float(values.min()), float(values.max())
    inside_bytes = float(((values >= 0) & (values <= 255)).double().mean())
    inside_unit = float(((values >= 0) & (values <= 1)).double().mean())
    centre, span = float(values.mean()), f"values from {low:.4g} to {high:.4g}"
    if not images.is_floating_point():
        if low < 0 or high > 255 or high <= 1:
            raise _doubtful(f"whole numbers from {low:.0f} to {high:.0f}, which are neither bytes nor normalised")
        return Space("bytes", None, Conclusion("pixel space", "bytes, 0 to 255", f"whole numbers, {span}"))
    if low >= 0 and high <= 1 and high > 0.05:
        return Space("unit", None, Conclusion("pixel space", "pixels from 0 to 1", f"all {span}"))
    if inside_bytes >= 0.98 and 16 < centre < 240 and high > 32:
        return Space("bytes", None, Conclusion("pixel space", "bytes, 0 to 255", f"floats, {span}, mean {centre:.4g}"))
    if inside_unit >= INSIDE and 0.1 < centre < 0.9:
        reason = f"{inside_unit:.1%} of the values are within 0 and 1, mean {centre:.3g}; {span} are kept"
        return Space("unit", None, Conclusion("pixel space", "pixels from 0 to 1, not clipped", reason))
    if inside_unit >= DOUBTFUL_INSIDE and centre > 0.1:
        raise _doubtful(f"{inside_unit:.1%} of the values are within 0 and 1: too few for pixels, too many for others")
    return None


def _as_real_images(values: Tensor, whitened: str | None, whitening: ZCA | None) -> Space | None:
    """Recognise images whose values are whole grey levels, or stop at black and white, once a space is undone."""
    levels, bounds = [], []
    for name, (mean, std) in CONSTANTS.items():
        pixels = Normalisation(mean, std).inverse(values.float()) * 255
        if _are_levels(pixels):
            levels.append(name)
        elif _stop_at_bounds(pixels):
            bounds.append(name)
    for names, reason in ((levels, "whole grey levels"), (bounds, "values that stop exactly at black and at white")):
        if names and len({CONSTANTS[name] for name in names}) == 1:
            same = f"; {' and '.join(names)} are the same numbers" if len(names) > 1 else ""
            text = f"undone, they give {reason}{same}"
            return Space("normalised", names[0], Conclusion("pixel space", _named("normalised", names[0]), text))
    fits = whitening is not None and len(whitening.mean) == values[0].numel()
    if fits and _are_levels(whitening.inverse(values.float()) * 255):
        reason = "the data set's whitening undone, they give whole grey levels"
        return Space("zca", whitened, Conclusion("pixel space", _named("zca", whitened), reason))
    return None


def _are_levels(pixels: Tensor) -> bool:
    varied = float(pixels.max() - pixels.min()) > 8
    in_range = pixels.min() > -GREY_LEVEL_TOLERANCE and pixels.max() < 255 + GREY_LEVEL_TOLERANCE
    return varied and bool(in_range) and float((pixels - pixels.round()).abs().max()) < GREY_LEVEL_TOLERANCE


def _stop_at_bounds(pixels: Tensor) -> bool:
    by_channel = pixels.transpose(0, 1).flatten(1)
    ends = torch.stack([by_channel.amin(1), by_channel.amax(1) - 255])
    within = bool((ends[0] > -0.01).all() and (ends[1] < 0.01).all())
    return within and int((ends.abs() < 0.01).sum()) >= 4


def neighbour_correlation(images: Tensor) -> float:
    """Return the correlation of pixels with their right and lower neighbours, channel means taken out.

    It is the same before and after normalisation with any constants, and lower after whitening.
    """
    centred = images.double() - images.double().mean((0, 2, 3), keepdim=True)

    def correlation(first: Tensor, second: Tensor) -> float:
        norms = first.norm() * second.norm()
        return float((first * second).sum() / norms) if norms > 0 else 0.0

    across = correlation(centred[..., 1:], centred[..., :-1])
    down = correlation(centred[..., 1:, :], centred[..., :-1, :])
    return (across + down) / 2


def limit(spread: float) -> float:
    """Return the correlation of neighbours that separates whitened from normalised at a standard deviation."""
    share = math.log(max(spread, 1e-12) / WHITENED_SPREAD) / math.log(NORMALISED_SPREAD / WHITENED_SPREAD)
    return LIMIT_NARROW + (LIMIT_WIDE - LIMIT_NARROW) * min(max(share, 0.0), 1.0)


def _spread(values: Tensor) -> float:
    return float((values - values.mean((0, 2, 3), keepdim=True)).pow(2).mean().sqrt())


def by_statistics(values: Tensor, said: Said | None, whitened: str | None) -> Space:
    """Tell normalised from whitened images (n, 3, side, side) by the correlation of neighbours; refuse if in doubt.

    Parameters
    ----------
    values : Tensor of shape (n, 3, side, side)
    said : Said or None
        Constants to name if the images are normalised, and why these. A name that says that they are decides, unless
        the values are clearly whitened ones.
    whitened : str or None
        Whitening of the data set, if it has one.
    """
    spread = _spread(values)
    correlation, separating = neighbour_correlation(values), limit(spread)
    band = 0.02 + 0.15 / len(values)
    measured = f"neighbouring pixels correlate by {correlation:.3f} at a standard deviation of {spread:.3g}"
    if said is not None and said.space == "normalised":
        seems_whitened = NOISE <= correlation < separating - band and len(values) >= FEWEST_IMAGES
        if seems_whitened and (whitened is not None or spread < WHITENED_SPREAD):
            beside = f", and the data set is whitened ({whitened})" if whitened else ""
            raise _doubtful(f"{measured}, as whitened ones do{beside}, but the file's name speaks against it")
        reason = f"{said.reason}; DC, DSA and DM never whiten ({measured})"
        return Space("normalised", said.constants, _conclusion("normalised", said.constants, reason))
    if len(values) < FEWEST_IMAGES:
        raise _doubtful(f"{len(values)} image(s) are too few to tell normalised from whitened ones")
    if correlation < NOISE:
        raise _doubtful(f"{measured}: as little as noise does")
    if abs(correlation - separating) < band:
        raise _doubtful(
            f"{measured}: within {band:.3f} of {separating:.3f}, where normalised and whitened sets are found"
        )
    if abs(float(values.mean())) > 2 * spread:
        raise _doubtful(f"their mean is {float(values.mean()):.3g} at a standard deviation of {spread:.3g}")
    if correlation < separating:
        by_which = "nothing tells by which whitening: MTT's (zca), FrePo's and KIP's differ"
        if whitened is not None:
            raise _doubtful(f"{measured}, below {separating:.2f}, so they are whitened, but {by_which}")
        reason = f"{measured}, below {separating:.2f}; {by_which}, and only --space can say it"
        return Space("zca", None, _conclusion("zca", None, reason))
    low, high = float(values.min()), float(values.max())
    if -1 <= low < -0.9 and 0.9 < high <= 1:
        reason = f"{measured}; values from {low:.4g} to {high:.4g} fill the range from -1 to 1"
        return Space("normalised", "digits", Conclusion("pixel space", _named("normalised", "digits"), reason))
    unknown = "nothing tells with which constants, so they are used as they are"
    constants, why = (said.constants, said.reason) if said else (None, unknown)
    reason = f"{measured}, above {separating:.2f}; {why}"
    return Space("normalised", constants, _conclusion("normalised", constants, reason))


def _conclusion(name: str, constants: str | None, reason: str) -> Conclusion:
    return Conclusion("pixel space", _named(name, constants), reason)


def _named(name: str, constants: str | None) -> str:
    if name == "normalised":
        return f"normalised with the constants {constants}" if constants else "normalised, constants unknown"
    if name == "zca":
        return f"whitened ({constants})" if constants else "whitened, by which whitening is unknown"
    return {"bytes": "bytes, 0 to 255", "unit": "pixels from 0 to 1"}[name]


def _doubtful(reason: str) -> ElfError:
    return ElfError(f"the pixel space cannot be told: {reason}; say it with --space ({', '.join(CHOICES[1:])})")
