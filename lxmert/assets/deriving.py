"""Small files that follow from placed ones, by the derivation that the catalogue names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lxmert.assets.asset import Asset
from lxmert.assets.places import Places
from lxmert.files import atomic_write_json, read_json


def derivation(name: str) -> Callable[[Any, Path], Any]:
    """The function `derive(document, source)` of lxmert/assets/derivations/<name>.py."""
    found: Callable[[Any, Path], Any] = importlib.import_module(f"lxmert.assets.derivations.{name}").derive
    return found


def write_derived(name: str, source: Path, target: Path) -> None:
    """Makes one file of another.

    Raises:
        DataError: the source holds something else.
    """
    atomic_write_json(target, derivation(name)(read_json(source), source))


def derive(asset: Asset, places: Places) -> None:
    """Makes what follows from an asset's placed files, where it is missing."""
    for entry in asset.derived:
        target, source = places.path(entry["place"]), places.path(entry["of"])
        if not target.exists() and source.exists():
            write_derived(entry["by"], source, target)
