"""The network: counts, names, norms, conditioning, weights in and out."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lxmert.detector.backbone import Norm
from lxmert.detector.documents import parse_profile, parse_recipe, parse_size
from lxmert.detector.model import (
    Detector,
    build_detector,
    count_parameters,
    load_detector,
    save_detector,
    with_classes,
)
from lxmert.errors import SpecError, WeightsError
from lxmert.specs.documents import document_names, read_document


def micro_size():
    size = with_classes(parse_size(read_document("detector_size", "sample")), 5, 3, "test")
    stages = tuple(replace(stage, blocks=1, bottleneck=4, channels=8) for stage in size.stages)
    return replace(
        size, stem=replace(size.stem, channels=4), stages=stages, rpn=replace(size.rpn, width=8),
        head=replace(size.head, pool=5, bottleneck=4, channels=16),
        image=replace(size.image, short_side_px=64, long_side_px=96),
    )  # fmt: skip


def shaken(model: Detector) -> Detector:
    """Weights as after training: norms with statistics, heads that differ."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Norm):
                for value in (module.weight, module.running_var):
                    value.uniform_(0.5, 1.5, generator=generator)
                for value in (module.bias, module.running_mean):
                    value.normal_(0, 0.2, generator=generator)
        for value in model.roi_heads.box_predictor.parameters():
            value.normal_(0, 0.5, generator=generator)
    return model


def test_full_size_counts():
    with torch.device("meta"):
        model = Detector(parse_size(read_document("detector_size", "full")))
    assert count_parameters(model) == 65_348_830
    groups: dict[str, int] = defaultdict(int)
    for name, value in model.state_dict().items():
        part = (
            "norm"
            if ".norm." in name
            else name.split(".")[1]
            if name.startswith("backbone")
            else name.split(".")[-2]
        )
        part = "res5" if name.startswith("roi_heads.res5") and part != "norm" else part
        groups[part] += value.numel()
    assert groups["stem"] == 9_408 and groups["res2"] == 212_992 and groups["res3"] == 1_212_416
    assert groups["res4"] == 26_017_792 and groups["res5"] == 14_942_208 and groups["norm"] == 210_688
    assert groups["conv"] + groups["objectness_logits"] + groups["anchor_deltas"] == 4_756_040
    assert groups["cls_score"] == 3_280_449 and groups["bbox_pred"] == 13_121_796
    assert (
        groups["cls_embedding"] == 409_856
        and groups["fc_attr"] == 1_180_160
        and groups["attr_score"] == 205_713
    )
    assert len(model.state_dict()) == 535


def test_published_recipe_trains_what_caffe_trained():
    from lxmert.detector.train import make_optimizer

    with torch.device("meta"):
        model = Detector(parse_size(read_document("detector_size", "full")))
    make_optimizer(model, parse_recipe(read_document("detector_recipe", "vg")))
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) == 63_389_726


@pytest.mark.parametrize(
    ("name", "shape", "stride", "padding", "dilation"),
    [
        ("backbone.stem.conv1", (64, 3, 7, 7), 2, 3, 1),
        ("backbone.res2.0.conv1", (64, 64, 1, 1), 1, 0, 1),
        ("backbone.res3.0.shortcut", (512, 256, 1, 1), 2, 0, 1),
        ("backbone.res3.0.conv1", (128, 256, 1, 1), 2, 0, 1),
        ("backbone.res3.0.conv2", (128, 128, 3, 3), 1, 1, 1),
        ("backbone.res4.22.conv3", (1024, 256, 1, 1), 1, 0, 1),
        ("roi_heads.res5.0.shortcut", (2048, 1024, 1, 1), 1, 0, 1),
        ("roi_heads.res5.2.conv2", (512, 512, 3, 3), 1, 2, 2),
    ],
)
def test_full_size_layers(name, shape, stride, padding, dilation):
    with torch.device("meta"):
        layer = Detector(parse_size(read_document("detector_size", "full"))).get_submodule(name)
    assert layer.weight.shape == shape
    assert (layer.stride[0], layer.padding[0], layer.dilation[0]) == (stride, padding, dilation)


def test_folding_changes_rounding_only():
    model = shaken(build_detector(micro_size()))
    image = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[3.0, 4.0, 40.0, 50.0], [0.0, 0.0, 79.0, 63.0]])
    before_map = model.backbone(image)
    before = model.describe(before_map, boxes)
    model.fold_norms()
    after_map = model.backbone(image)
    torch.testing.assert_close(after_map, before_map, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model.describe(after_map, boxes).features, before.features, rtol=1e-4, atol=1e-5
    )
    assert not [name for name, _ in model.named_parameters() if ".norm." in name]


def test_norm_with_fixed_statistics_is_the_affine_map():
    norm = Norm(3)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.running_var.copy_(torch.tensor([4.0, 9.0, 1.0]))
        norm.weight.fill_(2.0)
        norm.bias.fill_(0.5)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = (
        2 * (x - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + 1e-5) + 0.5
    )
    torch.testing.assert_close(norm(x), expected)


