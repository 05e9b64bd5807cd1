"""The graph: clean, complete, quick to plan, and every job's command line is one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

# Of a dry run of everything. Nothing in it waits, so on an idle machine it takes what it computes.
BAR_SECONDS = 5.0
# What `all` runs on the sample with the shipped config.yaml.
SAMPLE_JOBS = {
    "all": 1,
    "evaluate_detector": 1,
    "extract": 8,
    "finetune_run": 8,
    "generate": 1,
    "list_images": 9,
    "merge": 8,
    "predict_split": 16,
    "prepare": 4,
    "pretrain_system": 1,
    "report": 1,
    "score_split": 10,
    "train_detector": 1,
    "vocabulary": 1,
}
# The published corpus: nothing is generated, files are fetched, and every extraction has 16 shards.
FULL_TEXTS = {name: SAMPLE_JOBS[name] for name in ("all", "report", "vocabulary")} | {
    "finetune_run": 6,
    "list_images": 8,
    "predict_split": 12,
    "prepare": 3,
    "score_split": 8,
}
FULL_JOBS = {
    "": FULL_TEXTS | {"convert_published_weights": 1, "fetch": 23, "import_published": 8},
    "weights: pretrain": FULL_TEXTS
    | {"fetch": 25, "import_published": 8, "prepare": 4, "pretrain_system": 1},
    "annotations: published": FULL_TEXTS
    | {"convert_published_weights": 1, "fetch": 29, "import_published": 8},
    "features: extract": FULL_TEXTS
    | {
        "convert_published_detector": 1,
        "convert_published_weights": 1,
        "extract": 128,
        "fetch": 23,
        "merge": 8,
    },
    # Three archives are not fetched; the hashes of their images are.
    "features: extract, nlvr2_images: crawl": FULL_TEXTS
    | {
        "convert_published_detector": 1,
        "convert_published_weights": 1,
        "crawl": 3,
        "extract": 128,
        "fetch": 23,
        "merge": 8,
    },
    "features: extract, weights: pretrain, detector: train": FULL_TEXTS
    | {name: SAMPLE_JOBS[name] for name in ("evaluate_detector", "list_images", "merge", "prepare")}
    | {"extract": 128, "fetch": 31, "pretrain_system": 1, "train_detector": 1}
    | {"convert_published_backbone": 1},
}

TARGETS = {
    "all",
    "convert_tsv",
    "download",
    "evaluate_detector",
    "extract_coco_features",
    "extract_nlvr2_features",
    "extract_vg_features",
    "finetune",
    "leaderboard",
    "overlap",
    "predict",
    "pretrain",
    "report",
    "score",
    "train_detector",
}


def test_lint_finds_nothing(snakemake):
    outcome = snakemake(None, "--lint")
    assert outcome.status == 0, outcome.text
    assert "good condition" in outcome.text


def test_snakefmt_would_change_nothing(root):
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow/rules"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((root / "workflow" / "rules").glob("*.smk"))) >= 8


def test_targets_by_name(snakemake, tmp_path):
    outcome = snakemake(tmp_path, "--list-target-rules")
    assert outcome.status == 0, outcome.text
    missing = TARGETS - set(outcome.text.split())
    assert not missing


def test_dry_run_of_the_sample(snakemake, tmp_path):
    outcome = snakemake(tmp_path, "--dry-run", "all")
    print(f"dry run of everything on the sample: {outcome.cpu_seconds:.1f} s of one core")
    assert outcome.status == 0, outcome.text
    assert outcome.counts == SAMPLE_JOBS
    assert outcome.cpu_seconds < BAR_SECONDS


@pytest.mark.parametrize("branches", FULL_JOBS, ids=lambda text: text or "default")
def test_dry_run_of_the_full_corpus(snakemake, tmp_path, overlay, branches):
    settings = overlay(f"{{corpus: full, {branches}}}")
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", settings, "--", "all")
    seconds = outcome.cpu_seconds
    print(f"dry run of everything on the full corpus ({branches or 'default'}): {seconds:.1f} s of one core")
    assert outcome.status == 0, outcome.text
    assert outcome.counts == FULL_JOBS[branches]
    assert outcome.cpu_seconds < BAR_SECONDS


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("extract_nlvr2_features", {"merge": 3, "extract": 3}),
        ("extract_coco_features", {"merge": 3, "extract": 3}),
        ("extract_vg_features", {"merge": 2, "extract": 2}),
        ("convert_tsv", {"merge": 3, "export_tsv": 3, "import_tsv": 3}),
        ("results/vqa/test_predict.json", {"finetune_run": 1, "predict_split": 1, "merge": 4}),
    ],
)
def test_what_a_target_runs(snakemake, tmp_path, target, rules):
    outcome = snakemake(tmp_path, "--dry-run", target)
    assert outcome.status == 0, outcome.text
    assert {rule: outcome.counts.get(rule) for rule in rules} == rules


def test_a_drawn_minival(snakemake, tmp_path, overlay):
    settings = overlay("{corpus: full, minival: drawn, weights: pretrain}")
    target = "results/vqa/minival_score.json"
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", settings, "--", target)
    assert outcome.status == 0, outcome.text
    assert outcome.counts["draw_minival"] == 1 and "WARNING" not in outcome.text
    assert not any("minival" in job for job in outcome.jobs if job.startswith("fetch"))


def test_a_leaky_score_says_why(snakemake, tmp_path):
    outcome = snakemake(
        tmp_path, "--dry-run", "results/gqa/valid_score.json", "results/vqa/minival_score.json"
    )
    assert outcome.status == 0, outcome.text
    assert outcome.errors.count("WARNING") == 1
    assert "gqa valid: no score on unseen questions: gqa is fine-tuned on valid itself" in outcome.errors


def test_a_score_of_published_weights_says_why_it_may_be_none(snakemake, tmp_path, overlay):
    settings = overlay("{corpus: full, minival: drawn, tasks: [vqa], runs: {vqa: {weights: lxmert_hub_vqa}}}")
    outcome = snakemake(
        tmp_path, "--dry-run", "--configfile", settings, "--", "results/vqa/minival_score.json"
    )
    assert outcome.status == 0, outcome.text
    assert "no score on unseen questions: nobody said which questions lxmert_hub_vqa was" in outcome.errors
    assert "pretraining read these very questions" in outcome.errors


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "results/gqa/valid_all_score.json",
            "results/gqa: valid_all is a further split of gqa. Name it in config.yaml: further_splits:"
            " {gqa: [valid_all]}",
        ),
        ("results/gqa/testdef_score.json", 'task gqa has no split testdef. Did you mean "testdev"'),
        ("results/vqa/valid_predict.json", "results/vqa: task vqa has no split valid"),
    ],
)
def test_a_split_that_is_not_there_is_refused_by_name(snakemake, tmp_path, target, words):
    outcome = snakemake(tmp_path, "--dry-run", target)
    assert outcome.status == 2 and words in outcome.errors and "Traceback" not in outcome.text


@pytest.mark.parametrize("annotations", ["rebuild", "published"])
def test_all_questions_of_the_full_corpus(snakemake, tmp_path, overlay, annotations):
    settings = f"{{corpus: full, tasks: [gqa], annotations: {annotations}"
    target = "results/gqa/testdev_all_score.json"
    arguments = ["--dry-run", "--printshellcmds", "--configfile"]
    outcome = snakemake(tmp_path, *arguments, overlay(settings + "}"), "--", target)
    assert outcome.status == 0, outcome.text
    assert (
        "fetch full,gqa_questions" in outcome.jobs
        and "gqa_questions --corpus full --places" not in outcome.text
    )
    outcome = snakemake(
        tmp_path, *arguments, overlay(settings + ", train_on: {gqa: [train_all, valid]}}"), "--", target
    )
    assert outcome.status == 0, outcome.text
    # What is left out by default and read here is asked for by name, and nothing else with it.
    found = re.search(r"assets fetch gqa_questions --corpus full --places (.*) --out-receipt", outcome.text)
    assert found and "raw/gqa/train_all_questions" in found[1] and "challenge" not in found[1]


def test_what_is_to_be_fetched_is_said_before_a_long_job(snakemake, writer, tmp_path, overlay):
    settings = overlay("{corpus: full, tasks: [gqa]}")
    arguments = ["--cores", "1", "--configfile", settings, "--", "data/full/vocab.txt"]
    outcome = snakemake(tmp_path, *arguments, path=writer)
    assert outcome.status == 0, outcome.text
    plan, _, rest = outcome.errors.partition("to fetch: ")
    assert "corpus full with features: download, weights: download" in plan and "rule fetch" not in plan
    assert rest.startswith("32.3 GB in 8 files") and "disk needed: " in rest and "rule fetch" in rest
    assert "to fetch: " not in snakemake(tmp_path, "--dry-run", *arguments[2:]).errors


def test_shards_can_be_set(snakemake, tmp_path):
    outcome = snakemake(
        tmp_path, "--dry-run", "--set-scatter", "shard=5", "--", "features/sample/vg_gqa.lmdb"
    )
    assert outcome.counts["extract"] == 5


def test_only_what_config_names_is_planned(snakemake, tmp_path, overlay):
    settings = "{tasks: [nlvr2], blind_baselines: false, runs: {nlvr2_scratch: {task: nlvr2}}}"
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(settings), "--", "predict")
    assert [job for job in outcome.jobs if job.startswith("finetune_run")] == [
        "finetune_run nlvr2",
        "finetune_run nlvr2_scratch",
    ]


@pytest.mark.parametrize("backend", [None, "detectron2"])
def test_one_word_chooses_the_detectors_library(snakemake, tmp_path, overlay, backend):
    settings = overlay(f"{{detector_backend: {backend or 'torchvision'}}}")
    target = "features/sample/vg_gqa.lmdb"
    outcome = snakemake(tmp_path, "--dry-run", "--printshellcmds", "--configfile", settings, "--", target)
    assert outcome.status == 0, outcome.text
    assert outcome.counts["extract"] == 1
    assert f"--backend {backend or 'torchvision'} " in outcome.text


def test_further_questions_repeat_neither_pretraining_nor_extraction(snakemake, writer, tmp_path, overlay):
    settings = "corpus: full, tasks: [gqa], blind_baselines: false, features: extract, weights: pretrain"
    options = ["--set-scatter", "shard=1", "--configfile"]

    first = [*options, overlay(f"{{{settings}}}"), "--", "all"]
    outcome = snakemake(tmp_path, "--cores", "4", "--quiet", "all", *first, path=writer)
    assert outcome.status == 0, outcome.text
    more = ", further_splits: {gqa: [valid_all]}, train_on: {gqa: [train_all, valid]}"
    outcome = snakemake(
        tmp_path, "--dry-run", *options, overlay(f"{{{settings}{more}}}"), "--", "all", path=writer
    )
    assert outcome.status == 0, outcome.text
    found = outcome.jobs
    assert {"fetch_on_request full,gqa_questions", "prepare full,gqa", "finetune_run gqa"} <= set(found)
    assert not {"fetch full,gqa_questions", "prepare full,pretrain", "pretrain_system pretrain"} & set(found)
    assert not [job for job in found if job.startswith(("extract", "merge", "list_images", "train_detector"))]
