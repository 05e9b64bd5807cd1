"""Plain pickles of arrays, read without executing anything.

Some published weights are Python pickles. The standard unpickler is a program loader: it calls whatever
the file names. Here a small machine of our own reads the same bytes and knows only what such files need:
dictionaries, lists, tuples, text, numbers and NumPy arrays, in protocols 2 to 5, Python 2's included.
Names in the file are compared, never imported, and nothing the file says is called.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.errors import DataError
from lxmert.files import explain_os_error

MAX_BYTES = 4 << 30  # the largest published detector pickle has 262 MB
MAX_OPERATIONS = 500_000  # 535 tensors need about 12,000
MAX_DEPTH = 32
_MAX_INT_BYTES = 16
_MAX_KEY = 1 << 31  # larger numbers can be chosen so that a dictionary of them never ends

# A name in the file -> what it means here. NumPy moved `core` to `_core` in version 2.
_GLOBALS = {
    **{
        (f"numpy.{core}.multiarray", name): meaning
        for core in ("core", "_core")
        for name, meaning in (("_reconstruct", "array"), ("scalar", "scalar"))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): "buffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("collections", "OrderedDict"): "dict",
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes in protocol 2
    ("__builtin__", "bytes"): "no bytes",
    ("builtins", "bytes"): "no bytes",
}
_NUMBERS = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")


def read_arrays_pickle(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a pickle that holds nothing but containers, text, numbers and arrays.

    Args:
        path: a pickle of protocol 2 to 5; byte strings of Python 2 are read as Latin-1 text.
        max_bytes: the largest file that is read.

    Returns:
        Dictionaries, lists, tuples, str, bytes, int, float, bool, None, NumPy scalars and arrays (their
        own memory, C or Fortran order as written, native or foreign byte order as written).

    Raises:
        DataError: the file cannot be read, is no whole pickle, or asks for anything else. Nothing of it
            was executed.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(
                f"{path}: is {size} bytes large, more than the {max_bytes} a pickle of arrays may have;"
                " check that it is the file you want."
            )
        if size == 0:
            raise DataError(f"{path}: is empty; fetch the file again.")
        with (
            open(path, "rb") as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            machine = _Machine(mapped)
            try:
                return machine.run()
            except _Refused as error:
                raise DataError(
                    f"{path}: refused at byte {machine.opened}: {error}. Nothing of it was executed; get"
                    " the file from its publisher again."
                ) from None
            finally:
                machine.forget()
    except OSError as error:
        raise explain_os_error(error, path) from error


class _Refused(Exception):
    """The file is torn or asks for what arrays do not need; the message says which."""


class _Symbol:
    """A name the file mentions; stands for its meaning and is never called."""

    def __init__(self, meaning: str) -> None:
        self.meaning = meaning


class _Raw:
    """Bytes that stay in the file until they are needed, so that no array's numbers are held twice.

    A Python 2 byte string (`text`) is Latin-1 text if it is kept, and numbers if an array takes it.
    """

    def __init__(self, data: mmap.mmap, start: int, end: int, text: bool) -> None:
        self.data, self.start, self.end, self.text = data, start, end, text

    def __len__(self) -> int:
        return self.end - self.start

    def read(self) -> bytes:
        return self.data[self.start : self.end]


def _as_text(value: Any) -> Any:
    """The text of a Python 2 byte string; other values as they are."""
    return value.read().decode("latin1") if isinstance(value, _Raw) and value.text else value


class _DType:
    """A number format; a later state sets its byte order."""

    def __init__(self, code: str) -> None:
        self.value = np.dtype(code)


class _Array:
    """An array that its state fills; what the file's `_reconstruct` stands for."""

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value