def test_attributes_are_conditioned_on_background_too():
    model = shaken(build_detector(micro_size()))
    predictor = model.roi_heads.box_predictor
    with torch.no_grad():
        predictor.cls_score.bias[0] = 1e3  # background is likeliest everywhere
    feature_map = torch.rand(1, 8, 8, 10, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[3.0, 4.0, 40.0, 50.0], [0.0, 0.0, 79.0, 63.0]])
    found = model.describe(feature_map, boxes)
    background = predictor.attributes(found.features, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found.attribute_logits, background)
    best_object = found.class_logits[:, 1:].argmax(1) + 1
    assert not torch.allclose(found.attribute_logits, predictor.attributes(found.features, best_object))


def test_running_regions_in_chunks_changes_nothing():
    model = shaken(build_detector(micro_size()))
    feature_map = torch.rand(1, 8, 8, 10, generator=torch.Generator().manual_seed(1))
    corners = torch.rand(7, 2, generator=torch.Generator().manual_seed(2)) * 30
    boxes = torch.cat([corners, corners + 20], 1)
    whole, parts = model.describe(feature_map, boxes), model.describe(feature_map, boxes, chunk=3)
    torch.testing.assert_close(parts.features, whole.features, rtol=1e-6, atol=1e-7)


def test_weights_come_back(tmp_path):
    model = shaken(build_detector(micro_size(), seed=3))
    save_detector(tmp_path / "w.safetensors", model, {"objects_sha256": "x"})
    loaded, meta = load_detector(tmp_path / "w.safetensors")
    assert loaded.size == model.size and meta["objects_sha256"] == "x" and meta["layout"] == "caffe"
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_fresh_weights_depend_on_the_seed_alone():
    first = build_detector(micro_size(), seed=1).state_dict()
    torch.manual_seed(5)
    again, other = (
        build_detector(micro_size(), seed=1).state_dict(),
        build_detector(micro_size(), seed=2).state_dict(),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.stem.conv1.weight"], other["backbone.stem.conv1.weight"])


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_detector(path, build_detector(micro_size()), {})
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, "pt") as handle:
        meta = handle.metadata()
    name = "roi_heads.box_predictor.cls_score.weight"
    for change, word in (
        ({"extra": torch.zeros(1)}, "extra"),
        ({name: torch.zeros(2, 2)}, name),
        ({name: None}, name),
        ({name: tensors[name] * float("nan")}, f"{name} holds numbers that are not finite"),
        ({name: tensors[name] * float("inf")}, f"{name} holds numbers that are not finite"),
    ):
        changed = {k: v for k, v in {**tensors, **change}.items() if v is not None}
        save_file(changed, path, meta)
        with pytest.raises(WeightsError, match=word):
            load_detector(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="train or convert"):
        load_detector(path)
    with pytest.raises(Exception, match="none.safetensors"):
        load_detector(tmp_path / "none.safetensors")


def test_shipped_documents_are_valid():
    sizes = [parse_size(read_document("detector_size", name)) for name in document_names("detector_size")]
    recipes = [
        parse_recipe(read_document("detector_recipe", name)) for name in document_names("detector_recipe")
    ]
    profiles = {name: parse_profile(read_document("profile", name)) for name in document_names("profile")}
    assert len(sizes) >= 2 and len(recipes) >= 2 and {"lxmert-36", "sample-16"} <= profiles.keys()
    assert all(name == profile.profile for name, profile in profiles.items())
    assert (profiles["lxmert-36"].selection.min_boxes, profiles["sample-16"].selection.max_boxes) == (36, 16)


def test_wrong_documents_are_explained():
    document = read_document("profile", "lxmert-36")
    for change, words in (
        ({"poolin": 1}, 'poolin: unknown setting. Did you mean "pooling"'),
        ({"pooling": "roi_pol"}, 'Did you mean "roi_pool"'),
        ({"version": "one"}, "version: must be of kind int"),
        ({"selection": {**document["selection"], "min_boxes": 40}}, "min_boxes 40"),
    ):
        with pytest.raises(SpecError) as caught:
            parse_profile({**document, **change})
        assert words in str(caught.value)
    with pytest.raises(SpecError, match="missing"):
        parse_profile({k: v for k, v in document.items() if k != "boxes"})
    with pytest.raises(SpecError, match="mapping"):
        parse_size([1])
    with pytest.raises(SpecError, match="12 objects, but detector size full has 1600"):
        with_classes(parse_size(read_document("detector_size", "full")), 12, 400, "here")


def test_size_document_survives_json():
    from dataclasses import asdict

    size = micro_size()
    assert parse_size(json.loads(json.dumps(asdict(size)))) == size
    assert np.isfinite(size.image.mean_bgr).all()
