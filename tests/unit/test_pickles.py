"""Pickles of arrays come back whole; every other pickle is refused with one line and runs nothing."""

from __future__ import annotations

import collections
import functools
import io
import os
import pickle
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxmert import pickles
from lxmert.errors import DataError
from lxmert.pickles import read_arrays_pickle

VALUE = {
    "model": {
        "backbone.stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "backbone.fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "backbone.half": np.array([[1.5, -2.0]], np.float16),
        "backbone.ids": np.array([3, 1, 2], np.int64),
        "backbone.mask": np.array([True, False]),
        "backbone.big_endian": np.array([1, 2, 3], ">f4"),
        "backbone.none": np.zeros((0, 5), np.float32),
        "backbone.zero_dim": np.array(2.5, np.float32),
    },
    "ordered": collections.OrderedDict([("b", np.float32(1.25)), ("a", np.int64(-7))]),
    "__author__": "someone, mit Umlaut ö",
    "matching_heuristics": True,
    "numbers": [0, -1, 255, 65536, 2**40, -(2**70), 1.5, None, False, (1, "x"), (), b"\x00\xff"],
    7: ["x" * 300],
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "weights.pkl"
    path.write_bytes(data)
    return path


def same(left: Any, right: Any) -> bool:
    if isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and np.array_equal(left, right)
    if isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in right)
    if isinstance(right, (list, tuple)):
        return (
            type(left) is type(right)
            and len(left) == len(right)
            and all(same(a, b) for a, b in zip(left, right, strict=True))
        )
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("pure", [False, True], ids=["C", "python"])
def test_arrays_come_back(tmp_path: Path, protocol: int, pure: bool) -> None:
    if pure:
        buffer = io.BytesIO()
        pickle._Pickler(buffer, protocol).dump(VALUE)  # writes some operations the other never does
        data = buffer.getvalue()
    else:
        data = pickle.dumps(VALUE, protocol)
    read = read_arrays_pickle(write(tmp_path, data))
    assert same(read, VALUE)
    assert read["model"]["backbone.stem.weight"].flags.writeable
    assert read["model"]["backbone.stem.weight"].flags.aligned


def python2_pickle() -> bytes:
    """What Python 2's cPickle writes for {"model": {"w": float32 [2, 2]}, "__author__": ...}."""
    numbers = np.array([[1, 2], [3, 4]], "<f4").tobytes()
    return (
        b"\x80\x02}q\x01(U\x05modelq\x02}q\x03U\x01wcnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(numbers)])
        + numbers
        + b"q\x04tbsU\x0a__author__T\x03\x00\x00\x00B\xf6bu."
    )


def test_python_2_byte_strings_are_latin1(tmp_path: Path) -> None:
    data = python2_pickle()
    expected = pickle.loads(data, encoding="latin1")
    read = read_arrays_pickle(write(tmp_path, data))
    assert same(read, expected)
    assert read["__author__"] == "Böb" and read["model"]["w"].tolist() == [[1, 2], [3, 4]]


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Posix:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {TRAP}",)


TRAP = "trap-was-sprung"


class ArrayOfAClass(np.ndarray):
    pass


def hostile() -> dict[str, Any]:
    return {
        "os.system": Posix(),
        "inside an array's place": {"model": {"w": Posix()}},
        "eval": Call(eval, f"open('{TRAP}', 'w')"),
        "exec": Call(exec, f"open('{TRAP}', 'w')"),
        "open": Call(open, TRAP, "w"),
        "getattr": Call(getattr, "text", "upper"),
        "import": Call(__import__, "os"),
        "partial": functools.partial(print, "x"),
        "numpy with a file": Call(np.load, TRAP),
        "object array": {"model": {"w": np.array([Call(eval, "1")], dtype=object)}},
        "record array": np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        "text array": np.array(["a", "b"]),
        "array of a class": np.zeros(3).view(ArrayOfAClass),
        "set": {1, 2},
        "complex key": {(1, 2): 3},
        "class": dict,
        "path": Path("x"),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(hostile()))
def test_hostile_values_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, pickle.dumps(hostile()[name], protocol))
    refused(path)
    assert not (tmp_path / TRAP).exists()


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_arrays_pickle(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path)) and message.isprintable()
    assert len(message) < 400 + len(str(path))
    return message


