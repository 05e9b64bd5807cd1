"""Where weights come from: fine-tuned ones instead of training, BERT's before pretraining."""

from __future__ import annotations

from pathlib import Path


def test_fine_tuned_weights_take_the_place_of_training(snakemake, overlay, tmp_path: Path) -> None:
    text = "{corpus: full, tasks: [vqa], blind_baselines: false, runs: {vqa: {weights: lxmert_hub_vqa}}}"
    target = "results/vqa/test_predict.json"
    outcome = snakemake(
        tmp_path, "--dry-run", "--printshellcmds", "--configfile", overlay(text), "--", target
    )
    assert outcome.status == 0, outcome.text
    assert outcome.counts["take_finetuned"] == outcome.counts["predict_split"] == 1
    assert not {"finetune_run", "pretrain_system", "convert_published_weights"} & set(outcome.counts)
    fetched = {job.split(",")[-1] for job in outcome.jobs if job.startswith("fetch ")}
    assert {"lxmert_hub_vqa", "lxmert_vqa_label2ans"} <= fetched and "lxmert_pretrained" not in fetched
    assert "--weights weights/full/published/lxmert/hub/lxmert-vqa-uncased.bin" in outcome.text
    wrong = text.replace("lxmert_hub_vqa", "lxmert_hub_gqa")
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(wrong), "--", target)
    assert (
        outcome.status == 2
        and 'runs/vqa/weights: unknown published fine-tuned weights "lxmert_hub_gqa"' in outcome.text
    )


def test_pretraining_begins_with_bert_by_one_word(snakemake, overlay, tmp_path: Path) -> None:
    text = "{corpus: full, weights: pretrain, overrides: {lxmert: {pretrain: {init: bert}}}}"
    target = "results/pretrain/weights.safetensors"
    outcome = snakemake(
        tmp_path, "--dry-run", "--printshellcmds", "--configfile", overlay(text), "--", target
    )
    assert outcome.status == 0, outcome.text
    assert "fetch full,bert_hub_weights" in outcome.jobs
    assert "--init weights/full/published/bert/hub/bert-base-uncased.bin" in outcome.text
    sample = "{overrides: {lxmert: {pretrain: {init: bert}}}}"
    outcome = snakemake(tmp_path, "--dry-run", "--configfile", overlay(sample), "--", target)
    assert outcome.status == 2 and "pretrain/init: corpus sample has a vocabulary of its own" in outcome.text
