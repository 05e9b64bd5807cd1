"""Raw files to examples, for every task, and what happens to faulty raw files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lxmert.cli import main
from lxmert.data.answers import read_answer_table, read_answers
from lxmert.data.columns import Columns
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import DataError, SpecError
from lxmert.specs import read_document
from lxmert.tasks import task_names, task_spec
from lxmert.tasks.composition import Composition
from lxmert.tasks.prepare_cli import prepare


def run(tree: Any, task: str, **spec: Any) -> dict[str, Columns]:
    spec = {"min_answer_count": 2, **spec}
    prepare(read_document("task", task), spec, tree.raw, tree.vocabulary, tree.listings, tree.out, None)
    return {path.stem: Columns(path) for path in sorted(tree.out.glob("*.safetensors"))}


def labels(columns: Columns, answers: list[str]) -> list[dict[str, float]]:
    ids, scores = columns.ragged("answer_ids"), columns.ragged("answer_scores")
    return [
        {answers[a]: round(float(s), 6) for a, s in zip(ids[i], scores[i], strict=True)}
        for i in range(len(ids))
    ]


def image_keys(columns: Columns) -> list[Any]:
    names = columns.strings("images").to_list()
    assert names == sorted(names)
    image = columns.array("image")
    return [names[i] for i in image] if image.ndim == 1 else [tuple(names[i] for i in row) for row in image]


def test_there_are_the_four_tasks():
    assert {"gqa", "nlvr2", "pretrain", "vqa"} <= set(task_names())


def test_vqa(tree):
    found = run(tree, "vqa")
    answers = read_answers(tree.out / "answers.json")
    assert answers == ["red", "yes"]  # 3 and 2 times; "no" and "kite" once
    assert sorted(found) == ["minival", "nominival", "test", "train"]
    train = found["train"]
    assert train.strings("id").to_list() == ["1001", "1002", "2001", "2005"]
    assert image_keys(train)[2] == "mscoco_train2014/COCO_train2014_000000000002"
    # "Red" is another string: raw answers are counted, not normalised ones.
    assert labels(train, answers) == [{"red": 1.0}, {"yes": 1.0}, {"red": 0.6}, {}]
    assert train.strings("type").to_list() == ["other", "yes/no", "other", "other"]
    assert found["minival"].strings("id").to_list() == ["11001"]
    assert found["nominival"].strings("id").to_list() == ["12001", "13001"]
    assert labels(found["nominival"], answers) == [{}, {"red": 1.0}]
    test = found["test"]
    assert test.meta["labelled"] is False and test.meta["answers"] == 2 and len(test) == 2
    assert labels(test, answers) == [{}, {}]
    tokenizer = read_vocabulary(tree.vocabulary)
    assert train.ragged("input_ids")[1].tolist() == tokenizer.encode_one("Is it red?").tolist()
    assert train.array("image").dtype == np.int32


def test_gqa(tree):
    found = run(tree, "gqa")
    answers = read_answers(tree.out / "answers.json")
    assert answers == ["blue", "red", "yes"]  # also those given once
    assert found["submit"].strings("id").to_list() == ["0201", "0101", "0003"]  # file order, leading zeros
    assert image_keys(found["submit"]) == ["vg_gqa/n92", "vg_gqa/n91", "vg_gqa/503"]
    assert image_keys(found["testdev"]) == ["gqa_testdev/n91", "gqa_testdev/n92"]
    assert labels(found["testdev"], answers) == [{"red": 1.0}, {}]  # "no" cannot be reached
    assert found["testdev"].strings("type").to_list() == ["query", "verify"]
    assert not found["submit"].meta["labelled"]


def test_nlvr2(tree):
    found = run(tree, "nlvr2")
    assert read_answers(tree.out / "answers.json") == ["False", "True"]
    assert sorted(found) == ["test", "train", "valid"]
    valid = found["valid"]
    assert image_keys(valid)[2] == ("nlvr2_valid/dev-3-0-img0", "nlvr2_valid/dev-3-0-img1")
    assert labels(valid, ["False", "True"]) == [{"True": 1.0}, {"False": 1.0}, {"False": 1.0}]
    assert valid.array("image").shape == (3, 2)


def test_pretrain(tree):
    found = run(tree, "pretrain")
    table = read_answer_table(tree.out / "answers.json")
    # "The kite." is "kite" of visual7w twice; of twins 501 and 502 only the latter counts.
    assert table.to_json() == [
        {"ans": "kite", "dsets": ["visual7w"]},
        {"ans": "red", "dsets": ["vqa", "gqa"]},
        {"ans": "yes", "dsets": ["vqa", "gqa"]},
    ]
    train, valid = found["train"], found["valid"]
    names = train.meta["sources"]
    assert names == ["mscoco", "vg", "vqa", "gqa", "visual7w"]
    by_source = {
        name: [
            key for key, source in zip(image_keys(train), train.array("source"), strict=True) if source == i
        ]
        for i, name in enumerate(names)
    }
    first, second = (f"mscoco_train2014/COCO_train2014_{i:012d}" for i in (1, 2))
    assert by_source["vg"] == [first, "vg_gqa/503"]  # 501 has a later twin, one phrase is empty
    assert by_source["gqa"] == [first, "vg_gqa/503", "vg_gqa/503"]
    assert by_source["visual7w"] == [first, "vg_gqa/503"]
    assert by_source["vqa"] == [first, first, second, second, *by_source["vqa"][4:]]
    assert len(by_source["mscoco"]) == 4
    assert set(image_keys(valid)) == {"mscoco_val2014/COCO_val2014_000000000011"}
    assert valid.meta["sentences"] == {"mscoco": 1, "vg": 1, "vqa": 1, "gqa": 0, "visual7w": 0}
    assert labels(valid, table.answers) == [{}, {}, {"yes": 1.0}]
    assert "id" not in train


def test_a_given_answer_list_is_kept(tree):
    published = tree.root / "label2ans.json"
    published.write_text(json.dumps(["", "yes", "red"]))
    prepare(read_document("task", "vqa"), {}, tree.raw, tree.vocabulary, tree.listings, tree.out, published)
    assert read_answers(tree.out / "answers.json") == ["", "yes", "red"]
    assert Columns(tree.out / "train.safetensors").ragged("answer_ids")[0].tolist() == [2]


def test_equal_input_gives_equal_bytes(tree):
    before = {path.name: path.read_bytes() for path in _files(tree)}
    assert before == {path.name: path.read_bytes() for path in _files(tree)}
    assert not list(tree.out.glob("*spill*"))


def _files(tree: Any) -> list[Any]:
    run(tree, "pretrain")
    return sorted(tree.out.iterdir())


def test_a_subset_drops_questions_and_counts_them(tree):
    tree.listing("mscoco_train2014", ["COCO_train2014_000000000002"], 1)
    train = run(tree, "vqa")["train"]
    assert train.strings("id").to_list() == ["2001", "2005"]
    assert train.meta["dropped"] == 2 and train.meta["subset"] == 1


def test_a_subset_may_leave_a_split_empty(tree):
    tree.listing("mscoco_val2014", ["COCO_val2014_000000000012"], 1)
    minival = run(tree, "vqa")["minival"]
    assert len(minival) == 0 and len(minival.strings("id")) == 0 and minival.array("image").shape == (0,)


def test_max_tokens_counts_the_special_ones(tree):
    train = run(tree, "vqa", max_tokens=4)["train"]
    assert train.ragged("input_ids").lengths().tolist() == [4, 4, 4, 4]


def _vqa(name: str) -> str:
    return f"vqa/v2_OpenEnded_mscoco_{name}_questions.json"


def _drop(value: Any, *path: Any) -> Any:
    node = value
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]


FAULTS = [
    ("vqa", _vqa("train2014"), lambda v: _drop(v, "questions", 1, "image_id"), ["record 1", "image_id"]),
    ("vqa", _vqa("train2014"), lambda v: _drop(v, "questions"), ['"questions"']),
    ("vqa", _vqa("train2014"), lambda v: v["questions"].append(v["questions"][0]), ["record 4", "1001"]),
    (
        "vqa",
        _vqa("train2014"),
        lambda v: v["questions"][0].update(question_id="x"),
        ["record 0", "whole number"],
    ),
    ("vqa", _vqa("train2014"), lambda v: v.update(data_subtype="val2014"), ["val2014", "train2014"]),
    ("vqa", _vqa("train2014"), lambda v: v["questions"].pop(), ["annotations", "2005", "no question"]),
    (
        "vqa",
        "vqa/v2_mscoco_train2014_annotations.json",
        lambda v: v["annotations"].pop(1),
        ["questions.json: record 1", "1002", "no partner"],
    ),
    (
        "vqa",
        "vqa/v2_mscoco_train2014_annotations.json",
        lambda v: v["annotations"][0].update(image_id=2),
        ["1001", "another image"],
    ),
    (
        "vqa",
        _vqa("test2015"),
        lambda v: v["questions"].append(v["questions"][0]),
        ["record 2", "91001 occurs twice"],
    ),
    (
        "vqa",
        _vqa("test2015"),
        lambda v: v["questions"][1].update(image_id=99),
        ["92001", "COCO_test2015_000000000099", "mscoco_test2015"],
    ),
    ("gqa", "gqa/train_balanced_questions.json", lambda v: _drop(v, "0002", "answer"), ["0002", "answer"]),
    ("gqa", "gqa/submission_all_questions.json", lambda v: v["0101"].update(imageId=91), ["0101", "imageId"]),
    ("gqa", "gqa/submission_all_questions.json", lambda v: v["0101"].update(imageId="n5"), ["n5", "0101"]),
    ("gqa", "gqa/testdev_balanced_questions.json", lambda v: v.update({"7": 3}), ["record 2", "7", "object"]),
    ("nlvr2", "nlvr2/data/dev.json", lambda v: v[1].update(label="yes"), ["dev-3-1-0", "yes"]),
    ("nlvr2", "nlvr2/data/dev.json", lambda v: v[1].update(identifier="dev-3-1"), ["dev-3-1", "pair"]),
    ("nlvr2", "nlvr2/data/dev.json", lambda v: v.append(v[0]), ["record 4", "dev-3-0-0 occurs twice"]),
    (
        "pretrain",
        "gqa/train_balanced_questions.json",
        lambda v: v["0001"].update(imageId="n91"),
        ["0001", "n91", "test image"],
    ),
    ("pretrain", "vqa/minival_ids.json", lambda v: v.append(77), ["minival_ids", "77"]),
    (
        "pretrain",
        "vg/question_answers.json",
        lambda v: _drop(v, 0, "qas", 0, "answer"),
        ["record 0", "answer"],
    ),
    ("pretrain", "vg/region_descriptions.json", lambda v: v[0].update(id=9999), ["9999", "vg_gqa"]),
]


@pytest.mark.parametrize(("task", "name", "edit", "said"), FAULTS)
def test_faults_are_named(tree, task, name, edit, said):
    tree.change(name, edit)
    with pytest.raises(DataError) as failure:
        run(tree, task)
    message = str(failure.value)
    assert "\n" not in message
    for word in said:
        assert word in message
    assert not list(tree.out.glob("*.spill*")) and not list(tree.out.glob("*.tmp-*"))


def test_a_repeated_key_is_found(tree):
    path = tree.raw / "gqa/submission_all_questions.json"
    text = path.read_text()
    path.write_text(text[:-1] + ', "0101": {"imageId": "n91", "question": "Again?"}}')
    with pytest.raises(DataError, match="0101 occurs twice"):
        run(tree, "gqa")


def test_malformed_json_is_named_with_its_line(tree):
    path = tree.raw / _vqa("train2014")
    path.write_text('{"data_subtype": "train2014",\n"questions": [\n{"image_id": 1,, }]}')
    with pytest.raises(DataError, match=r"train2014_questions\.json:3:\d+: not valid JSON"):
        run(tree, "vqa")


def test_a_file_cut_short_is_named(tree):
    path = tree.raw / "gqa/train_balanced_questions.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="cut short"):
        run(tree, "gqa")


def test_a_missing_listing_is_named(tree):
    (tree.root / "images" / "gqa_testdev.json").unlink()
    with pytest.raises(DataError, match="gqa_testdev is needed"):
        run(tree, "gqa")


def test_no_answers_is_an_error_that_names_the_setting(tree):
    with pytest.raises(DataError, match="min_answer_count"):
        run(tree, "vqa", min_answer_count=50)


def test_the_verb(tree, capsys):
    arguments = ["prepare", "--task", "nlvr2", "--spec", "{}", "--raw", str(tree.raw)]
    arguments += ["--vocabulary", str(tree.vocabulary), "--out-folder", str(tree.out), "--listings"]
    assert main([*arguments, *map(str, tree.listings)]) == 0
    assert len(Columns(tree.out / "train.safetensors")) == 2
    (tree.raw / "nlvr2/data/dev.json").unlink()
    assert main([*arguments, *map(str, tree.listings)]) == 2
    assert "dev.json: no such file" in capsys.readouterr().err.splitlines()[-1]


def test_a_spec_of_another_task_is_refused():
    with pytest.raises(SpecError, match="gqa"):
        task_spec("vqa", {"task": read_document("task", "gqa")})


def test_files_that_are_not_the_published_ones(tree, caplog):
    counts = {"train": {"examples": 4, "certain": True}, "test": {"examples": 3, "certain": False}}
    run(tree, "vqa", counts=counts)
    assert "test2015_questions.json: gives 2 examples of vqa test, and the publisher's file 3" in caplog.text
    counts["test"]["certain"] = True
    with pytest.raises(DataError, match="gives 2 examples of vqa test.*Fetch the file again"):
        run(tree, "vqa", counts=counts)


def test_composition_of_the_pretraining_set(tree, caplog):
    caplog.set_level("INFO")
    run(tree, "pretrain")
    found = json.loads((tree.out / "composition.json").read_text())
    # COCO 1 and 11 have twins, 2, 12 and 13 have none; Visual Genome's 503 is no COCO image.
    assert found["images"] == {"coco_only": 3, "both": 2, "genome_only": 1}
    order = ("mscoco_train", "mscoco_nominival", "vgnococo", "mscoco_minival")
    parts = {name: [counts[part] for part in order] for name, counts in found["parts"].items()}
    assert parts["mscoco"] == [2, 2, 0, 1] and parts["vg"] == [1, 0, 1, 1] and parts["gqa"] == [1, 0, 2, 0]
    assert found["groups"]["vg"] == {"coco_only": 0, "both": 2, "genome_only": 1}
    assert found["training"] == sum(sum(counts[:3]) for counts in parts.values())
    assert "images coco_only 3, published 72 079" in caplog.text
    assert "training" in caplog.text and "not the published composition" in caplog.text


def test_a_composition_within_its_bounds():
    made = Composition(["vg"], {"coco_only": 0, "both": 10, "genome_only": 0})
    for _ in range(1000):
        made.add("vg", "vgnococo", "both")
    published = {
        "within": 0.005,
        "images": {"both": 10},
        "sentences": {"vg": {"both": 1004}},
        "training": {"least": 1002, "most": 1003, "within": 0.003},
    }
    assert made.deviations(published) == []
    published["sentences"]["vg"]["both"] = 1006
    published["training"]["least"] = 1004
    assert made.deviations(published) == [
        "vg both 1 000, published 1 006",
        "training 1 000, published 1 004 to 1 003",
    ]
