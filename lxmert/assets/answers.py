"""What servers send in place of a file, with status 200 and all: pages, error messages, nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HEAD_BYTES = 1024
# Longer texts are no messages, and are left to the checks of their format.
_MESSAGE_BYTES = 64 << 10
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!doctype\s+html|<html|<head|<body|<\?xml|<script|<!--|<error>)", re.IGNORECASE
)
_TITLE = re.compile(rb"<(title|message)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
# Names that interfaces give their complaints. No record of a file of the catalogue is made of these alone.
_COMPLAINTS = {"error", "errors", "message", "msg", "detail", "details", "title", "description", "fault"}
_BESIDE = {"status", "code", "type", "success", "ok", "documentation_url", "request_id", "requestid", "path"}
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class BadContent(Exception):
    """The bytes are not the file; the message says why."""


def refuse_page(head: bytes) -> None:
    """Raises BadContent if the first bytes are those of a web page or of an XML message."""
    if _PAGE.match(head):
        found = _TITLE.search(head)
        title = _short(found[2].decode("utf-8", "replace")) if found else ""
        raise BadContent(f"gives a web page instead of data{f' (titled {title!r})' if title else ''}")


def refuse_message(path: Path, is_text: bool) -> None:
    """Raises BadContent if a whole file is a message in JSON or, where bytes are expected, in plain text.

    Args:
        path: the file.
        is_text: whether an honest file is text.
    """
    if path.stat().st_size > _MESSAGE_BYTES:
        return
    data = path.read_bytes()
    complaint = _complaint(data)
    if complaint is not None:
        raise BadContent(f"gives an error message instead of data ({complaint!r})")
    if is_text or _CONTROL.search(data):
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    raise BadContent(f"gives text instead of data ({_short(text)!r})")


def _complaint(data: bytes) -> str | None:
    """What a JSON object complains of; None if it is no complaint."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    names = {str(name).lower() for name in value}
    if not names & _COMPLAINTS or names - _COMPLAINTS - _BESIDE:
        return None
    first = next(item for name, item in value.items() if str(name).lower() in _COMPLAINTS)
    return _short(_said(first))


def _said(value: Any) -> str:
    if isinstance(value, dict) and "message" in value:
        value = value["message"]
    return value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    return " ".join(text.split())[:80]
