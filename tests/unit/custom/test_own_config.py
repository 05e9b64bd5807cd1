"""config.yaml's `custom`: what it leads to, and everything wrong with it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lxmert.errors import SpecError
from lxmert.specs import Plan, load_plan


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Your data, with a detector to train."""
    (tmp_path / "photos").mkdir()
    for name in ("lines.jsonl", "detector.safetensors", "lxmert.safetensors", "vocab.txt", "all_ans.json"):
        (tmp_path / name).touch()
    return {
        "images": str(tmp_path / "photos"),
        "examples": str(tmp_path / "lines.jsonl"),
        "detector": {"train": "boxes"},
    }


def plan(settings: dict[str, Any], task: str = "custom_qa") -> Plan:
    return load_plan({"corpus": "custom", "tasks": [task], "custom": settings})


def complaints(settings: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        plan(settings)
    return [line.removeprefix("config.yaml: ") for line in str(caught.value).splitlines()]


def test_runs_detector_and_files(settings: dict[str, Any]) -> None:
    made = plan(settings)
    assert list(made.runs) == ["custom_qa", "custom_qa_blind"] and not made.pretrainings
    assert all(run.init == "scratch" for run in made.runs.values())
    assert made.trains_detector() and made.detector_weights() is None
    assert made.used_image_sets() == ["custom"] and made.scored_splits("custom_qa") == ["valid", "test"]
    assert made.made_files(["own/train.json", "vg/splits/train.txt"]) == ["own/data.json", "vg/boxes.json"]
    assert json.loads(made.own_data_spec())["images_per_example"] == 1
    assert json.loads(plan(settings, "custom_pairs").own_data_spec())["images_per_example"] == 2
    assert plan({**settings, "test_answers": False}).scored_splits("custom_qa") == ["valid"]


def test_pretrained_weights_of_your_own(settings: dict[str, Any], tmp_path: Path) -> None:
    own = {
        **settings,
        "detector": {"weights": str(tmp_path / "detector.safetensors")},
        "weights": str(tmp_path / "lxmert.safetensors"),
        "vocabulary": str(tmp_path / "vocab.txt"),
        "answers": str(tmp_path / "all_ans.json"),
        "size": "lxr955",
    }
    made = plan(own)
    assert not made.trains_detector() and made.detector_weights() == own["detector"]["weights"]
    assert made.weights_of("custom_qa") == own["weights"]
    assert made.answers_of_weights("custom_qa") == own["answers"]
    # The published size with the published recipe, not the short one of the small size.
    assert made.sizes["lxmert"]["hidden"] == 768 and made.runs["custom_qa"].recipe["optimizer"]["lr"] == 5e-5
    assert made.leaks("custom_qa", "test") == []
    assert made.leaks("custom_qa", "train") == ["custom_qa is fine-tuned on train itself (train)"]


def test_everything_wrong_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    assert [line.split(": ")[0] for line in complaints({})] == [
        "custom/images",
        "custom/examples",
        "custom/detector",
    ]
    gone = str(tmp_path / "gone")
    found = complaints({**settings, "images": gone, "examples": gone, "vocabulary": gone, "answers": gone})
    assert len(found) == 5 and sum(gone in line for line in found) == 4
    assert "custom/answers are of no use without the weights" in found[0]
    assert complaints({**settings, "weights": str(tmp_path / "lxmert.safetensors")}) == [
        "custom/vocabulary: missing; name the vocab.txt that custom/weights were trained with."
    ]
    assert "leave nothing to train on" in complaints({**settings, "shares": {"valid": 0.5, "test": 0.5}})[0]
    # The full detector is fine-tuned, and never trained from nothing on somebody's boxes.
    assert complaints({**settings, "detector": {"train": "boxes", "size": "full"}}) == [
        "custom/detector/weights: missing; recipe vg starts from a trained detector. Name one."
    ]


def test_one_task_at_a_time(settings: dict[str, Any]) -> None:
    config = {"corpus": "custom", "tasks": ["custom_qa", "custom_pairs"], "custom": settings}
    with pytest.raises(SpecError, match="your own data are of one task"):
        load_plan(config)
    with pytest.raises(SpecError, match="corpus custom has no data for vqa. It has: custom_pairs, custom_qa"):
        load_plan({**config, "tasks": ["vqa"]})
