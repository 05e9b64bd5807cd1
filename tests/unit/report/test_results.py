from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxmert.errors import DataError
from lxmert.report.results import read_history, read_results, read_score


def test_families_gather_twins_in_the_order_asked_for(results_tree: Path) -> None:
    names = ["pretrain", "vqa", "vqa_blind", "gqa", "gqa_blind", "vqa_scratch"]
    results = read_results(results_tree / "results", names)
    assert [family.run.name for family in results.families] == ["vqa", "gqa"]
    vqa, gqa = results.families
    assert [role for role, _ in vqa.members] == ["seeing", "blind", "from scratch"]
    assert gqa.blind is not None and gqa.scratch is None
    assert [run.name for run in results.pretrainings] == ["pretrain"]
    assert results.detector is not None and results.detector.source.name == "val_score.json"


def test_a_twin_without_its_run_stands_alone(results_tree: Path) -> None:
    results = read_results(results_tree / "results", ["vqa_blind"])
    assert [family.run.name for family in results.families] == ["vqa_blind"]


def test_all_ended_runs_are_found_and_the_detector_is_none_of_them(results_tree: Path) -> None:
    results = read_results(results_tree / "results")
    assert [family.run.name for family in results.families] == ["gqa", "nlvr2", "vqa"]


def test_no_detector(results_tree: Path, tmp_path: Path) -> None:
    assert read_results(results_tree / "results", detector=tmp_path).detector is None


def test_unknown_run_is_named_with_the_nearest(results_tree: Path) -> None:
    with pytest.raises(DataError, match='vqaa: holds no metrics.json.*Did you mean "vqa"'):
        read_results(results_tree / "results", ["vqaa"])


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no run has ended here"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "history.jsonl:1: not valid JSON"),
        ('{"step": 1}\n[1]\n', "history.jsonl:2: a line must hold one JSON object"),
        ('{"loss": 1}\n', "history.jsonl:1: a record without a number `step`"),
        ('{"step": true}\n', "a record without a number `step`"),
    ],
)
def test_malformed_history(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_history(path)


def test_history_series_skips_what_is_absent_or_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    records = [
        {"step": 0, "evaluation": True, "qa": 4.0},
        {"step": 1, "losses": {"qa": 3.0}, "loss": 5.0},
        {"step": 2, "losses": {}},
        {"step": 3, "losses": {"qa": None}},
    ]
    path.write_text(
        "".join(json.dumps(record) + "\n" for record in records) + '{"step": 4, "losses": {"qa": NaN}}\n'
    )
    history = read_history(path)
    assert history.series("qa") == ([1.0], [3.0])
    assert history.series("qa", evaluations=True) == ([0.0], [4.0])
    assert history.series("loss") == ([1.0], [5.0])


@pytest.mark.parametrize("official", [{}, {"accuracy": 80}, {"accuracy": "0.8"}, {"accuracy": True}])
def test_score_without_a_share(tmp_path: Path, official: dict) -> None:
    path = tmp_path / "minival_score.json"
    path.write_text(json.dumps({"official": official}))
    with pytest.raises(DataError, match="minival_score.json: official/accuracy must be a number from 0 to 1"):
        read_score(path)


def test_malformed_detector(own_results: Path) -> None:
    (own_results / "detector" / "val_score.json").write_text('{"objects": {"map": 0.5}}')
    with pytest.raises(DataError, match="val_score.json: objects must hold map, weighted_map and classes"):
        read_results(own_results)
