"""What is on record: one value for each (system, corpus, run, split, metric), with its source."""

from __future__ import annotations

from dataclasses import dataclass

from lxmert.errors import SpecError
from lxmert.specs.checks import mistakes, schema
from lxmert.specs.documents import PACKAGE, document_names, read_yaml, shown
from lxmert.specs.runs import run_name


@dataclass(frozen=True)
class Entry:
    """A value on record.

    Attributes:
        system: the encoder.
        corpus: what it was trained on.
        run: name of the run that should reach it.
        task: its task.
        split: where it was measured.
        metric: a name of the official scores.
        value: in per cent.
        tolerance: how far another run may lie from it, in points.
        source: where the value was published, or which command measured it.
    """

    system: str
    corpus: str
    run: str
    task: str
    split: str
    metric: str
    value: float
    tolerance: float
    source: str


def read_entries(corpus: str) -> list[Entry]:
    """Everything on record for a corpus: `results.yaml` of each system.

    Raises:
        SpecError: a document is malformed, or has two values for one figure.
    """
    entries: dict[tuple[str, ...], Entry] = {}
    for system in document_names("system"):
        path = PACKAGE / "systems" / system / "results.yaml"
        if not path.is_file():
            continue
        document = read_yaml(path, shown(path))
        if wrong := mistakes(document, schema("results"), shown(path)):
            raise SpecError("\n".join(wrong))
        for record in document["results"]:
            run = record.get("run") or run_name(system, record["task"])
            entry = Entry(**{**record, "system": system, "run": run})
            key = (entry.corpus, entry.run, entry.split, entry.metric)
            if key in entries:
                raise SpecError(f"{shown(path)}: two values for {' '.join(key)}. Keep one.")
            entries[key] = entry
    return [entry for entry in entries.values() if entry.corpus == corpus]
