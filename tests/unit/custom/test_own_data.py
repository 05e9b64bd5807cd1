"""What `own-data` and `own-boxes` write, and how far the answers reach."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from own_lines import SPEC, Writer, record

from lxmert.custom import boxes_cli, data_cli
from lxmert.custom.coverage import coverage, coverage_lines
from lxmert.data.images import list_images
from lxmert.detector.vg_data import clean_object
from lxmert.errors import DataError
from lxmert.tasks.custom_qa import accuracy, labels

IMAGES = 30


def own_data(path: Path, images: Path, out: Path, **changes: object) -> dict[str, object]:
    arguments = SimpleNamespace(
        spec=json.dumps({**SPEC, **changes}),
        examples=path,
        images=images,
        out_root=out,
        out_images=out / "images.json",
        out_manifest=out / "data.json",
        out_text=out / "coverage.txt",
    )
    data_cli.run(arguments)  # type: ignore[arg-type]
    return json.loads((out / "data.json").read_text())


def own_boxes(path: Path, images: Path, out: Path) -> dict[str, object]:
    arguments = SimpleNamespace(
        spec=json.dumps(SPEC),
        examples=path,
        images=images,
        names_of=None,
        out_root=out,
        out_manifest=out / "boxes.json",
    )
    boxes_cli.run(arguments)  # type: ignore[arg-type]
    return json.loads((out / "boxes.json").read_text())


def test_splits_links_and_coverage(images: Path, write: Writer, tmp_path: Path):
    out = tmp_path / "own"
    manifest = own_data(write([record(n) for n in range(IMAGES)]), images, out)
    records = {name: json.loads((out / f"{name}.json").read_text()) for name in ("train", "valid", "test")}
    assert sum(map(len, records.values())) == IMAGES
    assert records["train"][0].keys() == {"id", "question", "images", "answers"}
    listed = list_images(out / "images")
    assert len(listed) == IMAGES
    for file in listed.values():
        link = out / "images" / file
        assert link.is_symlink() and link.resolve() == (images / file).resolve()
    assert manifest["coverage"]["splits"]["test"]["covered"] == 1.0  # type: ignore[index]
    text = (out / "coverage.txt").read_text()
    assert "1 images are named by no line" in text
    assert "answers: 3 of 3 kept" in text and "the best possible score is 100.0 %" in text
    again = own_data(write([record(n) for n in range(IMAGES)]), images, tmp_path / "again")
    assert again == manifest


def test_rare_answers_are_counted(images: Path, write: Writer, tmp_path: Path):
    lines = [record(n, split=("test", "valid", "train")[min(n, 2)]) for n in range(IMAGES)]
    lines[5]["answer"] = "unheard of"
    lines[0]["answer"] = "never in training"
    own_data(write(lines), images, tmp_path / "own", min_answer_count=2)
    text = (tmp_path / "own" / "coverage.txt").read_text()
    assert "answers: 3 of 4 kept, those of 2 training questions or more" in text
    assert "answers: test: 0.0 % of 1 questions have theirs among them" in text
    with pytest.raises(DataError, match="Lower custom/min_answer_count"):
        own_data(write(lines), images, tmp_path / "own", min_answer_count=20)


def test_coverage_says_when_much_is_lost():
    questions = [(f"answer {number}",) for number in range(9)] + [("yes",), ("yes",)]
    report = coverage({"train": questions}, 2)
    assert report["answers"] == 10 and report["answers_kept"] == 1
    assert report["splits"]["train"]["covered"] == pytest.approx(2 / 11)
    assert "much is lost" in coverage_lines(report)[-1]


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (["red"], {"red": 1.0}),
        (["red", "red", "blue"], {"red": 1.0, "blue": 0.5}),
        (["red"] * 3 + ["blue"] + ["pink"] * 6, {"red": 0.9, "blue": 0.3}),  # ten people: VQA's scores
    ],
)
def test_soft_labels(answers: list[str], wanted: dict[str, float]):
    found = labels(answers, {"red": 0, "blue": 1})
    assert dict(found) == pytest.approx(
        {{"red": 0, "blue": 1}[name]: score for name, score in wanted.items()}
    )
    for name, score in wanted.items():
        assert accuracy(name, answers) == pytest.approx(score)
    assert accuracy("green", answers) == 0.0


def test_boxes_as_the_detector_reads_them(images: Path, write: Writer, tmp_path: Path):
    lines = [
        {
            "image": f"{n}.png",
            "boxes": [{"box": [5, 5, 21, 40.5 - 10], "label": "Hot, Dog", "attributes": ["Red"]}],
        }
        for n in range(IMAGES)
    ]
    lines += [record(n) for n in range(IMAGES)]  # the same images, and no more boxes
    found = own_boxes(write(lines), images, tmp_path / "vg")
    assert (found["images"], found["boxes"], found["labels"], found["attributes"]) == (30, 30, 1, 1)
    vocabulary = (tmp_path / "vg" / "objects_vocab.txt").read_text().splitlines()
    assert len(vocabulary) == 1 and clean_object(vocabulary[0])[0] == vocabulary[0]
    objects = json.loads((tmp_path / "vg" / "scene_graphs.json").read_text())
    assert objects[0]["objects"][0] | {"object_id": 0} == {
        "object_id": 0, "names": vocabulary, "x": 5.0, "y": 5.0, "w": 16.0, "h": 25.0
    }  # fmt: skip
    splits = [
        set((tmp_path / "vg" / "splits" / f"{name}.txt").read_text().split())
        for name in ("train", "val", "test")
    ]
    assert sum(map(len, splits)) == len(set.union(*splits)) == IMAGES


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([5, 5, 50, 20], "leaves its image, which is 40 x 30 pixels"),
        ([-3, 5, 20, 20], "leaves its image"),
    ],
)
def test_boxes_outside_their_image(images: Path, write: Writer, tmp_path: Path, box: list[float], words: str):
    lines = [record(n, boxes=[{"box": box, "label": "square"}]) for n in range(IMAGES)]
    with pytest.raises(DataError, match=words):
        own_boxes(write(lines), images, tmp_path / "vg")


def test_no_boxes_at_all(images: Path, write: Writer, tmp_path: Path):
    with pytest.raises(DataError, match="no line has boxes to train a detector on"):
        own_boxes(write([record(n) for n in range(IMAGES)]), images, tmp_path / "vg")
