"""Why a score may say less than it seems: what the weights learnt from before they answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]


def leaks_of(
    split: str,
    task: Document,
    learnt: Mapping[str, Document] | None,
    weights: str | None = None,
    pretraining: Document | None = None,
    detector_set: str | None = None,
) -> list[str]:
    """Reasons why the answers to a split are no answers to unseen questions; none of a clean split.

    Args:
        split: the split that is scored.
        task: the document of its task, as the official files make it.
        learnt: the splits that the weights were fine-tuned on, as whoever did it made them; None where
            nobody said which.
        weights: the asset with them, if they were published and not fine-tuned here.
        pretraining: the document of the pretraining a run starts from, whoever did it; None from scratch.
        detector_set: the image set from whose boxes the detector learnt, if there is one.
    """
    reasons: list[str] = []
    if split not in task["splits"]:
        return reasons
    name, part = weights or task["task"], task["splits"][split]
    if learnt is None:
        reasons.append(f"nobody said which questions {name} was fine-tuned on")
    else:
        common = [other for other in learnt if _share(part, learnt[other], task["splits"])]
        if split in common:
            reasons.append(f"{name} is fine-tuned on {split} itself ({', '.join(learnt)})")
        elif common:
            reasons.append(
                f"{name} is fine-tuned on {', '.join(common)}, which shares questions with {split}"
            )
    if pretraining is not None and not _held_out(part, pretraining):
        read = sorted(_files(part, task["splits"]) & _questions(pretraining))
        if read:
            these = "these very questions" if part["questions"] in read else "some of these questions"
            reasons.append(f"pretraining read {these} with their answers ({', '.join(read)})")
    # Only beside what is certain.
    if len(reasons) > (learnt is None) and part["image_set"] == detector_set:
        reasons.append("the detector learnt from boxes of most of these images")
    return reasons


def _share(one: Document, other: Document, splits: Mapping[str, Document]) -> bool:
    """Whether two splits have questions in common: those of one file, unless a list of images parts them."""
    lists = [(one.get("images_among"), other.get("images_outside"))]
    lists.append((other.get("images_among"), one.get("images_outside")))
    apart = any(among is not None and among == outside for among, outside in lists)
    return not apart and bool(_files(one, splits) & _files(other, splits))


def _files(part: Document, splits: Mapping[str, Document]) -> set[str]:
    """Files that hold a split's questions, or some of them, or them and more."""
    found = {part["questions"], part.get("all_questions", part["questions"])}
    return found | {splits[part["all_of"]]["questions"]} if "all_of" in part else found


def _held_out(part: Document, pretraining: Document) -> bool:
    return bool(part.get("images_among") == pretraining.get("minival_ids", ""))


def _questions(pretraining: Document) -> set[str]:
    """Files of questions with answers that pretraining reads."""
    return {*pretraining["gqa"], *(files["questions"] for files in pretraining["vqa"].values())}
