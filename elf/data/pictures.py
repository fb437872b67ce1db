"""Contact sheets: all images of a set on one picture, a row for each class."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from elf.data.images import indices_by_class

GAP = 2
MARGIN = 8
FONT_SIZE = 13
LONGEST_NAME = 20
MOST_IMAGES_PER_CLASS = 50
MOST_IMAGES_OF_MANY_CLASSES = 10
MOST_CLASSES = 200
ROWS_PER_COLUMN = 25
SMALLEST_SHOWN_SIDE = 48


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: a block is a column of class rows, each a name and its images."""

    cell: int
    name_width: int
    per_class: int
    rows: int
    blocks: int
    footer: int

    @property
    def block_width(self) -> int:
        return self.name_width + self.per_class * (self.cell + GAP) + MARGIN

    @property
    def size(self) -> tuple[int, int]:
        height = MARGIN + self.rows * (self.cell + GAP) + MARGIN + self.footer
        return MARGIN + self.blocks * self.block_width, height

    def corner(self, row: int) -> tuple[int, int]:
        block, row_in_block = divmod(row, self.rows)
        return MARGIN + block * self.block_width, MARGIN + row_in_block * (self.cell + GAP)


def contact_sheet(
    images: Tensor,
    labels: Tensor,
    class_names: tuple[str, ...],
    file: Path | BinaryIO | None = None,
) -> Image.Image:
    """Draw images class by class: a row for each class, its name at the left.

    Small images are enlarged by a whole number without smoothing, so that single pixels stay visible.
    More than 25 classes are set in several columns. At most the first 50 images of a class are drawn (10
    if there are several columns), of the first 200 classes that have images; a line below the grid says
    so if something is left out.

    Parameters
    ----------
    images : Tensor of floats, shape (n, 3, side, side)
        Pixels in [0, 1], for example from ``Normalisation.inverse``; values outside are clipped and
        not-a-number is black.
    labels : Tensor of int64, shape (n,)
        Places in ``class_names``.
    class_names : tuple of str
    file : Path, binary file or None
        Where to write the picture as PNG, if anywhere.

    Returns
    -------
    PIL.Image.Image
        In mode RGB.
    """
    by_class = indices_by_class(labels.cpu(), len(class_names))
    present = [label for label, indices in enumerate(by_class) if len(indices)]
    most = MOST_IMAGES_PER_CLASS if len(present) <= ROWS_PER_COLUMN else MOST_IMAGES_OF_MANY_CLASSES
    shown = {label: by_class[label][:most] for label in present[:MOST_CLASSES]}
    count = sum(len(indices) for indices in shown.values())
    footer = "" if count == len(images) else f"{count} of {len(images)} images shown"

    scale = max(1, -(-SMALLEST_SHOWN_SIDE // images.shape[-1]))
    font = ImageFont.load_default(FONT_SIZE)
    names = {label: _short(class_names[label]) for label in shown}
    layout = _lay_out(shown, images.shape[-1] * scale, max(map(font.getlength, names.values()), default=0), footer)
    sheet = Image.new("RGB", layout.size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (label, indices) in enumerate(shown.items()):
        left, top = layout.corner(row)
        pen.text((left, top + layout.cell // 2), names[label], fill="black", font=font, anchor="lm")
        for column, picture in enumerate(_to_pillow(images[indices.to(images.device)], scale)):
            sheet.paste(picture, (left + layout.name_width + column * (layout.cell + GAP), top))
    if footer:
        pen.text((MARGIN, layout.size[1] - MARGIN), footer, fill="black", font=font, anchor="ls")
    if file is not None:
        sheet.save(file, format="PNG")
    return sheet


def _lay_out(shown: dict[int, Tensor], cell: int, longest_name: float, footer: str) -> _Layout:
    blocks = max(1, -(-len(shown) // ROWS_PER_COLUMN))
    return _Layout(
        cell=max(cell, FONT_SIZE + GAP),
        name_width=round(longest_name) + MARGIN,
        per_class=max((len(indices) for indices in shown.values()), default=0),
        rows=-(-len(shown) // blocks),
        blocks=blocks,
        footer=FONT_SIZE + MARGIN if footer else 0,
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _to_pillow(images: Tensor, scale: int) -> list[Image.Image]:
    pixels = images.detach().float().nan_to_num(nan=0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    return [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]
