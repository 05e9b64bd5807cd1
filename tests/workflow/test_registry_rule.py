"""The rule `registry` prints the comparison, and fails where a score lies outside its tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxmert.files import atomic_write_json
from lxmert.registry.entries import Entry, read_entries

CONFIG = "{blind_baselines: false, runs: {vqa_scratch: null, gqa_scratch: null}}"


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Entry]:
    """A folder with a score for every entry of the sample, each as recorded."""
    entries = read_entries("sample")
    for entry in entries:
        folder = tmp_path / "results" / entry.run
        atomic_write_json(folder / "spec.json", {"run": entry.run, "seed": 9595})
        _score(tmp_path, entry, entry.value)
    return tmp_path, entries[0]


def _score(folder: Path, entry: Entry, value: float) -> None:
    path = folder / "results" / entry.run / f"{entry.split}_score.json"
    atomic_write_json(path, {"official": {entry.metric: value / 100}})


def test_a_score_outside_fails_the_rule(snakemake, scored: tuple[Path, Entry], overlay) -> None:
    folder, entry = scored
    # Scores are taken as they lie there: nothing before them is made.
    files = ["results/registry/comparison.json", "registry"]
    options = ["--cores", "1", "--allowed-rules", "compare_results", "registry"]
    options += ["--configfile", overlay(CONFIG), "--", *files]
    outcome = snakemake(folder, *options)
    assert outcome.status == 0, outcome.text
    assert f"{entry.value:.2f}" in outcome.text and outcome.text.count("agrees") == len(
        read_entries("sample")
    )
    _score(folder, entry, entry.value - entry.tolerance - 1)
    outcome = snakemake(folder, "--forcerun", "compare_results", *options)
    assert outcome.status != 0
    wanted = f"{entry.run} {entry.split}: {entry.metric} {entry.value - entry.tolerance - 1:.2f} is outside"
    assert wanted in outcome.text and outcome.text.count("agrees") == len(read_entries("sample")) - 1
