"""What a crawl brought and what it did not: for a person, for the graph, and for another crawl."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.assets.asset import Asset
from lxmert.assets.crawl.status import DONE, MISSING, WORDS, Status
from lxmert.assets.crawl.wanted import Records
from lxmert.assets.lock import listing_record
from lxmert.files import atomic_write_json, read_json
from lxmert.progress import count

_UNASKED = "not_asked"


@dataclass(frozen=True)
class Outcome:
    """The end of a crawl of one asset.

    Attributes:
        asset: whose images.
        records: which are wanted.
        entries: what became of each that was asked for.
    """

    asset: Asset
    records: Records
    entries: dict[str, Status]

    @property
    def there(self) -> list[Status]:
        """Images that are there, in the order of their names."""
        return [self.entries[name] for name in self.records.images if self._state(name) == DONE]

    def missing(self) -> dict[str, list[str]]:
        """Names of missing images by why."""
        found: dict[str, list[str]] = {}
        for name in self.records.images:
            if self._state(name) != DONE:
                found.setdefault(self._state(name), []).append(name)
        return {state: found[state] for state in (*MISSING, _UNASKED) if state in found}

    def _state(self, name: str) -> str:
        return self.entries[name].state if name in self.entries else _UNASKED

    def sentences(self) -> tuple[int, int]:
        """How many sentences there are, and how many have both pictures."""
        pairs = self.records.sentences.items()
        whole = sum(number for pair, number in pairs if all(self._state(name) == DONE for name in pair))
        return sum(self.records.sentences.values()), whole

    def to_json(self) -> dict[str, Any]:
        """All of it; no dates, so that the same outcome is the same file."""
        total, whole = self.sentences()
        missing = self.missing()
        return {
            "asset": self.asset.id,
            "images": len(self.records.images),
            "there": len(self.there),
            "sentences": total,
            "sentences_with_both_images": whole,
            "missing": {state: len(names) for state, names in missing.items()},
            "missing_images": [
                {
                    "image": name,
                    "state": state,
                    "why": self.entries[name].why if name in self.entries else None,
                    "address": self.records.images[name].address,
                }
                for state, names in missing.items()
                for name in names
            ],
        }

    def lines(self, report: str) -> list[str]:
        """What a person is told, of the images, of the sentences, and what helps."""
        images, there = len(self.records.images), len(self.there)
        total, whole = self.sentences()
        lines = [
            f"{self.asset.id}: {count(there)} of {count(images)} images are there"
            f" ({100 * there / images:.2f} %); {count(whole)} of {count(total)} sentences have both theirs"
            f" ({100 * whole / total:.2f} %)"
        ]
        if there == images:
            return lines
        words = {**WORDS, _UNASKED: "not asked for"}
        reasons = [f"{count(len(names))} {words[state]}" for state, names in self.missing().items()]
        lines.append(f"{self.asset.id}: missing: {', '.join(reasons)}; each with its reason in {report}")
        whys = Counter(status.why for status in self.entries.values() if status.why)
        often = sorted(whys.items(), key=lambda item: (-item[1], item[0]))[:5]
        if often:
            lines.append(f"{self.asset.id}: most often: {', '.join(f'{why} ({n})' for why, n in often)}")
        return lines

    def write(self, path: Path) -> None:
        """Writes the report."""
        atomic_write_json(path, self.to_json())

    def write_receipt(self, path: Path) -> None:
        """Writes what the graph knows of the images: their number and a digest of all their bytes.

        A file that says the same stays as it is, so that nothing runs again.
        """
        place = self.asset.members[0].place
        record = listing_record((entry.image, entry.bytes or 0, entry.sha256 or "") for entry in self.there)
        receipt = {"asset": self.asset.id, "places": {place: record}}
        if not path.is_file() or read_json(path) != receipt:
            atomic_write_json(path, receipt)
