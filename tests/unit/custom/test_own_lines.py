"""Lines of your own: every form that is read, and one clear line for everything that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxmert.custom.lines import Box, parse_line, read_lines
from lxmert.errors import DataError

BOX = {"box": [1, 2, 3, 4], "label": "kite"}
GOOD = {"image": "a.jpg", "question": "what?", "answer": "kite"}


def complaint(**changes: object) -> str:
    line = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(DataError) as caught:
        parse_line(line, "mine.jsonl:3", 3)
    text = str(caught.value)
    assert text.startswith("mine.jsonl:3: ") and "\n" not in text
    return text.removeprefix("mine.jsonl:3: ")


def test_every_form_of_an_answer():
    for key, value, wanted in [
        ("answer", "two  kites", ("two kites",)),
        ("label", True, ("True",)),
        ("label", 3, ("3",)),
        ("answers", ["red", "blue", "red"], ("red", "blue", "red")),
        # Ten people: VQA's normalisation, since VQA's score will judge.
        ("answers", ["Two.", "the kite", *["yes"] * 8], ("2", "kite", *["yes"] * 8)),
    ]:
        line = parse_line({"image": "a.jpg", "question": "what?", key: value}, "f:1", 1)
        assert line.answers == wanted


def test_images_boxes_and_ids():
    line = parse_line({"image": "a.jpg", "boxes": [{**BOX, "attributes": ["red"]}]}, "f:4", 4)
    assert line.images == ("a.jpg",) and line.question is None and line.id == "4"
    assert line.boxes == ((Box((1.0, 2.0, 3.0, 4.0), "kite", ("red",)),),)
    pair = {"images": ["a.jpg", "b.jpg"], "question": "?", "label": 1, "boxes": [[BOX], []], "id": "x"}
    line = parse_line(pair, "f:5", 5)
    assert line.images == ("a.jpg", "b.jpg") and line.id == "x" and [len(b) for b in line.boxes] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"questoin": "x"}, 'unknown key "questoin". Did you mean "question"'),
        ({"image": None}, 'must have "image", or "images"'),
        ({"images": ["a", "b"]}, "and not both"),
        ({"image": None, "images": ["a"]}, '"images" must name two, names 1'),
        ({"image": 5}, "named by text"),
        ({"question": None, "answer": None}, 'neither "question" nor "boxes"'),
        ({"question": None, "boxes": [BOX]}, "has an answer and no question"),
        ({"question": " "}, "the question is empty"),
        ({"answers": ["x"]}, "has answers and answer. Keep one"),
        ({"answer": None, "answers": []}, '"answers" must be a list'),
        ({"answer": " "}, "must be text with something in it"),
        ({"answer": ["x"]}, '"answer" must be text'),
        ({"split": "dev"}, 'unknown split "dev"'),
        ({"id": ""}, '"id" must be text or a whole number'),
        ({"boxes": {}}, '"boxes" must be a list of boxes'),
        ({"boxes": [[1, 2, 3, 4]]}, "a box is {"),
        ({"boxes": [{**BOX, "lable": 1}]}, 'unknown key "lable". Did you mean "label"'),
        ({"boxes": [{"box": [1, 2, 3], "label": "x"}]}, '"box" must be [x1, y1, x2, y2]'),
        ({"boxes": [{"box": [3, 2, 1, 4], "label": "x"}]}, "inside out"),
        ({"boxes": [{"box": [1, 2, 3, 4]}]}, "has no label"),
        ({"boxes": [{**BOX, "attributes": "red"}]}, "must be a list of texts"),
    ],
)
def test_what_is_wrong_is_said(changes, words):
    assert words in complaint(**changes)


def test_files(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    for text, words in [
        ("", "holds no line"),
        ('{"image": "a", "question": "?", "answer": "x", "id": 1}\n' * 2, "id 1 stands in line 1 already"),
        (
            '{"image": "a", "question": "?", "answer": "x"}\n'
            '{"images": ["a", "b"], "question": "?", "answer": "x"}\n',
            "mine.jsonl:2: has a pair of images where line 1 has one image",
        ),
        ('{"image": "a",\n', "mine.jsonl:1"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            read_lines(path)
        assert words in str(caught.value)
