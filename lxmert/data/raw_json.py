"""Official JSON files read record by record, so that memory does not grow with the file.

Publishers use four forms: an object with a list inside (VQA, COCO), a bare list (Visual Genome),
an object keyed by id (GQA) and one object a line (NLVR2). The last is `files.read_json_lines`.
The standard library's decoder reads each record; only the brackets between them are ours, which
is as fast as the C decoders that stream, and knows the line of a mistake.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from lxmert.errors import DataError
from lxmert.files import explain_os_error

_CHUNK_BYTES = 1 << 22
# A record cut by the end of the buffer fails within this many characters of it, or in a string.
_TAIL = 16
_SPACE = re.compile(r"[ \t\n\r]*")
_REMEDY = "Fetch or write the file again."


class _NotJson(ValueError):
    pass


def _refuse_constant(name: str) -> Any:
    raise _NotJson(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def list_records(path: Path, key: str | None = None, others: dict[str, Any] | None = None) -> Iterator[Any]:
    """The records of a bare list, or of the list under `key` of the root object, in file order.

    Args:
        path: JSON file.
        key: None if the root is the list.
        others: filled with the root's other values that are not lists, up to where reading stands.

    Raises:
        DataError: the file is missing, is not JSON (with the line) or has no such list.
    """
    with _open(path) as handle:
        scanner = _Scanner(path, handle)
        if key is None:
            yield from scanner.items()
        else:
            yield from _list_under(scanner, key, others)
        scanner.end()


def _list_under(scanner: _Scanner, key: str, others: dict[str, Any] | None) -> Iterator[Any]:
    found = False
    for name in scanner.keys():
        if name == key:
            found = True
            yield from scanner.items()
        elif scanner.peek() == "[":
            for _ in scanner.items():  # another long list, such as COCO's images
                pass
        else:
            value = scanner.value()
            if others is not None:
                others[name] = value
    if not found:
        raise DataError(f'{scanner.path}: no list "{key}" in it. Is it another file? {_REMEDY}')


def keyed_records(path: Path) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of a root object, in file order; a repeated key comes twice.

    Raises:
        DataError: the file is missing, is not JSON (with the line) or its root is no object.
    """
    with _open(path) as handle:
        scanner = _Scanner(path, handle)
        for name in scanner.keys():
            yield name, scanner.value()
        scanner.end()


def any_records(path: Path) -> Iterator[Any]:
    """Every record of a file of any of the four forms; keys and other values of the root are left out."""
    with _open(path) as handle:
        scanner = _Scanner(path, handle)
        while scanner.peek():  # again for each line of a JSON-lines file
            if scanner.peek() == "[":
                yield from scanner.items()
                continue
            flat: dict[str, Any] = {}
            for name in scanner.keys():
                if scanner.peek() == "[":
                    yield from scanner.items()
                else:
                    value = scanner.value()
                    if isinstance(value, dict):
                        yield value
                    elif isinstance(value, str):
                        flat[name] = value
            yield flat


def read_through(path: Path, max_record_bytes: int) -> int:
    """How many values a file holds at its first two levels; nothing of it is kept.

    Args:
        path: a file with one JSON value.
        max_record_bytes: a longer record is refused, so that memory is bounded whatever the file holds.

    Raises:
        DataError: the file is missing, or is not JSON from the first byte to the last (with the line).
    """
    with _open(path) as handle:
        scanner = _Scanner(path, handle, max_record_bytes)
        count = 0
        if scanner.peek() == "[":
            count = sum(1 for _ in scanner.items())
        elif scanner.peek() == "{":
            for _ in scanner.keys():
                if scanner.peek() == "[":
                    count += sum(1 for _ in scanner.items())
                else:
                    scanner.value()
                    count += 1
        else:
            scanner.value()
        scanner.end()
    return count


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise explain_os_error(error, path) from error


class _Scanner:
    """A window over the text of a JSON file, and the position in it."""

    def __init__(self, path: Path, handle: BinaryIO, max_record_bytes: int | None = None) -> None:
        self.path = path
        self._handle = handle
        self._max_record = max_record_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._lines_before = 0  # of the text that was dropped, and the length of its last line
        self._columns_before = 0
        self._ended = False

    def keys(self) -> Iterator[str]:
        """Each key of an object; the caller reads its value before it asks for the next."""
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                self._fail("expecting a key in double quotes")
            name = self.value()
            self._expect(":")
            yield name
            if self._ends_with("}"):
                return

    def items(self) -> Iterator[Any]:
        """Each item of a list."""
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._ends_with("]"):
                return

    def peek(self) -> str:
        """The next character that is not a blank, "" at the end."""
        if self._at < len(self._text) and self._text[self._at] > " ":  # mostly
            return self._text[self._at]
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _TAIL or error.msg.startswith("Unterminated string")
                position = error.pos - self._at
                if not cut:
                    self._fail(error.msg, error.pos)
                at_end = error.pos >= len(self._text) or error.msg.startswith("Unterminated string")
                if not self._fill():  # which moves the position
                    short = " (the file is cut short)" if at_end else ""
                    self._fail(error.msg + short, self._at + position)
            except _NotJson as error:
                self._fail(str(error))
            except RecursionError:
                self._fail("nested too deeply")
            else:
                # A number or word may go on behind the buffer; brackets and quotes close themselves.
                if end < len(self._text) or self._text[end - 1] in '}]"' or not self._fill():
                    self._at = end
                    return value

    def end(self) -> None:
        """Checks that nothing follows."""
        if self.peek():
            self._fail("extra text after the end of the JSON value")

    def _ends_with(self, bracket: str) -> bool:
        character = self.peek()
        if character not in (",", bracket) or not character:
            self._fail(f'expecting "," or "{bracket}"' if character else "the file is cut short")
        self._at += 1
        return character == bracket

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            self._fail(f'expecting "{character}"')
        self._at += 1

    def _fill(self) -> bool:
        """Reads on, dropping what is behind the position; False at the end of the file."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if self._max_record is not None and len(rest) > self._max_record:
            self._fail(f"a record of more than {self._max_record} bytes")
        try:
            # At least as much again, so that a record longer than a chunk is not parsed a thousand times.
            data = self._handle.read(max(_CHUNK_BYTES, len(rest)))
            text = self._decode.decode(data, final=not data)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: not UTF-8 text ({error.reason}). {_REMEDY}") from error
        self._ended = not data
        self._lines_before, self._columns_before = self._line_and_column(self._at)
        self._text, self._at = rest + text, 0
        return bool(data)

    def _fail(self, what: str, position: int | None = None) -> NoReturn:
        position = self._at if position is None else min(position, len(self._text))
        line, column = self._line_and_column(position)
        raise DataError(f"{self.path}:{line + 1}:{column + 1}: not valid JSON: {what}. {_REMEDY}")

    def _line_and_column(self, position: int) -> tuple[int, int]:
        """Both from 0, over the whole file."""
        lines = self._text.count("\n", 0, position)
        if lines:
            return self._lines_before + lines, position - self._text.rfind("\n", 0, position) - 1
        return self._lines_before, self._columns_before + position
