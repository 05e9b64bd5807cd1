"""NLVR2's accuracy and consistency, as the official scripts compute them.

Reference: `eval/metrics.py` and `eval/compute_filtered_accuracy.py` of the NLVR repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lxmert.metrics.checks import check_ids, mean


def score_nlvr2(
    predictions: Mapping[str, str], lines: Iterable[Mapping[str, Any]], strict: bool = True
) -> dict[str, float]:
    """Scores of the labelled lines of a split.

    Args:
        predictions: identifier -> "True" or "False", in any case.
        lines: official records, read once.
        strict: refuse predictions for unknown identifiers.

    Returns:
        All in [0, 1]. `accuracy`; `consistency`, the share of sentences (one sentence over the image
        pairs of its set: the identifier without its pair field) of which every line is right;
        `balanced` and `unbalanced`, the accuracy on image pairs seen with both labels, and on those
        seen more than once with one label only; `pair_accuracy`, the share of image pairs of which
        every line is right, which is ours and not official. Subsets without a line are left out.

    Raises:
        DataError: ids are missing, or too many.
    """
    scores: list[float] = []
    sentences: dict[str, bool] = {}
    pairs: dict[str, bool] = {}
    seen: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    asked: list[str] = []
    missing: list[str] = []
    for line in lines:
        identifier = line["identifier"]
        asked.append(identifier)
        if identifier not in predictions:
            missing.append(identifier)
            continue
        label = line["label"].lower()
        right = predictions[identifier].lower() == label
        scores.append(float(right))
        split, image_set, pair, sentence = identifier.split("-")
        _all_right(sentences, f"{split}-{image_set}--{sentence}", right)
        pair_name = f"{split}-{image_set}-{pair}"
        _all_right(pairs, pair_name, right)
        # The publisher's subsets go by address; a pair may occur under two identifiers.
        urls = (line.get("left_url", pair_name), line.get("right_url", pair_name))
        seen.setdefault(urls, []).append((label == "true", float(right)))
    check_ids(predictions, asked, missing, strict)
    result = {
        "accuracy": mean(scores),
        "consistency": mean([float(right) for right in sentences.values()]),
        "pair_accuracy": mean([float(right) for right in pairs.values()]),
    }
    for name, balanced in (("balanced", True), ("unbalanced", False)):
        chosen = [
            score
            for found in seen.values()
            if len(found) > 1 and (len({label for label, _ in found}) == 2) is balanced
            for _, score in found
        ]
        if chosen:
            result[name] = mean(chosen)
            result[f"{name}/count"] = float(len(chosen))
    return result


def _all_right(groups: dict[str, bool], name: str, right: bool) -> None:
    groups[name] = groups.get(name, True) and right
