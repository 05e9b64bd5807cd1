"""Job specs: what changes the result of one job, as one sorted JSON string."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxmert.errors import SpecError


def job_spec_text(spec: dict[str, Any]) -> str:
    """The spec as one line of JSON with sorted keys: equal specs give equal strings."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_job_spec(argument: str, needs: Iterable[str] = ()) -> dict[str, Any]:
    """The spec a verb got as `--spec`: a JSON object, or `@file.json`.

    Args:
        argument: the option's value.
        needs: keys that must be there; `task/head` is the key `head` of the object `task`.

    Raises:
        SpecError: the file cannot be read, the text is no JSON object, or needed keys are missing.
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
    missing = [path for path in needs if not _holds(spec, path)]
    if missing:
        raise SpecError(f"{where}: lacks {', '.join(missing)}. Give the spec that the graph gives this job.")
    return spec


def _holds(spec: Any, path: str) -> bool:
    for key in path.split("/"):
        if not isinstance(spec, dict) or key not in spec:
            return False
        spec = spec[key]
    return True
