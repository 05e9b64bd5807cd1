from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxmert.cli import main
from lxmert.errors import DataError, SpecError
from lxmert.files import atomic_write_json
from lxmert.registry import entries as registry_entries
from lxmert.registry.compare import AGREES, NOT_RUN, OTHER_SETTINGS, OUTSIDE, compare, table
from lxmert.registry.entries import Entry, read_entries
from lxmert.specs import load_plan
from lxmert.specs.shipped import altered_stages

ENTRY = Entry("lxmert", "full", "vqa", "vqa", "minival", "accuracy", 69.9, 0.5, "README of the release")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    _score(folder, 0.7021)
    atomic_write_json(folder / "vqa/spec.json", {"seed": 9595, "run": "vqa"})
    meta = {"weights_sha256": "ab" * 32, "features": {"mscoco_val2014": "cd" * 32}}
    atomic_write_json(folder / "vqa/minival_predict.json.meta.json", meta)
    return folder


def _score(folder: Path, accuracy: float) -> None:
    record = {"official": {"accuracy": accuracy}, "predictions": {"file": "minival_predict.json"}}
    atomic_write_json(folder / "vqa/minival_score.json", record)


def test_a_score_within_the_tolerance_agrees(results: Path) -> None:
    (item,) = compare([ENTRY], results, {"vqa": []})
    assert item.status == AGREES and item.ours == 70.21 and item.difference == pytest.approx(0.31)
    assert item.seed == 9595 and item.weights == "abababababab" and len(item.spec or "") == 12
    assert item.record()["features"] == {"mscoco_val2014": "cdcdcdcdcdcd"}
    assert "9595" in table([item]) and "abababababab" in table([item]) and str(item.spec) in table([item])


@pytest.mark.parametrize("accuracy", [0.6939, 0.7041])
def test_a_score_outside_fails_to_both_sides(results: Path, accuracy: float) -> None:
    _score(results, accuracy)
    (item,) = compare([ENTRY], results, {"vqa": []})
    assert item.status == OUTSIDE


def test_other_settings_are_not_judged(results: Path) -> None:
    _score(results, 0.1)
    (item,) = compare([ENTRY], results, {"vqa": ["fine-tuning"]})
    assert item.status == OTHER_SETTINGS and "other settings: fine-tuning" in table([item])


def test_a_run_that_was_not_asked_for_is_not_judged_by_an_old_file(results: Path) -> None:
    (item,) = compare([ENTRY], results, {"gqa": []})
    assert item.status == NOT_RUN and item.ours is None


def test_a_score_without_the_metric_is_an_error(results: Path) -> None:
    atomic_write_json(results / "vqa/minival_score.json", {"official": {}})
    with pytest.raises(DataError, match="no official figure accuracy"):
        compare([ENTRY], results, {"vqa": []})


def test_the_verb_writes_both_files_and_check_names_what_is_outside(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, text = results / "registry/comparison.json", results / "registry/comparison.txt"
    verb = ["registry", "compare", "--corpus", "full", "--results", str(results), "--runs", '{"vqa": []}']
    assert main([*verb, "--out", str(record), "--out-text", str(text)]) == 0
    assert "69.90" in text.read_text() and "agrees" in text.read_text()
    assert main(["registry", "check", str(record)]) == 0
    _score(results, 0.25)
    main([*verb, "--out", str(record), "--out-text", str(text)])
    capsys.readouterr()
    assert main(["registry", "check", str(record)]) == 2
    message = capsys.readouterr().err
    assert "vqa minival: accuracy 25.00 is outside 69.90 ± 0.50" in message


def test_check_refuses_another_file(results: Path) -> None:
    assert main(["registry", "check", str(results / "vqa/spec.json")]) == 2


@pytest.mark.parametrize("corpus", ["full", "sample"])
def test_values_on_record_name_runs_and_splits_that_exist(corpus: str) -> None:
    plan = load_plan({"corpus": corpus, "runs": {"vqa_scratch": {"task": "vqa", "init": "scratch"}}})
    found = read_entries(corpus)
    assert len(found) == 4  # of VQA and GQA one, of NLVR2 two
    for entry in found:
        assert entry.run in plan.runs and entry.split in plan.scored_splits(plan.runs[entry.run].task)


def test_two_values_for_one_figure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "{corpus: full, task: vqa, split: minival, metric: accuracy, value: 1, tolerance: 1, source: x}"
    (tmp_path / "systems/lxmert").mkdir(parents=True)
    (tmp_path / "systems/lxmert/results.yaml").write_text(f"results:\n  - {line}\n  - {line}\n")
    monkeypatch.setattr(registry_entries, "PACKAGE", tmp_path)
    monkeypatch.setattr(registry_entries, "shown", str)
    with pytest.raises(SpecError, match="two values"):
        read_entries("full")


def test_stages_with_other_settings_are_named() -> None:
    config = {"corpus": "sample", "runs": {}}
    assert set(map(tuple, altered_stages(load_plan(config)).values())) == {()}
    slower = {"overrides": {"lxmert": {"vqa": {"optimizer": {"lr": 1.0e-5}}}}}
    altered = altered_stages(load_plan({**config, **slower}))
    assert altered["vqa"] == ["fine-tuning"] and altered["gqa"] == []
    own = {"runs": {"vqa": {"recipe": {"max_steps": 10}}}}
    assert altered_stages(load_plan({**config, **own}))["vqa"] == ["fine-tuning"]
    assert altered_stages(load_plan({**config, "seed": 1})) == altered_stages(load_plan(config))
    assert "world" in altered_stages(load_plan({**config, "sample": {"scale": 0.5}}))["nlvr2"]
    assert json.loads(json.dumps(altered)) == altered
