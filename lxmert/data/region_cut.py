"""Read-time cuts: one store with up to 100 scored boxes serves 36, 10 to 100, or any other number.

A cut document stands in a recipe:

    cut: {rule: top, boxes: 36}                                              # the 36 best, best first
    cut: {rule: threshold, threshold: 0.2, min_boxes: 10, max_boxes: 100}    # bottom-up attention's rule
    cut: {rule: profile, profile: lxmert-36}                                 # the rule of a profile

`strict: true` compares with > (UNITER) instead of >= (everyone else). `short` says what becomes of images
that have fewer boxes than the least asked for: `mask` (default) gives those there are, the rest of the row
is masked; `stop` refuses the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_record import StoreSchema
from lxmert.errors import DataError, SpecError, suggest

# Settings of a cut document by rule: needed ones, then those that may stay out.
_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "top": (("boxes",), ("short",)),
    "threshold": (("threshold", "min_boxes", "max_boxes"), ("strict", "short")),
    "profile": (("profile",), ("short",)),
}
_SHORT = ("mask", "stop")


@dataclass(frozen=True)
class Cut:
    """Which of an image's stored boxes are read, and in which order.

    Attributes:
        name: as messages and weights name it.
        min_boxes: the best so many are taken where fewer pass the threshold.
        max_boxes: the best so many are taken where more pass.
        threshold: least selection score; None keeps the best `max_boxes`, whatever their scores.
        strict: a score equal to the threshold does not pass.
        short: "mask" or "stop", for images with fewer than `min_boxes` boxes.
        nms: the suppression that the scores must come from; None takes any.
        halved: UNITER's two cuts: the `max_boxes` best, of which the first are kept whose score in half
            precision is above the threshold, at least `min_boxes`.
    """

    name: str
    min_boxes: int
    max_boxes: int
    threshold: float | None
    strict: bool = False
    short: str = "mask"
    nms: float | None = None
    halved: bool = False

    def rows(self, scores: NDArray[np.float32], in_proposal_order: bool) -> NDArray[np.int64]:
        """Rows of one image that are read.

        Boxes that pass the threshold stay in stored order if their number lies within the bounds; otherwise
        the best are taken, best first. This is the rule of extraction itself
        (`lxmert.detector.selection.select`): on a store in proposal order it gives the same rows in the
        same order as an extraction by the cut's bounds, as long as the store holds all boxes that pass.

        Args:
            scores: float32 [R], selection scores in stored order.
            in_proposal_order: whether stored rows are; of equal scores the later proposal is the better.

        Raises:
            ValueError: the image has too few boxes, or no scores to choose by; the text says which.
        """
        if len(scores) < self.min_boxes and self.short == "stop":
            raise ValueError(f"has {len(scores)} boxes, the cut asks for {self.min_boxes} and refuses fewer")
        if np.isnan(scores).any():
            if self.threshold is None and len(scores) <= self.max_boxes:
                return np.arange(len(scores))
            raise ValueError("has no selection scores to cut by, as imported TSV files have none")
        if self.threshold is None:
            return ranked(scores, in_proposal_order)[: self.max_boxes]
        if self.halved:
            first = self._within(scores, self.threshold, self.max_boxes, in_proposal_order)
            above = int((scores[first].astype(np.float16).astype(np.float64) > self.threshold).sum())
            return first[: max(above, self.min_boxes)]
        return self._within(scores, self.threshold, self.min_boxes, in_proposal_order)

    def _within(
        self, scores: NDArray[np.float32], threshold: float, least: int, in_proposal_order: bool
    ) -> NDArray[np.int64]:
        wide = scores.astype(np.float64)
        passing = np.flatnonzero(wide > threshold if self.strict else wide >= threshold)
        if len(passing) < least:
            return ranked(scores, in_proposal_order)[:least]
        if len(passing) > self.max_boxes:
            return ranked(scores, in_proposal_order)[: self.max_boxes]
        return passing

    def check(self, schema: StoreSchema, where: str) -> None:
        """Checks that a store can serve this cut.

        Raises:
            DataError: it holds fewer boxes than the cut may take, or scores of another suppression.
        """
        if schema.max_boxes < self.max_boxes:
            raise DataError(
                f"{where}: holds at most {schema.max_boxes} boxes an image (profile {schema.profile_name}),"
                f" and the cut to {self.name} takes up to {self.max_boxes}; extract with a profile of more"
                " boxes, such as butd-100."
            )
        selection = schema.profile.get("selection")
        stored = selection.get("nms") if isinstance(selection, dict) else None
        if self.nms is not None and stored is not None and stored != self.nms:
            raise DataError(
                f"{where}: its selection scores come from suppression at {stored}, the cut to {self.name}"
                f" needs {self.nms}; extract again with a profile that has nms: {self.nms}."
            )


def in_proposal_order(schema: StoreSchema) -> bool:
    """Whether rows of a store stand in the order of the detector's proposals."""
    rule = schema.profile.get("store")
    return isinstance(rule, dict) and rule.get("order") == "proposal"


