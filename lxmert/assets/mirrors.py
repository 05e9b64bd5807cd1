"""Who may have a file: a person's own mirrors first, then the catalogue's, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lxmert.assets.addresses import refuse_address
from lxmert.assets.asset import Asset
from lxmert.assets.places import Settings

HUB = "https://huggingface.co"
DRIVE = "https://drive.usercontent.google.com/download?export=download&id={}"


@dataclass(frozen=True)
class Source:
    """One way to a file: one address, or the addresses of its pieces."""

    urls: tuple[str, ...]

    @property
    def in_pieces(self) -> bool:
        """Whether pieces are fetched and joined."""
        return len(self.urls) > 1

    @property
    def is_local(self) -> bool:
        """Whether no other machine is asked."""
        return all(urlsplit(url).scheme == "file" for url in self.urls)

    @property
    def host(self) -> str:
        """Who is asked."""
        return urlsplit(self.urls[0]).netloc.rpartition("@")[2] or "local file"

    @property
    def label(self) -> str:
        """Scheme, host and path as messages show them: no passwords, no tokens."""
        return " + ".join(_label(url) for url in self.urls)


def sources(asset: Asset, settings: Settings) -> list[Source]:
    """Sources of an asset in the order they are asked; only local ones when offline."""
    found = [Source((f"{as_url(prefix)}/{quote(asset.file)}",)) for prefix in settings.mirrors]
    found += [source for mirror in asset.mirrors for source in _of_mirror(mirror)]
    unique = list(dict.fromkeys(found))
    return [source for source in unique if source.is_local] if settings.offline else unique


def _of_mirror(mirror: Any) -> Iterator[Source]:
    if "url" in mirror:
        yield Source((mirror["url"],))
    elif "drive" in mirror:
        yield Source((DRIVE.format(mirror["drive"]),))
    elif "hub" in mirror:
        # The variable with which the hub's own tools are sent to a copy of it.
        host = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        refuse_address(host, "HF_ENDPOINT")
        revision = mirror.get("revision", "main")
        yield Source((f"{host}/{mirror['hub']}/resolve/{revision}/{mirror['path']}",))
    elif "parts" in mirror:
        yield Source(tuple(mirror["parts"]))


def as_url(prefix: str) -> str:
    """A mirror of the settings as an address, folders included."""
    if "://" in prefix:
        return prefix.rstrip("/")
    return Path(prefix).expanduser().resolve().as_uri().rstrip("/")


def _label(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    name = f"{parts.scheme}://{host}{parts.path}"
    if "id=" in parts.query:  # all of a Drive file's name is its id
        name += "?id=" + parts.query.partition("id=")[2].partition("&")[0]
    return name


def hint(asset: Asset) -> str:
    """How a person gets an asset that no program can fetch."""
    ways = []
    for mirror in asset.by_hand:
        code = f", access code {mirror['code']}" if "code" in mirror else ""
        ways.append(f"{mirror['manual']} ({mirror['page']}{code})")
    return "; or ".join(ways)
