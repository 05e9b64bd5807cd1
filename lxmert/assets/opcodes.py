"""The operations of pickles, walked without executing any: where one ends, and what it says of tensors.

Whether a file is a whole pickle can be told from its operations alone. PyTorch's files of before 2020 are
several pickles and then the numbers of the tensors; the pickles say how many numbers there must be.
"""

from __future__ import annotations

import mmap
import pickletools
import struct
from dataclasses import dataclass, field
from typing import Any

MAX_OPERATIONS = 500_000  # 473 tensors need about 12,000
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPERATIONS = {ord(item.code): item for item in pickletools.opcodes}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"}
_NUMBERS = {"BININT": "<i", "BININT1": "<B", "BININT2": "<H"}
_LONGEST_NAME = 1 << 10


class NoPickle(Exception):
    """The bytes are no whole pickle; the message says why."""


@dataclass
class Walked:
    """What a pickle's operations tell.

    Attributes:
        end: the byte after it.
        texts: the texts of its list, in order, where it is nothing but a list of texts.
        number: its value, where it is nothing but a whole number.
        storages: of each tensor storage that is kept elsewhere, by key: its type and how many numbers.
    """

    end: int
    texts: list[str] = field(default_factory=list)
    number: int | None = None
    storages: dict[str, tuple[str, int]] = field(default_factory=dict)


def walk(data: mmap.mmap, start: int) -> Walked:
    """Walks one pickle from its first byte to its end.

    Raises:
        NoPickle: it is none, is cut, or has more operations than weights have.
    """
    if data[start : start + 1] != b"\x80":
        raise NoPickle("it is no pickle of protocol 2 or later")
    walker = _Walker(data, start)
    for _ in range(MAX_OPERATIONS):
        if walker.step():
            return walker.found
    raise NoPickle(f"it has more than {MAX_OPERATIONS} operations")


class _Walker:
    """Keeps the plain values since the last mark, which is all that a storage's description is made of."""

    def __init__(self, data: mmap.mmap, start: int) -> None:
        self.data, self.at = data, start
        self.found = Walked(start)
        self.recent: list[Any] = []
        self.tuple: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self) -> bool:
        """One operation; whether it was the last."""
        operation = _OPERATIONS.get(self._take(1)[0])
        if operation is None:
            raise NoPickle(f"byte {self.at - 1} is no operation of a pickle")
        argument = self._argument(operation)
        name = operation.name
        if name == "STOP":
            self.found.end = self.at
            return True
        if name in _TEXTS:
            text = argument.decode("utf-8", "replace")
            self.found.texts.append(text)
            self.recent.append(text)
        elif name in _NUMBERS:
            self._number(struct.unpack(_NUMBERS[name], argument)[0])
        elif name == "LONG1":
            self._number(int.from_bytes(argument, "little", signed=True))
        elif name == "GLOBAL":
            self.recent.append(argument.rpartition(b"\n")[2].decode("utf-8", "replace"))
        elif name == "STACK_GLOBAL":
            self.recent = [*self.recent[:-2], self.recent[-1] if self.recent else None]
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(self.memo) if name == "MEMOIZE" else int.from_bytes(argument, "little")
            self.memo[number] = self.recent[-1] if self.recent else None
        elif name in ("BINGET", "LONG_BINGET"):
            self.recent.append(self.memo.get(int.from_bytes(argument, "little")))
        elif name == "MARK":
            self.recent = []
        elif name == "TUPLE":
            self.tuple, self.recent = self.recent, []
        elif name == "BINPERSID":
            self._storage()
        elif name not in ("PROTO", "FRAME"):
            self.recent.append(None)
        return False

    def _number(self, value: int) -> None:
        self.found.number = value
        self.recent.append(value)

    def _storage(self) -> None:
        # ("storage", type, key, device, numbers, view)
        if len(self.tuple) >= 5 and self.tuple[0] == "storage":
            _, kind, key, _, count = self.tuple[:5]
            if isinstance(kind, str) and isinstance(key, str) and isinstance(count, int):
                self.found.storages[key] = (kind, count)
        self.recent.append(None)

    def _argument(self, operation: pickletools.OpcodeInfo) -> bytes:
        described = operation.arg
        if described is None:
            return b""
        if described.n in _LENGTHS:
            return self._take(int.from_bytes(self._take(_LENGTHS[described.n]), "little"))
        if described.n == pickletools.UP_TO_NEWLINE:
            lines = 2 if described is pickletools.stringnl_noescape_pair else 1
            return b"\n".join(self._line() for _ in range(lines))
        return self._take(described.n)

    def _line(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise NoPickle(f"a name at byte {self.at} does not end")
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def _take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise NoPickle("it is cut")
        # Long runs are numbers of arrays, which nobody looks at.
        return self.data[start : min(self.at, start + _LONGEST_NAME)]
