"""Lines of a file of examples, and the settings they are read with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Writer = Callable[[list[Record]], Path]
COLOURS = ("red", "green", "blue")
SPEC = {
    "seed": 7,
    "shares": {"valid": 0.2, "test": 0.2},
    "images_per_example": 1,
    "test_answers": True,
    "min_answer_count": 1,
}


def record(number: int, **more: Any) -> Record:
    """The line of an image."""
    answer = COLOURS[number % len(COLOURS)]
    return {"image": f"{number}.png", "question": "what color is it?", "answer": answer, **more}
