"""Makes vqa_norm.tsv and vqa_score.json by running the official script.

    git clone https://github.com/GT-Vision-Lab/VQA && git -C VQA checkout a013f00
    python tests/golden/scorers/make_vqa.py VQA

Only its print statements, which are Python 2, are changed. Scores are taken before rounding.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
MARKS = ";/[]\"{}()=+\\_-><@`,?!.':%$#&*^~|"

TEXTS = """Yes.|t-shirt|T - shirt|left/right|1,000|100, 978|ten,000|2:50 pm|3.5.|.5|u.s.a.|none of the
twenty-one|dont|its|somebody'd|50%|@home|1,5 and 2-3|2-3|2 -3|-1|10 ,5|10,a|three,four|10:30 a.m.|v1.|a.b
no-one|The A an|twas|hes|ow's'at|at&t|rock'n'roll|Im|I've|an apple a day|  two   dogs |let's|she's""".replace(
    "\n", "|"
)

# (answers, prediction, question type, answer type)
CASES: list[tuple[list[str], str, str, str]] = [
    (["2", "two", "the 2"] + ["3"] * 7, "2", "how many", "number"),
    (["2", "two", "the 2"] + ["3"] * 7, "two", "how many", "number"),
    (["yes"] * 10, "yes.", "is the", "yes/no"),
    (["yes"] * 10, "Yes", "is the", "yes/no"),
    (["yes"] * 10, " yes\n", "is the", "yes/no"),
    (["yes"] * 9 + ["no"], "Yes.", "is the", "yes/no"),
    (["two"] * 10, "2", "how many", "number"),
    (["t-shirt"] * 4 + ["shirt"] * 6, "t shirt", "what", "other"),
    (["dont know"] * 6 + ["don't know"] * 4, "don't know", "what", "other"),
    (["on table."] * 2 + ["on table"] + ["table"] * 7, "on table", "where", "other"),
    (["none"] * 3 + ["0"] * 3 + ["1"] * 4, "0", "how many", "number"),
    (["the"] * 3 + ["yes"] * 7, "", "is the", "yes/no"),
    (["a"] * 2 + ["b"] * 6, "a", "what", "other"),
    (["a"] * 3, "a", "what", "other"),
    (["a"], "a", "what", "other"),
]


def random_text(rng: random.Random) -> str:
    words = [
        "two",
        "the",
        "dont",
        "10",
        "1,000",
        "a",
        "red",
        "Yes",
        "o'clock",
        "wont",
        "3.5",
        "u.s.",
        "none",
        "t-shirt",
    ]
    text = rng.choice([" ", "", "\t", "\n"]).join(rng.choice(words) for _ in range(rng.randint(1, 3)))
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(MARKS) + rng.choice(["", " "]) + text[at:]
    return text


def random_cases(rng: random.Random, number: int) -> list[tuple[list[str], str, str, str]]:
    cases = []
    for _ in range(number):
        pool = [random_text(rng) for _ in range(rng.randint(1, 4))]
        answers = [rng.choice(pool) for _ in range(10)]
        prediction = rng.choice([*pool, pool[0].upper(), random_text(rng)])
        cases.append((answers, prediction, rng.choice(["what", "is the"]), rng.choice(["other", "number"])))
    return cases


def official(repository: Path) -> Any:
    text = (repository / "PythonEvaluationTools/vqaEvaluation/vqaEval.py").read_text()
    text = re.sub(r"^(\s*)print (.*)$", r"\1print(\2)", text, flags=re.M)
    space: dict[str, Any] = {}
    exec(compile(text, "vqaEval.py", "exec"), space)
    return space["VQAEval"]


def main() -> None:
    scorer = official(Path(sys.argv[1]))
    rng = random.Random(1)
    texts = [*TEXTS.split("|"), "." * 40, *(random_text(rng).strip() for _ in range(200))]
    bare = scorer(SimpleNamespace(getQuesIds=lambda: []), None)
    lines = [
        json.dumps(text) + "\t" + json.dumps(bare.processDigitArticle(bare.processPunctuation(text)))
        for text in dict.fromkeys(texts)
    ]
    (HERE / "vqa_norm.tsv").write_text("\n".join(lines) + "\n")

    annotations, predictions = [], {}
    for number, (answers, prediction, question_type, answer_type) in enumerate(
        CASES + random_cases(rng, 200), 1
    ):
        records = [
            {"answer": answer, "answer_confidence": "yes", "answer_id": i}
            for i, answer in enumerate(answers, 1)
        ]
        annotations.append(
            {
                "question_id": number,
                "question_type": question_type,
                "answer_type": answer_type,
                "answers": records,
            }
        )
        predictions[number] = prediction
    kept = json.loads(json.dumps(annotations))  # the script changes its input
    truth = SimpleNamespace(
        qa={a["question_id"]: a for a in annotations}, getQuesIds=lambda: list(predictions)
    )
    given = SimpleNamespace(qa={number: {"answer": answer} for number, answer in predictions.items()})
    run = scorer(truth, given, n=12)
    run.evaluate()
    value = {
        "annotations": kept,
        "predictions": predictions,
        "questions": {number: score / 100 for number, score in run.evalQA.items()},
        "overall": run.accuracy["overall"] / 100,
        "question_type": {k: v / 100 for k, v in run.accuracy["perQuestionType"].items()},
        "answer_type": {k: v / 100 for k, v in run.accuracy["perAnswerType"].items()},
    }
    (HERE / "vqa_score.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
