"""Sizes that tests of the detector share."""

from __future__ import annotations

from dataclasses import replace

from lxmert.detector.documents import DetectorSize, parse_size
from lxmert.detector.model import with_classes
from lxmert.detector.seeded import seeded_detector
from lxmert.specs.documents import read_document

FULL = parse_size(read_document("detector_size", "full"))

__all__ = ["FULL", "seeded_detector", "small_size"]


def small_size(objects: int = 40, attributes: int = 12) -> DetectorSize:
    """The sample size with more boxes: every rule has something to do, in a tenth of a second."""
    size = with_classes(parse_size(read_document("detector_size", "sample")), objects, attributes, "test")
    test = replace(size.proposals.test, before_nms=600, after_nms=60)
    return replace(size, proposals=replace(size.proposals, test=test))
