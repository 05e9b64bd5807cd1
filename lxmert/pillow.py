"""What Pillow raises on damaged files, wherever images are read."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error,
    OverflowError, MemoryError, Image.DecompressionBombError, NotImplementedError,
)  # fmt: skip
