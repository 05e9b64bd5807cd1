from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from make_results import IMAGE_SETS, report_arguments
from PIL import Image

from lxmert.cli import main

FIGURES = [
    "answers_gqa_testdev", "answers_nlvr2_valid", "answers_vqa_minival", "detector_losses",
    "detector_precision", "examples_gqa_testdev", "examples_nlvr2_valid", "examples_vqa_minival",
    "finetuning_gqa", "finetuning_nlvr2", "finetuning_vqa", "pretraining_pretrain", "throughput",
]  # fmt: skip


class _Reader(HTMLParser):
    """Checks that elements close in order; gathers what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def report(results_tree: Path) -> Path:
    assert main(["report", *report_arguments(results_tree)]) == 0
    return results_tree / "report"


def test_page_stands_alone_and_is_well_formed(report: Path) -> None:
    page = (report / "index.html").read_text()
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids)) > 100
    for link in reader.links:
        assert link.startswith("data:image/") or link.removeprefix("#") in reader.ids, link[:80]
    assert not re.search(r"url\((?!#)", page) and "<script" not in page
    assert "What colour is the &lt;ball&gt; beside" in page and "<ball>" not in page
    assert "prefers-color-scheme: dark" in page


def test_every_figure_is_a_picture(report: Path) -> None:
    assert sorted(path.stem for path in (report / "figures").iterdir()) == FIGURES
    for path in (report / "figures").iterdir():
        with Image.open(path) as image:
            assert (
                image.format == "PNG" and min(image.size) > 150 and len(image.convert("L").getcolors()) > 10
            )


def test_equal_inputs_give_equal_bytes(report: Path, results_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "before")
    assert main(["report", *report_arguments(results_tree)]) == 0
    for path in (tmp_path / "before").rglob("*.*"):
        assert path.read_bytes() == (report / path.relative_to(tmp_path / "before")).read_bytes(), path.name


def test_table_is_printed_now_and_later(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--print-only", str(report / "summary.tsv")]) == 0
    printed = capsys.readouterr().out
    assert printed == (report / "summary.txt").read_text()
    assert printed.startswith("task ") and "minival" in printed and "consistency 41.0" in printed


def test_least_inputs(results_tree: Path, tmp_path: Path) -> None:
    """No twins, no detector, no examples: what remains is shown."""
    given = ["--results", str(results_tree / "results"), "--detector", str(tmp_path), "--runs", "gqa"]
    assert main(["report", *given, "--out", str(tmp_path / "index.html")]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "Fine-tuning" in page and "Detector" not in page and "Pretraining" not in page


def test_examples_without_images(results_tree: Path, tmp_path: Path) -> None:
    given = [
        "--results",
        str(results_tree / "results"),
        "--examples",
        str(results_tree / "examples" / "nlvr2"),
    ]
    given += ["--runs", "nlvr2", "--out-figures", str(tmp_path / "figures"), "--panels", "3"]
    assert main(["report", *given, "--out", str(tmp_path / "index.html")]) == 0
    page = (tmp_path / "index.html").read_text()
    assert page.count("<article") == 3 and "without image" not in page
    assert (tmp_path / "figures" / "examples_nlvr2_valid.png").is_file()


def test_a_run_without_curves_or_scores(own_results: Path, tmp_path: Path) -> None:
    for path in own_results.glob("*/history.jsonl"):
        path.write_text("")
    for path in own_results.glob("*/*_score.json"):
        path.unlink()
    assert main(["report", "--results", str(own_results), "--out", str(tmp_path / "index.html")]) == 0
    assert "No split has been scored yet." in (tmp_path / "index.html").read_text()


def test_one_record_curves(own_results: Path, tmp_path: Path) -> None:
    for path in own_results.glob("*/history.jsonl"):
        path.write_text('{"step": 1, "loss": 2.5, "losses": {"qa": 2.5}, "examples_per_second": 10}\n')
    given = ["--results", str(own_results), "--runs", "pretrain", "vqa", "vqa_blind"]
    assert main(["report", *given, "--out", str(tmp_path / "index.html")]) == 0


def test_faults_are_one_line_and_leave_nothing(
    results_tree: Path, own_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "index.html"

    def fault(*arguments: str) -> str:
        assert main(["report", *arguments, "--out", str(out)]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
        assert len(lines) == 1 and not out.exists(), lines
        return lines[0]

    assert "nowhere: no such folder of results" in fault("--results", str(tmp_path / "nowhere"))
    assert "--results and --out are needed" in fault()
    assert "--panels -1: must be 0 or more" in fault("--results", str(own_results), "--panels", "-1")
    (own_results / "gqa" / "metrics.json").write_text('{"run":\n')
    assert "gqa/metrics.json:2:1: not valid JSON" in fault("--results", str(own_results))
    arguments = report_arguments(results_tree)
    arguments[arguments.index(str(results_tree / "examples" / "gqa"))] = str(tmp_path / "none" / "gqa")
    assert "none/gqa/answers.json: no such file" in fault(*arguments)


def test_a_missing_image_is_named(
    results_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_set = IMAGE_SETS["vqa"]
    listing = tmp_path / f"{image_set}.json"
    text = (results_tree / "listings" / f"{image_set}.json").read_text()
    listing.write_text(text.replace(".png", ".gone.png"))
    given = [
        "--results",
        str(results_tree / "results"),
        "--examples",
        str(results_tree / "examples" / "vqa"),
        "--runs",
        "vqa",
    ]
    given += ["--listings", str(listing), "--out", str(tmp_path / "index.html")]
    assert main(["report", *given]) == 2
    assert ".gone.png: no such image" in capsys.readouterr().err


def test_missing_images_are_told_of_and_not_shown(results_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(results_tree / "examples" / "vqa", tmp_path / "examples" / "vqa")
    folder, image_set = tmp_path / "examples" / "vqa", IMAGE_SETS["vqa"]
    absent = f"{image_set}/{image_set}_000"
    entry = {"examples": 24, "answered_without_images": 4, "limit": None, "images": [absent]}
    left = {"examples": 1000, "left_out": 7, "limit": 0.01, "images": ["x/1", "x/2"]}
    (folder / "missing.json").write_text(json.dumps({"minival": entry, "train": left}))
    change_meta(folder / "minival.safetensors", absent_images=[absent])
    listing = tmp_path / f"{image_set}.json"
    document = json.loads((results_tree / "listings" / f"{image_set}.json").read_text())
    document["images"] = [image for image in document["images"] if not image["id"].endswith("_000")]
    listing.write_text(json.dumps(document))
    given = ["--results", str(results_tree / "results"), "--runs", "vqa", "--examples", str(folder)]
    out = tmp_path / "index.html"
    assert main(["report", *given, "--listings", str(listing), "--panels", "24", "--out", str(out)]) == 0
    page = out.read_text()
    assert "Missing images" in page and "4 of 24 (16.67 %)" in page and "7 of 1 000 (0.70 %)" in page
    assert "answered without their images" in page and "left out" in page
    (folder / "missing.json").write_text("[]")
    assert main(["report", *given, "--out", str(out)]) == 2


def change_meta(path: Path, **changes: object) -> None:
    """Rewrites the header of a columns file."""
    body = path.read_bytes()
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["meta"]) | changes
    header["__metadata__"]["meta"] = json.dumps(meta)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])
