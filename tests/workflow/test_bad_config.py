"""A configuration that cannot mean anything ends in one line, status 2, and no traceback."""

from __future__ import annotations

import pytest

CASES = [
    ("overides: {}", 'overides: unknown setting. Did you mean "overrides"?'),
    ("corpus: smple", 'corpus: unknown corpus "smple". Did you mean "sample"?'),
    ("tasks: [vqa2]", 'tasks/0: unknown task "vqa2". Did you mean "vqa"?'),
    ("systems: [lxmrt]", 'systems/0: unknown system "lxmrt". Did you mean "lxmert"?'),
    ("tasks: vqa", 'tasks: must be a list, is the text "vqa".'),
    ("subset: 0", "subset: 0 is too small; give 1 or more."),
    (
        "overrides: {lxmert: {vqa: {optimizer: {learning_rate: 1.0}}}}",
        'overrides/lxmert/vqa/optimizer/learning_rate: unknown setting. Did you mean "lr"?'
        " Known: betas, eps, lr, name, weight_decay.",
    ),
    (
        'overrides: {lxmert: {vqa: {optimizer: {lr: "5e-5"}}}}',
        'overrides/lxmert/vqa/optimizer/lr: must be a number, is the text "5e-5".'
        " YAML reads that as text; write 5.0e-5.",
    ),
    ("further_splits: {nlvr2: [hiden]}", 'further_splits/nlvr2: unknown further split "hiden". Did you mean'),
    ("further_splits: {nlvr2: [hidden]}", "further_splits/nlvr2: corpus sample has no hidden; leave it out."),
    (
        "{corpus: full, further_splits: {nlvr2: [hidden]}}",
        "further_splits/nlvr2: nobody published features of hidden; set features: extract.",
    ),
    ("minival: drawn", "minival: corpus sample has images of its own"),
    ("detector_images: gqa", "detector_images: corpus sample has images of its own"),
    ("{corpus: full, minival: drawn, annotations: published}", "minival: the published annotations are of"),
    ("runs: {mine: {init: scratch}}", "runs/mine/task: missing; add it"),
    ("sample: {scale: 0}", "sample/scale: 0 is too small; give more than 0."),
]


@pytest.mark.parametrize(("settings", "message"), CASES, ids=[message.split(":")[0] for _, message in CASES])
def test_one_line(snakemake, tmp_path, overlay, settings, message):
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(settings), "--", "all")
    assert outcome.status == 2
    lines = [line for line in outcome.errors.splitlines() if not line.startswith(("Using", "Config file"))]
    assert len(lines) == 1, outcome.text
    assert lines[0].startswith(f"config.yaml + overlay.yaml: {message}")
    assert "Traceback" not in outcome.text


def test_all_mistakes_at_once(snakemake, tmp_path, overlay):
    settings = "{overrides: {lxmert: {vqa: {max_step: 1}, gqa: {max_epochs: 0}, nlvr: {}}, dtector: {}}}"
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(settings), "--", "all")
    assert outcome.status == 2
    found = [line.split(": ")[1] for line in outcome.errors.splitlines() if line.startswith("config.yaml + ")]
    assert sorted(found) == [
        "overrides/dtector",
        "overrides/lxmert/gqa/max_epochs",
        "overrides/lxmert/nlvr",
        "overrides/lxmert/vqa/max_step",
    ]


def test_text_that_is_no_yaml(snakemake, tmp_path, overlay):
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay("corpus: [\n"), "--", "all")
    assert outcome.status != 0
    assert "Traceback" not in outcome.text


@pytest.mark.parametrize(
    ("lock", "settings", "message"),
    [
        ('{"version": 1, "assets": []}', "{corpus: full}", "assets.lock.json: assets: must be"),
        (
            None,
            '{corpus: full, assets: {mirrors: ["http://[x"]}}',
            "assets/mirrors: 'http://[x' is no web address",
        ),
    ],
)
def test_what_is_known_of_downloads_is_damaged(snakemake, tmp_path, overlay, lock, settings, message):
    if lock:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/assets.lock.json").write_text(lock)
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(settings), "--", "download")
    assert outcome.status == 2 and "Traceback" not in outcome.text and ", line " not in outcome.text
    assert message in outcome.errors.strip().splitlines()[-1]
