"""One published file: what it is, who offers it, what it gives and who needs it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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


def _holds(condition: Mapping[str, str], branches: Mapping[str, str]) -> bool:
    return all(branches.get(name, DEFAULT_BRANCHES[name]) == choice for name, choice in condition.items())
