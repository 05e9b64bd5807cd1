"""The documents conversion goes by: key maps, and what transformers calls the settings."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.models.keys import KeyMap
from lxmert.specs.documents import PACKAGE, read_yaml

SYSTEM = PACKAGE / "systems" / "lxmert"
# How the original code, transformers and we call what a file holds.
FORMS = ("reference", "transformers", "ours")


@dataclass(frozen=True)
class Names:
    """`keys.yaml`, read.

    Attributes:
        keys: the key map.
        optional: beginning of our name -> why such tensors may be missing.
        others: beginning of a name -> whose weights have it.
        config: transformers' setting -> ours, "size/..." or a count.
        constants: transformers' setting -> the only value our encoder computes.
    """

    keys: KeyMap
    optional: dict[str, str]
    others: dict[str, str]
    config: dict[str, str]
    constants: dict[str, Any]


@functools.cache
def read_system(folder: Path = SYSTEM) -> dict[str, Any]:
    """The system's document, read once."""
    return read_yaml(folder / "system.yaml")


@functools.cache
def read_names(folder: Path = SYSTEM) -> Names:
    """The names document of a system, which its own document names, read once."""
    document = read_yaml(folder / read_system(folder)["keys"])
    return Names(
        KeyMap(document),
        document.get("optional", {}),
        document.get("others", {}),
        document.get("config", {}),
        document.get("constants", {}),
    )
