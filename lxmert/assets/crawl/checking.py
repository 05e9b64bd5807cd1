"""Whether crawled images are still what they were when they came."""

from __future__ import annotations

from collections.abc import Iterator

from lxmert.assets.asset import Asset
from lxmert.assets.crawl.status import DONE, read_status
from lxmert.assets.inventory import Finding
from lxmert.assets.places import Places
from lxmert.files import sha256_file


def verify_crawled(asset: Asset, places: Places) -> Iterator[Finding]:
    """Reads every image that a crawl brought, byte by byte; nothing if none did.

    One finding for each image that is gone or changed, else one for their folder.

    Raises:
        DataError: the crawl's status file is something else.
    """
    entries = read_status(places.crawled(asset.id)).values()
    place = asset.members[0].place if asset.members else ""
    wrong = False
    for entry in entries:
        if entry.state != DONE:
            continue
        path = places.path(place) / entry.image
        verdict = (
            "missing" if not path.is_file() else "ok" if sha256_file(path) == entry.sha256 else "changed"
        )
        if verdict != "ok":
            wrong = True
            yield Finding(asset.id, f"{place}/{entry.image}", path, verdict)
    if entries and not wrong:
        yield Finding(asset.id, place, places.path(place), "ok")
