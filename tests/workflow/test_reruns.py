"""What runs again after which change: jobs that only write their outputs, under the real Snakemake."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def finished(snakemake, writer, tmp_path_factory):
    """A folder in which everything has run once."""
    folder = tmp_path_factory.mktemp("finished")
    outcome = snakemake(folder, "--cores", "4", "--quiet", "all", "--", "all", path=writer)
    assert outcome.status == 0, outcome.text
    return folder


@pytest.fixture
def again(snakemake, finished, overlay):
    """Jobs that a second run would have, under a changed configuration and further options."""

    def plan(settings: str = "{}", *options: str) -> list[str]:
        outcome = snakemake(finished, "--dry-run", *options, "--configfile", overlay(settings), "--", "all")
        assert outcome.status == 0, outcome.text
        return outcome.jobs

    return plan


def test_every_verb_was_called_with_its_spec(finished):
    lines = (finished / "verbs.txt").read_text().splitlines()
    assert len(lines) == 69  # every job but `all`
    finetune = [line for line in lines if " finetune " in line]
    assert len(finetune) == 8
    assert all('"kind":"finetune"' in line for line in finetune)
    scratch = [line for line in finetune if '"run":"vqa_scratch"' in line]
    assert "--init " not in scratch[0]
    assert sum("--init results/pretrain/weights.safetensors" in line for line in finetune) == 6
    assert [line.split("--shard ")[1].split()[0] for line in lines if "--shard" in line] == ["1/1"] * 8


def test_nothing_runs_twice(again):
    assert again() == []


def test_shards_are_gone(finished):
    assert not list((finished / "features" / "sample" / "parts").rglob("*.lmdb"))
    assert len(list((finished / "features" / "sample").glob("*.lmdb"))) == 8


@pytest.mark.parametrize(
    "options",
    [
        ("--set-threads", "finetune_run=1", "pretrain_system=3"),
        ("--set-resources", "finetune_run:gpu=4", "extract:gpu=2"),
        ("--cores", "7"),
        ("--profile", "workflow/profiles/local"),
        ("--profile", "workflow/profiles/ci"),
    ],
    ids=["threads", "gpus", "cores", "local profile", "ci profile"],
)
def test_hardware_runs_nothing(again, options):
    assert again("{}", *options) == []


def test_documentation_and_code_run_nothing(again, root):
    now = time.time()
    for name in ("config.yaml", "Snakefile", "workflow/rules/finetune.smk", "lxmert/specs/plan.py"):
        os.utime(root / name, (now, now))
    assert again() == []


def test_a_run_that_answers_with_integers(again):
    assert again("runs: {gqa: {quantize: int8}}") == [
        "all",
        "predict_split gqa,submit,json",
        "predict_split gqa,testdev,json",
        "report",
        "score_split gqa,testdev",
    ]


def test_a_run_of_its_own_recipe(again):
    assert again("runs: {gqa: {recipe: {optimizer: {lr: 2.0e-4}}}}") == [
        "all",
        "finetune_run gqa",
        "predict_split gqa,submit,json",
        "predict_split gqa,testdev,json",
        "report",
        "score_split gqa,testdev",
    ]


def test_a_recipe_of_a_system_concerns_all_its_runs_of_the_task(again):
    jobs = again("overrides: {lxmert: {nlvr2: {optimizer: {lr: 2.0e-4}}}}")
    assert [job for job in jobs if job.startswith(("finetune", "pretrain"))] == [
        "finetune_run nlvr2",
        "finetune_run nlvr2_blind",
    ]


def test_pretraining_concerns_all_runs_that_start_from_it(again):
    jobs = again("overrides: {lxmert: {pretrain: {word_mask_rate: 0.2}}}")
    rules = {job.split(" ")[0] for job in jobs}
    assert not rules & {"generate", "prepare", "vocabulary", "extract", "merge", "train_detector"}
    assert len([job for job in jobs if job.startswith("finetune_run")]) == 6
    assert not {"finetune_run vqa_scratch", "finetune_run gqa_scratch"} & set(jobs)


def test_the_detector_concerns_features_but_not_texts(again):
    rules = {job.split(" ")[0] for job in again("overrides: {detector: {recipe: {steps: 601}}}")}
    assert rules == {
        "all",
        "train_detector",
        "evaluate_detector",
        "extract",
        "merge",
        "pretrain_system",
        "finetune_run",
        "predict_split",
        "score_split",
        "report",
    }


def test_subset_lists_anew(again):
    jobs = again("subset: 10")
    assert len([job for job in jobs if job.startswith("list_images")]) == 9
    assert not [job for job in jobs if job.startswith(("generate", "vocabulary"))]


@pytest.mark.parametrize("rule", ["train: 0.2, evaluated: answer", "train: 0.001"])
def test_another_rule_for_missing_images_runs_nothing(again, rule):
    """What passed is the same under a laxer rule; a stricter one is for what is prepared from then on."""
    assert again(f"missing_images: {{{rule}}}") == []


def test_jobs_are_told_the_rule_for_missing_images(snakemake, writer, overlay, tmp_path):
    for text, told in [("{}", "stop,"), ("missing_images: {train: 0.2, evaluated: answer}", "answer,0.2")]:
        options = ("--quiet", "all", "--configfile", overlay(text), "--forcerun", "generate", "--")
        outcome = snakemake(tmp_path, "--cores", "1", *options, "data/sample/raw/world.json", path=writer)
        assert outcome.status == 0, outcome.text
        settings = dict(line.split("=", 1) for line in (tmp_path / "settings.txt").read_text().splitlines())
        assert f"{settings['LXMERT_MISSING_IMAGES']},{settings['LXMERT_MISSING_LIMIT']}" == told


@pytest.mark.parametrize("settings", ["seed: 3", "sample: {scale: 0.5}"], ids=["seed", "scale"])
def test_another_world_is_listed_anew(again, settings):
    jobs = again(settings)
    assert "generate sample" in jobs
    assert len([job for job in jobs if job.startswith("list_images")]) == 9


def test_another_run_runs_alone(again):
    jobs = again("runs: {vqa_long: {task: vqa, init: scratch}}")
    assert [job for job in jobs if job.startswith(("finetune", "pretrain"))] == ["finetune_run vqa_long"]


def test_a_lost_result_is_made_again_alone(again, finished: Path):
    lost = finished / "results" / "nlvr2" / "test_predict.csv"
    text = lost.read_text()
    lost.unlink()
    try:
        jobs = again()
    finally:
        lost.write_text(text)
        os.utime(lost, (1, 1))
    assert "predict_split nlvr2,test,csv" in jobs
    assert not [job for job in jobs if job.startswith("finetune_run")]
