"""Named arrays as bytes, in the two forms UNITER's files have: .npz archives and MessagePack maps.

Both readers build arrays of numbers and nothing else: no pickle, no object, no size that the bytes do not
bear out.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES = 1 << 30  # of one array; an image's features are a hundredth of a hundredth of it
_MOST_DEPTH = 8
_MOST_DIMENSIONS = 8
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, RuntimeError, NotImplementedError)


def read_npz(data: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz archive by name; what is no array of numbers, or has no dimension, is left out.

    UNITER's archives hold such a member, `allow_pickle`: NumPy of 2019 took an unknown keyword for an array.

    Raises:
        ValueError: it is no such archive, or it is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for item in archive.infolist():
                if not item.filename.endswith(".npy"):
                    continue
                if item.file_size > _MOST_BYTES:
                    raise ValueError(f"{item.filename} claims {item.file_size} bytes")
                array = _read_npy(archive.read(item), item.filename)
                if array is not None:
                    arrays[item.filename[:-4]] = array
    except _ZIP_ERRORS as error:
        raise ValueError(f"not an .npz archive, or damaged ({' '.join(str(error).split())})") from error
    return arrays


def _read_npy(data: bytes, name: str) -> NDArray[Any] | None:
    handle = io.BytesIO(data)
    version = np.lib.format.read_magic(handle)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name}: .npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(handle)
    if dtype.kind not in "fiub" or not shape:
        return None
    return _array(data[handle.tell() :], dtype, shape, "F" if fortran else "C", name)


def _array(
    data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any, name: str
) -> NDArray[Any]:
    """An array over bytes, which its shape must fill."""
    if len(shape) > _MOST_DIMENSIONS or any(extent < 0 for extent in shape):
        raise ValueError(f"{name}: of shape {shape}")
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise ValueError(f"{name}: {len(data)} bytes, shape {shape} of {dtype} needs {wanted}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def write_npz(arrays: Mapping[str, NDArray[Any]], compressed: bool = False) -> bytes:
    """An .npz archive; equal arrays give equal bytes."""
    handle = io.BytesIO()
    # The quickest compression: features give way by a tenth or so, whatever the effort.
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(handle, "w", kind, compresslevel=1) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            # An entry without a date of its own: ZipInfo's is 1980.
            item = zipfile.ZipInfo(f"{name}.npy")
            item.compress_type = kind
            archive.writestr(item, member.getvalue(), compresslevel=1)
    return handle.getvalue()


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A MessagePack map of arrays, each a map with the binary keys nd, type, kind, shape and data.

    These are the bytes that msgpack with msgpack-numpy's hook gives, strings as strings.
    """
    assert len(arrays) < 16
    out = bytearray([0x80 | len(arrays)])
    for name, array in arrays.items():
        _pack_string(out, name)
        out.append(0x85)
        for key, value in (("nd", True), ("type", array.dtype.str), ("kind", b""), ("shape", array.shape)):
            _pack_binary(out, key.encode())
            if value is True:
                out.append(0xC3)
            elif isinstance(value, str):
                _pack_string(out, value)
            elif isinstance(value, bytes):
                _pack_binary(out, value)
            else:
                out.append(0x90 | len(array.shape))
                for extent in array.shape:
                    _pack_count(out, extent)
        _pack_binary(out, b"data")
        _pack_binary(out, np.ascontiguousarray(array).tobytes())
    return bytes(out)


def _pack_string(out: bytearray, text: str) -> None:
    data = text.encode()
    assert len(data) < 32
    out.append(0xA0 | len(data))
    out += data


def _pack_binary(out: bytearray, data: bytes) -> None:
    for most, code, form in ((1 << 8, 0xC4, ">B"), (1 << 16, 0xC5, ">H"), (1 << 32, 0xC6, ">I")):
        if len(data) < most:
            out.append(code)
            out += struct.pack(form, len(data)) + data
            return
    raise ValueError(f"{len(data)} bytes do not fit in a MessagePack value")


