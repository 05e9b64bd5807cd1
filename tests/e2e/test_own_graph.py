"""Your own data on the real graph: fifty images and a file of lines, to predictions and scores."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220)}
IMAGES = 50
# Small and short: whether all of it fits together, and not how good it gets.
SMALL = {
    "detector": {"recipe": {"steps": 12}},
    "lxmert": {
        "size": {"hidden": 16, "intermediate": 32},
        "custom_qa": {"max_steps": 8, "global_batch": 16},
        "custom_pairs": {"max_steps": 8, "global_batch": 16},
    },
}


def draw(folder: Path) -> list[dict[str, object]]:
    """Images with a square each; returns name, colour and box of each."""
    folder.mkdir(parents=True)
    found = []
    for number in range(IMAGES):
        colour, left = list(COLOURS)[number % 3], 6 + 5 * (number % 7)
        image = Image.new("RGB", (80, 60), "white")
        ImageDraw.Draw(image).rectangle((left, 10, left + 25, 40), fill=COLOURS[colour])
        image.save(folder / f"photo {number}.png")
        found.append({"image": f"photo {number}.png", "colour": colour, "box": [left, 10, left + 26, 41]})
    return found


def run(folder: Path, custom: dict[str, object], task: str, *targets: str) -> None:
    """The graph with your data in `folder`, which gets everything that is made."""
    overlay = folder / "mine.yaml"
    settings = {"corpus": "custom", "tasks": [task], "custom": custom, "overrides": SMALL}
    overlay.write_text(yaml.safe_dump(settings))
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    outcome = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(folder), "--configfile", str(overlay), "--cores", "2", "--quiet", "rules"),
            # Threads of one job that wait for each other crawl where tests share the cores.
            *("--set-threads", "train_detector=1"),
            *("--", *targets),
        ],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]


def lines_to_test(folder: Path) -> list[dict[str, object]]:
    """The test split's questions with the answers of the lines."""
    found: list[dict[str, object]] = json.loads((folder / "data/custom/raw/own/test.json").read_text())
    return found


def answered_right(folder: Path, run: str) -> tuple[int, int]:
    """How many of the test split's questions a run answered as the lines do, and how many there are."""
    given = {
        record["id"]: record["answer"]
        for record in json.loads((folder / f"results/{run}/test_predict.json").read_text())
    }
    wanted = {record["id"]: record["answers"] for record in lines_to_test(folder)}
    assert given.keys() == wanted.keys()
    return sum([given[number]] == answers for number, answers in wanted.items()), len(wanted)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one command went from images and lines to predictions and scores."""
    folder = tmp_path_factory.mktemp("questions")
    lines: list[dict[str, object]] = []
    for drawn in draw(folder / "photos"):
        box = {"box": drawn["box"], "label": "square", "attributes": [drawn["colour"]]}
        lines.append({"image": drawn["image"], "question": "What color is it?", "answer": drawn["colour"]})
        lines[-1]["boxes"] = [box]
        for colour in COLOURS:
            answer = "yes" if colour == drawn["colour"] else "no"
            lines.append({"image": drawn["image"], "question": f"Is it {colour}?", "answer": answer})
    (folder / "lines.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    custom = {"images": "photos", "examples": "lines.jsonl", "detector": {"train": "boxes"}}
    run(folder, custom, "custom_qa", "results/custom_qa/test_score.json", "overlap")
    return folder


def test_every_test_question_is_answered(questions: Path) -> None:
    asked = json.loads((questions / "data/custom/raw/own/test.json").read_text())
    answers = json.loads((questions / "results/custom_qa/test_predict.json").read_text())
    assert [record["id"] for record in answers] == [record["id"] for record in asked] and len(asked) >= 4
    assert {record["answer"] for record in answers} <= {"yes", "no", *COLOURS}


def test_the_test_split_is_scored(questions: Path) -> None:
    score = json.loads((questions / "results/custom_qa/test_score.json").read_text())
    right, asked = answered_right(questions, "custom_qa")
    assert score["official"]["accuracy"] == pytest.approx(right / asked, abs=1e-9)
    assert (score["count"], score["split"]) == (asked, "test") and "leaks" not in score
    frequent = score["chance"]["answer"]
    chance = sum(record["answers"] == [frequent] for record in lines_to_test(questions)) / asked
    assert score["chance"]["official"]["accuracy"] == pytest.approx(chance, abs=1e-9)
    coverage = (questions / "data/custom/raw/own/coverage.txt").read_text()
    assert "answers: 5 of 5 kept" in coverage


def test_splits_share_no_photograph(questions: Path) -> None:
    rows = json.loads((questions / "results/overlap/overlap.json").read_text())["splits"]
    test = next(row for row in rows if row["split"] == "test")
    assert test["photographs"] >= 1 and test["shared"] == {"detector": 0, "fine-tuning": 0}


def test_pairs_with_the_detector_that_was_trained(questions: Path, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "photos")
    lines = [
        {
            "images": [left["image"], right["image"]],
            "question": "They have one color.",
            "label": left["colour"] == right["colour"],
        }
        # Pairs within fives: images that hang together by pairs share a split.
        for first in range(0, IMAGES, 5)
        for left, right in itertools.pairwise([*drawn[first : first + 5], drawn[first + 1], drawn[first + 4]])
    ]
    (tmp_path / "lines.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    custom = {
        "images": "photos",
        "examples": "lines.jsonl",
        "shares": {"valid": 0.3, "test": 0.3},
        "detector": {"weights": str(questions / "weights/custom/detector.safetensors")},
    }
    target = "results/custom_pairs/test_score.json"
    run(tmp_path, custom, "custom_pairs", target)
    assert not (tmp_path / "weights/custom/detector.safetensors").exists()
    score = json.loads((tmp_path / target).read_text())
    right, asked = answered_right(tmp_path, "custom_pairs")
    assert score["official"]["accuracy"] == pytest.approx(right / asked, abs=1e-9)
    assert score["count"] == asked >= 2
    answers = json.loads((tmp_path / "results/custom_pairs/test_predict.json").read_text())
    assert {record["answer"] for record in answers} <= {"True", "False"}
