"""From a picture as a file holds it to three channels of bytes, by rules that say what they do.

What the rules do is counted in a `elf.data.sources.record.Record`. Pillow's own conversion would clip greys of more
than 8 bits to white, drop transparency with whatever colours lie beneath it, and read the first of several frames.
"""

import struct

import numpy as np
from PIL import Image, ImageOps

from elf.data.sources.record import Record
from elf.errors import ElfError

GREYS_OF_16 = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION, PHOTOMETRIC = 0x0112, 262
SRGB_GAMMA = 1 / 2.2


def to_rgb(image: Image.Image, start: bytes, record: Record) -> Image.Image:
    """Return a picture of any mode in three channels of 8 bits, turned as its orientation says.

    - Greys are copied to all channels; those of 16 bits are divided by 257 and rounded down, those of 12 bits (TIFF)
      by 4095 / 255. Colours of more than 8 bits a channel keep their upper 8.
    - Opaque transparency is left out; a transparent picture is laid over white, or refused where it is to be exact.
    - Palettes are looked up. CMYK and YCbCr are converted by Pillow's formulas.
    - Colour profiles and gammas are not applied: values stay as they are stored.

    Parameters
    ----------
    image : Image
        Opened, but not loaded.
    start : bytes
        The first bytes of the file, in which JPEG 2000 and AVIF tell their depth.
    record : Record

    Raises
    ------
    ElfError
        For several frames or pages, greys of 32 bits and floats, whose range nothing says, and pictures that are
        transparent everywhere; without the name of the file.
    """
    _one_frame(image, record)
    raw = _raw_modes(image)
    _count_unapplied(image, record)
    if image.getexif().get(ORIENTATION, 1) in range(2, 9):
        record.count("turned by the orientation in its EXIF data")
    # Pillow turns TIFF files on loading, and others here.
    image.load()
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0
    image = _to_eight_bits(image, raw, white_is_zero, start, record)
    return _three_channels(ImageOps.exif_transpose(image), record)


def _one_frame(image: Image.Image, record: Record) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "MPO":
        record.count("first of several pictures that a camera put into a file (MPO)")
    elif frames > 1:
        raise ElfError(f"holds {frames} frames or pages, and nothing says which is meant; save one of them alone")


def _raw_modes(image: Image.Image) -> list:
    """Return what Pillow's decoders are told: names such as ``RGB;16B``, and for PPM the largest value."""
    told = []
    for tile in image.tile:
        arguments = tile[3]
        told += arguments if isinstance(arguments, tuple | list) else [arguments]
    return told


def _count_unapplied(image: Image.Image, record: Record) -> None:
    profile = image.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        record.count("colour profile other than sRGB not applied, values as stored")
    gamma = image.info.get("gamma")
    if gamma is not None and "srgb" not in image.info and not profile and abs(gamma - SRGB_GAMMA) > 0.01:
        record.count("gamma not applied, values as stored")


def _to_eight_bits(image: Image.Image, raw: list, white_is_zero: bool, start: bytes, record: Record) -> Image.Image:
    if image.mode == "F":
        raise ElfError("holds floats, and nothing says which of them is white; save it with 8 bits a channel")
    if image.mode in GREYS_OF_16 or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _grey_of_16(image, raw, white_is_zero, record)
    if image.mode == "I":
        raise ElfError("holds greys of 32 bits or with signs, and nothing says which is white; save it with 8 bits")
    if image.format == "PPM":
        largest = next((value for value in raw if isinstance(value, int) and not isinstance(value, bool)), 255)
        if image.mode != "1" and 0 < largest != 255:
            record.count(f"values from 0 to {largest} scaled to 0 to 255")
    elif _is_deep(image, raw, start):
        record.count("more than 8 bits a channel, of which the upper 8 are kept")
        if image.format in ("PNG", "TIFF"):
            record.reaches(257 * max(high for _, high in _extrema(image)))
    return image


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    found = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _grey_of_16(image: Image.Image, raw: list, white_is_zero: bool, record: Record) -> Image.Image:
    if "transparency" in image.info:
        raise ElfError("holds greys of 16 bits with a transparent one; save it with 8 bits and without transparency")
    twelve = any(isinstance(name, str) and name.startswith("I;12") for name in raw)
    white = 4095 if twelve else 65535
    values = np.asarray(image).astype(np.int64)
    if white_is_zero:
        values = white - values
    if not twelve:
        record.reaches(int(values.max()))
    record.count(f"greys from 0 to {white} scaled to 0 to 255, rounded down")
    grey = Image.fromarray((values * 255 // white).astype(np.uint8))
    if image.getexif().get(ORIENTATION):
        grey.getexif()[ORIENTATION] = image.getexif()[ORIENTATION]
    return grey


def _is_deep(image: Image.Image, raw: list, start: bytes) -> bool:
    if image.format in ("PNG", "TIFF"):
        return any(isinstance(name, str) and ";16" in name for name in raw)
    if image.format == "JPEG2000":
        # The size segment: 2 bytes of marker, 2 of length, 34 of sizes, the number of components, 3 bytes for each.
        place = start.find(b"\xff\x4f\xff\x51") + 2
        count = struct.unpack(">H", start[place + 38 : place + 40])[0] if place > 1 else 0
        return any((depth & 0x7F) + 1 > 8 for depth in start[place + 40 : place + 40 + 3 * count : 3])
    if image.format == "AVIF":
        place = start.find(b"av1C")
        return place >= 0 and bool(start[place + 6] & 0x40)
    return False


def _three_channels(image: Image.Image, record: Record) -> Image.Image:
    if image.mode in ("P", "PA"):
        record.count("colours looked up in a palette")
    if image.has_transparency_data:
        return _without_transparency(image, record)
    if image.mode in ("1", "L"):
        record.count("grey, copied to three channels")
    elif image.mode in ("CMYK", "YCbCr"):
        record.count(f"{image.mode} converted to RGB by Pillow's formula")
    elif image.mode not in ("RGB", "P"):
        raise ElfError(f"is of the mode {image.mode}, for which there is no plain way to RGB; save it as RGB")
    return image.convert("RGB")


def _without_transparency(image: Image.Image, record: Record) -> Image.Image:
    if image.mode in ("1", "L", "LA", "La"):
        record.count("grey, copied to three channels")
    # Of pre-multiplied greys Pillow knows the way to grey with transparency alone.
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    low, high = image.getchannel("A").getextrema()
    if high == 0:
        raise ElfError("is transparent everywhere, so that nothing of it would be seen; save it without transparency")
    if low == 255:
        record.count("transparency that is opaque everywhere left out")
        return image.convert("RGB")
    if record.exact:
        raise ElfError("is transparent in places, so that its colours are not determined; save it without transparency")
    record.count("transparent, laid over white")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
