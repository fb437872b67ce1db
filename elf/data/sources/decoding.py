"""Decode one image file to bytes of a wanted side; every source decodes and resizes here."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from elf.data.sources.colours import to_rgb
from elf.data.sources.record import Record
from elf.errors import ElfError

PORTION = 1024

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow calls the formats that are read. Others are not even tried: PostScript would start another program."""

START = 2**16
"""Bytes of a file in which it tells how deep its colours are."""


def decode(encoded: Path | bytes, side: int, where: str, record: Record | None = None) -> np.ndarray:
    """Return an encoded image as RGB bytes of shape (3, side, side).

    Parameters
    ----------
    encoded : Path or bytes
        An image file of one of ``FORMATS`` and of any mode that `elf.data.sources.colours.to_rgb` knows, or what is
        in it.
    side : int
        Wanted height and width in pixels.
    where : str
        What names the image in the message.
    record : Record, optional
        Counts how it was converted.

    Raises
    ------
    ElfError
        If the image cannot be decoded, or not without guessing what its values mean.
    """
    record = record or Record()
    try:
        with open(encoded, "rb") if isinstance(encoded, Path) else io.BytesIO(encoded) as stream:
            start = stream.read(START)
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                rgb = to_rgb(image, start, record)
        if rgb.size != (side, side):
            stretched = "" if rgb.width == rgb.height else ", without keeping the aspect ratio"
            record.count(f"resized to {side}x{side}{stretched}")
        return resize(rgb, side).transpose(2, 0, 1)
    except ElfError as error:
        raise ElfError(f"{where}: the image {error}") from error
    except Exception as error:
        # Damaged bytes make Pillow's decoders raise almost anything, TypeError and struct.error included.
        # Pillow's own text for this case names an object in memory.
        unidentified = isinstance(error, UnidentifiedImageError)
        reason = (
            f"of no known format; known are {', '.join(FORMATS)}" if unidentified else str(error).partition("\n")[0]
        )
        raise ElfError(f"{where}: cannot decode the image ({reason}); replace it by an intact copy") from error


def is_picture(path: Path) -> bool:
    """Return whether a file begins as one of ``FORMATS`` does, whatever its name ends in."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:
        # As above; what is no picture is counted by who asks.
        return False


def decode_all(
    encoded: Sequence[tuple[Path | bytes, str]],
    images: np.ndarray,
    workers: int = 1,
    record: Record | None = None,
) -> None:
    """Decode images side by side, each into its own place.

    Parameters
    ----------
    encoded : sequence of (Path or bytes, str)
        Images and what names them, as :func:`decode` takes them.
    images : array of uint8, shape (len(encoded), 3, side, side)
        Written to.
    workers : int
        Threads that decode; Pillow lets them run at the same time.
    record : Record, optional
        Counts how they were converted.

    Raises
    ------
    ElfError
        For the first image that cannot be decoded.
    """

    def decode_one(entry: tuple[Path | bytes, str]) -> np.ndarray:
        return decode(entry[0], images.shape[-1], entry[1], record)

    if workers == 1:
        for place, entry in enumerate(encoded):
            images[place] = decode_one(entry)
        return
    with ThreadPoolExecutor(workers) as pool:
        # In portions, because a pool takes all its work at once.
        for first in range(0, len(encoded), PORTION):
            for place, image in enumerate(pool.map(decode_one, encoded[first : first + PORTION]), start=first):
                images[place] = image


def resize(image: Image.Image, side: int) -> np.ndarray:
    """Return the pixels of ``image``, bilinearly resized to a square unless it is that square already.

    The aspect ratio is not kept, as in the official code of ELF for 64x64 ImageNet.
    """
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)
