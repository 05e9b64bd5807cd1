"""One name for each photograph, what training has seen of each split, and results that must not leak."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lxmert.errors import DataError
from lxmert.specs import load_plan
from lxmert.specs.minival import DRAWN_FROM
from lxmert.splits import cli
from lxmert.splits.photographs import Photographs, read_detector_list, read_twins
from lxmert.tasks.minival_cli import draw_minival
from lxmert.tasks.prepare_cli import prepare

SPEC = {"max_tokens": 12, "min_answer_count": 1}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("mscoco_val2014/COCO_val2014_000000000042", "coco 42"),
        ("mscoco_test2015/COCO_test2015_000000000091", "coco 91"),
        ("vg_gqa/n91", "coco 91"),
        ("gqa_testdev/n91", "coco 91"),
        ("vg_gqa/501", "coco 1"),
        ("vg/502", "coco 1"),
        ("vg_gqa/503", "vg 503"),
        ("nlvr2_train/train-1-0-img0", "nlvr2_train/train-1-0-img0"),
        ("custom/501", "custom/501"),
    ],
)
def test_one_name_for_a_photograph(tree: Any, key: str, name: str) -> None:
    twins = read_twins(tree.raw / "vg/image_data.json")
    assert twins == {501: 1, 502: 1, 504: 11}
    assert Photographs(twins).of(key) == name


def test_lists_of_the_detector(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("VG_100K_2/501.jpg xml/501.xml\nVG_100K/7.jpg xml/7.xml\n\n")
    assert read_detector_list(path, "vg") == ["vg/501", "vg/7"]
    path.write_text("\n")
    with pytest.raises(DataError, match="names no image"):
        read_detector_list(path, "vg")
    with pytest.raises(DataError, match="none.txt"):
        read_detector_list(tmp_path / "none.txt", "vg")


def compare(tree: Any, config: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The table of a configuration, by task and split."""
    plan = load_plan({"tasks": ["vqa", "gqa"], "blind_baselines": False, **config})
    folders = []
    for task in plan.used_tasks():
        folders.append(tree.root / "examples" / task)
        prepare(plan.example_document(task), SPEC, tree.raw, tree.vocabulary, tree.listings, folders[-1])
    (tree.raw / "vg/splits").mkdir(parents=True, exist_ok=True)
    (tree.raw / "vg/splits/train.txt").write_text("VG_100K/504.jpg xml/504.xml\n")
    arguments = SimpleNamespace(
        spec=plan.overlap_spec(),
        examples=folders,
        raw=tree.raw,
        out=tree.root / "overlap.json",
        out_text=tree.root / "overlap.txt",
    )
    cli.run(arguments)  # type: ignore[arg-type]
    rows = json.loads(arguments.out.read_text())["splits"]
    return {(row["task"], row["split"]): row for row in rows}


@pytest.mark.parametrize("config", [{}, {"corpus": "full"}], ids=["pretrained here", "published weights"])
def test_what_was_seen_of_each_split(tree: Any, config: dict[str, Any]) -> None:
    rows = compare(tree, config)
    # minival is COCO 11, whose twin 504 the detector has seen; pretraining holds it out.
    assert rows["vqa", "minival"] == {
        "task": "vqa",
        "split": "minival",
        "photographs": 1,
        "headline": True,
        "shared": {"detector": 1, "pretraining": 0, "fine-tuning": 0},
        "leaks": [],
    }
    assert rows["vqa", "train"]["shared"] == {"detector": 0, "pretraining": 2, "fine-tuning": 2}
    assert rows["gqa", "valid"]["shared"]["pretraining"] == 1  # Visual Genome's 503
    assert rows["gqa", "testdev"]["shared"] == {"detector": 0, "pretraining": 0, "fine-tuning": 0}
    # The submission answers validation questions too, of which the server makes no result.
    assert rows["gqa", "submit"]["shared"]["fine-tuning"] == 1 and not rows["gqa", "submit"]["leaks"]
    text = (tree.root / "overlap.txt").read_text()
    assert "vqa minival" in text and "seen by the detector alone" in text and "disjoint" in text
    assert "in part learnt from" in text and "100.0 %)  learnt from" in text


def test_a_drawn_minival_is_clean_of_what_is_pretrained_here_alone(tree: Any) -> None:
    draw = {"corpus": "full", "tasks": ["vqa"], "minival": "drawn"}
    assert load_plan({**draw, "weights": "pretrain"}).leaks("vqa", "minival") == []
    assert "pretraining read these" in load_plan(draw).leaks("vqa", "minival")[0]
    questions = tree.raw / DRAWN_FROM
    assert draw_minival(questions, 2) == draw_minival(questions, 2) and len(draw_minival(questions, 2)) == 2
    assert set(draw_minival(questions, 1)) < set(draw_minival(questions, 2)) < {11, 12, 13}
    with pytest.raises(DataError, match="asks about 3 images, of which 3 cannot be drawn"):
        draw_minival(questions, 3)


TAKEN = {"corpus": "full", "tasks": ["vqa"], "runs": {"vqa": {"weights": "lxmert_finetuned_vqa"}}}


