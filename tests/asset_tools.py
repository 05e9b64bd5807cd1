"""Assets, archives and patience that the tests of the downloader share."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

from lxmert.assets.catalogue import Asset, Member
from lxmert.assets.transfer import Patience

# Short for a test, yet long enough for an honest answer on a busy machine.
SHORT = Patience(
    connect_seconds=2.0,
    header_seconds=0.7,
    read_seconds=0.5,
    slow_seconds=0.3,
    slow_bytes_per_second=2000.0,
    attempts=3,
    backoff_seconds=0.0,
    renew_bytes=1 << 30,
)


def plain(urls: list[str], body: bytes | None = None, **settings: Any) -> Asset:
    """An asset that is used as it is; its size and checksum are published if a body is given."""
    values: dict[str, Any] = {
        "id": "thing",
        "catalogue": "group",
        "what": "a thing",
        "licence": "MIT",
        "file": "group/thing.bin",
        "format": "binary",
        "place": "raw/group/thing.bin",
        "mirrors": tuple({"url": url} for url in urls),
    }
    if body is not None:
        values |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return Asset(**{**values, **settings})


def archive(urls: list[str], members: list[Member], body: bytes | None = None, **settings: Any) -> Asset:
    """A zip; its size and checksum are published if a body is given."""
    values = {"file": "group/thing.zip", "format": "zip", "place": None, "members": tuple(members)}
    return plain(urls, body, **{**values, **settings})


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The bytes of a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, body in files.items():
            target.writestr(name, body)
    return buffer.getvalue()
