"""Whether bytes are a whole picture, told by the bytes, and whether it is the one a publisher saw.

The hash is `average_hash` of the library `imagehash` at size 8, with which NLVR2's hash files were made:
grey, shrunk to 8 x 8 with Lanczos' filter, a bit for each pixel lighter than the mean, row by row, the
first bit the highest.
"""

from __future__ import annotations

import io
import threading

import numpy as np
from PIL import Image

from lxmert.pillow import DECODE_ERRORS

HASH_BITS = 64
# Pictures of so many pixels take gigabytes to unpack; photographs of the web have a tenth at most.
MAX_PIXELS = 100_000_000
# Dots that count visits, and bars of pages.
MIN_SIDE_PX = 16
_SIDE = 8
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}

# Two of the largest fit into the memory that a crawl has in the graph; its dozens of threads mostly wait.
_UNPACKING = threading.BoundedSemaphore(2)


class NoPicture(Exception):
    """Bytes are no whole picture; the message says why."""


def format_of(body: bytes) -> str | None:
    """The format that the first bytes tell, whatever the file is called; None for anything else."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC.items() if body.startswith(magic)), None)


def read_picture(body: bytes) -> Image.Image:
    """The first frame, decoded to its last pixel.

    Raises:
        NoPicture: the bytes are something else, cut short, or too large or small for a photograph.
    """
    kind = format_of(body)
    if kind is None:
        what = "a web page" if body[:512].lstrip().startswith(b"<") else f"begins with {body[:4].hex(' ')}"
        raise NoPicture(f"no picture: {what}" if body else "empty")
    try:
        image = Image.open(io.BytesIO(body), formats=[kind])
        width, height = image.size
        if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE_PX:
            raise NoPicture(f"a picture of {width} x {height} pixels")
        image.load()
    except DECODE_ERRORS as error:
        raise NoPicture(f"a broken {kind} picture ({' '.join(str(error).split())[:80]})") from error
    return image


def average_hash(image: Image.Image) -> int:
    """The picture's 64 bits."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
    return int.from_bytes(np.packbits(grey > grey.mean()).tobytes(), "big")


def hash_distance(first: int, second: int) -> int:
    """How many of the 64 bits differ."""
    return (first ^ second).bit_count()


def distance_to(known: int | None, body: bytes) -> int | None:
    """How far a picture is from the hash of the one its publisher saw; None where nobody knows that one.

    Raises:
        NoPicture: the bytes are no whole picture.
    """
    with _UNPACKING:
        picture = read_picture(body)
        try:
            found = average_hash(picture)
        except (OSError, ValueError, MemoryError) as error:  # a colour space that Pillow cannot make grey
            raise NoPicture(f"a picture that cannot be read ({error})") from error
        return None if known is None else hash_distance(found, known)
