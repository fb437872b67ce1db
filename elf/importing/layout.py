"""From an array of images in whatever order of axes to (n, 3, side, side)."""

from torch import Tensor

from elf.errors import ElfError
from elf.importing.conclusions import Conclusion

LAYOUTS = ("nchw", "nhwc")
SMALLEST_SIDE = 4
_EXPECTED = (
    "expected (n, 3, s, s), (n, s, s, 3), either with 1 channel for greys, or with classes and images per class as two "
    "axes"
)


def looks_like_images(value: object) -> bool:
    """Return whether a value is a tensor whose shape is that of square RGB or grey images, in any layout."""
    return isinstance(value, Tensor) and value.dim() in (4, 5) and bool(_fitting(tuple(value.shape[-3:])))


def channels_first(images: Tensor, layout: str | None = None) -> tuple[Tensor, tuple[int, int] | None, Conclusion]:
    """Find the axes of an array of images; no value changes.

    Parameters
    ----------
    images : Tensor of shape (n, 3, s, s), (n, s, s, 3), (classes, ipc, 3, s, s) or (classes, ipc, s, s, 3)
        Or with 1 channel instead of 3, or as (n, s, s): greys, which are repeated to three channels. Flattened rows
        (n, 3 * s * s) are read only if the layout is named: both orders of axes fit them.
    layout : {"nchw", "nhwc"}, optional
        What the user says.

    Returns
    -------
    images : Tensor of shape (n, 3, s, s)
        Contiguous.
    grouped : (classes, ipc) or None
        The two first axes, where there were five.
    conclusion : Conclusion

    Raises
    ------
    ElfError
        If no order of axes fits, or several do.
    """
    shape = tuple(images.shape)
    if images.dim() == 2:
        images, reason = _unflattened(images, layout)
        shape = tuple(images.shape)
    elif images.dim() == 3 and shape[0] != 3 and shape[1] == shape[2] >= SMALLEST_SIDE:
        images, reason = images[:, None], f"shape {'x'.join(map(str, shape))}"
        shape = tuple(images.shape)
    elif images.dim() not in (4, 5):
        raise ElfError(f"the images have shape {shape}; {_EXPECTED}")
    else:
        reason = f"shape {'x'.join(map(str, shape))}" + (", as told" if layout else "")
    fitting = _fitting(shape[-3:])
    if not fitting or (layout and layout not in fitting):
        told = f" as {layout.upper()}" if layout else ""
        channels = {4: "four channels; leave out the fourth"}
        hint = next((f" ({channels[size]})" for size in (shape[-3], shape[-1]) if size in channels), "")
        raise ElfError(
            f"the images have shape {shape}, which is not that of square RGB images{told}{hint}; {_EXPECTED}"
        )
    if len(fitting) == 2 and not layout:
        raise ElfError(f"the images have shape {shape}, which fits NCHW and NHWC; say which with --layout")
    layout = layout or fitting[0]
    grouped = (shape[0], shape[1]) if len(shape) == 5 else None
    flat = images.reshape(-1, *shape[-3:])
    if len(flat) == 0:
        raise ElfError(f"the images have shape {shape}: there is none")
    flat = flat.permute(0, 3, 1, 2) if layout == "nhwc" else flat
    finding = layout.upper() + (f", {grouped[0]} classes of {grouped[1]}" if grouped else "")
    if flat.shape[1] == 1:
        flat = flat.repeat(1, 3, 1, 1)
        reason += "; one channel, grey, repeated to three as the project does with its digits"
        finding += ", grey"
    return flat.contiguous(), grouped, Conclusion("layout", finding, reason)


def is_grey(images: Tensor) -> bool:
    """Return whether images as they are found have one channel."""
    return images.dim() == 3 or (images.dim() in (4, 5) and 1 in (images.shape[-3], images.shape[-1]))


def _fitting(image: tuple[int, ...]) -> list[str]:
    first, second, third = image
    found = []
    if first in (1, 3) and second == third and second >= 3:
        found.append("nchw")
    if third in (1, 3) and first == second and first >= 3:
        found.append("nhwc")
    return found


def _unflattened(images: Tensor, layout: str | None) -> tuple[Tensor, str]:
    count, length = images.shape
    side = round((length / 3) ** 0.5)
    if 3 * side * side != length or side < SMALLEST_SIDE:
        raise ElfError(f"the images have shape {(count, length)}; {_EXPECTED}")
    if layout is None:
        raise ElfError(
            f"the images are flattened rows of {length} = 3 x {side} x {side} values, channels first or "
            "last; say which with --layout nchw or --layout nhwc, or save them with their four axes"
        )
    shape = (count, 3, side, side) if layout == "nchw" else (count, side, side, 3)
    return images.reshape(shape), f"rows of {length} values, as told"
