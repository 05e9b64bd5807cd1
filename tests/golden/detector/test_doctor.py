"""`doctor` finds every stage as shipped, and names the first that is not."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lxmert.cli import main
from lxmert.detector import backbone, golden_stages
from lxmert.detector.documents import Profile
from lxmert.detector.extract import Extractor
from lxmert.detector.model import save_detector
from lxmert.detector.seeded import seeded_detector

PROFILES = golden_stages.shipped_profiles()
NAMES = [stage.name for stage in golden_stages.STAGES]


def first_difference(profile: Profile, extractor: Extractor | None = None) -> str | None:
    extractor = extractor or golden_stages.doctor_extractor(profile)
    findings = golden_stages.compare(profile.profile, extractor)
    assert [finding.stage.name for finding in findings] == NAMES
    return next((finding.stage.name for finding in findings if not finding.same), None)


def lxmert_36() -> Profile:
    return golden_stages.read_profile("lxmert-36")


@pytest.mark.parametrize("convolutions", ["rearranged", "plain"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_is_as_shipped(profile, convolutions):
    extractor = golden_stages.doctor_extractor(golden_stages.read_profile(profile), convolutions=convolutions)
    findings = golden_stages.compare(profile, extractor)
    assert len(PROFILES) >= 6 and [finding.stage.name for finding in findings] == NAMES
    assert not [(finding.stage.name, finding.text) for finding in findings if not finding.same]
    assert max(finding.difference / finding.stage.tolerance for finding in findings) < 0.1


def test_every_stage_is_as_shipped_on_detectron2():
    pytest.importorskip("detectron2.modeling", reason="detectron2 is not installed (envs/detectron2.yaml)")
    for name in PROFILES:
        profile = golden_stages.read_profile(name)
        assert first_difference(profile, golden_stages.doctor_extractor(profile, "detectron2")) is None


# What a rule of the profile decides, and the stage that another one changes first.
RULES = {
    "sides half up": ("image", {"sides": "half_up"}, "blob"),
    "Pillow's resize": ("image", {"resize": "pillow_before_mean"}, "blob"),
    "ranked by logit": ("proposals", {"ranked_by": "logit"}, None),  # nothing ties here: the same order
    "clipped to the edge": ("proposals", {"clip": "exclusive"}, "proposals"),
    "small boxes kept": ("proposals", {"min_side": "not_empty"}, "proposals"),
    "suppression without +1": ("proposals", {"nms": "plain"}, "proposals"),
    "pooling by interpolation": ("", {"pooling": "roi_align"}, "features"),
    "softmax over attributes alone": ("", {"attributes": "softmax_without_none"}, "scores"),
    "higher overlap": ("selection", {"nms": 0.6}, "kept boxes"),
    "more boxes": ("selection", {"min_boxes": 37, "max_boxes": 37}, "kept boxes"),
    "rows as proposed": ("store", {"order": "proposal"}, "kept boxes"),
}


@pytest.mark.parametrize("case", RULES)
def test_another_rule_is_found_where_it_works(case):
    part, change, stage = RULES[case]
    profile = lxmert_36()
    if part:
        profile = replace(profile, **{part: replace(getattr(profile, part), **change)})
    else:
        profile = replace(profile, **change)
    assert first_difference(profile) == stage


def test_another_picture_is_found(tmp_path, monkeypatch):
    shutil.copytree(golden_stages.FOLDER, tmp_path / "golden")
    monkeypatch.setattr(golden_stages, "FOLDER", tmp_path / "golden")
    assert first_difference(lxmert_36()) is None
    path = tmp_path / "golden" / golden_stages.PICTURE
    pixels = np.asarray(Image.open(path))
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(path)  # colours in the other order
    assert first_difference(lxmert_36()) == "pixels"


def test_padded_pooling_is_found(monkeypatch):
    """The usual pooling has a padding of 1: every feature moves."""

    def padded(x, *_, **__):
        return F.max_pool2d(x, 3, 2, 1)

    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile)
    monkeypatch.setattr(backbone, "F", type("F", (), {"max_pool2d": staticmethod(padded), "relu": F.relu}))
    assert first_difference(profile, extractor) == "feature map"


def test_stride_in_the_3x3_is_found():
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile, convolutions="plain")
    block = extractor.model.backbone.res3[0]
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)
    assert first_difference(profile, extractor) == "feature map"


def test_another_epsilon_of_the_norms_is_found(monkeypatch):
    monkeypatch.setattr(backbone, "_EPSILON", 3e-3)
    assert first_difference(lxmert_36()) == "feature map"


@pytest.mark.parametrize("moved", [(-8, -8, -8, -8), (0, 0, 1, 1)])
def test_other_anchors_are_found(moved):
    """Anchors centred on the cell's corner, or one pixel larger."""
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile)
    generator, size = extractor.model.proposal_generator, extractor.model.size
    from lxmert.detector.anchors import cell_anchors

    cells = cell_anchors(size.stride, size.rpn.anchor_ratios, size.rpn.anchor_scales)
    generator.cells = cells
    assert first_difference(profile, extractor) is None
    generator.cells = cells + np.array(moved, np.float32)
    assert first_difference(profile, extractor) == "proposals"


