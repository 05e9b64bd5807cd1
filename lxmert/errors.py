"""The exceptions a user may see: one line each, saying what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LxmertError(Exception):
    """A mistake a user can mend; the command line prints its one line and exits 2."""


class SpecError(LxmertError):
    """A configuration or spec document says something it cannot mean."""


class DataError(LxmertError):
    """An input file is missing, malformed or does not fit the others."""


class WeightsError(LxmertError):
    """A weights file does not fit the model it is loaded into."""


class DownloadError(LxmertError):
    """No mirror of an asset gave the right bytes."""


class Interrupted(Exception):
    """A signal asked a long job to stop, and its state is saved; the command line exits 75."""


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with an unknown name: the nearest match, then all that are known."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    return f"{hint} Known: {', '.join(names)}." if names else hint
