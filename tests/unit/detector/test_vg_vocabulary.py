"""Vocabularies counted in raw files: cleaned, aliases joined, the commonest kept; bad files are one line."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from detector_scenes import write_raw

from lxmert.cli import main
from lxmert.detector.vg_data import load_rows, read_vocabulary
from lxmert.detector.vg_vocabulary import count_names, join_aliases, vocabulary_lines


def write_names(folder):
    objects = [
        {
            "image_id": 1,
            "objects": [{"names": ["Small red ball."]}, {"names": ["ball"]}, {"names": ["t-shirt"]}],
        },
        {
            "image_id": 2,
            "objects": [{"names": ["tee shirt", "shirt"]}, {"names": ["fire truck"]}, {"names": []}],
        },
    ]
    attributes = [
        {
            "image_id": 1,
            "attributes": [{"object_id": 1, "attributes": ["red and round", "shiny"]}, {"object_id": 2}],
        },
        {"image_id": 2, "attributes": [{"attribute": {"object_id": 3, "attributes": ["Gray"]}}]},
    ]
    for name, value in (("scene_graphs", objects), ("attributes", attributes)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "object_alias.txt").write_text("shirt,t-shirt,tee shirt\nball,sphere\n")
    (folder / "attribute_alias.txt").write_text("grey,gray\n")


def test_names_are_cleaned_and_counted_as_published(tmp_path):
    write_names(tmp_path)
    counts = count_names(tmp_path)
    assert counts.objects == Counter({"ball": 2, "t-shirt": 1, "tee shirt": 1, "fire truck": 1})
    # The first attribute of a record only, and the adjectives of object names.
    assert counts.attributes == Counter({"red": 2, "small": 1, "round": 1, "gray": 1})
    assert count_names(tmp_path, {"2"}).objects == Counter({"tee shirt": 1, "fire truck": 1})


def test_aliases_are_one_class_with_the_spellings_that_occur(tmp_path):
    write_names(tmp_path)
    classes = join_aliases(count_names(tmp_path).objects, read_vocabulary(tmp_path / "object_alias.txt"))
    assert vocabulary_lines(classes, 9) == ["ball", "shirt,t-shirt,tee shirt", "fire truck"]
    assert vocabulary_lines(classes, 2) == ["ball", "shirt,t-shirt,tee shirt"]
    assert vocabulary_lines(classes, 9, least=2) == ["ball", "shirt,t-shirt,tee shirt"]
    assert vocabulary_lines(join_aliases(Counter({"b": 1, "a": 1, "a,b": 9}), None), 9) == ["a", "b"]


def test_the_verb_writes_what_training_reads(tmp_path):
    raw, listing = write_raw(tmp_path)
    out = tmp_path / "out"
    arguments = [
        "vg-vocabulary",
        "--raw",
        str(raw / "vg"),
        "--split",
        str(raw / "vg" / "splits" / "train.txt"),
    ]
    assert main([*arguments, "--objects", "2", "--out", str(out)]) == 0
    objects, attributes = (read_vocabulary(out / f"{name}_vocab.txt") for name in ("objects", "attributes"))
    assert len(objects) == 2 and set(attributes.names) == {"red", "blue"}
    rows = load_rows(raw, "train", listing, objects, attributes)
    assert set(rows.classes) <= {1, 2} and len(rows) > 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--objects", "0"], "--objects 0: must be 1 or more"),
        (["--least", "9"], "no name occurs 9 times"),
        (["--object-aliases", "none.txt"], "none.txt: no such file"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path, capsys, options, told):
    write_names(tmp_path)
    assert main(["vg-vocabulary", "--raw", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("{}", "scene_graphs.json"), ('[{"image_id": 1}]', "record 0 has no image_id or no list of objects"),
     ('[{"image_id": 1, "objects": [3]}]', "image 1: objects must be objects"), ("[{", "scene_graphs.json")],
)  # fmt: skip
def test_malformed_files_are_one_line(tmp_path, capsys, text, told):
    write_names(tmp_path)
    (tmp_path / "scene_graphs.json").write_text(text)
    assert main(["vg-vocabulary", "--raw", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert told in message and "scene_graphs.json" in message