NESTED = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
DOUBLED = b"\x80\x02K\x01" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(40)) + b"."
ITSELF = b"\x80\x02]q\x00h\x00a."


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"<!doctype html><html>", "no pickle of protocol 2"),
        (b"(lp0\n.", "no pickle of protocol 2"),
        (b"\x80\x02", "ends in the middle"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\x80\x01N.", "protocol 1"),
        (b"\x80\x02.", "0 values"),
        (b"\x80\x02NN.", "2 values"),
        (b"\x80\x02(N.", "instead of one"),
        (b"\x80\x02N.rest", "bytes follow"),
        (b"\x80\x02cos\nsystem\nU\x04true\x85R.", "os.system"),
        (b"\x80\x02c" + b"x" * 1000 + b"\n.", "does not end"),
        (b"\x80\x02cbuiltins\n\x1b[2J\n.", r"builtins.\\x1b\[2J"),
        (b"\x80\x02Pmodel\n.", "operation 50"),
        (b"\x80\x02\x82\x01.", "operation 82"),
        (b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04K\x01K\x02\x93.", "no text"),
        (b"\x80\x02N)R.", "calls something"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls something"),
        (b"\x80\x02cnumpy\ndtype\n.", "a type where a value"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "no plain numbers"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R.", "no contents"),
        (b"\x80\x02}N}b.", "state"),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02}NNs.", "neither text nor"),
        (b"\x80\x02Na.", "not there"),
        (b"\x80\x02NNa.", "no list"),
        (b"\x80\x02(a.", "not there"),
        (b"\x80\x02e.", "not there"),
        (b"\x80\x02h\x05.", "never kept"),
        (b"\x80\x02q\x05.", "not there"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".", "ends in the middle"),
        (b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b".", "ends in the middle"),
        (b"\x80\x02T" + struct.pack("<I", 0xFFFFFFFF) + b".", "ends in the middle"),
        (b"\x80\x02\x8b" + struct.pack("<I", 1 << 31) + b".", "whole number"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xff.", "not UTF-8"),
        (NESTED, "nests more"),
        (DOUBLED, "nests more"),
        (ITSELF, "nests more"),
        (b"\x80\x02" + b"N0" * 600_000 + b"N.", "operations"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_arrays_pickle(write(tmp_path, data))
    refused(tmp_path / "weights.pkl")


def test_a_memo_number_costs_nothing(tmp_path: Path) -> None:
    assert read_arrays_pickle(write(tmp_path, b"\x80\x02K\x05r\xff\xff\xff\xff.")) == 5


def test_an_array_has_the_bytes_its_shape_needs(tmp_path: Path) -> None:
    good = pickle.dumps(np.zeros((2, 3), np.float32), 2)
    for before, after in ((b"K\x02K\x03\x86", b"K\x02K\x04\x86"), (b"K\x02K\x03\x86", b"K\x02N\x86")):
        assert before in good
        message = refused(write(tmp_path, good.replace(before, after)))
        assert "array" in message
    huge = good.replace(b"K\x02K\x03\x86", b"\x8a\x05\xff\xff\xff\xff\x7f\x8a\x05\xff\xff\xff\xff\x7f\x86")
    assert "array" in refused(write(tmp_path, huge))


def test_large_and_missing_files_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path, pickle.dumps(VALUE, 2))
    with pytest.raises(DataError, match="more than the 100"):
        read_arrays_pickle(path, max_bytes=100)
    with pytest.raises(DataError, match="no such file"):
        read_arrays_pickle(tmp_path / "none.pkl")
    with pytest.raises(DataError, match="folder"):
        read_arrays_pickle(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for data in (pickle.dumps(VALUE, 2), pickle.dumps(VALUE, 4), python2_pickle()):
        for end in range(0, len(data), 11):
            refused(write(tmp_path, data[:end]))


def test_mutated_pickles_give_values_or_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 seeded mutations: never another exception, no file made, no import of what a file names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.__import__", no_import(__import__))
    seeds = [pickle.dumps(VALUE, protocol) for protocol in (2, 4, 5)] + [python2_pickle()]
    seeds += [pickle.dumps(Posix(), 2), pickle.dumps({"model": Call(eval, "1")}, 4)]
    lots = random.Random(20190907)
    outcomes: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    for _ in range(1000):
        path = write(tmp_path, mutate(lots, lots.choice(seeds)))
        try:
            read_arrays_pickle(path)
            outcomes["read"] += 1
        except DataError as error:
            assert "\n" not in str(error) and str(error).isprintable()
            outcomes["refused"] += 1
    assert os.listdir(tmp_path) == ["weights.pkl"]
    assert outcomes["refused"] > 600, outcomes
    assert time.monotonic() - began < 60


def mutate(lots: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(lots.choice([1, 1, 2, 5])):
        at = lots.randrange(2, max(3, len(changed)))
        kind = lots.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = lots.randrange(256)
        elif kind == 1:
            changed[at:at] = bytes([lots.choice(list(b"(.0Rb}]tu\x93\x81\x85\x8b\x8eh\x95"))])
        elif kind == 2:
            del changed[at : at + lots.choice([1, 2, 9, 40])]
        else:
            changed[at:at] = b"cos\nsystem\nU\x06touch xR"[: lots.choice([4, 11, 30])]
    return bytes(changed)


def no_import(original: Any) -> Any:
    def guarded(name: str, *arguments: Any, **named: Any) -> Any:
        caller = arguments[0].get("__name__") if arguments and arguments[0] else None
        assert caller != pickles.__name__, f"the reader imported {name}"
        return original(name, *arguments, **named)

    return guarded