def ranked(scores: NDArray[np.float32], in_proposal_order: bool) -> NDArray[np.int64]:
    """Rows by falling score. Ranked rows keep their order among equals; proposals are turned round."""
    if in_proposal_order:
        return np.argsort(scores, kind="stable")[::-1]
    return np.argsort(-scores, kind="stable")


def parse_cut(document: Any, where: str = "cut") -> Cut | None:
    """A checked cut; None, which a recipe without `cut` has, reads every stored box.

    Raises:
        SpecError: a setting is unknown, missing or out of range.
    """
    if document is None:
        return None
    if not isinstance(document, dict) or "rule" not in document:
        raise SpecError(f"{where}: must say rule: {' | '.join(_SETTINGS)}; is {document!r}.")
    rule = document["rule"]
    if rule not in _SETTINGS:
        raise SpecError(f"{where}/rule: unknown rule {rule!r}.{suggest(str(rule), _SETTINGS)}")
    needed, optional = _SETTINGS[rule]
    for name in document:
        if name not in ("rule", *needed, *optional):
            raise SpecError(
                f"{where}/{name}: unknown setting of rule {rule}.{suggest(name, (*needed, *optional))}"
            )
    for name in needed:
        if name not in document:
            raise SpecError(f"{where}/{name}: missing; rule {rule} needs it.")
    short = document.get("short", "mask")
    if short not in _SHORT:
        raise SpecError(f"{where}/short: unknown value {short!r}.{suggest(str(short), _SHORT)}")
    if rule == "top":
        boxes = _count(document["boxes"], f"{where}/boxes")
        return Cut(f"{boxes} best boxes", boxes, boxes, None, short=short)
    if rule == "profile":
        return _of_profile(document["profile"], short, where)
    low, high = (_count(document[name], f"{where}/{name}") for name in ("min_boxes", "max_boxes"))
    threshold, strict = document["threshold"], document.get("strict", False)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise SpecError(f"{where}/threshold: must be a share from 0 to 1, is {threshold!r}.")
    if not isinstance(strict, bool):
        raise SpecError(f"{where}/strict: must be true or false, is {strict!r}.")
    if low > high:
        raise SpecError(f"{where}: min_boxes {low} and max_boxes {high} must rise.")
    name = f"{low} to {high} boxes {'above' if strict else 'from'} {threshold:g}"
    return Cut(name, low, high, float(threshold), strict, short)


def _of_profile(name: Any, short: str, where: str) -> Cut:
    from lxmert.specs.documents import read_document

    selection = read_document("profile", str(name))["selection"]
    if selection["rule"] not in ("class_nms", "class_nms_then_cut"):
        raise SpecError(
            f"{where}/profile: {name} selects by {selection['rule']}, which stored scores cannot repeat;"
            " choose a profile with rule class_nms, or extract with that profile itself."
        )
    return Cut(
        f"profile {name}", selection["min_boxes"], selection["max_boxes"], float(selection["threshold"]),
        short=short, nms=float(selection["nms"]), halved=selection["rule"] == "class_nms_then_cut",
    )  # fmt: skip


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{where}: must be a whole number from 1, is {value!r}.")
    return value
