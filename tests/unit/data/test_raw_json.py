"""Streaming of official JSON files: the four forms, records across chunks, and the lines of mistakes."""

from __future__ import annotations

import json

import pytest

from lxmert.data import raw_json
from lxmert.data.raw_json import any_records, keyed_records, list_records, read_through
from lxmert.errors import DataError

RECORDS = [
    {"id": i, "text": 'é "q" ] } , ' + "x" * i, "list": [i, [1.5, -2e3, None, True]]} for i in range(60)
]


@pytest.fixture(params=[1, 7, 64, 1 << 22], ids=lambda n: f"chunks of {n}")
def chunks(request, monkeypatch):
    monkeypatch.setattr(raw_json, "_CHUNK_BYTES", request.param)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.usefixtures("chunks")
def test_every_form(tmp_path, indent):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(RECORDS, indent=indent, ensure_ascii=False))
    assert list(list_records(path)) == RECORDS
    assert list(any_records(path)) == RECORDS
    others: dict = {}
    value = {
        "info": {"year": 1},
        "sub": "val2014",
        "other": [1, 2, [3]],
        "rows": RECORDS,
        "n": -12.5,
        "last": 10**15,
    }
    path.write_text(json.dumps(value, indent=indent))
    assert list(list_records(path, "rows", others)) == RECORDS
    assert others == {"info": {"year": 1}, "sub": "val2014", "n": -12.5, "last": 10**15}
    path.write_text(json.dumps({str(r["id"]): r for r in RECORDS}, indent=indent))
    assert list(keyed_records(path)) == [(str(r["id"]), r) for r in RECORDS]


@pytest.mark.usefixtures("chunks")
def test_json_lines_among_any_records(tmp_path):
    path = tmp_path / "f.json"
    path.write_text("".join(json.dumps({"sentence": f"s{i}", "n": i}) + "\n" for i in range(5)))
    assert list(any_records(path)) == [{"sentence": f"s{i}"} for i in range(5)]


@pytest.mark.usefixtures("chunks")
def test_empty_ones_and_numbers(tmp_path):
    path = tmp_path / "f.json"
    for text, wanted in (("[]", []), (" [ ] \n", []), ("[12345678901,2]", [12345678901, 2]), ('[""]', [""])):
        path.write_text(text)
        assert list(list_records(path)) == wanted
    path.write_text("{ }")
    assert list(keyed_records(path)) == []
    path.write_text("\ufeff[1]")  # some editors begin a file so
    assert list(list_records(path)) == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r':1:1: not valid JSON: expecting "\["'),
        ("[1, 2", "cut short"),
        ('[{"a": "b', "cut short"),
        ('[{"a": 1},\n {"a": }]', r":2:8: not valid JSON"),
        ("[1 2]", 'expecting "," or'),
        ("[1,]", r":1:4"),
        ("[1]\n x", r":2:2: not valid JSON: extra text"),
        ("[NaN]", "NaN is not JSON"),
        ('[{"a": Infinity}]', "Infinity is not JSON"),
        ('["a\nb"]', "control character"),
        ("{}", r'expecting "\["'),
        ("[" * 100_000, "nested|cut short"),
    ],
)
@pytest.mark.usefixtures("chunks")
def test_mistakes_are_named_with_their_line(tmp_path, text, said):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as failure:
        list(list_records(path))
    assert str(failure.value).startswith(f"{path}:") and "\n" not in str(failure.value)


@pytest.mark.usefixtures("chunks")
def test_the_line_of_a_late_mistake(tmp_path):
    path = tmp_path / "f.json"
    lines = json.dumps(RECORDS, indent=1).split("\n")
    lines[200] = lines[200].replace(",", ";") if "," in lines[200] else lines[200] + ";"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=":20[12]:"):
        list(list_records(path))


@pytest.mark.usefixtures("chunks")
def test_objects_that_break_off(tmp_path):
    path = tmp_path / "f.json"
    for text in ('{"a": 1', '{"a" 1}', '{"a": 1,}', "{1: 2}", '{"a": 1}}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not valid JSON"):
            list(keyed_records(path))


def test_other_faults(tmp_path):
    path = tmp_path / "f.json"
    with pytest.raises(DataError, match="no such file"):
        list(list_records(path))
    path.write_bytes(b'["\xff\xfe"]')
    with pytest.raises(DataError, match="not UTF-8"):
        list(list_records(path))
    path.write_text('{"annotations": []}')
    with pytest.raises(DataError, match='no list "questions"'):
        list(list_records(path, "questions"))


WHOLE = {"[1, 2, 3]": 3, '{"info": {}, "list": [1, 2]}': 3, '"x"': 0, "{}": 0, "[[1], [2]]": 2}
BROKEN = {"[1] 2": "extra text", "[1, 2": "cut short", '{"a": [1}': 'expecting ","', "": "Expecting value"}


def test_a_whole_file_is_read_through_and_nothing_kept(tmp_path):
    path = tmp_path / "file.json"
    for text, count in WHOLE.items():
        path.write_text(text)
        assert read_through(path, 1 << 20) == count
    for text, words in BROKEN.items():
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_through(path, 1 << 20)