class _Machine:
    """Runs the operations of one pickle."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0  # next byte
        self.opened = 0  # first byte of the operation that runs
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.values = 0

    def forget(self) -> None:
        """Lets go of everything that was read."""
        self.stack, self.memo = [], {}

    def run(self) -> Any:
        """The value at the end of the file."""
        if self.take(1) != b"\x80":
            raise _Refused("it is no pickle of protocol 2 or later")
        protocol = self.number(1)
        if not 2 <= protocol <= 5:
            raise _Refused(f"protocol {protocol} is not one of 2 to 5")
        for _ in range(MAX_OPERATIONS):
            self.opened = self.at
            code = self.take(1)
            if code == b".":
                return self.stop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _Refused(f"operation {code.hex()} is not one that arrays need")
            operation(self)
        raise _Refused(f"it has more than {MAX_OPERATIONS} operations")

    def stop(self) -> Any:
        if len(self.stack) != 1 or self.marks:
            raise _Refused(f"it ends with {len(self.stack)} values instead of one")
        if self.at != len(self.data):
            raise _Refused("bytes follow its end")
        return self.finish(self.stack[0], 0)

    def finish(self, value: Any, depth: int) -> Any:
        """A value without the machine's own kinds; shared parts are counted each time."""
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_OPERATIONS:
            raise _Refused(f"it nests more than {MAX_DEPTH} levels or {MAX_OPERATIONS} values")
        if type(value) is dict:
            return {key: self.finish(item, depth + 1) for key, item in value.items()}
        if type(value) is list:
            return [self.finish(item, depth + 1) for item in value]
        if type(value) is tuple:
            return tuple(self.finish(item, depth + 1) for item in value)
        if isinstance(value, _Raw):
            return _as_text(value) if value.text else value.read()
        if isinstance(value, _Array):
            if value.value is None:
                raise _Refused("an array has no contents")
            return value.value
        if isinstance(value, _Symbol | _DType):
            raise _Refused("it holds a type where a value is expected")
        return value

    # reading

    def skip(self, count: int) -> int:
        start = self.at
        if count > len(self.data) - start:
            raise _Refused("it ends in the middle")
        self.at += count
        return start

    def take(self, count: int) -> bytes:
        start = self.skip(count)
        return self.data[start : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 256)
        if end < 0:
            raise _Refused("a name in it does not end")
        text = self.take(end - self.at)
        self.at += 1
        return text.decode("latin1")

    def raw(self, width: int, text: bool = False) -> None:
        start = self.skip(self.number(width))
        self.push(_Raw(self.data, start, self.at, text))

    def text(self, width: int) -> str:
        try:
            return self.take(self.number(width)).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise _Refused("text in it is not UTF-8") from None

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _Refused("it takes a value that is not there")
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        if not self.marks:
            raise _Refused("it takes values that are not there")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def peek(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _Refused("it uses a value that is not there")
        return self.stack[-1]

    def top(self, kind: type) -> Any:
        value = self.peek()
        if type(value) is not kind:
            raise _Refused(f"it fills something that is no {kind.__name__}")
        return value

    # operations

    def long(self, width: int) -> None:
        count = self.number(width)
        if count > _MAX_INT_BYTES:
            raise _Refused(f"a whole number in it has {count} bytes")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def put(self, key: int) -> None:
        self.memo[key] = self.peek()

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise _Refused("it recalls a value it never kept")
        self.push(self.memo[key])

    def appends(self) -> None:
        items = self.pop_marked()
        self.top(list).extend(items)

    def append(self) -> None:
        item = self.pop()
        self.top(list).append(item)

    def set_items(self, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            raise _Refused("a dictionary in it has a key without a value")
        target = self.top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[_key(key)] = value

    def set_item(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def name(self, module: Any, name: Any) -> None:
        module, name = _as_text(module), _as_text(name)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("it names an object by something that is no text")
        meaning = _GLOBALS.get((module, name))
        if meaning is None:
            raise _Refused(f"it asks for {f'{module}.{name}'[:80]!a}, which no array needs")
        self.push(_Symbol(meaning))

    def stack_name(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def reduce(self) -> None:
        arguments, symbol = self.pop(), self.pop()
        if not isinstance(symbol, _Symbol) or type(arguments) is not tuple or symbol.meaning not in _BUILDERS:
            raise _Refused("it calls something that is no maker of arrays")
        self.push(_BUILDERS[symbol.meaning](arguments))

    def build(self) -> None:
        state, target = self.pop(), self.peek()
        if type(state) is not tuple:
            raise _Refused("it gives a value a state that arrays do not have")
        if isinstance(target, _DType):
            _set_byte_order(target, state)
        elif isinstance(target, _Array) and target.value is None:
            target.value = _array_of_state(state)
        else:
            raise _Refused("it gives a state to a value that has none")


def _key(key: Any) -> Any:
    key = _as_text(key)
    if type(key) is not str and not (type(key) is int and -_MAX_KEY < key < _MAX_KEY):
        raise _Refused("a dictionary in it has a key that is neither text nor a small number")
    return key


def _make_shell(arguments: tuple[Any, ...]) -> _Array:
    if not arguments or not isinstance(arguments[0], _Symbol) or arguments[0].meaning != "ndarray":
        raise _Refused("an array in it is of a class of its own")
    return _Array()


def _make_dtype(arguments: tuple[Any, ...]) -> _DType:
    code = _as_text(arguments[0]) if arguments else None
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
        raise _Refused(f"an array in it holds no plain numbers (type {str(code)[:20]!a})")
    return _DType(code)


def _make_scalar(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], _DType):
        raise _Refused("a scalar in it is malformed")
    return _numbers(arguments[1], arguments[0].value, (), False)[()]


def _make_buffered(arguments: tuple[Any, ...]) -> _Array:
    if len(arguments) != 4 or not isinstance(arguments[1], _DType):
        raise _Refused("an array in it is malformed")
    data, dtype, shape, order = arguments
    return _Array(_numbers(data, dtype.value, shape, order == "F"))


def _make_bytes(arguments: tuple[Any, ...]) -> bytes:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
        raise _Refused("bytes in it are malformed")
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        raise _Refused("bytes in it are malformed") from None


def _make_no_bytes(arguments: tuple[Any, ...]) -> bytes:
    if arguments:
        raise _Refused("bytes in it are malformed")
    return b""


def _make_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Python 2 gives an ordered dictionary its items, Python 3 sets them afterwards."""
    items = arguments[0] if len(arguments) == 1 else []
    if len(arguments) > 1 or type(items) is not list:
        raise _Refused("a dictionary in it is malformed")
    if any(type(item) not in (list, tuple) or len(item) != 2 for item in items):
        raise _Refused("a dictionary in it is malformed")
    return {_key(key): value for key, value in items}


def _set_byte_order(target: _DType, state: tuple[Any, ...]) -> None:
    # (version, byte order, subtype, names, fields, size, alignment, flags)
    if len(state) < 5 or any(item is not None for item in state[2:5]):
        raise _Refused("an array in it holds no plain numbers")
    order = _as_text(state[1])
    if order not in ("<", ">", "=", "|"):
        raise _Refused("an array in it has no byte order")
    if order != "|":
        target.value = target.value.newbyteorder(order)


def _array_of_state(state: tuple[Any, ...]) -> np.ndarray:
    # (version, shape, type, Fortran order, numbers)
    if len(state) != 5 or not isinstance(state[2], _DType):
        raise _Refused("an array in it is malformed")
    _, shape, dtype, fortran, data = state
    return _numbers(data, dtype.value, shape, bool(fortran))


def _numbers(data: Any, dtype: np.dtype[Any], shape: Any, fortran: bool) -> np.ndarray:
    if not isinstance(data, bytes | _Raw) or type(shape) is not tuple or len(shape) > 32:
        raise _Refused("an array in it is malformed")
    if any(type(length) is not int or length < 0 for length in shape):
        raise _Refused("an array in it has no shape")
    expected = dtype.itemsize
    for length in shape:
        expected *= length
    if len(data) != expected:
        raise _Refused(f"an array in it has {len(data)} bytes for {expected}")
    if 0 in shape and max(shape) > 1 << 32:
        raise _Refused("an array in it has no shape")
    # Its own memory: the file's bytes lie at odd addresses and may not be written to.
    values = np.frombuffer(bytearray(data.read() if isinstance(data, _Raw) else data), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


_BUILDERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "array": _make_shell,
    "dtype": _make_dtype,
    "scalar": _make_scalar,
    "buffer": _make_buffered,
    "encode": _make_bytes,
    "no bytes": _make_no_bytes,
    "dict": _make_dict,
}

_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x95": lambda m: m.number(8) and None,  # a frame's length; the bytes inside are read as they come
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.pop() and None,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(struct.unpack("<i", m.take(4))[0]),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"\x8a": lambda m: m.long(1),
    b"\x8b": lambda m: m.long(4),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"U": lambda m: m.raw(1, text=True),
    b"T": lambda m: m.raw(4, text=True),
    b"\x8c": lambda m: m.push(m.text(1)),
    b"X": lambda m: m.push(m.text(4)),
    b"\x8d": lambda m: m.push(m.text(8)),
    b"C": lambda m: m.raw(1),
    b"B": lambda m: m.raw(4),
    b"\x8e": lambda m: m.raw(8),
    b"\x96": lambda m: m.raw(8),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m.pop_marked())),
    b"]": lambda m: m.push([]),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"}": lambda m: m.push({}),
    b"s": _Machine.set_item,
    b"u": lambda m: m.set_items(m.pop_marked()),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": _Machine.stack_name,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
