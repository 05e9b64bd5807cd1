"""What published files there are, from the documents in `lxmert/assets/catalogue`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.assets.addresses import refuse_address
from lxmert.assets.structure import format_of
from lxmert.errors import SpecError, suggest
from lxmert.specs.checks import checked
from lxmert.specs.documents import read_yaml

FOLDER = Path(__file__).resolve().parent / "catalogue"
# How small files are made of fetched ones: one module a way.
DERIVATIONS = FOLDER.with_name("derivations")
TASKS = ("vqa", "gqa", "nlvr2")
TARGETS = (*TASKS, "pretrain", "detector")
# The branches of the graph that decide what is read, and the choice that reads least.
BRANCHES = {
    "features": ("download", "extract"),
    "weights": ("download", "pretrain"),
    "detector": ("download", "train"),
    "annotations": ("rebuild", "published"),
    "nlvr2_images": ("archive", "crawl"),
}
DEFAULT_BRANCHES = {name: choices[0] for name, choices in BRANCHES.items()}
ARCHIVES = ("zip", "tar")


@dataclass(frozen=True)
class Member:
    """Wanted content of an archive: one file by its base name, or all whose base names fit a pattern.

    Attributes:
        name: base name, for one file.
        pattern: shell pattern of base names, for many.
        place: where the file goes, or the folder the files go to.
        files: how many the publisher counts for a pattern.
        keep_folders: how many of an archive's innermost folders stay.
        on_request: left out unless asked for.
        about_bytes: its size, or that of all its files, where the asset's own figure does not count it.
    """

    place: str
    name: str | None = None
    pattern: str | None = None
    files: int | None = None
    keep_folders: int = 0
    on_request: bool = False
    about_bytes: int | None = None

    def gives(self, place: str) -> bool:
        """Whether a file or folder is this one, or would lie in this folder."""
        return place == self.place or bool(self.pattern and place.startswith(f"{self.place}/"))


@dataclass(frozen=True)
class Asset:
    """One download. Places are paths below a corpus: `raw/...` or `weights/...`."""

    id: str
    catalogue: str
    what: str
    file: str
    format: str
    licence: str
    mirrors: tuple[Mapping[str, Any], ...]
    bytes: int | None = None
    about_bytes: int | None = None
    about_unpacked_bytes: int | None = None
    sha256: str | None = None
    terms: str | None = None
    gate: str | None = None
    page: str | None = None
    place: str | None = None
    members: tuple[Member, ...] = ()
    derived: tuple[Mapping[str, str], ...] = ()
    along: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    retired: tuple[Mapping[str, str], ...] = ()
    # Places of the records, and of the hashes, by which its images are found one by one without it.
    crawl: Mapping[str, str] = field(default_factory=dict)
    needed_by: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    only_if: Mapping[str, str] = field(default_factory=dict)
    otherwise: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.format in ARCHIVES

    @property
    def download_bytes(self) -> int:
        """Size of the download, exact or about; 0 where nobody says."""
        return self.bytes or self.about_bytes or 0

    @property
    def unpacked_bytes(self) -> int:
        """Size on disk once in place, about; without what is left out by default."""
        return self.unpacked_bytes_of(self.wanted_members())

    def unpacked_bytes_of(self, members: Iterable[Member]) -> int:
        """Size on disk of some of an archive's members, about; of any other file its own size."""
        if not self.is_archive:
            return self.download_bytes
        chosen = list(members)
        rest = any(member.about_bytes is None for member in chosen)
        own = sum(member.about_bytes or 0 for member in chosen)
        return own + (self.about_unpacked_bytes or self.download_bytes if rest else 0)

    @property
    def by_hand(self) -> list[Mapping[str, Any]]:
        """Ways only a person can go."""
        return [mirror for mirror in self.mirrors if "manual" in mirror]

    @property
    def fetchable(self) -> bool:
        """Whether some mirror can be asked by a program."""
        return len(self.by_hand) < len(self.mirrors)

    @property
    def everything(self) -> frozenset[str]:
        """The places of all its members, for whoever asks for what is left out by default too."""
        return frozenset(member.place for member in self.members)

    def wanted_members(self, also: Collection[str] = ()) -> list[Member]:
        """Members that are unpacked; those left out by default only if one of their places is named."""
        return [
            member
            for member in self.members
            if not member.on_request or any(member.gives(place) for place in also)
        ]

    def places(self) -> list[str]:
        """Every file and folder it can give, made ones included."""
        own = [self.place] if self.place else []
        return [*own, *(member.place for member in self.members), *(entry["place"] for entry in self.derived)]

    def needed_for(self, targets: Iterable[str], branches: Mapping[str, str]) -> bool:
        """Whether these targets read it in these branches."""
        return _holds(self.only_if, branches) and any(
            target in targets and _holds(condition, branches) for target, condition in self.needed_by.items()
        )


