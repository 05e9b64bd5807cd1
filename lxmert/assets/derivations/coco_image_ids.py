"""Image numbers of COCO, of records or of a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lxmert.errors import DataError


def derive(records: Any, source: Path) -> list[int]:
    """Image numbers of LXMERT's records (`img_id`: COCO_val2014_000000000042) or of a plain list.

    Raises:
        DataError: it is neither.
    """
    if not isinstance(records, list) or not records:
        raise DataError(f"{source}: must hold a JSON list of records or image numbers. Fetch the file again.")
    numbers = set()
    for position, record in enumerate(records):
        name = record.get("img_id") if isinstance(record, dict) else record
        digits = str(name).rpartition("_")[2]
        if not digits.isascii() or not digits.isdigit():
            raise DataError(
                f"{source}: record {position} names no COCO image: {json.dumps(record)[:80]}."
                " Fetch the file again."
            )
        numbers.add(int(digits))
    return sorted(numbers)
