"""How far the answer vocabulary reaches: what is kept, and what share of each split it can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lxmert.progress import count
from lxmert.tasks.custom_qa import commonest, labels, vocabulary

Questions = Sequence[Sequence[str]]


def coverage(splits: Mapping[str, Questions], min_count: int) -> dict[str, Any]:
    """What an answer vocabulary made of the training split covers.

    Args:
        splits: what people answered to each question of each split that has answers; "train" among them.
        min_count: so many training questions must have an answer as their commonest one.

    Returns:
        `answers` and `answers_kept` (of the training split), `min_answer_count`, `splits`: for each,
        `questions`, `covered` (share whose commonest answer is kept) and `best_score` (the mean soft
        score of always giving the best answer that is kept). Shares are in [0, 1].
    """
    kept = vocabulary(iter(map(list, splits["train"])), min_count)
    index = {answer: number for number, answer in enumerate(kept)}
    return {
        "min_answer_count": min_count,
        "answers": len(vocabulary(iter(map(list, splits["train"])), 1)),
        "answers_kept": len(kept),
        "most_frequent": kept[:10],
        "splits": {name: _covered(questions, index) for name, questions in splits.items()},
    }


def _covered(questions: Questions, index: dict[str, int]) -> dict[str, Any]:
    known = sum(commonest(answers) in index for answers in questions)
    best = sum(max((score for _, score in labels(answers, index)), default=0.0) for answers in questions)
    total = max(len(questions), 1)
    return {"questions": len(questions), "covered": known / total, "best_score": best / total}


def coverage_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as people read it."""
    kept, answers, least = report["answers_kept"], report["answers"], report["min_answer_count"]
    lines = [
        f"answers: {count(kept)} of {count(answers)} kept, those of {least} training questions or more",
        *(
            f"answers: {name}: {100 * part['covered']:.1f} % of {count(part['questions'])} questions have"
            f" theirs among them; the best possible score is {100 * part['best_score']:.1f} %"
            for name, part in report["splits"].items()
        ),
    ]
    if report["splits"]["train"]["covered"] < 0.8:
        lines.append("answers: much is lost; a lower custom/min_answer_count keeps more answers")
    return lines