def test_published_fine_tuned_weights_are_judged_by_what_they_learnt_from(tree: Any) -> None:
    assert load_plan(TAKEN).leaks("vqa", "minival") == []  # their authors held these very images out
    first, second = load_plan({**TAKEN, "minival": "drawn"}).leaks("vqa", "minival")
    assert first == "lxmert_finetuned_vqa is fine-tuned on nominival, which shares questions with minival"
    assert second.startswith("pretraining read these very questions")
    assert load_plan(TAKEN).leaks("vqa", "train")[0].endswith("on train itself (train, nominival)")
    # Photographs tell the same, and those of a pretraining done here beside it.
    rows = compare(tree, TAKEN)
    assert rows["vqa", "minival"]["shared"]["pretraining"] == 0
    assert rows["vqa", "nominival"]["shared"]["pretraining"] == 2
    both = load_plan(
        {**TAKEN, "weights": "pretrain", "runs": {"hub": {"task": "vqa", **TAKEN["runs"]["vqa"]}}}
    )
    assert json.loads(both.overlap_spec())["pretraining"] == ["here", "published"]


@pytest.mark.parametrize("minival", ["published", "drawn"])
def test_of_weights_of_which_nobody_said_it_the_score_says_so(minival: str) -> None:
    runs = {task: {"weights": f"lxmert_hub_{task}"} for task in ("vqa", "gqa")}
    plan = load_plan({"corpus": "full", "tasks": ["vqa", "gqa"], "runs": runs, "minival": minival})
    unknown = "nobody said which questions lxmert_hub_vqa was fine-tuned on"
    found = plan.leaks("vqa", "minival")
    assert found[0] == unknown and len(found) == (1 if minival == "published" else 2)
    assert unknown in plan.score_spec("vqa", "minival")
    assert plan.leaks("gqa", "testdev") == [unknown.replace("vqa", "gqa")]
    # What they learnt from is not what runs here learn from.
    assert plan.leaks("vqa_blind", "train")[0] == "vqa is fine-tuned on train itself (train, nominival)"


def test_splits_of_all_questions_share_them_with_the_balanced_ones() -> None:
    settings = {"train_on": {"gqa": ["train_all", "valid"]}, "further_splits": {"gqa": ["valid_all"]}}
    plan = load_plan({**settings, "tasks": ["gqa"]})
    first = {split: plan.leaks("gqa_scratch", split)[:1] for split in plan.tasks["gqa"]["splits"]}
    assert first.pop("train_all") == ["gqa is fine-tuned on train_all itself (train_all, valid)"]
    assert first.pop("train") == ["gqa is fine-tuned on train_all, which shares questions with train"]
    assert first.pop("valid_all") == ["gqa is fine-tuned on valid, which shares questions with valid_all"]
    assert first.pop("valid") == ["gqa is fine-tuned on valid itself (train_all, valid)"]
    assert first == {"testdev": [], "testdev_all": [], "submit": []}
    assert "read some of these questions" in plan.leaks("gqa", "valid_all")[1]


def test_a_score_that_says_itself_what_it_is_worth_is_no_headline(tree: Any) -> None:
    """As documented: all questions of a split that is trained on, and minival drawn of what others learnt."""
    balanced = tree.raw / "gqa/val_balanced_questions.json"
    (tree.raw / "gqa/val_all_questions.json").write_bytes(balanced.read_bytes())
    rows = compare(tree, {"tasks": ["gqa"], "further_splits": {"gqa": ["valid_all"]}})
    assert [split for (_, split), row in rows.items() if row["headline"]] == ["testdev"]
    assert rows["gqa", "valid_all"]["shared"]["fine-tuning"] == 1 and not rows["gqa", "valid_all"]["leaks"]
    assert "gqa valid_all" in (tree.root / "overlap.txt").read_text()

    def headline(**config: Any) -> list[str]:
        return json.loads(load_plan({**config, "corpus": "full"}).overlap_spec())["tasks"]["vqa"]["headline"]

    assert headline(minival="drawn", tasks=["vqa"]) == []  # the published pretraining read them
    assert headline(minival="drawn", tasks=["vqa"], weights="pretrain") == ["minival"]
    # Where nobody said what weights learnt from, photographs can still tell of the rest.
    assert headline(tasks=["vqa"], runs={"vqa": {"weights": "lxmert_hub_vqa"}}) == ["minival"]


def test_a_result_on_photographs_that_were_learnt_from_is_refused(tree: Any) -> None:
    def swap(records: dict[str, Any]) -> None:
        records["0002"]["imageId"] = "n91"  # a testdev photograph among the training questions

    tree.change("gqa/train_balanced_questions.json", swap)
    with pytest.raises(DataError) as caught:
        compare(tree, {"corpus": "full", "tasks": ["gqa"]})
    assert "gqa testdev: 1 in fine-tuning" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tree.root / "overlap.json").exists()
    assert "LEAKS from fine-tuning" in (tree.root / "overlap.txt").read_text()


@pytest.mark.parametrize("config", [{}, {"corpus": "full"}, {"corpus": "full", "annotations": "published"}])
def test_a_leaky_score_says_why(config: dict[str, Any]) -> None:
    plan = load_plan({"runs": {"gqa_scratch": {"task": "gqa", "init": "scratch"}}, **config})
    first, second, third = plan.leaks("gqa", "valid")
    assert first == "gqa is fine-tuned on valid itself (train, valid)"
    assert "pretraining read these very questions" in second and "val_balanced" in second
    assert third.startswith("the detector learnt from boxes")
    assert [text.split()[0] for text in plan.leaks("gqa_scratch", "valid")] == ["gqa", "the"]
    for run, split in [("vqa", "minival"), ("vqa", "test"), ("gqa", "testdev"), ("gqa", "submit")]:
        assert plan.leaks(run, split) == [], (run, split)
    assert [plan.leaks("nlvr2", split) for split in ("valid", "test", "no such split")] == [[], [], []]
    assert len(plan.leaks("vqa", "nominival")) == 2
    assert '"leaks":["gqa is' in plan.score_spec("gqa", "valid")
    assert "leaks" not in plan.score_spec("vqa", "minival")
