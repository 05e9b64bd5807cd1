"""Our NLVR2 scores against what the official scripts gave (see make_gqa_nlvr2.py)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lxmert.errors import DataError
from lxmert.files import read_json_lines
from lxmert.metrics.nlvr2 import score_nlvr2

HERE = Path(__file__).parent
SMALL, RULES = (json.loads((HERE / f"nlvr2_{name}.json").read_text()) for name in ("small", "rule"))
LINES = [{"identifier": name, "label": label} for name, label in SMALL["labels"].items()]


def test_small_case():
    scores = score_nlvr2(SMALL["predictions"], LINES)
    for name, value in SMALL["scores"].items():
        assert scores[name] == pytest.approx(value, abs=1e-6)
    # Pairs 7-0, 7-1 and 8-0 are right throughout; 7-2 is not.
    assert scores["pair_accuracy"] == 0.75


def test_subsets_without_addresses_go_by_pair():
    scores = score_nlvr2(SMALL["predictions"], LINES)
    assert (scores["balanced/count"], scores["unbalanced/count"]) == (2, 2)  # 7-0 has T and F, 7-1 F and F


def test_ids_must_fit():
    with pytest.raises(DataError, match="1 of 6 questions have no prediction, first: dev-7-1-0"):
        score_nlvr2({k: v for k, v in SMALL["predictions"].items() if k != "dev-7-1-0"}, LINES)
    with pytest.raises(DataError, match="1 predictions answer no question of this split, first: dev-9"):
        score_nlvr2({**SMALL["predictions"], "dev-9-0-0": "True"}, LINES)
    with pytest.raises(DataError, match="occur twice"):
        score_nlvr2(SMALL["predictions"], [*LINES, LINES[0]])


def flip(line: dict[str, Any]) -> str:
    if int(hashlib.md5(line["identifier"].encode()).hexdigest(), 16) % 4:
        return str(line["label"])
    return {"True": "False", "False": "True"}[line["label"]]


@pytest.mark.parametrize("split", RULES["scores"])
def test_real_files(shared_data, split):
    path = shared_data / "nlvr2" / f"{split}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    lines = [line for _, line in read_json_lines(path)]
    pairs = {line["identifier"].rpartition("-")[0] for line in lines}
    assert [len(lines), sum(line["label"] == "True" for line in lines), len(pairs)] == RULES["lines"][split]
    for rule, scores in RULES["scores"][split].items():
        given = {line["identifier"]: flip(line) if rule == "R" else rule for line in lines}
        found = score_nlvr2(given, lines)
        for name, value in scores.items():
            assert found[name] == pytest.approx(value, abs=1e-6), (rule, name)
