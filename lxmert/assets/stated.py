"""Checksums that a server itself states of a file, as far as they can be trusted to be of its bytes.

They say nothing about whether it is the right file. They do show that bytes were lost or changed on the
way, which nothing else shows where nobody published a checksum.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lxmert.assets.answers import BadContent
from lxmert.files import sha256_file

_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')
_BYTES = {"md5": 16, "crc32c": 4}
KINDS = ("sha256", "md5", "crc32c")
_CHUNK = 1 << 20


def stated_checksums(answers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Checksums by kind, in hexadecimal digits, of the headers of an answer and the redirects before it.

    The model hub names a file's sha256 in the redirect to where it lies (`X-Linked-Etag`), Google's storage
    MD5 and CRC-32C in the answer (`x-goog-hash`).
    """
    found: dict[str, str] = {}
    for headers in answers:
        linked = _SHA256.fullmatch(headers.get("X-Linked-Etag", "").strip())
        if linked:
            found["sha256"] = linked[1]
        # An object stored compressed is stated as stored, and may come unpacked.
        if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
            found |= _of_google(headers.get("x-goog-hash", ""))
    return found


def _of_google(text: str) -> dict[str, str]:
    found = {}
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        try:
            digest = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(digest) == _BYTES.get(name):
            found[name] = digest.hex()
    return found


def refuse_other_than_stated(path: Path, stated: Mapping[str, str]) -> None:
    """Raises BadContent if a file has another checksum than its server stated; the strongest is compared."""
    for kind in KINDS:
        if kind in stated:
            found = _checksum(path, kind)
            if found != stated[kind]:
                raise BadContent(f"sent bytes with {kind} {found[:16]}, and states {stated[kind][:16]}")
            return


def _checksum(path: Path, kind: str) -> str:
    if kind == "sha256":
        return sha256_file(path)
    if kind == "crc32c":
        from lxmert.assets.crc32c import crc32c_file  # NumPy, which most downloads do without

        return f"{crc32c_file(path):08x}"
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
