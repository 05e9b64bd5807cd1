"""Cuts at read time: the rule of extraction over stored scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from region_samples import make_regions, make_schema

from lxmert.data.region_cut import parse_cut
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.detector.documents import SelectionRule
from lxmert.detector.selection import select
from lxmert.errors import DataError, SpecError


def scored(seed: int, boxes: int = 300, classes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 400, (boxes, 2, 2)), axis=1).reshape(boxes, 4).astype(np.float32)
    scores = rng.dirichlet(np.full(classes, 0.15), boxes).astype(np.float32)
    return corners, scores


@pytest.mark.parametrize(
    ("least", "most", "threshold"),
    [(36, 36, 0.2), (10, 100, 0.2), (10, 100, 0.9), (10, 100, 0.999), (1, 1, 0.0)],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_cut_of_100_boxes_equals_a_direct_selection(seed, least, most, threshold):
    boxes, scores = scored(seed)
    store_rows, best = select(boxes, scores, SelectionRule("class_nms", 100, 100, 0.2, 0.3))
    store_rows = np.sort(store_rows)  # a store in proposal order
    direct, _ = select(boxes, scores, SelectionRule("class_nms", least, most, threshold, 0.3))
    document = {"rule": "threshold", "threshold": threshold, "min_boxes": least, "max_boxes": most}
    cut = parse_cut(document)
    found = store_rows[cut.rows(best[store_rows], True)]
    if (best >= threshold).sum() > most == len(store_rows):
        # Extraction ranks where more pass than it may keep; the store holds no more than those kept, so that
        # nothing tells it from an image where exactly as many pass. The rows are the same.
        found, direct = np.sort(found), np.sort(direct)
    np.testing.assert_array_equal(found, direct)


def test_exactly_as_many_as_asked_stand_in_proposal_order_and_ties_are_as_in_extraction():
    scores = np.array([0.3, 0.9, 0.1, 0.9, 0.5], np.float32)
    cut = parse_cut({"rule": "threshold", "threshold": 0.2, "min_boxes": 4, "max_boxes": 4})
    assert cut.rows(scores, True).tolist() == [0, 1, 3, 4]
    cut = parse_cut({"rule": "threshold", "threshold": 0.2, "min_boxes": 3, "max_boxes": 3})
    assert cut.rows(scores, True).tolist() == [3, 1, 4]  # of equals the later proposal first
    ranked = np.array([0.9, 0.9, 0.5, 0.3, 0.1], np.float32)
    assert cut.rows(ranked, False).tolist() == [0, 1, 2]
    strict = {"rule": "threshold", "threshold": 0.5, "min_boxes": 1, "max_boxes": 5, "strict": True}
    assert parse_cut(strict).rows(ranked, False).tolist() == [0, 1]
    assert parse_cut({**strict, "strict": False}).rows(ranked, False).tolist() == [0, 1, 2]


def test_a_profile_names_its_rule():
    cut = parse_cut({"rule": "profile", "profile": "lxmert-36"})
    assert (cut.min_boxes, cut.max_boxes, cut.threshold, cut.nms) == (36, 36, 0.2, 0.3)
    scores = np.sort(np.random.default_rng(0).random(100).astype(np.float32))[::-1]
    halved = parse_cut({"rule": "profile", "profile": "uniter-10-100"})
    above = int((scores.astype(np.float16) > 0.2).sum())
    assert halved.halved and halved.rows(scores, False).tolist() == list(range(above))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"rule": "best"}, "unknown rule 'best'"),
        ("36", "must say rule"),
        ({"rule": "top"}, "cut/boxes: missing"),
        ({"rule": "top", "boxes": 0}, "whole number from 1"),
        ({"rule": "top", "boxes": True}, "whole number from 1"),
        ({"rule": "top", "boxs": 3, "boxes": 3}, 'Did you mean "boxes"'),
        ({"rule": "top", "boxes": 3, "short": "drop"}, "cut/short: unknown value"),
        ({"rule": "threshold", "threshold": 2, "min_boxes": 1, "max_boxes": 2}, "share from 0 to 1"),
        ({"rule": "threshold", "threshold": 0.2, "min_boxes": 3, "max_boxes": 2}, "must rise"),
        ({"rule": "profile", "profile": "lxmert-63"}, "unknown profile"),
        ({"rule": "profile", "profile": "fork-36"}, "stored scores cannot repeat"),
    ],
)
def test_wrong_cuts_are_one_line(document, told):
    with pytest.raises(SpecError, match=told) as error:
        parse_cut(document)
    assert "\n" not in str(error.value)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "set.lmdb"
    with RegionWriter(path, make_schema(boxes=20)) as writer:
        for number, boxes in enumerate((20, 12, 3)):
            writer.put(str(number), make_regions(number, boxes))
        nothing = make_regions(3, 20)
        unscored = np.full(20, np.nan, np.float32)
        writer.put("nan", dataclasses.replace(nothing, selection_scores=unscored))
        writer.finish({})
    return path


def test_batches_hold_what_the_cut_keeps_and_masks(store):
    source = RegionSource([store], {"rule": "top", "boxes": 8})
    batch = source.read(["set/0", "set/2", "set/1"], labels=True)
    assert batch.features.shape == (3, 8, 16) and source.max_boxes == 8
    assert batch.region_mask.sum(axis=1).tolist() == [8, 3, 8]
    for row, number, boxes in ((0, 0, 20), (1, 2, 3), (2, 1, 12)):
        whole = make_regions(number, boxes)
        best = np.argsort(-whole.selection_scores, kind="stable")[:8]
        count = len(best)
        np.testing.assert_array_equal(batch.features[row, :count], whole.features[best].astype(np.float32))
        np.testing.assert_allclose(
            batch.boxes_norm[row, :count], whole.boxes_px[best] / np.float32([640, 480, 640, 480])
        )
        np.testing.assert_array_equal(batch.object_ids[row, :count], whole.object_ids[best])
        np.testing.assert_array_equal(batch.attribute_scores[row, :count], whole.attribute_scores[best])
        assert not batch.features[row, count:].any() and not batch.region_mask[row, count:].any()
    lots = np.array([0.0, 0.999])
    drawn = source.random_features(["set/0", "set/0"], lots)
    np.testing.assert_array_equal(drawn, batch.features[0, [0, 7]])


def test_stores_that_cannot_serve_a_cut_say_so(store):
    with pytest.raises(DataError, match="holds at most 20 boxes .* takes up to 36"):
        RegionSource([store], {"rule": "top", "boxes": 36})
    short = RegionSource([store], {"rule": "top", "boxes": 8, "short": "stop"})
    short.read(["set/0"])
    with pytest.raises(DataError, match="image 2 has 3 boxes, the cut asks for 8"):
        short.read(["set/2"])
    with pytest.raises(DataError, match="image nan has no selection scores"):
        RegionSource([store], {"rule": "top", "boxes": 8}).read(["set/nan"])
    every = RegionSource([store], {"rule": "top", "boxes": 20}).read(["set/nan"])
    assert every.region_mask.all()  # nothing to choose
    assert RegionSource([store], {"rule": "top", "boxes": 8}).profile["name"] == "test cut to 8 best boxes"