def _pack_count(out: bytearray, number: int) -> None:
    for most, code, form in ((1 << 8, 0xCC, ">B"), (1 << 16, 0xCD, ">H"), (1 << 32, 0xCE, ">I")):
        if number < 1 << 7:
            out.append(number)
            return
        if number < most:
            out.append(code)
            out += struct.pack(form, number)
            return
    raise ValueError(f"{number} does not fit in a MessagePack number of four bytes")


def unpack_arrays(data: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """Arrays of a MessagePack map, whose inner keys may be binary or strings.

    Raises:
        ValueError: the bytes are none, end early or go on.
    """
    reader = _Unpacker(data)
    value = reader.value(0)
    if reader.at != len(reader.data):
        raise ValueError(f"{len(reader.data) - reader.at} bytes follow the MessagePack value")
    if not isinstance(value, dict):
        raise ValueError("the MessagePack value is no map of arrays")
    arrays = {}
    for name, item in value.items():
        if isinstance(item, dict) and item.get("nd") is True:
            arrays[name] = _unpacked_array(name, item)
    return arrays


def _unpacked_array(name: str, item: dict[str, Any]) -> NDArray[Any]:
    kind, shape, data = item.get("type"), item.get("shape"), item.get("data")
    kind = bytes(kind).decode("ascii", "replace") if isinstance(kind, memoryview) else kind
    if not isinstance(kind, str) or len(kind) > 4 or kind[:1] not in "<|>=" or kind[1:2] not in "fiub":
        raise ValueError(f"{name}: numbers of type {kind!r}")
    if not isinstance(shape, list) or not all(isinstance(extent, int) for extent in shape):
        raise ValueError(f"{name}: of shape {shape!r}")
    if not isinstance(data, memoryview):
        raise ValueError(f"{name}: has no data")
    try:
        dtype = np.dtype(kind)
    except TypeError as error:
        raise ValueError(f"{name}: numbers of type {kind!r}") from error
    return _array(data, dtype, tuple(shape), "C", name)


# First bytes of values with a length: (bytes of the length, what they are the length of).
_LENGTHS = {
    0xC4: (1, "binary"), 0xC5: (2, "binary"), 0xC6: (4, "binary"),
    0xD9: (1, "string"), 0xDA: (2, "string"), 0xDB: (4, "string"),
    0xDC: (2, "array"), 0xDD: (4, "array"), 0xDE: (2, "map"), 0xDF: (4, "map"),
}  # fmt: skip
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class _Unpacker:
    """Reads one MessagePack value; binary ones stay views of the data."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data).toreadonly()
        self.at = 0

    def _take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ValueError(f"the MessagePack value ends early, at byte {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise ValueError("MessagePack values within values too deep")
        first = self._take(1)[0]
        if first < 0x80 or first >= 0xE0:
            return first if first < 0x80 else first - 256
        if first < 0xC0:
            if first >= 0xA0:
                return self._string(first & 0x1F)
            return self._many("map" if first < 0x90 else "array", first & 0x0F, depth)
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _NUMBERS:
            form = _NUMBERS[first]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if first not in _LENGTHS:
            raise ValueError(f"byte {self.at - 1} is {first:#04x}, which arrays have no use for")
        width, kind = _LENGTHS[first]
        count = int.from_bytes(self._take(width), "big")
        if kind == "binary":
            return self._take(count)
        return self._string(count) if kind == "string" else self._many(kind, count, depth)

    def _string(self, count: int) -> str:
        try:
            return bytes(self._take(count)).decode()
        except UnicodeDecodeError as error:
            raise ValueError("a MessagePack string is not UTF-8") from error

    def _many(self, kind: str, count: int, depth: int) -> Any:
        # Each value takes a byte at least; a huge count cannot make a huge loop.
        if count > len(self.data) - self.at:
            raise ValueError(f"the MessagePack value ends early, at byte {len(self.data)}")
        if kind == "array":
            return [self.value(depth + 1) for _ in range(count)]
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if isinstance(key, memoryview):
                key = bytes(key).decode("utf-8", "replace")
            if not isinstance(key, str):
                raise ValueError(f"a MessagePack key is {key!r}")
            found[key] = self.value(depth + 1)
        return found
