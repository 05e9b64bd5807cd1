"""The order of rows in a real file of features, against our rule for it."""

from __future__ import annotations

import base64
import csv
import sys

import numpy as np

from lxmert.detector.golden_stages import read_profile
from lxmert.detector.selection import class_nms

UNSORTED = "COCO_train2014_000000494628"  # exactly 36 proposals were at or above 0.2


def test_rows_of_the_real_file(shared_data):
    """Rows fall by selection score where more or fewer than 36 proposals reached 0.2, else stay as proposed.

    The file does not hold selection scores. But a box that survives the suppression of its likeliest class
    has that class's probability as its score, and which boxes survive follows from the file: among the
    survivors the rows must fall without exception. (In one image a survivor among the 36 was suppressed by
    one of the proposals that the file lacks; its next best class ranked it lower.)
    """
    csv.field_size_limit(sys.maxsize)
    rule, exceptions, seen = read_profile("lxmert-36").selection, {}, 0
    with open(shared_data / "coco10" / "train2014_obj36.tsv", newline="") as handle:
        for row in csv.reader(handle, delimiter="\t"):
            boxes = np.frombuffer(base64.b64decode(row[8]), "<f4").reshape(-1, 4)
            ids = np.frombuffer(base64.b64decode(row[3]), "<i8")
            confidence = np.frombuffer(base64.b64decode(row[4]), "<f4")
            scores = np.zeros((36, 1600), np.float32)
            scores[np.arange(36), ids] = confidence
            survives = class_nms(boxes, scores, rule.nms)[np.arange(36), ids]
            rises = int((np.diff(confidence[survives]) > 1e-6).sum())
            unsorted = int((np.diff(confidence) > 1e-6).sum())
            seen += 1
            if row[0] == UNSORTED:
                assert rises > 10 and confidence.min() >= rule.threshold
            else:
                assert survives.sum() >= 24 and unsorted > 0  # so suppression is what explains the order
                exceptions[row[0]] = rises
    assert seen == 10 and sum(exceptions.values()) <= 1, exceptions
