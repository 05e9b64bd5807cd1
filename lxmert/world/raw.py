"""The raw folder: official annotation files as they are written, with a record of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxmert.files import atomic_write_bytes


class RawFolder:
    """Writes files below a root and remembers records, size and SHA-256 of each for the manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, dict[str, Any]] = {}

    def put_text(self, name: str, text: str, records: int) -> None:
        """Write one UTF-8 file, whole or not at all."""
        data = text.encode()
        atomic_write_bytes(self.root / name, data)
        self.files[name] = {
            "records": records,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def put_json(self, name: str, value: Any, records: int) -> None:
        """Write one JSON document on one line, keys in the order given, as the publishers do."""
        self.put_text(name, json.dumps(value, allow_nan=False), records)

    def put_lines(self, name: str, lines: Iterable[str]) -> None:
        """Write a text file, one record a line, with a final line end."""
        lines = list(lines)
        self.put_text(name, "".join(f"{line}\n" for line in lines), len(lines))
