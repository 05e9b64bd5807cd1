"""Whether weight files are whole: PyTorch's two forms, pickles, Caffe's networks, safetensors.

Nothing is loaded or executed, and no more than a header is held in memory.
"""

from __future__ import annotations

import json
import math
import mmap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxmert.assets.answers import BadContent
from lxmert.assets.opcodes import NoPickle, walk

_ZIP_END_BYTES = 22
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
# Fields of caffe.proto: the two generations of layers in a network, and the arrays in either.
_CAFFE_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 100}
_CAFFE_ARRAYS = {100: 7, 2: 6}
_SAFETENSORS_HEADER_BYTES = 100 << 20
_NUMBER_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2}
_NUMBER_BYTES |= {"U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def check_torch(path: Path) -> None:
    """Raises BadContent unless PyTorch wrote the file, as a zip (since 2020) or as pickles."""
    with open(path, "rb") as handle:
        head = handle.read(2)
    if head == b"PK":
        _check_torch_zip(path)
    else:
        _check_torch_pickles(path)


def _check_torch_zip(path: Path) -> None:
    with open(path, "rb") as handle:
        handle.seek(max(0, path.stat().st_size - _ZIP_END_BYTES))
        end = handle.read()
    # A zip's reader looks for its end wherever it is; PyTorch writes nothing after it.
    if len(end) < _ZIP_END_BYTES or not end.startswith(b"PK\x05\x06"):
        raise BadContent("is a broken weights file (cut, or with bytes after its end)")
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [
                entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED
            ]
            broken = None if packed else archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
        raise BadContent(f"is a broken weights file ({error})") from error
    if packed:
        raise BadContent(f"is no weights file: {packed[0]} is compressed in it, which PyTorch never does")
    if broken:
        raise BadContent(f"is a broken weights file (bad checksum of {broken})")


def _check_torch_pickles(path: Path) -> None:
    """A magic number, a version, the machine, the value, the storages' keys; then each storage's numbers."""
    with _mapped(path) as data:
        try:
            magic = walk(data, 0)
            if magic.number != _TORCH_MAGIC:
                raise NoPickle("it is a pickle, but none of PyTorch's")
            version = walk(data, magic.end)
            machine = walk(data, version.end)
            value = walk(data, machine.end)
            keys = walk(data, value.end)
        except NoPickle as error:
            raise BadContent(f"is a broken weights file ({error})") from None
        at = keys.end
        for key in keys.texts:
            kind, count = value.storages.get(key, ("", 0))
            if kind not in _STORAGE_BYTES:
                raise BadContent(f"is a broken weights file (nothing says what storage {key[:40]!r} holds)")
            if int.from_bytes(data[at : at + 8], "little") != count:
                raise BadContent(f"is a broken weights file (storage {key[:40]!r} is cut or of another size)")
            at += 8 + count * _STORAGE_BYTES[kind]
        if at != len(data):
            raise BadContent(f"is a broken weights file ({len(data)} bytes where its tensors need {at})")


def check_pickle(path: Path) -> None:
    """Raises BadContent unless the file is one whole pickle and nothing else."""
    with _mapped(path) as data:
        try:
            end = walk(data, 0).end
        except NoPickle as error:
            raise BadContent(f"is a broken pickle ({error})") from None
        if end != len(data):
            raise BadContent(f"is a broken pickle (it ends at byte {end} of {len(data)})")


def check_caffemodel(path: Path) -> None:
    """Raises BadContent unless the file is a whole network of Caffe with learned arrays.

    A file that ends exactly between two layers looks whole; only its size tells.
    """
    from lxmert.protobuf import BYTES, Malformed, Walker  # NumPy, which listing does without

    arrays = 0
    with _mapped(path) as data, memoryview(data) as view:
        walker = Walker(view)
        try:
            for item in walker.fields(0, len(view)):
                if item.number not in _CAFFE_FIELDS:
                    raise Malformed(item.start, f"a network has no field {item.number}")
                inner = _CAFFE_ARRAYS.get(item.number)
                if inner is None:
                    continue
                if item.kind != BYTES:
                    raise Malformed(item.start, "a layer was expected")
                arrays += sum(part.number == inner for part in walker.fields(item.start, item.end))
        except Malformed as error:
            raise BadContent(f"is no whole .caffemodel ({error})") from None
    if not arrays:
        raise BadContent("is no .caffemodel: it holds no layer with weights")


def check_safetensors(path: Path) -> None:
    """Raises BadContent unless the header describes every byte that follows it."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, _SAFETENSORS_HEADER_BYTES):
            raise BadContent("is no whole .safetensors file: it is shorter than its header")
        try:
            header = json.loads(handle.read(length))
            tensors = [value for name, value in header.items() if name != "__metadata__"]
            spans = sorted(_span(tensor) for tensor in tensors)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise BadContent(f"is no .safetensors file: its header cannot be read ({error})") from None
    at = 0
    for start, end in spans:
        if start != at:
            raise BadContent(f"is a broken .safetensors file (byte {at} of its data belongs to no tensor)")
        at = end
    if not spans or 8 + length + at != size:
        raise BadContent(f"is a broken .safetensors file ({size} bytes where it needs {8 + length + at})")


def _span(tensor: dict[str, object]) -> tuple[int, int]:
    start, end = tensor["data_offsets"]  # type: ignore[misc]
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("a tensor lies nowhere")
    width = _NUMBER_BYTES.get(str(tensor["dtype"]))
    if width is not None and math.prod(tensor["shape"]) * width != end - start:  # type: ignore[arg-type]
        raise ValueError("a tensor has more or fewer bytes than its shape")
    return start, end


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
