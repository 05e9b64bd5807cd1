"""Where the files of a corpus lie, how published files are fetched, and one process at a time for each."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.assets.addresses import refuse_address
from lxmert.assets.asset import Asset
from lxmert.errors import SpecError
from lxmert.files import explain_os_error, make_folder
from lxmert.specs.checks import fill_defaults, mistakes, schema

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Folders of one corpus below a working directory."""

    root: Path
    corpus: str = "full"

    @property
    def downloads(self) -> Path:
        """Archives on their way, and the files that keep processes apart."""
        return self.root / "data" / self.corpus / "downloads"

    @property
    def crawls(self) -> Path:
        """What became of images that were crawled, and receipts of them."""
        return self.root / "data" / self.corpus / "crawl"

    def crawled(self, asset: str) -> Path:
        """What became of each image of an asset."""
        return self.crawls / f"{asset}.jsonl"

    @property
    def lock_file(self) -> Path:
        """What was fetched, shared by all corpora."""
        return self.root / "data" / "assets.lock.json"

    def path(self, place: str) -> Path:
        """The path of a place of the catalogue, `raw/...` or `weights/...`."""
        top, _, rest = place.partition("/")
        if top == "raw":
            return self.root / "data" / self.corpus / "raw" / rest
        return self.root / "weights" / self.corpus / "published" / rest

    def download(self, asset: Asset) -> Path:
        """Where a download gets its final name: beside its use, or among the archives."""
        return self.downloads / asset.file if asset.is_archive else self.path(str(asset.place))

    def shown(self, path: Path) -> str:
        """A path as messages show it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True)
class Settings:
    """What a person decides about fetching; `assets` in config.yaml.

    Attributes:
        accept_terms: gates whose terms were accepted.
        mirrors: folders or addresses that hold files by their catalogue name; asked first.
        offline: ask no other machine.
        keep_archives: keep archives once unpacked.
    """

    accept_terms: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    keep_archives: bool = False


def read_settings(value: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> Settings:
    """Settings of a configuration, with LXMERT_MIRROR (one or more, by blanks) and LXMERT_OFFLINE before it.

    Raises:
        SpecError: the configuration does not fit `asset_settings.schema.yaml`, or a mirror is no address.
    """
    rules = schema("asset_settings")
    found = mistakes(value, rules, where, "assets")
    if found:
        raise SpecError("\n".join(found))
    filled = fill_defaults(dict(value), rules)
    own = environment.get("LXMERT_MIRROR", "").split()
    for mirrors, place in ((own, "LXMERT_MIRROR"), (filled["mirrors"], f"{where}: assets/mirrors")):
        for mirror in mirrors:
            if "://" in mirror:
                refuse_address(mirror, place)
    return Settings(
        accept_terms=tuple(filled["accept_terms"]),
        mirrors=(*own, *filled["mirrors"]),
        offline=filled["offline"] or environment.get("LXMERT_OFFLINE", "") not in ("", "0"),
        keep_archives=filled["keep_archives"],
    )


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Holds a file that only one process at a time can hold; waits for its turn and says so.

    The system lets go of it when a process dies, so nothing has to be removed by hand.
    """
    make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: another process is at it; waiting for it", what)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def missing_name(asset: str) -> str:
    """The file, among the crawls, that says which of an asset's images are missing."""
    return f"{asset}.missing.json"
