"""What a person sees of long work: log lines, and progress with rate and time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_LINE_SECONDS = 30.0
_BAR_SECONDS = 0.2
_BAR_WIDTH = 24

log = logging.getLogger(__name__)


def configure_logging(debug: bool = False, rank: int = 0) -> None:
    """Log lines to stderr; ranks other than 0 only warn, with their rank."""
    level = logging.DEBUG if debug else logging.INFO
    where = "" if rank == 0 else f" [rank {rank}]"
    logging.basicConfig(
        stream=sys.stderr,
        level=level if rank == 0 else logging.WARNING,
        format=f"%(asctime)s %(levelname)s %(name)s{where}: %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        force=True,
    )
    # matplotlib and PIL narrate at DEBUG, which nobody asked for.
    for noisy in ("matplotlib", "PIL", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def duration(seconds: float) -> str:
    """A span as a person says it: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int) -> str:
    """A whole number with thin groups: 82 783."""
    return f"{number:,}".replace(",", " ")


class Progress:
    """Counts finished items; a bar on a terminal, else a line every 30 seconds.

    Args:
        total: how many items there are, None where that is not known.
        unit: plural noun of an item.
        label: what is being done.
        start: items done by an earlier, interrupted attempt; they do not count for the rate.
    """

    def __init__(self, total: int | None, unit: str, label: str, start: int = 0) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.done = self._start = start
        self._began = self._shown = time.monotonic()
        self._bar = sys.stderr.isatty()

    def advance(self, items: int = 1, note: str = "") -> None:
        """Counts items and shows the state if it is time to."""
        self.done += items
        now = time.monotonic()
        if now - self._shown >= (_BAR_SECONDS if self._bar else _LINE_SECONDS):
            self._shown = now
            self._show(now, note)

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar and self._shown > self._began:
            self._show(time.monotonic(), "")
            sys.stderr.write("\n")

    def _show(self, now: float, note: str) -> None:
        rate = (self.done - self._start) / max(now - self._began, 1e-9)
        text = f"{self.label}: {count(self.done)}"
        if self.total is not None:
            text += f"/{count(self.total)}"
        text += f" {self.unit}, {rate:.3g} {self.unit}/s"
        if self.total is not None and rate > 0:
            text += f", {duration((self.total - self.done) / rate)} left"
        if note:
            text += f", {note}"
        if not self._bar:
            log.info("%s", text)
            return
        share = self.done / self.total if self.total else 0.0
        filled = round(share * _BAR_WIDTH)
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {text}\033[K")
        sys.stderr.flush()


def track(
    iterable: Iterable[Item], total: int | None, unit: str, label: str = "done", start: int = 0
) -> Iterator[Item]:
    """The items of `iterable`, showing progress as they are used up."""
    progress = Progress(total, unit, label, start)
    for item in iterable:
        yield item
        progress.advance()
    progress.close()
