"""Writes gqa_*.json and nlvr2_*.json: small cases and the scores the official scripts gave for them.

The GQA archive (eval.zip) cannot be fetched one file at a time, so its numbers stand here as they
were recorded from running eval.py 1.1; each can also be worked out by hand. The NLVR2 numbers were
recorded from eval/metrics.py and eval/compute_filtered_accuracy.py on the published files.

    python tests/golden/scorers/make_gqa_nlvr2.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# id, structural, semantic, detailed, global group, balanced, entailed, right answer, prediction
QUESTIONS: list[tuple[str, str, str, str, str | None, bool, list[str], str, str]] = [
    ("00", "query", "attr", "directOf", "color", True, ["00", "01", "02"], "red", "red"),
    ("01", "verify", "attr", "verifyAttr", None, True, ["02"], "yes", "yes"),
    ("02", "verify", "attr", "verifyAttr", None, False, [], "no", "yes"),
    ("03", "query", "attr", "directOf", "color", True, [], "blue", "red"),
    ("04", "query", "attr", "directOf", "color", True, [], "blue", "blue"),
    ("05", "choose", "rel", "chooseRel", None, True, [], "left", "right"),
    ("06", "compare", "attr", "twoCommon", None, True, [], "color", "material"),
    ("07", "query", "global", "place", "place", True, [], "indoors", "outdoors"),
]
GQA_SCORES = {
    "accuracy": 0.42857143,
    "open": 0.5,
    "binary": 0.33333333,
    "validity": 1.0,
    "plausibility": 0.42857143,
    "consistency": 0.25,
    "distribution": 0.01375,
    "structural/query": 0.5,
    "structural/query/count": 4,
    "structural/verify": 1.0,
    "structural/verify/count": 1,
    "structural/choose": 0.0,
    "structural/compare": 0.0,
    "semantic/attr": 0.6,
    "semantic/attr/count": 5,
    "semantic/rel": 0.0,
    "semantic/global": 0.0,
}

SMALL = {
    "labels": {
        "dev-7-0-0": "True",
        "dev-7-1-0": "False",
        "dev-7-2-0": "True",
        "dev-7-0-1": "False",
        "dev-7-1-1": "False",
        "dev-8-0-0": "True",
    },
    "predictions": {
        "dev-7-0-0": "True",
        "dev-7-1-0": "False",
        "dev-7-2-0": "False",
        "dev-7-0-1": "false",
        "dev-7-1-1": "FALSE",
        "dev-8-0-0": "True",
    },
    "scores": {"accuracy": 0.8333333333, "consistency": 0.6666666667},
}
# R: the right label, flipped where the md5 of the identifier, as a number, is a multiple of four.
RULES: dict[str, dict[str, dict[str, float]]] = {
    "dev": {
        "True": {"accuracy": 0.5085935262, "consistency": 0.0386521308},
        "False": {"accuracy": 0.4914064738, "consistency": 0.0361744301},
        "R": {
            "accuracy": 0.7411916356,
            "consistency": 0.3756194252,
            "pair_accuracy": 0.6042952357,
            "balanced": 0.7404347826,
            "unbalanced": 0.7330151600,
            "balanced/count": 2300,
            "unbalanced/count": 3562,
        },
    },
    "test1": {
        "True": {"accuracy": 0.5106932683, "consistency": 0.0421052632},
        "False": {"accuracy": 0.4893067317, "consistency": 0.0290726817},
        "R": {
            "accuracy": 0.7486723123,
            "consistency": 0.3774436090,
            "balanced/count": 2316,
            "unbalanced/count": 3536,
        },
    },
    "test2": {
        "True": {"accuracy": 0.5142037303, "consistency": 0.0460921844},
        "False": {"accuracy": 0.4857962697, "consistency": 0.0305611222},
        "R": {"accuracy": 0.7496413199, "consistency": 0.3777555110},
    },
}
LINES = {"dev": (6982, 3551, 4051), "test1": (6967, 3558, 4041), "test2": (6970, 3584, 4074)}


def question(row: tuple[Any, ...]) -> dict[str, Any]:
    _, structural, semantic, detailed, group, balanced, entailed, answer, _ = row
    return {
        "imageId": "1",
        "question": "What is this?",
        "isBalanced": balanced,
        "answer": answer,
        "entailed": entailed,
        "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
        "groups": {"global": group, "local": "x"},
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "kite (77)"},
            {"operation": "query", "dependencies": [0], "argument": "name"},
        ],
    }


def main() -> None:
    plausible = {row[0]: ["red", "yes", "left", "indoors"] for row in QUESTIONS} | {"03": ["blue"]}
    valid = {row[0]: "red blue yes no left right indoors outdoors".split() for row in QUESTIONS} | {
        "03": ["blue", "red"]
    }
    write("gqa_questions.json", {row[0]: question(row) for row in QUESTIONS})
    write("gqa_choices.json", {i: {"valid": valid[i], "plausible": plausible[i]} for i in valid})
    write(
        "gqa_predictions.json",
        {"predictions": {row[0]: row[-1] for row in QUESTIONS}, "scores": GQA_SCORES},
    )
    write("nlvr2_small.json", SMALL)
    write("nlvr2_rule.json", {"lines": LINES, "scores": RULES})


def write(name: str, value: Any) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