def test_a_last_stage_without_dilation_is_found():
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile, convolutions="plain")
    for block in extractor.model.roi_heads.res5:
        block.conv2.dilation = block.conv2.padding = (1, 1)
    assert first_difference(profile, extractor) == "features"


def test_attributes_of_the_best_object_are_found(monkeypatch):
    """The class that conditions attributes may be background; leaving that out changes them."""
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile)
    predictor = extractor.model.roi_heads.box_predictor
    with torch.inference_mode():
        own = predictor.attributes

        def of_object(features, classes):
            return own(features, predictor.cls_score(features)[:, 1:].argmax(1) + 1)

        predictor.attributes = of_object
        assert first_difference(profile, extractor) == "scores"


def test_rows_of_classes_turned_by_one_are_found():
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile)
    layer = extractor.model.roi_heads.box_predictor.cls_score
    layer.weight.data = layer.weight.data.roll(-1, 0)
    assert first_difference(profile, extractor) == "scores"


def test_numbers_that_are_not_finite_are_found():
    profile = lxmert_36()
    extractor = golden_stages.doctor_extractor(profile)
    extractor.model.roi_heads.box_predictor.attr_score.bias.data[3] = float("nan")
    assert first_difference(profile, extractor) == "scores"


def test_command_reports_and_exits(tmp_path, capsys, monkeypatch):
    model = seeded_detector(golden_stages.doctor_extractor(lxmert_36()).model.size)
    save_detector(tmp_path / "w.safetensors", model, {"source": {"kind": "caffe", "files": {}}})
    assert main(["doctor", "--profile", "lxmert-36", "--weights", str(tmp_path / "w.safetensors")]) == 0
    out = capsys.readouterr().out
    assert f"torch {torch.__version__}" in out and "lxmert-36 version 2: every stage as shipped" in out
    assert "w.safetensors: sha256" in out and "from caffe" in out and "size doctor" in out
    for wrong in ("lxmert-37", "sample-16"):
        assert main(["doctor", "--profile", wrong]) == 2
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert wrong in err and "lxmert-36" in err
    monkeypatch.setattr(backbone, "_EPSILON", 3e-3)
    assert main(["doctor", "--profile", "lxmert-36"]) == 2
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert 'of lxmert-36 the stage "feature map" is the first' in last and "profile: network" in last


def test_stores_are_reported(tmp_path, capsys):
    from lxmert.data.region_record import StoreSchema
    from lxmert.data.region_writer import RegionWriter
    from lxmert.detector.doctor_cli import about_store

    schema = StoreSchema(
        feature_width=4, feature_dtype="float16", max_boxes=36, object_classes=3, attribute_classes=2,
        profile={"profile": "lxmert-36", "version": 2},
    )  # fmt: skip
    with RegionWriter(tmp_path / "x.lmdb", schema) as writer:
        writer.finish({
            "weights": {"sha256": "ab" * 32}, "versions": {"torch": "2.9"}, "exif": "apply",
            "numerics": {"backend": "torchvision"}, "quarantined": [{"id": "1"}],
        })  # fmt: skip
    said = about_store(tmp_path / "x.lmdb")
    assert "0 images, profile lxmert-36 version 2" in said and "weights sha256 abababababab," in said
    assert "1 quarantined" in said and "torch 2.9, backend torchvision" in said
    assert main(["doctor", "--store", str(tmp_path / "none.lmdb")]) == 2
    assert "none.lmdb" in capsys.readouterr().err
