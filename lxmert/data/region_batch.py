"""Many records of a region store at once: headers and numbers gathered, features copied row by row.

Reading record by record costs more in Python than in copying: a record is 150 kB, which a processor
copies in 15 microseconds. So headers, boxes, ids and scores of a whole batch are taken from the
memory map in one step each, and each image's features cost one call.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.halves import copy_features
from lxmert.data.region_handle import Handle
from lxmert.data.region_record import HEADER_BYTES, damaged, header_faults, layout

Places = NDArray[np.int64]
_HEADER_WORDS = np.arange(HEADER_BYTES // 4)


@dataclass(frozen=True)
class Records:
    """Where the records of B images lie in the file, and what their headers say.

    Attributes:
        handle: the open file.
        at: int64 [B], byte offset of each record in the file.
        boxes_at: int64 [B], byte offset of its boxes in the file.
        counts: int64 [B], regions.
        sizes: float32 [B, 4], width, height, width, height.
    """

    handle: Handle
    at: Places
    boxes_at: Places
    counts: Places
    sizes: NDArray[np.float32]

    @classmethod
    def find(cls, handle: Handle, positions: NDArray[np.integer[Any]]) -> Records:
        """Reads and checks the headers of the records at some positions of the sorted ids.

        Raises:
            DataError: a record is damaged.
        """
        at, ends = handle.spans(positions)
        inside = at + HEADER_BYTES <= ends
        words = handle.words[np.where(inside, at >> 2, 0)[:, None] + _HEADER_WORDS].astype(np.int64)
        schema = handle.schema
        boxes_from, size = layout(
            words[:, 3], schema.feature_width, schema.numpy_dtype.itemsize, schema.class_scores
        )
        bad = ~inside | header_faults(words, schema) | (at + size > ends)
        if bad.any():
            position = int(positions[int(np.argmax(bad))])
            raise damaged(str(handle.path), handle.image_id(position), "the record cannot be read")
        return cls(handle, at, at + boxes_from, words[:, 3], words[:, [1, 2, 1, 2]].astype(np.float32))

    def boxes_norm(self, room: int) -> NDArray[np.float32]:
        """Corners of the first `room` boxes as shares of the image: float32 [B, room, 4], padded with 0."""
        boxes = self._gather("<f4", 0, 4 * self.counts, 4 * room).reshape(len(self.at), room, 4)
        normed: NDArray[np.float32] = np.divide(boxes, self.sizes[:, None], dtype=np.float32)
        return normed

    def ids(self, line: int, room: int) -> NDArray[np.int32]:
        """Object ids (line 4) or attribute ids (line 5): int32 [B, room], padded with 0."""
        return self._gather("<i4", line, self.counts, room)

    def scores(self, line: int, room: int) -> NDArray[np.float32]:
        """Object (6), attribute (7) or selection (8) scores: float32 [B, room], padded with 0."""
        return self._gather("<f4", line, self.counts, room)

    def _gather(self, dtype: str, line: int, lengths: Places, room: int) -> NDArray[Any]:
        columns = np.arange(room)
        first = (self.boxes_at >> 2) + line * self.counts
        real = columns < lengths[:, None]
        words = self.handle.words.view(dtype)
        places = first[:, None] + columns
        if real.all():
            return np.asarray(words[places])
        return np.where(real, words[np.where(real, places, 0)], words.dtype.type(0))

    def copy_features(self, out: NDArray[np.floating[Any]], rows: Sequence[int]) -> None:
        """Copies the features of each image into a row of `out`, zeros after the last.

        Args:
            out: float16 or float32 [.., R, F], C-contiguous.
            rows: the row of each image.
        """
        room, width = out.shape[1:]
        dtype = self.handle.schema.numpy_dtype
        assert width == self.handle.schema.feature_width and out.flags.c_contiguous
        counts = np.minimum(self.counts, room).tolist()
        item = width * dtype.itemsize
        if out.dtype == dtype:
            start, row_bytes = out.ctypes.data, out.strides[0]
            sources = (self.at + HEADER_BYTES + self.handle.address).tolist()
            for row, source, count in zip(rows, sources, counts, strict=True):
                ctypes.memmove(start + row * row_bytes, source, count * item)
        else:
            convert = _converter(self.handle, out)
            begins = ((self.at + HEADER_BYTES) // dtype.itemsize).tolist()
            for row, begin, count in zip(rows, begins, counts, strict=True):
                convert(row, begin, count * width)
        for row, count in zip(rows, counts, strict=True):
            if count < room:
                out[row, count:] = 0

    def one_feature(self, lots: NDArray[np.floating[Any]], room: int) -> NDArray[np.float32]:
        """One region's features of each image: float32 [B, F].

        Args:
            lots: float [B] in [0, 1), which of the first `room` regions to take.
            room: how many regions count.
        """
        dtype, width = self.handle.schema.numpy_dtype, self.handle.schema.feature_width
        chosen = (lots * np.minimum(self.counts, room)).astype(np.int64)
        sources = self.at + HEADER_BYTES + self.handle.address + chosen * width * dtype.itemsize
        stored = np.empty((len(self.at), width), dtype)
        address, item = stored.ctypes.data, width * dtype.itemsize
        for row, source in enumerate(sources.tolist()):
            ctypes.memmove(address + row * item, source, item)
        features = np.empty(stored.shape, np.float32)
        copy_features(features, stored)
        return features


def _converter(handle: Handle, out: NDArray[Any]) -> Callable[[int, int, int], None]:
    """What converts (row, begin, length): numbers of the file, counted in features, into a row of `out`."""
    dtype = handle.schema.numpy_dtype
    flat = out.reshape(len(out), -1)
    if "torch" not in sys.modules:
        stored = handle.words.view(dtype)
        return lambda row, begin, length: copy_features(flat[row, :length], stored[begin : begin + length])
    from_numpy = sys.modules["torch"].from_numpy
    # PyTorch warns of memory that may not be written to, so it gets the address; it only reads from it.
    memory = (ctypes.c_uint8 * (handle.size // 4 * 4)).from_address(handle.address)
    source = from_numpy(np.frombuffer(memoryview(memory), dtype))
    # Rows taken apart once: indexing a tensor costs as much as converting a small image.
    targets, whole = from_numpy(flat).unbind(0), flat.shape[1]

    def convert(row: int, begin: int, length: int) -> None:
        target = targets[row] if length == whole else targets[row][:length]
        target.copy_(source[begin : begin + length])

    return convert
