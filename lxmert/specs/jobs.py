"""Job specs: what changes the result of one job, as one sorted JSON string."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lxmert.errors import SpecError


def job_spec_text(spec: dict[str, Any]) -> str:
    """The spec as one line of JSON with sorted keys: equal specs give equal strings."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_job_spec(argument: str) -> dict[str, Any]:
    """The spec a verb got as `--spec`: a JSON object, or `@file.json`.

    Raises:
        SpecError: the file cannot be read, or the text is no JSON object.
    """
    text, where = argument, "--spec"
    if argument.startswith("@"):
        where = argument[1:]
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(
                f"{where}: cannot be read ({error}). Give --spec @file.json or the JSON itself."
            ) from error
    try:
        spec = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}"
        raise SpecError(
            f"{place}: not valid JSON: {error.msg}. Give --spec @file.json or the JSON itself."
        ) from error
    if not isinstance(spec, dict):
        raise SpecError(f"{where}: must be a JSON object, is {type(spec).__name__}.")
    return spec
