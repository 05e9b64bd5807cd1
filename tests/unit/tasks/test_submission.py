"""Submission files: their bytes, what is refused, and what stands beside them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxmert.data.columns import Columns, ColumnsWriter
from lxmert.errors import DataError
from lxmert.files import sha256_file
from lxmert.specs import read_document
from lxmert.tasks.submission import meta_path, read_predictions, write_submission

TASKS = {name: read_document("task", name) for name in ("vqa", "gqa", "nlvr2")}


def examples(folder: Path, ids: list[str], split: str = "test") -> Columns:
    meta = {"task": "t", "split": split, "count": len(ids), "subset": None}
    with ColumnsWriter(folder / "examples.safetensors", {"id": "strings"}, meta) as writer:
        writer.append(id=ids)
    return Columns(folder / "examples.safetensors")


def write(task: str, folder: Path, ids: list[str], answers: list[str], predicted: list[int]) -> Path:
    out = folder / f"test_predict.{TASKS[task]['submission']['form']}"
    numbers = np.array(predicted, dtype=np.int64)
    write_submission(TASKS[task], examples(folder, ids), answers, numbers, out, {"run": "r", "weights": "ab"})
    return out


def test_vqa_file(tmp_path):
    out = write("vqa", tmp_path, ["262144000", "7"], ["", 'a "b"', "é"], [1, 2])
    assert json.loads(out.read_text()) == [
        {"answer": 'a "b"', "question_id": 262144000},
        {"answer": "é", "question_id": 7},
    ]
    assert out.read_text().startswith('[{"answer":"a \\"b\\"","question_id":262144000},\n')
    assert read_predictions(TASKS["vqa"], out) == {"262144000": 'a "b"', "7": "é"}
    meta = json.loads(meta_path(out).read_text())
    assert meta == {
        "run": "r",
        "weights": "ab",
        "task": "vqa",
        "split": "test",
        "count": 2,
        "subset": None,
        "file": out.name,
        "sha256": sha256_file(out),
    }


def test_gqa_ids_stay_text_with_their_zeros(tmp_path):
    out = write("gqa", tmp_path, ["00412", "0"], ["no", "yes"], [1, 0])
    assert out.read_text() == (
        '[{"prediction":"yes","questionId":"00412"},\n{"prediction":"no","questionId":"0"}]\n'
    )


def test_nlvr2_file(tmp_path):
    out = write("nlvr2", tmp_path, ["dev-1-0-0", "dev-1-0-1"], ["False", "True"], [1, 0])
    assert out.read_bytes() == b"dev-1-0-0,True\ndev-1-0-1,False\n"
    assert list(csv.reader(out.open())) == [["dev-1-0-0", "True"], ["dev-1-0-1", "False"]]


@pytest.mark.parametrize("task", TASKS)
def test_no_examples_give_an_empty_file_that_reads_back(tmp_path, task):
    assert read_predictions(TASKS[task], write(task, tmp_path, [], ["a"], [])) == {}


def test_an_empty_answer_is_allowed_where_the_task_allows_it(tmp_path):
    assert read_predictions(TASKS["vqa"], write("vqa", tmp_path, ["1"], [""], [0])) == {"1": ""}
    with pytest.raises(DataError, match="question 00 is empty"):
        write("gqa", tmp_path, ["00"], [""], [0])


@pytest.mark.parametrize(
    ("ids", "answers", "predicted", "said"),
    [
        (["5", "6"], ["a"], [0, 1], "question 6 was given answer number 1"),
        (["5", "6"], ["a"], [-1, 0], "question 5 was given answer number -1"),
        (["5"], ["a\tb"], [0], "question 5 holds a tab"),
        (["5"], ["a\nb"], [0], "question 5 holds a tab"),
        (["5", "6", "5"], ["a"], [0, 0, 0], "id 5 stands twice"),
    ],
)
def test_faults_name_the_id_and_leave_nothing(tmp_path, ids, answers, predicted, said):
    with pytest.raises(DataError, match=said):
        write("vqa", tmp_path, ids, answers, predicted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["examples.safetensors"]


def test_an_id_of_the_wrong_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match="x1"):
        write("vqa", tmp_path, ["x1"], ["a"], [0])


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("vqa", '[{"answer": "a", "question_id": "1"}]', "must be integer"),
        ("vqa", '[{"answer": "a", "question_id": true}]', "must be integer"),
        ("vqa", '[{"answer": 2, "question_id": 1}]', "must be text"),
        ("vqa", '[{"answer": "a"}]', "question_id"),
        (
            "vqa",
            '[{"answer": "a", "question_id": 1}, {"answer": "b", "question_id": 1}]',
            "id 1 is answered twice",
        ),
        ("vqa", '{"answer": "a", "question_id": 1}\n{"answer": "a", "question_id": 2}', "not valid JSON"),
        ("vqa", '[{"answer": "a", "question_id": 1},]', "not valid JSON"),
        ("gqa", '[{"prediction": "a", "questionId": 1}]', "must be string"),
        ("nlvr2", "dev-1-0-0, True\n", "without blanks"),
        ("nlvr2", "dev-1-0-0,True\n\n", "without blanks"),
        ("nlvr2", "dev-1-0-0\n", "without blanks"),
    ],
)
def test_foreign_files_are_checked_when_read(tmp_path, task, text, said):
    path = tmp_path / "p"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_predictions(TASKS[task], path)


def test_what_the_disk_kept_is_what_is_checked(tmp_path, monkeypatch):
    from lxmert.tasks import submission

    whole: Any = submission._write

    def lose_a_line(form: Any, pairs: Any, handle: Any) -> None:
        whole(form, (pair for pair in pairs if pair[0] != "dev-1-0-1"), handle)

    monkeypatch.setattr(submission, "_write", lose_a_line)
    with pytest.raises(DataError, match="id dev-1-0-2 stands where dev-1-0-1 should"):
        write("nlvr2", tmp_path, ["dev-1-0-0", "dev-1-0-1", "dev-1-0-2"], ["False", "True"], [1, 0, 0])
    with pytest.raises(DataError, match="question dev-1-0-1 has no answer"):
        write("nlvr2", tmp_path, ["dev-1-0-0", "dev-1-0-1"], ["False", "True"], [1, 0])
