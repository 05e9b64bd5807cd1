"""What published files there are, from the documents in `lxmert/assets/catalogue`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from lxmert.assets.asset import BRANCHES, TARGETS, TASKS, Asset
from lxmert.assets.catalogue_documents import read_assets
from lxmert.errors import SpecError, suggest

FOLDER = Path(__file__).resolve().parent / "catalogue"


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
        near = difflib.get_close_matches(place, places, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        raise SpecError(
            f"{place}: no asset of the catalogue gives this file.{hint} What each asset gives stands in"
            " lxmert/assets/catalogue; python -m lxmert assets list shows the assets."
        )

    def needed(self, targets: Iterable[str], branches: Mapping[str, str]) -> list[Asset]:
        """Assets that targets read, those of earlier stages included."""
        wanted = expand_targets(targets, branches)
        return [asset for asset in self.assets.values() if asset.needed_for(wanted, branches)]


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
    assets = [asset for path in paths for asset in read_assets(path, _shown(path))]
    _refuse_collisions(assets)
    return Catalogue(assets)


def _shown(path: Path) -> str:
    return f"lxmert/assets/catalogue/{path.name}" if path.parent == FOLDER else str(path)


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
