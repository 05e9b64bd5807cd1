"""Published fine-tuned weights take a run's place: what the verb writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from convert_models import SIZE, run
from safetensors.torch import load_file, save_file

from lxmert.cli import main
from lxmert.models.weights import read_weights

ANSWERS = ["", "no", "yes", *(f"answer {number}" for number in range(6))]


@pytest.fixture
def take(ours: Callable[[str], Path], tmp_path: Path) -> Callable[..., int]:
    """Calls the verb with a folder of another program's, of some kind."""

    def call(kind: str = "vqa", head: str = "classification", **size: Any) -> int:
        run(ours(kind), tmp_path / "hub", "transformers")
        model = tmp_path / "hub" / "model.safetensors"
        save_file(load_file(model), model, {"format": "pt"})
        (tmp_path / "label2ans.json").write_text(json.dumps(ANSWERS))
        spec = {"run": "vqa", "size": SIZE | size, "task": {"head": head, "select_on": "minival"}}
        verb = ["take-finetuned", "--spec", json.dumps(spec), "--weights", str(tmp_path / "hub")]
        verb += ["--answers", str(tmp_path / "label2ans.json")]
        files = {"weights": "w.safetensors", "spec": "spec.json", "metrics": "m.json", "history": "h.jsonl"}
        for name, file in files.items():
            verb += [f"--out-{name}", str(tmp_path / "out" / file)]
        return main(verb)

    return call


def test_a_run_without_training_leaves_what_a_run_leaves(
    take: Callable[..., int], ours: Callable[[str], Path], tmp_path: Path
) -> None:
    assert take() == 0
    tensors, metadata = read_weights(tmp_path / "out" / "w.safetensors")
    assert metadata["answers"] == ANSWERS and metadata["model"]["answers"] == 9
    assert tensors.keys() == read_weights(ours("vqa"))[0].keys()
    metrics = json.loads((tmp_path / "out" / "m.json").read_text())
    assert metrics["split"] == "minival" and metrics["evaluations"] == []
    assert json.loads((tmp_path / "out" / "spec.json").read_text())["run"] == "vqa"
    assert (tmp_path / "out" / "h.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "nlvr2"}, "holds no head of the kind classification"),
        ({"kind": "pretraining"}, "holds no head of the kind classification"),
        ({"head": "pair_classification"}, "holds no head of the kind pair_classification"),
        (
            {"intermediate": 48},
            "intermediate is 40, but the run's is 48. Set overrides/lxmert/size/intermediate: 40",
        ),
    ],
)
def test_weights_of_another_kind_or_size(
    take: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict, told: str
) -> None:
    assert take(**given) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert len(lines) == 1 and told in lines[0] and not (tmp_path / "out").exists()
