"""The documents of the catalogue, read into assets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.assets.addresses import refuse_address
from lxmert.assets.asset import ARCHIVES, Asset, Member
from lxmert.assets.structure import format_of
from lxmert.errors import SpecError, suggest
from lxmert.specs.checks import checked
from lxmert.specs.documents import read_yaml

# How small files are made of fetched ones: one module a way.
DERIVATIONS = Path(__file__).resolve().parent / "derivations"


def read_assets(path: Path, where: str) -> list[Asset]:
    """The assets of one document, one for each value of its templates.

    Args:
        path: the document.
        where: as messages show it.

    Raises:
        SpecError: it does not fit its schema, or says what cannot be.
    """
    document = checked(read_yaml(path, where), "asset", where)
    common = {key: document[key] for key in ("licence", "terms", "page") if key in document}
    assets = []
    for name, entry in document["assets"].items():
        each = entry.pop("each", {})
        _refuse_odd_figures(entry, each, f"{where}: assets/{name}")
        for values in itertools.product(*each.values()):
            filled = _fill({"id": name, **entry}, dict(zip(each, values, strict=True)))
            for key in _FIGURES:
                if isinstance(filled.get(key), dict):
                    filled[key] = filled[key][values[0]]
            assets.append(_asset({**common, **filled}, document["catalogue"], where))
    return assets


_FIGURES = ("about_bytes", "about_unpacked_bytes")


def _refuse_odd_figures(entry: Mapping[str, Any], each: Mapping[str, list[str]], place: str) -> None:
    """Figures by value need one value each, and one list of values."""
    for key in _FIGURES:
        figures = entry.get(key)
        if isinstance(figures, dict) and [sorted(figures)] != [sorted(values) for values in each.values()]:
            raise SpecError(
                f"{place}/{key}: must be one figure, or one for every value of `each`, which has one list."
            )


def _fill(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, list):
        return [_fill(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, names) for key, item in value.items()}
    return value


def _asset(entry: dict[str, Any], catalogue: str, where: str) -> Asset:
    place = f"{where}: assets/{entry['id']}"
    kind = entry.pop("format", None) or format_of(entry["file"])
    members = tuple(Member(place=_place_of(item), **_without_place(item)) for item in entry.pop("members"))
    if (kind in ARCHIVES) != bool(members) or (kind in ARCHIVES) == ("place" in entry):
        raise SpecError(f"{place}: an archive has members, any other file a place. This is a {kind} file.")
    if not entry["mirrors"]:
        raise SpecError(f"{place}/mirrors: none; add one, or `manual` with the page where a person gets it.")
    known = [entry.get("place"), *(member.place for member in members)]
    for derived in entry["derived"]:
        if derived["of"] not in known:
            raise SpecError(f"{place}/derived: {derived['of']} is not a place of this asset.")
        if derived["by"] not in (known_ways := sorted(path.stem for path in DERIVATIONS.glob("[!_]*.py"))):
            raise SpecError(f"{place}/derived: {derived['by']}: unknown.{suggest(derived['by'], known_ways)}")
    mirrors = tuple({"url": item} if isinstance(item, str) else item for item in entry.pop("mirrors"))
    for mirror in mirrors:
        for url in mirror.get("parts", [mirror["url"]] if "url" in mirror else []):
            refuse_address(url, f"{place}/mirrors")
    for key in ("derived", "along", "accepts", "retired"):
        entry[key] = tuple(entry[key])
    if isinstance(entry["needed_by"], list):
        entry["needed_by"] = {target: {} for target in entry["needed_by"]}
    return Asset(catalogue=catalogue, format=kind, members=members, mirrors=mirrors, **entry)


def _place_of(member: Mapping[str, Any]) -> str:
    return str(member.get("place") or member["into"])


def _without_place(member: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in member.items() if key not in ("place", "into")}
