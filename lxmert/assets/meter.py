"""Progress in bytes, with mirror and attempt."""

from __future__ import annotations

from collections.abc import Callable

from lxmert.assets.asset import Asset
from lxmert.assets.mirrors import Source
from lxmert.errors import Interrupted
from lxmert.progress import Progress

_MB = 1_000_000


def gigabytes(size: int) -> str:
    """A size as a person says it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 1000 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size} bytes"


class Counter:
    """Turns bytes into whole megabytes of a progress line, and stops where asked to."""

    def __init__(self, progress: Progress, stopped: Callable[[], bool], label: str, note: str = "") -> None:
        """Takes what shows the progress and what asks to stop."""
        self._progress, self._stopped, self._label, self._note = progress, stopped, label, note
        self._bytes = 0

    def advance(self, size: int) -> None:
        """Counts bytes.

        Raises:
            Interrupted: a signal asked to stop.
        """
        if self._stopped():
            raise Interrupted(f"{self._label}: what came is kept")
        self._bytes += size
        whole, self._bytes = divmod(self._bytes, _MB)
        self._progress.advance(whole, self._note)


class Meter(Counter):
    """Progress of one attempt: `fetch ID: 12/345 MB, 5 MB/s, 1 min left, HOST, attempt 2`."""

    def __init__(
        self,
        asset: Asset,
        source: Source,
        attempt: int,
        start: int,
        size: int | None,
        stopped: Callable[[], bool],
    ) -> None:
        """Takes what is fetched from whom, and how many bytes are there already."""
        total = size or asset.about_bytes
        progress = Progress(total // _MB if total else None, "MB", f"fetch {asset.id}", start // _MB)
        super().__init__(progress, stopped, asset.id, f"{source.host}, attempt {attempt}")

    def close(self) -> None:
        """Ends the progress line."""
        self._progress.close()
