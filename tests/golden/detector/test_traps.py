"""Every trap of the published extractor: the profile's word for it, and a test that fails without it.

The first test holds the list against the profile's own settings, so that none is without a test. Tests that
need no network follow here; the others stand in the files they are named with.
"""

from __future__ import annotations

import ast
import math
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from lxmert.detector.boxes import LOG_LIMIT
from lxmert.detector.documents import Profile, ProposalCounts, parse_profile
from lxmert.detector.extract import Extractor
from lxmert.detector.golden_stages import doctor_extractor, read_profile, run_stages
from lxmert.detector.model import Detections
from lxmert.detector.preprocess import decode_image, make_blob
from lxmert.detector.rpn import propose, ranking_scores
from lxmert.detector.selection import select
from lxmert.specs.documents import document_names, read_document

GEOMETRY, DOCTOR = "test_detector_geometry.py", "test_doctor.py"
JOBS = "../../unit/detector/test_detector_jobs.py"
# Setting of the profile -> what goes wrong, then tests: "file::function", or a function of this file.
TRAPS: dict[str, tuple[str, ...]] = {
    "weights": (
        "LXMERT's features are not of the weights that BUTD's 10-100 are",
        "test_weights_are_named",
    ),
    "image.exif": (
        "OpenCV turns pictures, older ones did not",
        "test_exif_is_said",
    ),
    "image.channels": (
        "colours in the other order",
        f"{DOCTOR}::test_another_picture_is_found",
        "test_channels_are_blue_green_red",
    ),
    "image.resize": (
        "a resize of 8-bit pixels to whole sides, antialiased",
        f"{GEOMETRY}::test_resize_equals_plain_loops",
        f"{GEOMETRY}::test_mean_goes_before_the_resize",
        "test_the_factor_is_not_the_ratio_of_sides",
    ),
    "image.sides": (
        "562.5 becomes 563",
        f"{GEOMETRY}::test_half_to_even_sizes",
        "test_half_a_row",
    ),
    "network.stem_pool": (
        "padding of 1 moves all features",
        f"{GEOMETRY}::test_pooling_without_padding_rounds_as_caffe",
        f"{DOCTOR}::test_padded_pooling_is_found",
    ),
    "network.stride_in": (
        "stride in the 3x3, as torchvision has it",
        f"{DOCTOR}::test_stride_in_the_3x3_is_found",
    ),
    "network.last_stage": (
        "stride 2, or no dilation",
        f"{DOCTOR}::test_a_last_stage_without_dilation_is_found",
    ),
    "network.norms": (
        "another epsilon, or sums that were not divided",
        f"{DOCTOR}::test_another_epsilon_of_the_norms_is_found",
    ),
    "network.anchors": (
        "real sides, sizes outer, centred on the corner",
        f"{GEOMETRY}::test_anchor_table",
        f"{GEOMETRY}::test_anchor_grid_runs_rows_columns_anchors",
        f"{DOCTOR}::test_other_anchors_are_found",
    ),
    "proposals.ranked_by": (
        "logits do not tie where probabilities do",
        "test_saturated_scores_keep_their_order",
    ),
    "proposals.decode": (
        "an inverse of the encoding",
        f"{GEOMETRY}::test_decode_takes_nothing_off_the_far_corner",
        "test_decoding_by_hand",
    ),
    "proposals.log_sides": (
        "detectron2 limits how far a side may grow",
        "test_sides_grow_without_limit",
    ),
    "proposals.clip": (
        "clipped to W instead of W - 1",
        "test_clipping_by_hand",
        f"{DOCTOR}::test_another_rule_is_found_where_it_works",
    ),
    "proposals.min_side": (
        "after the cut, unscaled, or not at all",
        "test_small_boxes_go_before_the_cut",
    ),
    "proposals.nms": (
        "overlaps without +1",
        f"{GEOMETRY}::test_suppression_counts_one_more_pixel",
    ),
    "proposals.when_none": (
        "an image without proposals",
        "test_without_proposals",
    ),
    "pooling": (
        "interpolation instead of quantised maxima",
        f"{GEOMETRY}::test_roi_pool_equals_plain_loops",
        "test_fast_head.py::test_rectangles_are_quantised_pooling_to_the_bit",
    ),
    "feature": (
        "a feature of the corrected box",
        "test_corrected_boxes_keep_the_proposals_features",
    ),
    "boxes": (
        "corrected boxes in the store",
        "test_stored_boxes_are_the_proposals",
    ),
    "classes": (
        "probabilities without background",
        "test_probabilities_count_background",
    ),
    "attribute_class": (
        "the best object instead of the likeliest class",
        f"{DOCTOR}::test_attributes_of_the_best_object_are_found",
    ),
    "attributes": (
        "probabilities over the attributes alone",
        "test_probabilities_count_no_attribute",
    ),
    "selection.rule": (
        "one suppression for all classes, or on corrected boxes",
        f"{GEOMETRY}::test_class_nms_equals_one_class_at_a_time",
        "test_real_rows.py::test_rows_of_the_real_file",
    ),
    "selection.min_boxes": (
        "fewer boxes than asked",
        "test_bounds_of_every_profile",
    ),
    "selection.max_boxes": (
        "more boxes than asked",
        "test_bounds_of_every_profile",
    ),
    "selection.threshold": (
        "strictly above, or in float32",
        "test_threshold_at_the_edge",
    ),
    "selection.nms": (
        "another overlap",
        f"{DOCTOR}::test_another_rule_is_found_where_it_works",
    ),
    "store.dtype": (
        "features in another precision than readers expect",
        "test_features_are_stored_in_half",
    ),
    "store.order": (
        "rows sorted where the reference left them",
        f"{DOCTOR}::test_another_rule_is_found_where_it_works",
        "test_real_rows.py::test_rows_of_the_real_file",
    ),
    "store.class_scores": (
        "soft labels without background",
        "test_soft_labels_hold_background_first",
    ),
    "bad_images": (
        "an image that cannot be read ends the job, or vanishes",
        f"{JOBS}::test_bad_images_stop_the_job_after_all_others",
        f"{JOBS}::test_bad_images_are_listed_in_quarantine",
    ),
}
NOT_TRAPS = {"profile", "version", "source"}
HERE = Path(__file__).parent


