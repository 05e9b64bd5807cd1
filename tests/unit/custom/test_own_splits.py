"""Splits that share no image, and images found under the names that lines give them."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_lines import SPEC, Writer, record

from lxmert.custom.data import OwnData, read_own_data
from lxmert.errors import DataError

IMAGES = 30


def read(path: Path, images: Path, **changes: object) -> OwnData:
    return read_own_data(path, images, {**SPEC, **changes})


def refusal(path: Path, images: Path, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path, images, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_drawn_splits_share_no_image_and_stay(images: Path, write: Writer):
    lines = [record(n, question=f"{what} {n}?") for n in range(IMAGES) for what in ("what", "which")]
    data = read(write(lines), images)
    found = {split: {ids[0] for _, ids in data.questions(split)} for split in ("train", "valid", "test")}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == IMAGES
    assert len(found["train"]) > 10 and found["valid"] and found["test"]
    assert read(write(lines[:40]), images).splits == {
        image: split for image, split in data.splits.items() if int(image) < 20
    }
    assert read(write(lines), images, seed=8).splits != data.splits


def test_pairs_go_together(images: Path, write: Writer):
    lines = [
        {"images": [f"{n}.png", f"{(n + 10) % IMAGES}.png"], "question": "?", "label": n % 2}
        for n in range(IMAGES)
    ]
    data = read(write(lines), images, images_per_example=2, shares={"valid": 0.3, "test": 0.3})
    for split in ("train", "valid", "test"):
        for _, (left, right) in data.questions(split):
            assert data.splits[left] == data.splits[right] == split


def test_named_splits_hold_and_missing_ones_are_drawn(images: Path, write: Writer):
    lines = [record(n, split="test" if n < 5 else "train") for n in range(IMAGES)]
    data = read(write(lines), images)
    assert [data.splits[str(n)] for n in range(5)] == ["test"] * 5
    assert set(data.splits[str(n)] for n in range(5, IMAGES)) == {"train", "valid"}


def test_what_is_refused(images: Path, write: Writer):
    lines = [record(n) for n in range(IMAGES)]
    for changed, settings, words in [
        ([*lines, record(3, split="test")], {}, "names no split, and line 31 does"),
        (
            [record(0, split="train"), record(0, split="test", question="x?")],
            {},
            "image 0.png is in split test, and in line 1 in train",
        ),
        ([record(99)], {}, "there is no image 99.png in"),
        ([record(0)], {"shares": {"valid": 0.0, "test": 0.0}}, "no example is left for split"),
        ([record(0)], {"images_per_example": 2}, "Set tasks: [custom_qa]"),
        (
            [{key: value for key, value in line.items() if key != "answer"} for line in lines],
            {},
            "without an answer",
        ),
    ]:
        assert words in refusal(write(changed), images, **settings)


def test_questions_without_answers_in_test_alone(images: Path, write: Writer):
    lines = [record(n, split=("test", "valid", "train")[min(n, 2)]) for n in range(IMAGES)]
    del lines[0]["answer"]
    path = write(lines)
    assert "custom/test_answers: false" in refusal(path, images)
    assert len(list(read(path, images, test_answers=False).questions("test"))) == 1


def test_names_of_images(images: Path, write: Writer):
    lines = [record(n) for n in range(IMAGES)]
    lines.append({**record(0), "image": "more/extra one.v2"})
    data = read(write(lines), images)
    assert data.images[-1] == ("more_extra_one_v2",)
    assert data.folder.linked_name("more_extra_one_v2") == "more_extra_one_v2.jpg"
    (images / "7.jpg").write_bytes(b"x")
    assert "may be 7.jpg or 7.png" in refusal(write([{**lines[7], "image": "7"}]), images)
    near = refusal(write([{**lines[7], "image": "17.pgn"}]), images)
    assert "there is no image 17.pgn" in near and "17.png" in near
