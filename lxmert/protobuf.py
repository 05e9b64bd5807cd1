"""The protocol-buffer wire format, as far as weight files need it: fields, varints and runs of numbers.

Nothing is copied while walking; numbers are views of the buffer, so a file can claim no more memory than
it has bytes. Source: the protocol buffers encoding reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_NUMBER = {FIXED64: "<f8", FIXED32: "<f4"}
_MAX_VARINT_BYTES = 10


class Malformed(Exception):
    """The bytes are no such message; says where and why."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(f"at byte {position}: {why}")


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        number: the field's number in its message.
        kind: VARINT, FIXED64, BYTES or FIXED32.
        value: of a varint.
        start: where the payload begins in the buffer.
        end: where it ends.
    """

    number: int
    kind: int
    value: int
    start: int
    end: int


class Walker:
    """Walks messages in a buffer; counts fields over all of them, so that no file can keep it busy.

    Args:
        buffer: the file, such as a memory map.
        max_fields: fields seen before the file is refused.
    """

    def __init__(self, buffer: memoryview, max_fields: int = 1_000_000) -> None:
        self.buffer = buffer
        self._left = max_fields

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in [start, end).

        Raises:
            Malformed: the bytes are no message.
        """
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise Malformed(at, "more fields than weights have")
            key, payload = self.varint(at, end)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise Malformed(at, "field number 0")
            if kind == VARINT:
                value, stop = self.varint(payload, end)
                yield Field(number, kind, value, payload, stop)
            elif kind in _FIXED:
                stop = payload + _FIXED[kind]
                if stop > end:
                    raise Malformed(at, "the file ends within a number")
                yield Field(number, kind, 0, payload, stop)
            elif kind == BYTES:
                length, payload = self.varint(payload, end)
                stop = payload + length
                if stop > end:
                    raise Malformed(at, f"a field of {length} bytes where {end - payload} are left")
                yield Field(number, kind, length, payload, stop)
            else:
                raise Malformed(at, f"wire type {kind}, which these files do not use")
            at = stop

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The varint at a position, and the position after it.

        Raises:
            Malformed: it does not end, or is written longer than needed.
        """
        value = 0
        for length in range(_MAX_VARINT_BYTES):
            if at + length >= end:
                raise Malformed(at, "the file ends within a number")
            byte = self.buffer[at + length]
            value |= (byte & 0x7F) << (7 * length)
            if byte < 0x80:
                if byte == 0 and length:
                    raise Malformed(at, "a number longer than it need be")
                return value, at + length + 1
        raise Malformed(at, "a number that does not end")

    def varints(self, field: Field) -> list[int]:
        """Whole numbers of a repeated field, packed or not; at most 64 of them."""
        if field.kind == VARINT:
            return [field.value]
        if field.kind != BYTES:
            raise Malformed(field.start, "a whole number was expected")
        values, at = [], field.start
        while at < field.end:
            if len(values) == 64:
                raise Malformed(at, "too many dimensions")
            value, at = self.varint(at, field.end)
            values.append(value)
        return values

    def text(self, field: Field) -> str:
        """A string field, at most 256 bytes of it; bytes that are no UTF-8 are shown escaped."""
        if field.kind != BYTES:
            raise Malformed(field.start, "text was expected")
        data = bytes(self.buffer[field.start : min(field.end, field.start + 256)])
        return data.decode("utf-8", "backslashreplace")

    def packed(self, field: Field, kind: int) -> np.ndarray:
        """Numbers of a packed field as a view: float32 [n] for FIXED32, float64 [n] for FIXED64."""
        size = _FIXED[kind]
        if (field.end - field.start) % size:
            raise Malformed(field.start, f"{field.end - field.start} bytes are no row of {size}-byte numbers")
        return np.frombuffer(self.buffer, _NUMBER[kind], (field.end - field.start) // size, field.start)

    def unpacked(self, field: Field, end: int) -> tuple[np.ndarray, int]:
        """Numbers of a run of unpacked fields equal in number, and the position after the run.

        A run is one field after the other, each a key byte and a number; it is cut out at once, since
        one step a number would take minutes.
        """
        size = _FIXED[field.kind]
        key, step = (field.number << 3) | field.kind, size + 1
        if key > 0x7F:
            raise Malformed(field.start, "unpacked numbers in a field that has none")
        start = field.start - 1
        limit = (end - start) // step
        count, window = 0, 64
        while count < limit:  # in growing windows, so that many short runs cost no more than one long one
            window = min(window, limit - count)
            keys = np.frombuffer(self.buffer, np.uint8, window * step, start + count * step)[::step]
            other = np.flatnonzero(keys != key)
            count += int(other[0]) if len(other) else window
            if len(other):
                break
            window *= 8
        rows = np.frombuffer(self.buffer, np.uint8, count * step, start).reshape(-1, step)
        return np.ascontiguousarray(rows[:, 1:]).view(_NUMBER[field.kind])[:, 0], start + count * step
