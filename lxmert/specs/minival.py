"""Which images of COCO val2014 select the best weights: LXMERT's own list, or one drawn here.

The list was published with LXMERT's own files only, on hosts with long outages. Drawn images do as well where
weights are pretrained here; published weights have learnt from most of them, so no score on them is a result.
"""

from __future__ import annotations

from typing import Any

PUBLISHED_IDS, DRAWN_IDS = "vqa/minival_ids.json", "vqa/minival_drawn.json"
# The file whose images are drawn from, and how many.
DRAWN_FROM, DRAWN_NUMBER = "vqa/v2_OpenEnded_mscoco_val2014_questions.json", 5000


def with_drawn_ids(document: Any) -> Any:
    """A task document, or a part of one, that reads the drawn list wherever it read the published one."""
    if isinstance(document, dict):
        return {key: with_drawn_ids(value) for key, value in document.items()}
    if isinstance(document, list):
        return [with_drawn_ids(value) for value in document]
    return DRAWN_IDS if document == PUBLISHED_IDS else document


def with_published_ids(part: dict[str, Any]) -> dict[str, Any]:
    """A split as LXMERT made it, whichever list is read here."""
    return {key: PUBLISHED_IDS if value == DRAWN_IDS else value for key, value in part.items()}
