from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxmert.errors import DataError
from lxmert.report.results import read_results
from lxmert.report.tables import plain_text, read_table, summary_table, write_table


@pytest.fixture
def table(results_tree: Path):
    names = ["vqa", "vqa_blind", "vqa_scratch", "gqa", "gqa_blind", "nlvr2"]
    return summary_table(read_results(results_tree / "results", names))


def test_rows_hold_score_twins_and_chance(table) -> None:
    assert list(table["run"]) == ["vqa", "gqa", "nlvr2"]
    vqa, gqa, nlvr2 = (row for _, row in table.iterrows())
    assert (vqa["score"], vqa["blind"], vqa["scratch"], vqa["chance"]) == (0.8, 0.45, 0.8, 0.25)
    assert (vqa["examples"], vqa["detail:other"]) == (24, 0.7)
    assert gqa["detail:binary"] == 0.75 and gqa["scratch"] != gqa["scratch"]
    assert nlvr2["blind"] != nlvr2["blind"] and nlvr2["detail:consistency"] == 0.41


def test_printed_table_comes_back_from_the_file(table, tmp_path: Path) -> None:
    write_table(table, tmp_path / "summary.tsv")
    again = read_table(tmp_path / "summary.tsv")
    assert plain_text(again) == plain_text(table)
    lines = plain_text(table).splitlines()
    assert (
        lines[0].split()
        == "task split score % blind % from scratch % chance % examples seconds details %".split()
    )
    assert lines[2].split()[:8] == ["vqa", "minival", "80.0", "45.0", "80.0", "25.0", "24", "61"]
    assert lines[3].split()[4] == "–"
    assert "question_type" not in plain_text(table)
    assert len({line.index("80.0") for line in lines[2:]}) == 1


def test_a_run_named_unlike_its_task_is_shown(results_tree: Path) -> None:
    table = summary_table(read_results(results_tree / "results", ["vqa_scratch"]))
    assert plain_text(table).splitlines()[2].startswith("vqa_scratch  vqa")


def test_no_score_at_all(results_tree: Path, tmp_path: Path) -> None:
    table = summary_table(read_results(results_tree / "results", ["pretrain"]))
    assert plain_text(table) == "No split has been scored yet.\n"
    write_table(table, tmp_path / "summary.tsv")
    assert plain_text(read_table(tmp_path / "summary.tsv")) == plain_text(table)


@pytest.mark.parametrize("text", ["", "a\tb\n1\t2\n", "run\ttask\tsplit\tscore\nvqa\tvqa\tminival\tmuch\n"])
def test_not_a_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match="summary.tsv: not a table of scores"):
        read_table(path)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="summary.tsv: no such file"):
        read_table(tmp_path / "summary.tsv")


def test_a_split_that_was_learnt_from_is_marked(results_tree: Path) -> None:
    path = results_tree / "results" / "gqa" / "testdev_score.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "leaks": ["gqa is fine-tuned on it"]}))
    found = summary_table(read_results(results_tree / "results"))
    assert "testdev (learnt from)" in list(found["split"]) and "minival" in list(found["split"])
