"""Why a score may say less than it seems: what the weights learnt from before they answered."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def leaks_of(
    split: str, task: Document, pretraining: Document | None, detector_set: str | None = None
) -> list[str]:
    """Reasons why the answers to a split are no answers to unseen questions; none of a clean split.

    Args:
        split: the split that is scored.
        task: the document of its task, as the official files make it.
        pretraining: the document of the pretraining a run starts from, whoever did it; None from scratch.
        detector_set: the image set from whose boxes the detector learnt, if there is one.
    """
    reasons: list[str] = []
    if split not in task["splits"]:
        return reasons
    name, part = task["task"], task["splits"][split]
    if split in task["train_on"]:
        reasons.append(f"{name} is fine-tuned on {split} itself ({', '.join(task['train_on'])})")
    if pretraining is not None:
        held_out = part.get("images_among") == pretraining.get("minival_ids", "")
        if not held_out and part["questions"] in _questions(pretraining):
            reasons.append(f"pretraining read these very questions with their answers ({part['questions']})")
    if reasons and part["image_set"] == detector_set:
        reasons.append("the detector learnt from boxes of most of these images")
    return reasons


def _questions(pretraining: Document) -> set[str]:
    """Files of questions with answers that pretraining reads."""
    return {*pretraining["gqa"], *(files["questions"] for files in pretraining["vqa"].values())}
