"""Answers: canonical forms, soft scores, vocabularies, the joint table and the warm start of heads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lxmert.data.answers import (
    AnswerTable,
    answer_vocabulary,
    build_answer_table,
    convert_answer,
    match_answers,
    match_labels,
    read_answer_table,
    read_answers,
    soft_scores,
    write_answer_table,
)
from lxmert.errors import DataError
from lxmert.metrics.vqa import question_accuracy


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("", ""),
        (".", ""),
        ("Green.", "green"),
        ("The kite.", "kite"),
        ("A man", "man"),
        ("a an the dog", "dog"),
        ("the a dog", "a dog"),  # each article once, in the order a, an, the
        ("a", "a"),
        ("an apple .", "apple"),
        ("Two", "2"),
        ("the ten.", "10"),
        ("eleven", "eleven"),
        ("Grey", "gray"),
        ("grey cat", "grey cat"),
        ("u.s.a..", "u.s.a."),
        (" yes", " yes"),
    ],
)
def test_canonical_forms(answer, wanted):
    assert convert_answer(answer) == wanted


def test_soft_scores_count_raw_strings():
    index = {"red": 4, "blue": 1, "pink": 2}
    assert soft_scores(["red"] * 4 + ["blue"] * 3 + ["pink"] * 2 + ["Red"], index) == [
        (1, 0.9),
        (2, 0.6),
        (4, 1.0),
    ]
    assert soft_scores(["red"] + ["green"] * 9, index) == [(4, 0.3)]
    assert soft_scores([], index) == []


@pytest.mark.parametrize(
    ("answers", "prediction", "vocabulary", "official", "label"),
    [
        (["2", "two", "the 2"] + ["3"] * 7, "2", ["2", "3"], 0.9, 0.3),
        (["2", "two", "the 2"] + ["3"] * 7, "two", ["2", "3"], 0.9, 0.0),
        (["yes"] * 10, "yes.", ["yes"], 0.0, 0.0),
        (["two"] * 10, "2", ["2"], 0.0, 0.0),
        (["t-shirt"] * 4 + ["shirt"] * 6, "t shirt", ["t shirt", "shirt"], 1.0, 0.0),
        (["dont know"] * 6 + ["don't know"] * 4, "don't know", ["don't know"], 1.0, 1.0),
        (["on table."] * 2 + ["on table"] + ["table"] * 7, "on table", ["on table", "table"], 0.9, 0.3),
        (["none"] * 3 + ["0"] * 3 + ["1"] * 4, "0", ["0", "1"], 1.0, 0.9),
    ],
)
def test_label_score_and_official_score_differ(answers, prediction, vocabulary, official, label):
    records = [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers)]
    assert question_accuracy(prediction, records) == pytest.approx(official)
    scores = dict(soft_scores(answers, {answer: i for i, answer in enumerate(vocabulary)}))
    found = scores.get(vocabulary.index(prediction), 0.0) if prediction in vocabulary else 0.0
    assert found == pytest.approx(label)


def test_vocabulary_by_frequency_then_alphabet():
    answers = ["b"] * 3 + ["a"] * 3 + ["c"] * 9 + ["d"] * 2 + [""] * 3
    assert answer_vocabulary(answers, 3) == ["c", "", "a", "b"]
    assert answer_vocabulary([], 1) == []


def test_joint_table_counts_over_all_sets(tmp_path):
    counts = {
        "vqa": {"red": 5, "kite": 1, "": 9},
        "gqa": {"red": 1, "boat": 3},
        "visual7w": {"kite": 2, "x": 2},
    }
    table = build_answer_table(counts, 3)
    assert table.to_json() == [
        {"ans": "boat", "dsets": ["gqa"]},
        {"ans": "kite", "dsets": ["vqa", "visual7w"]},
        {"ans": "red", "dsets": ["vqa", "gqa"]},
    ]
    write_answer_table(table, tmp_path / "all_ans.json")
    assert read_answer_table(tmp_path / "all_ans.json") == table


def test_labels_are_renamed_and_the_last_renamed_wins():
    table = AnswerTable(["cat", "2"], [[], []])
    assert table.convert_labels({"two": 0.3, "dog": 1.0}) == [(1, 0.3)]
    assert table.convert_labels({"cat": 0.9, "a cat": 0.3}) == [(0, 0.3)]
    assert table.convert_labels({"a cat": 0.3, "The cat": 0.6, "cat": 0.9}) == [(0, 0.6)]
    assert table.convert_labels({}) == []


def test_match_answers():
    table = AnswerTable(["man", "2", "gray"], [[], [], []])
    rows = match_answers(["a man", "two", "Grey", "dog", ""], table)
    assert rows.dtype == np.int64 and rows.tolist() == [0, 1, 2, -1, -1]
    assert match_answers([], table).shape == (0,)


@pytest.mark.parametrize(("task", "answers", "matched"), [("vqa", 3129, 3124), ("gqa", 1842, 1736)])
def test_real_heads_find_their_rows(shared_data, task, answers, matched):
    table = read_answer_table(shared_data / "lxmert" / "all_ans.json")
    labels = read_answers(shared_data / task / "trainval_label2ans.json")
    rows = match_answers(labels, table)
    assert (len(table), len(labels), int((rows >= 0).sum())) == (9500, answers, matched)
    found = rows[rows >= 0]
    assert len(set(found.tolist())) == matched  # no two labels share a row
    missing = [label for label, row in zip(labels, rows, strict=True) if row < 0]
    if task == "vqa":
        assert missing == ["", "visilab", "5 star", "1 4", "1 world"]


@pytest.mark.parametrize(("task", "zeroed"), [("vqa", 5), ("gqa", 106)])
def test_real_answers_without_a_row_start_at_zero_and_are_listed(shared_data, task, zeroed):
    torch = pytest.importorskip("torch")
    from lxmert.models.heads import build_head, warm_start_answers

    table = read_answer_table(shared_data / "lxmert" / "all_ans.json")
    labels = read_answers(shared_data / task / "trainval_label2ans.json")
    match = match_labels(labels, table)
    target, source = (build_head("classification", 2, count) for count in (len(labels), len(table)))
    for head in (target, source):
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
    assert warm_start_answers(target, source, match.rows.tolist()) == len(labels) - zeroed
    index = {answer: number for number, answer in enumerate(labels)}
    for answer in match.missing:
        assert not target.outer.weight[index[answer]].any() and not target.outer.bias[index[answer]]
    for answer in ("yes", "no", "left"):
        row = table.index[answer]
        assert torch.equal(target.outer.weight[index[answer]], source.outer.weight[row])
        assert torch.equal(target.outer.bias[index[answer]], source.outer.bias[row])
    assert torch.equal(target.inner.weight, source.inner.weight) and torch.equal(
        target.norm.bias, source.norm.bias
    )
    assert match.record() == {"pretrained": len(labels) - zeroed, "zeroed": match.missing}
    assert len(match.missing) == zeroed and f"{zeroed} at zero: " in str(match)
    if task == "gqa":  # it lacks the tag of GQA in the table, and has a row all the same
        row = table.index["snow boots"]
        assert "gqa" not in table.datasets[row] and match.rows[index["snow boots"]] == row


def test_the_real_table_is_canonical(shared_data):
    table = read_answer_table(shared_data / "lxmert" / "all_ans.json")
    assert all(convert_answer(answer) == answer for answer in table.answers)
    members = {name: sum(name in sets for sets in table.datasets) for name in ("vqa", "gqa", "visual7w")}
    assert members == {"vqa": 3124, "gqa": 1735, "visual7w": 9409}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "list of"),
        ([{"answer": "x"}], "record 0"),
        ([{"ans": "x"}, {"ans": "x"}], "stands twice"),
        (["x"], "record 0"),
    ],
)
def test_faulty_tables(tmp_path, value, said):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=said):
        read_answer_table(path)


@pytest.mark.parametrize(
    ("value", "said"), [({}, "list of strings"), ([1], "list of strings"), (["x", "x"], "twice")]
)
def test_faulty_answers(tmp_path, value, said):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=said):
        read_answers(path)
