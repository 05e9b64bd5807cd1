"""A small NLVR2 whose images lie on the loopback server, shared by the tests of the crawl."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mirror_server import MirrorServer
from PIL import Image

from lxmert.assets.asset import Asset, Member
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.crawl.crawling import crawl, report_path, status_path
from lxmert.assets.crawl.manners import Manners
from lxmert.assets.crawl.missing import Outcome
from lxmert.assets.crawl.pictures import average_hash, read_picture
from lxmert.assets.crawl.web import Bounds
from lxmert.assets.places import Places, Settings

# Long enough for an honest answer on a machine that does much else; tests of slow answers have their own.
BOUNDS = Bounds(connect_seconds=10.0, read_seconds=10.0, whole_seconds=30.0, bytes=200_000, redirects=3)
MANNERS = Manners(
    connections=16,
    per_host=16,
    interval_seconds=0.0,
    attempts=3,
    backoff_seconds=0.0,
    host_failures=10_000,
    bounds=BOUNDS,
)
FORMATS = ("PNG", "JPEG", "GIF", "BMP")
GATE = "nlvr2_images"


def picture(number: int) -> bytes:
    """A picture of coloured squares, in one of four formats; others have other hashes."""
    squares = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(squares, 6, 0), 8, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, FORMATS[number % 4])
    return buffer.getvalue()


@dataclass
class SmallSet:
    """Pairs of a split with their sentences; `addresses` maps image names to where they are."""

    places: Places
    server: MirrorServer
    split: str = "dev"
    pairs: int = 3
    folders: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pair in range(self.pairs):
            for side in (0, 1):
                name = self.name(pair, side)
                self.bodies[name] = picture(2 * pair + side)
                self.addresses[name] = self.server.url(f"/{self.places.root.name}/{name}")
                self.script(name, "ok")

    def name(self, pair: int, side: int) -> str:
        folder = f"{pair % 100}/" if self.folders else ""
        return f"{folder}{self.split}-{pair}-0-img{side}.png"

    def script(self, name: str, *manners: str, body: bytes | None = None) -> Any:
        content = self.bodies[name] if body is None else body
        return self.server.script(f"/{self.places.root.name}/{name}", content, *manners)

    def asked(self, name: str) -> int:
        return len(self.server.scripts[f"/{self.places.root.name}/{name}"].asked)

    @property
    def asset(self) -> Asset:
        return Asset(
            id=f"nlvr2_images_{self.split}",
            catalogue="nlvr2",
            what="images",
            licence="none",
            terms="For research only.",
            gate=GATE,
            file="nlvr2/img.zip",
            format="zip",
            mirrors=({"manual": "ask", "page": "https://example.org"},),
            members=(Member(f"raw/nlvr2/images/{self.split}", pattern="*.png"),),
            crawl={
                "records": f"raw/nlvr2/data/{self.split}.json",
                "hashes": f"raw/nlvr2/hashes/{self.split}_hashes.json",
            },
        )

    def write(self) -> None:
        """Records, two sentences a pair, and hashes."""
        lines = []
        for pair in range(self.pairs):
            record = {"sentence": "Two kites.", "label": "True"}
            record |= {"left_url": self.addresses[self.name(pair, 0)]}
            record |= {"right_url": self.addresses[self.name(pair, 1)]}
            if self.folders:
                record["directory"] = pair % 100  # type: ignore[assignment]
            lines += [json.dumps({"identifier": f"{self.split}-{pair}-0-{k}", **record}) for k in (0, 1)]
        records = self.places.path(self.asset.crawl["records"])
        hashes = self.places.path(self.asset.crawl["hashes"])
        for path in (records, hashes):
            path.parent.mkdir(parents=True, exist_ok=True)
        records.write_text("\n".join(lines) + "\n")
        known = {
            name.rpartition("/")[2]: f"{average_hash(read_picture(body)):016x}"
            for name, body in self.bodies.items()
        }
        hashes.write_text(json.dumps(known))

    def crawl(self, again: tuple[str, ...] = (), **changes: Any) -> Outcome:
        """Crawls; `mirrors` and `offline` go to the settings, anything else to the manners."""
        chosen = {key: changes.pop(key) for key in ("offline", "mirrors", "stopped") if key in changes}
        stopped = chosen.pop("stopped", lambda: False)
        # The loopback is asked only since it is named as a mirror, which here has nothing.
        mirrors = chosen.pop("mirrors", (self.server.url("/nothing"),))
        settings = Settings(accept_terms=(GATE,), mirrors=mirrors, **chosen)
        manners = replace(MANNERS, **changes)
        catalogue = Catalogue([self.asset])
        return crawl(self.asset, catalogue, self.places, settings, manners, again, stopped)

    @property
    def folder(self) -> Path:
        return self.places.path(self.asset.members[0].place)

    def found(self) -> dict[str, bytes]:
        """Whatever stands under a final name."""
        paths = [path for path in self.folder.rglob("*.png") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def states(self) -> dict[str, str]:
        lines = status_path(self.asset, self.places).read_text().splitlines()
        return {entry["image"]: entry["state"] for entry in map(json.loads, lines)}

    def report(self) -> dict[str, Any]:
        return json.loads(report_path(self.asset, self.places).read_text())