def settings_of(kind: type, prefix: str = "") -> set[str]:
    """Every setting of a profile, with those of its parts."""
    hints, found = get_type_hints(kind), set()
    for field in fields(kind):
        inner = hints[field.name]
        found |= settings_of(inner, f"{field.name}.") if is_dataclass(inner) else {prefix + field.name}
    return found


def test_every_setting_has_a_test():
    assert settings_of(Profile) - NOT_TRAPS == TRAPS.keys()
    for setting, (why, *tests) in TRAPS.items():
        assert why and tests, setting
        for test in tests:
            file, _, function = test.rpartition("::")
            tree = ast.parse((HERE / (file or Path(__file__).name)).read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert function in names, f"{setting}: {test}"


def rule(**changes):
    return replace(read_profile("lxmert-36").proposals, **changes)


def proposals(boxes, scores, deltas=None, height=100, width=120, least=0.0, chosen=None, **counts):
    """Proposals of a few anchors."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    moved = torch.zeros_like(boxes) if deltas is None else torch.tensor(deltas, dtype=torch.float32)
    kept = ProposalCounts(**{"before_nms": 6000, "after_nms": 300, "nms": 0.7, **counts})
    return propose(
        boxes, torch.tensor(scores, dtype=torch.float32), moved, height, width, least, kept, chosen or rule()
    )  # fmt: skip


def test_weights_are_named():
    meant = {name: read_profile(name).weights for name in document_names("profile")}
    assert meant["lxmert-36"] == meant["fork-36"] == "caffe_36"
    assert {meant[name] for name in ("butd-10-100", "uniter-10-100", "vlbert-10-100")} == {"caffe_10_100"}


def test_exif_is_said():
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6
    import io

    data = io.BytesIO()
    picture.save(data, "PNG", exif=exif)
    assert decode_image(data.getvalue(), read_profile("lxmert-36").image.exif).shape == (4, 2, 3)
    assert decode_image(data.getvalue(), "ignore").shape == (2, 4, 3)


def test_channels_are_blue_green_red():
    red = Image.new("RGB", (9, 9), (250, 10, 20))
    shape = doctor_extractor(read_profile("lxmert-36")).model.size.image
    blob = make_blob(decode_image(red), 9, 20, shape.mean_bgr)
    np.testing.assert_allclose(
        blob.pixels[:, 4, 4], [20 - 102.9801, 10 - 115.9465, 250 - 122.7717], atol=1e-4
    )


def test_the_factor_is_not_the_ratio_of_sides():
    """360 rows times 1.5625 are 562.5: pixels lie where the factor says, not where 562 / 360 would."""
    image = np.repeat(np.arange(0, 180, 2, dtype=np.uint8)[:, None, None], 3, 2).repeat(8, 1)  # 90 rows
    scale = 141 / 90 + 0.004  # 141.36 rows
    from lxmert.detector.preprocess import resize_by_factor

    found = resize_by_factor(image.transpose(2, 0, 1).astype(np.float32), scale)
    assert found.shape[1] == 141
    np.testing.assert_allclose(found[0, 100, 0], 2 * ((100 + 0.5) / scale - 0.5), atol=1e-3)
    assert abs(found[0, 100, 0] - 2 * ((100 + 0.5) * 90 / 141 - 0.5)) > 0.3


def test_half_a_row():
    image = np.zeros((360, 640, 3), np.uint8)
    caffe, fork = (read_profile(name).image for name in ("lxmert-36", "fork-36"))
    assert make_blob(image, 600, 1000, (0.0,) * 3, caffe).pixels.shape == (3, 562, 1000)
    assert make_blob(image, 600, 1000, (0.0,) * 3, fork).pixels.shape == (3, 563, 1000)


def test_saturated_scores_keep_their_order():
    """Probabilities of 1.0 tie and stay as they are; logits would turn them round."""
    logits = torch.tensor([[0.0, 18.0], [0.0, 20.0], [0.0, 19.0]])
    scores = ranking_scores(logits, rule())
    assert scores.tolist() == [1.0, 1.0, 1.0]
    boxes = [[0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10]]
    found, _ = proposals(boxes, scores.tolist())
    assert found[:, 0].tolist() == [0, 30, 60]
    found, _ = proposals(boxes, ranking_scores(logits, rule(ranked_by="logit")).tolist())
    assert found[:, 0].tolist() == [30, 60, 0]


def test_decoding_by_hand():
    """A box of 20 x 10 pixels, moved by a tenth of its width and twice as high."""
    found, _ = proposals([[10, 20, 29, 29]], [0.5], [[0.1, 0, 0, math.log(2)]])
    np.testing.assert_allclose(found.numpy(), [[12, 15, 32, 35]], rtol=1e-6)


def test_sides_grow_without_limit():
    delta = math.log(100)  # a side a hundred times as long; detectron2 stops at 62.5
    box, move = [[600, 600, 607, 607]], [[0, 0, delta, delta]]
    sides = [
        (proposals(box, [0.5], move, 1500, 1500, chosen=chosen)[0][0, 2] - 604).item()
        for chosen in (rule(), rule(log_sides="limited"))
    ]
    np.testing.assert_allclose(sides, [400, 250], rtol=1e-5)
    assert math.isclose(LOG_LIMIT, math.log(62.5))


def test_clipping_by_hand():
    box = [[-5, -5, 130, 130]]
    assert proposals(box, [0.5])[0].tolist() == [[0, 0, 119, 99]]
    assert proposals(box, [0.5], chosen=rule(clip="exclusive"))[0].tolist() == [[0, 0, 120, 100]]


def test_small_boxes_go_before_the_cut():
    """Of three boxes the two best are taken, and one of them is small: it goes first, so two are left."""
    boxes, scores = [[0, 0, 7, 30], [40, 0, 70, 30], [80, 0, 110, 30]], [0.9, 0.8, 0.7]
    found, _ = proposals(boxes, scores, least=16, before_nms=2)
    assert found[:, 0].tolist() == [40, 80]
    found, _ = proposals(boxes, scores, least=16, before_nms=2, chosen=rule(min_side="not_empty"))
    assert found[:, 0].tolist() == [0, 40]
    # A side of exactly the least stays: decoded x2 is 15, so it has 16 pixels.
    found, _ = proposals([[0, 0, 14, 30]], [0.9], least=16)
    assert len(found) == 1
    found, _ = proposals([[0, 0, 13.9, 30]], [0.9], least=16)
    assert len(found) == 0


def test_without_proposals():
    profile = read_profile("lxmert-36")
    extractor = doctor_extractor(profile)
    extractor.model.size = replace(
        extractor.model.size, proposals=replace(extractor.model.size.proposals, min_side_px=1e6)
    )
    found = extractor.image(Image.new("RGB", (60, 40), (9, 99, 200)))
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_px, [[0, 0, 59.4, 39.4]], atol=0.5)
    refuse = replace(profile, proposals=replace(profile.proposals, when_none="bad_image"))
    with pytest.raises(Exception, match="too small for any proposal"):
        Extractor(extractor.model, refuse).image(Image.new("RGB", (60, 40)))


def test_corrected_boxes_keep_the_proposals_features():
    """The fork stores corrected boxes with the features of the proposals they come from."""
    fork, found = read_profile("fork-36"), None
    extractor = doctor_extractor(fork)
    from lxmert.detector.golden_stages import FOLDER, PICTURE

    found = extractor.stages(extractor.read(FOLDER / PICTURE))
    stored = found.regions.features.astype(np.float32)
    every = found.found.features.numpy()
    nearest = np.abs(stored[:, None] - every[None]).max(2)
    assert nearest.min(1).max() < 1e-2
    proposal = (found.proposals.numpy() / np.float32(found.blob.scale))[nearest.argmin(1)]
    assert np.abs(proposal - found.regions.boxes_px).max() > 1  # and the boxes have moved


def test_stored_boxes_are_the_proposals():
    arrays = run_stages(doctor_extractor(read_profile("lxmert-36")))
    proposal = arrays["proposals"][0] / np.float32(arrays["blob"][1][0])
    stored = arrays["kept boxes"][0]
    assert stored.dtype == np.float32
    assert all((np.abs(proposal - box).max(1) == 0).any() for box in stored)


def found_of(class_logits, attribute_logits):
    logits, attributes = (
        torch.tensor([row], dtype=torch.float32) for row in (class_logits, attribute_logits)
    )
    return Detections(torch.tensor([[0.0, 0.0, 40.0, 40.0]]), torch.ones(1, 96), logits, attributes)


def regions_of(profile, class_logits, attribute_logits):
    extractor = doctor_extractor(profile)
    blob = extractor.read(Image.new("RGB", (60, 40)))
    return extractor._select(
        blob, np.array([[0, 0, 20, 20]], np.float32), found_of(class_logits, attribute_logits)
    )


def test_probabilities_count_background():
    """With background as likely as the object, its probability is a half, and ids begin at 0."""
    found = regions_of(read_profile("lxmert-36"), [5.0, -99, 5.0, -99], [0.0, 1.0])
    assert found.object_ids.tolist() == [1] and found.object_scores[0] == pytest.approx(0.5)


def test_probabilities_count_no_attribute():
    """Two attributes and "none" alike: a third each; over attributes alone, a half."""
    for name, share in (("lxmert-36", 1 / 3), ("fork-36", 1 / 2)):
        profile = read_profile(name)
        if name == "fork-36":  # of its rules only this one
            profile = replace(read_profile("lxmert-36"), attributes=profile.attributes)
        found = regions_of(profile, [0.0, 3.0], [2.0, 2.0, 2.0])
        assert found.attribute_ids.tolist() == [0] and found.attribute_scores[0] == pytest.approx(share)


BOUNDS = {
    "lxmert-36": (36, 36, 0.2), "fork-36": (36, 36, 0.0), "butd-10-100": (10, 100, 0.2),
    "butd-100": (100, 100, 0.2), "uniter-10-100": (10, 100, 0.2), "vlbert-10-100": (10, 100, 0.5),
    "sample-16": (16, 16, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_of_every_profile(name):
    assert set(document_names("profile")) <= BOUNDS.keys() | {"own"}
    chosen = parse_profile(read_document("profile", name)).selection
    least, most, threshold = BOUNDS[name]
    assert (chosen.min_boxes, chosen.max_boxes, chosen.threshold) == BOUNDS[name]
    if chosen.rule == "max_nms":
        return  # of corrected boxes: tests/golden/detector/test_detectron_backend.py
    rng = np.random.default_rng(0)
    x = np.arange(300, dtype=np.float32) * 50  # 300 boxes that never overlap
    boxes = np.stack([x, 0 * x, x + 20, 0 * x + 20], 1)
    for above in (0, least // 2, (least + most) // 2, most, 250):
        scores = np.full((300, 3), 0.01, np.float32)
        scores[rng.permutation(300)[:above], 1] = np.linspace(threshold + 0.01, 0.9, above)
        rows, best = select(boxes, scores, chosen)
        assert len(rows) == min(max(above, least), most)
        ranked = rows.tolist() == sorted(rows, key=lambda row: (-best[row], -row))
        # Readers of UNITER's 100 cut them at 10 later: to the extractor the bounds are 100 and 100.
        lowest = least if chosen.rule == "class_nms" else most
        assert rows.tolist() == sorted(rows) if lowest <= above <= most else ranked


def test_threshold_at_the_edge():
    """0.2 in float32 is above the double 0.2, so it stays; the next smaller number goes."""
    chosen = replace(read_profile("butd-10-100").selection, min_boxes=1)
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9], [99, 0, 120, 9]], np.float32)
    at = np.float32(0.2)
    scores = np.array([[0.5], [at], [np.nextafter(at, np.float32(0))]], np.float32)
    rows, _ = select(boxes, scores, chosen)
    assert float(at) > 0.2 and rows.tolist() == [0, 1]


def test_features_are_stored_in_half():
    for name in document_names("profile"):
        profile = parse_profile(read_document("profile", name))
        assert profile.store.dtype == "float16"
    whole = replace(profile, store=replace(profile.store, dtype="float32"))
    found = [regions_of(each, [0.0, 1.0], [0.0, 1.0]).features.dtype for each in (profile, whole)]
    assert found == [np.float16, np.float32]


def test_soft_labels_hold_background_first():
    profile = read_profile("uniter-10-100")
    profile = replace(profile, store=replace(profile.store, class_scores=True))
    found = regions_of(profile, [1.0, 0.0, 2.0], [0.0, 1.0])
    expected = np.exp([1.0, 0.0, 2.0]) / np.exp([1.0, 0.0, 2.0]).sum()
    assert found.class_scores is not None
    np.testing.assert_allclose(found.class_scores[0].astype(float), expected, atol=1e-3)
