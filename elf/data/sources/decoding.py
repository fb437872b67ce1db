"""Decode one image file to bytes of a wanted side; every source decodes and resizes here."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from elf.errors import ElfError


def decode(encoded: Path | bytes, side: int, where: str) -> np.ndarray:
    """Return an encoded image as RGB bytes of shape (3, side, side).

    Parameters
    ----------
    encoded : Path or bytes
        An image file of any format and mode that Pillow reads, or what is in it.
    side : int
        Wanted height and width in pixels.
    where : str
        What names the image in the message.

    Raises
    ------
    ElfError
        If the image cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            return resize(image.convert("RGB"), side).transpose(2, 0, 1)
    except Exception as error:
        # Damaged bytes make Pillow's decoders raise almost anything, TypeError and struct.error included.
        # Pillow's own text for this case names an object in memory.
        unidentified = isinstance(error, UnidentifiedImageError)
        reason = "of no known format" if unidentified else str(error).partition("\n")[0]
        raise ElfError(f"{where}: cannot decode the image ({reason}); replace it by an intact copy") from error


def resize(image: Image.Image, side: int) -> np.ndarray:
    """Return the pixels of ``image``, bilinearly resized to a square unless it is that square already.

    The aspect ratio is not kept, as in the official code of ELF for 64x64 ImageNet.
    """
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)