class Catalogue:
    """All assets by id, in the order of the documents."""

    def __init__(self, assets: Iterable[Asset]) -> None:
        """Takes assets whose ids differ."""
        self.assets = {asset.id: asset for asset in assets}

    def __getitem__(self, name: str) -> Asset:
        """The asset of that id.

        Raises:
            SpecError: there is none.
        """
        if name not in self.assets:
            raise SpecError(f"{name}: unknown asset.{suggest(name, self.assets)}")
        return self.assets[name]

    def providers(self, place: str) -> list[Asset]:
        """The assets that give a file, or what lies in a folder, for example both parts of `raw/vg`.

        Raises:
            SpecError: none does.
        """
        folder = f"{place}/"
        found = [
            asset
            for asset in self.assets.values()
            if any(member.pattern and f"{member.place}/".startswith(folder) for member in asset.members)
        ]
        return found or [self.producer(place)]

    def read_together(self, names: Iterable[str]) -> list[Asset]:
        """Assets by id, each followed by those without which it cannot be read."""
        ids = [other for name in names for other in (name, *self[name].along)]
        return [self[name] for name in dict.fromkeys(ids)]

    def producer(self, place: str) -> Asset:
        """The asset that gives a file, for example `raw/vqa/minival_ids.json`.

        Raises:
            SpecError: none does.
        """
        for asset in self.assets.values():
            if any(place == own for own in asset.places()):
                return asset
        for asset in self.assets.values():
            if any(member.gives(place) for member in asset.members):
                return asset
        places = [own for asset in self.assets.values() for own in asset.places()]
        raise SpecError(f"{place}: no asset of the catalogue gives this file.{suggest(place, places)}")

    def needed(self, targets: Iterable[str], branches: Mapping[str, str]) -> list[Asset]:
        """Assets that targets read, those of earlier stages included."""
        wanted = expand_targets(targets, branches)
        return [asset for asset in self.assets.values() if asset.needed_for(wanted, branches)]


def _holds(condition: Mapping[str, str], branches: Mapping[str, str]) -> bool:
    return all(branches.get(name, DEFAULT_BRANCHES[name]) == choice for name, choice in condition.items())


def expand_targets(targets: Iterable[str], branches: Mapping[str, str]) -> list[str]:
    """Targets with the stages they stand on in these branches.

    Raises:
        SpecError: a target or a branch is unknown.
    """
    wanted = list(dict.fromkeys(targets))
    for name in wanted:
        if name not in TARGETS:
            raise SpecError(f"{name}: unknown target of the assets.{suggest(name, TARGETS)}")
    for name, choice in branches.items():
        if choice not in BRANCHES.get(name, ()):
            raise SpecError(f"{name}: {choice}: unknown branch.{suggest(choice, BRANCHES.get(name, ()))}")
    tasks = [name for name in wanted if name in TASKS]
    if tasks and branches["weights"] == "pretrain":
        wanted.append("pretrain")
    if wanted != ["detector"] and branches["features"] == "extract" and branches["detector"] == "train":
        wanted.append("detector")
    return list(dict.fromkeys(wanted))


@functools.cache
def load_catalogue(folder: Path = FOLDER) -> Catalogue:
    """The catalogue in a folder of documents; the shipped one by default.

    Raises:
        SpecError: there is none, a document does not fit its schema, or two assets collide.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise SpecError(f"{folder}: holds no catalogue (*.yaml). Name a folder that does.")
    assets = [asset for path in paths for asset in _read(path)]
    _refuse_collisions(assets)
    return Catalogue(assets)


def _read(path: Path) -> list[Asset]:
    where = f"lxmert/assets/catalogue/{path.name}" if path.parent == FOLDER else str(path)
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


def _refuse_collisions(assets: list[Asset]) -> None:
    for what, values in (
        ("id", [(asset.id, asset.id) for asset in assets]),
        ("file", [(asset.file, asset.id) for asset in assets]),
        ("place", [(place, asset.id) for asset in assets for place in asset.places()]),
    ):
        seen: dict[str, str] = {}
        for value, name in values:
            if value in seen:
                raise SpecError(f"{name}: {what} {value} belongs to {seen[value]} already. Give it another.")
            seen[value] = name
