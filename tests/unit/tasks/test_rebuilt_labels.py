"""Label files rebuilt from official records equal the published ones: VQA's 3,129 answers and GQA's 1,842.

The annotation files themselves are too large to keep beside a checkout, so records of the official form are
made: for every published answer as many majority answers as it needs, spelt in the ways that people spell it,
and, for some that must not get in, one too few. Where the real files lie in `data/full/raw`, they are taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lxmert.metrics.vqa import normalise_answer
from lxmert.specs import read_document
from lxmert.tasks import gqa, vqa

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


def test_the_real_files_give_the_published_answers(root: Path, published: dict[str, list[str]]) -> None:
    raw = root / "data/full/raw"
    files = [raw / f"vqa/v2_mscoco_{name}_annotations.json" for name in ("train2014", "val2014")]
    questions = [raw / f"gqa/{name}_balanced_questions.json" for name in ("train", "val")]
    if not all(path.is_file() for path in (*files, *questions)):
        pytest.skip(f"no official annotations in {raw}: run `snakemake download` with corpus: full")
    assert set(vqa.majority_vocabulary(files, LEAST)) == set(published["vqa"])
    assert set(gqa.build_answers(raw, read_document("task", "gqa"), LEAST)) == set(published["gqa"])
