"""The tutorial's data: easy-VQA written as a folder of images and one file of lines."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from own_lines import SPEC
from PIL import Image, ImageDraw

from lxmert.custom.boxes import collect_boxes
from lxmert.custom.data import read_own_data

QUESTIONS = {
    "train": [
        ("what color is the circle?", "blue", 0),
        ("is there a circle?", "yes", 0),
        ("what is the red shape?", "rectangle", 1),
        ("is there a teal shape?", "no", 2),  # says neither shape nor colour of its image
        ("what shape is in the image?", "triangle", 3),
    ],
    "test": [("what color is the circle?", "red", 0)],
}


@pytest.fixture(scope="module")
def tutorial(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("easy_vqa_export", root / "docs/easy_vqa/export.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the package: a shape at its place in each image."""

    def paths(split: str) -> dict[int, str]:
        found = {}
        for number in {image for _, _, image in QUESTIONS[split]}:
            image = Image.new("RGB", (64, 64), (240, 240, 240))
            ImageDraw.Draw(image).rectangle((10, 20, 30 + number, 40), fill=(20, 60, 200))
            found[number] = str(tmp_path / f"{split}{number}.png")
            image.save(found[number])
        return found

    def questions(split: str) -> Callable[[], tuple[list[str], list[str], list[int]]]:
        return lambda: tuple(map(list, zip(*QUESTIONS[split], strict=True)))  # type: ignore[return-value]

    stand_in = SimpleNamespace(
        get_train_image_paths=lambda: paths("train"),
        get_test_image_paths=lambda: paths("test"),
        get_train_questions=questions("train"),
        get_test_questions=questions("test"),
    )
    monkeypatch.setitem(sys.modules, "easy_vqa", stand_in)  # type: ignore[arg-type]


def test_boxes_are_found_in_the_pixels(tutorial: ModuleType) -> None:
    image = Image.new("RGB", (64, 64), "white")
    assert tutorial.find_box(image) is None
    ImageDraw.Draw(image).rectangle((10, 20, 30, 40), fill="teal")
    assert tutorial.find_box(image) == [10, 20, 31, 41]


def test_names_come_from_open_training_questions(tutorial: ModuleType) -> None:
    found = tutorial.names_of(QUESTIONS["train"])
    assert found == {
        0: {"shape": "circle", "colour": "blue"},
        1: {"shape": "rectangle", "colour": "red"},
        3: {"shape": "triangle"},
    }


@pytest.mark.usefixtures("package")
def test_lines_are_read_as_your_own(
    tutorial: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    tutorial.export(out)
    assert "6 questions, 3 boxes" in capsys.readouterr().out
    before = (out / "examples.jsonl").read_bytes()
    spec = {**SPEC, "shares": {"valid": 0.5, "test": 0.1}}
    data = read_own_data(out / "examples.jsonl", out / "images", spec)
    assert len(list(data.questions("test"))) == 1
    boxes = collect_boxes(data)
    assert list(boxes) == ["train_0", "train_1", "train_3"]  # and no image of the test split
    box = next(iter(boxes["train_1"]))
    assert (box.corners, box.label, box.attributes) == ((10, 20, 32, 41), "rectangle", ("red",))
    tutorial.export(out)
    assert "is there already" in capsys.readouterr().out
    assert (out / "examples.jsonl").read_bytes() == before


def test_without_the_package(tutorial: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match=r"In the checkout, run: pip install -e '\.\[easy-vqa\]'"):
        tutorial.export(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_its_configuration_is_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    from lxmert.specs import load_plan

    config = yaml.safe_load((root / "docs/easy_vqa/config.yaml").read_text())
    (tmp_path / "mine/images").mkdir(parents=True)
    (tmp_path / "mine/examples.jsonl").write_text(json.dumps({}))
    monkeypatch.chdir(tmp_path)
    assert list(load_plan(config).runs) == ["custom_qa", "custom_qa_blind"]
