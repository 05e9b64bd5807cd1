"""Label files rebuilt from official records equal the published ones: VQA's 3,129 answers and GQA's 1,842.

The annotation files themselves are too large to keep beside a checkout, so records of the official form are
made: for every published answer as many majority answers as it needs, spelt in the ways that people spell it,
and, for some that must not get in, one too few. Real records are taken wherever they are at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lxmert.metrics.vqa import normalise_answer
from lxmert.specs import read_document
from lxmert.tasks import gqa, nlvr2, vqa

LEAST = 9  # of the published vocabulary
# Ways in which one answer is written; all of them are one label.
SPELLINGS = (str, str.upper, lambda text: f"the {text}", lambda text: f" {text} ", lambda text: f"{text}.")


@pytest.fixture
def published(shared_data: Path) -> dict[str, list[str]]:
    return {
        name: json.loads((shared_data / name / "trainval_label2ans.json").read_text())
        for name in ("vqa", "gqa")
    }


def test_both_published_files_are_one_numbering(shared_data: Path, published: dict[str, list[str]]) -> None:
    for name, count in (("vqa", 3129), ("gqa", 1842)):
        numbers = json.loads((shared_data / name / "trainval_ans2label.json").read_text())
        assert numbers == {answer: number for number, answer in enumerate(published[name])}
        assert len(numbers) == count


def test_published_answers_are_normal(published: dict[str, list[str]]) -> None:
    """Otherwise no count of normalised answers could give them."""
    changed = [answer for answer in published["vqa"] if normalise_answer(answer) != answer]
    assert changed == []


def test_vqa_vocabulary(tmp_path: Path, published: dict[str, list[str]]) -> None:
    records: list[dict[str, Any]] = []
    for number, answer in enumerate(published["vqa"]):
        spelt = [SPELLINGS[(number + turn) % len(SPELLINGS)](answer) for turn in range(LEAST)]
        records += [{"multiple_choice_answer": text} for text in spelt]
    rare = [{"multiple_choice_answer": f"rare answer {number}"} for number in range(40)] * (LEAST - 1)
    paths = []
    for name, part in (("train2014", records[::2] + rare), ("val2014", records[1::2])):
        paths.append(tmp_path / f"v2_mscoco_{name}_annotations.json")
        paths[-1].write_text(json.dumps({"data_subtype": name, "annotations": part}))
    assert set(vqa.majority_vocabulary(paths, LEAST)) == set(published["vqa"])
    assert len(vqa.majority_vocabulary(paths, LEAST - 1)) == 3129 + 40


def test_gqa_answers(tmp_path: Path, published: dict[str, list[str]]) -> None:
    document = read_document("task", "gqa")
    answers = published["gqa"]
    for split, part in (("train", answers[:1500]), ("val", answers[1200:]), ("testdev", ["never trained"])):
        path = tmp_path / f"gqa/{split}_balanced_questions.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({f"{number:05d}": {"answer": a} for number, a in enumerate(part)}))
    assert set(gqa.build_answers(tmp_path, document, LEAST)) == set(answers)


ANNOTATIONS = [f"v2_mscoco_{name}_annotations.json" for name in ("train2014", "val2014")]
QUESTIONS = [f"{name}_balanced_questions.json" for name in ("train", "val")]


def real_files(root: Path, shared_data: Path, folder: str, names: list[str]) -> dict[str, Path]:
    """Official raw files that are at hand: fetched by the graph, or among the real samples."""
    places = (root / "data/full/raw", shared_data)
    found = {name: path for name in names for place in places if (path := place / folder / name).is_file()}
    print(f"{folder}: {len(found)} of {len(names)} raw files at hand: {', '.join(found) or 'none'}")
    return found


def test_vqas_real_records_give_the_published_answers(
    root: Path, shared_data: Path, published: dict[str, list[str]]
) -> None:
    found = real_files(root, shared_data, "vqa", ANNOTATIONS)
    if not found:
        pytest.skip(f"no {' or '.join(ANNOTATIONS)} in data/full/raw/vqa or {shared_data}/vqa")
    rebuilt = set(vqa.majority_vocabulary(list(found.values()), LEAST))
    print(f"vqa: {len(rebuilt)} answers rebuilt, {len(rebuilt & set(published['vqa']))} of them published")
    # A part of the records gives a part of the answers, and none beside the published ones.
    assert rebuilt <= set(published["vqa"])
    assert len(found) < len(ANNOTATIONS) or rebuilt == set(published["vqa"])


def test_gqas_real_records_give_the_published_answers(
    root: Path, shared_data: Path, published: dict[str, list[str]]
) -> None:
    found = real_files(root, shared_data, "gqa", QUESTIONS)
    if not found:
        pytest.skip(f"no {' or '.join(QUESTIONS)} in data/full/raw/gqa or {shared_data}/gqa")
    document = {"answers_from": list(found), "splits": {name: {"questions": name} for name in found}}
    folders = {path.parent for path in found.values()}
    rebuilt = {answer for folder in folders for answer in _answers(folder, document)}
    print(f"gqa: {len(rebuilt)} answers rebuilt, {len(rebuilt & set(published['gqa']))} of them published")
    assert rebuilt <= set(published["gqa"])
    assert len(found) < len(QUESTIONS) or rebuilt == set(published["gqa"])


def _answers(folder: Path, document: dict[str, Any]) -> list[str]:
    there = [name for name in document["answers_from"] if (folder / name).is_file()]
    return gqa.build_answers(folder, {**document, "answers_from": there}, LEAST)


@pytest.mark.parametrize(("name", "lines", "true"), [("dev", 6982, 3551), ("test1", 6967, 3558)])
def test_nlvr2s_real_records_give_the_published_labels(
    shared_data: Path, tmp_path: Path, name: str, lines: int, true: int
) -> None:
    """The raw records that are at hand, all of them: labels as LXMERT's own conversion has them."""
    document = read_document("task", "nlvr2")
    split = {"dev": "valid", "test1": "test"}[name]
    raw = tmp_path / "nlvr2/data"
    raw.mkdir(parents=True)
    (raw / f"{name}.json").symlink_to(shared_data / f"nlvr2/{name}.json")
    answers = nlvr2.build_answers(tmp_path, document, LEAST)
    examples = list(nlvr2.read_examples(tmp_path, document, split, answers))
    records = [json.loads(line) for line in (shared_data / f"nlvr2/{name}.json").read_text().splitlines()]
    assert len(examples) == len(records) == lines
    wrong = 0
    for example, record in zip(examples, records, strict=True):
        pair = record["identifier"].rpartition("-")[0]
        ((label, score),) = example.answers
        wanted = (record["identifier"], record["label"], 1.0, [f"{pair}-img0", f"{pair}-img1"])
        stems = [key.partition("/")[2] for key in example.images]
        wrong += (example.id, answers[label], score, stems) != wanted or label != (record["label"] == "True")
    labels = sum(example.answers[0][0] for example in examples)
    print(f"nlvr2 {name}: {lines} records at hand, {lines - wrong} labels equal, {labels} of them True")
    assert (wrong, labels) == (0, true)
