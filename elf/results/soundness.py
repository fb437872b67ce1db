"""Whether pictures and drawings that a report copies are still as they were drawn; they have no manifest."""

import hashlib
import io
import re
from xml.parsers import expat

from PIL import Image

from elf.errors import ElfError

MARK = re.compile(rb"<!-- sha256 of this drawing and its data: ([0-9a-f]{64}) -->\n\Z")
PNG = b"\x89PNG\r\n\x1a\n"


def marked(svg: bytes, data: bytes) -> bytes:
    """Return an SVG with a comment at its end that tells whether it, or the CSV of what it shows, was altered."""
    return b"%b<!-- sha256 of this drawing and its data: %b -->\n" % (svg, _digest(svg, data))


def check_drawing(svg: bytes, data: bytes, name: str) -> None:
    """Raise an error if an SVG or its CSV was altered or cut short; without a mark, if the SVG is no whole one.

    Parameters
    ----------
    svg, data : bytes
    name : str
        Of the figure.
    """
    found, reason = MARK.search(svg), None
    if found and found[1] != _digest(svg[: found.start()], data):
        reason = "the checksum does not fit"
    elif not found:
        try:
            expat.ParserCreate().Parse(svg, True)
        except expat.ExpatError as error:
            reason = str(error)
    if reason or not data:
        raise _damaged(f"figures/{name}.svg or {name}.csv", reason or "nothing is in it", "both")


def check_picture(image: bytes, name: str) -> None:
    """Raise an error if a PNG was altered or cut short: each of its parts has a checksum, which Pillow compares."""
    if not image.startswith(PNG):
        return
    try:
        with Image.open(io.BytesIO(image), formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(name, error) from error


def _digest(svg: bytes, data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(svg).digest() + hashlib.sha256(data).digest()).hexdigest().encode()


def _damaged(name: str, reason: object, what: str = "it") -> ElfError:
    return ElfError(f"{name}: damaged or altered ({reason}); delete {what} and start again to have it drawn anew")
