"""ImageNet's ResNet-101, with which detector training begins, in each publisher's form."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_writer import caffe_layers, narrow_size, random_native, write_caffemodel
from safetensors.numpy import save_file

from lxmert.cli import main
from lxmert.detector.documents import DetectorSize, parse_recipe, parse_size
from lxmert.detector.model import build_detector, load_detector
from lxmert.detector.train_cli import _first_weights
from lxmert.detector.weights.convert import save_imported
from lxmert.detector.weights.imagenet import backbone_names, import_backbone
from lxmert.detector.weights.names import conv_groups
from lxmert.errors import WeightsError
from lxmert.specs.documents import read_document

SIZE = narrow_size()
NATIVE = random_native(SIZE)
BACKBONE = {name: NATIVE[name] for name in backbone_names(SIZE)}
STEM = "backbone.stem.conv1"
FC = {"weight": np.ones((10, 16), np.float32), "bias": np.ones(10, np.float32)}


def caffe_file(path: Path) -> Path:
    """As MSRA published it: no detector's heads, a classifier behind."""
    names = {name for group in conv_groups(SIZE) for name in (group.conv, group.norm, group.scale)}
    layers = [layer for layer in caffe_layers(NATIVE, SIZE) if layer[0] in names]
    path.write_bytes(write_caffemodel([*layers, ("fc1000", "InnerProduct", list(FC.values()))], legacy=True))
    return path


def detectron_tensors() -> dict[str, np.ndarray]:
    """As Detectron names and folds them."""
    found = {f"fc1000_{name[0]}": value for name, value in FC.items()}
    for group in conv_groups(SIZE):
        parts = group.prefix.split(".")
        branch = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}
        own = "conv1" if "stem" in parts else f"{parts[-3]}_{parts[-2]}_branch{branch[parts[-1]]}"
        norm = "res_conv1_bn" if own == "conv1" else f"{own}_bn"
        of = {name: NATIVE[f"{group.prefix}.norm.{name}"] for name in ("weight", "bias", "running_mean")}
        scale = of["weight"] / np.sqrt(NATIVE[f"{group.prefix}.norm.running_var"] + 1e-5)
        found |= {f"{own}_w": NATIVE[f"{group.prefix}.weight"], f"{norm}_s": scale}
        found[f"{norm}_b"] = of["bias"] - of["running_mean"] * scale
    return found


def torchvision_tensors(size: DetectorSize, native: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As torchvision names them, for its own input."""
    found = {f"fc.{name}": value for name, value in FC.items()}
    for group in conv_groups(size):
        parts = group.prefix.split(".")
        if "stem" in parts:
            conv, norm = "conv1", "bn1"
        else:
            place = f"layer{int(parts[-3][-1]) - 1}.{parts[-2]}"
            pair = ("downsample.0", "downsample.1")
            names = pair if parts[-1] == "shortcut" else (parts[-1], parts[-1].replace("conv", "bn"))
            conv, norm = (f"{place}.{name}" for name in names)
        found[f"{conv}.weight"] = native[f"{group.prefix}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{part}"] = native[f"{group.prefix}.norm.{part}"]
        found[f"{norm}.num_batches_tracked"] = np.array(1, np.int64)
    return found


def features(tensors: dict[str, np.ndarray], pixels: torch.Tensor) -> torch.Tensor:
    """What a detector with this backbone sees in pixels (BGR less the mean)."""
    model = build_detector(SIZE)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()}, strict=False)
    with torch.no_grad():
        return model.backbone(pixels)


def of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    state = model.state_dict()
    return {name: state[name].numpy() for name in backbone_names(SIZE)}


def test_msras_caffe_file_bit_for_bit(tmp_path: Path) -> None:
    model, meta, report = import_backbone(caffe_file(tmp_path / "ResNet-101-model.caffemodel"), SIZE)
    found = of(model)
    assert len(found) == 104 * 5 and all(np.array_equal(found[name], BACKBONE[name]) for name in found)
    assert meta["source"]["kind"] == "imagenet-caffe" and meta["backbone"] == "imagenet"
    assert [row["from"] for row in report.ignored] == ["fc1000[0]", "fc1000[1]"]
    fresh = build_detector(SIZE, 0).state_dict()
    heads = [name for name in fresh if name not in found]
    assert len(heads) == 15 and all(torch.equal(model.state_dict()[name], fresh[name]) for name in heads)


@pytest.mark.parametrize("wrapped", [True, False])
def test_detectrons_pickle_is_the_same_network(tmp_path: Path, wrapped: bool) -> None:
    tensors = detectron_tensors()
    document = {"blobs": tensors, "cfg": "x"} if wrapped else tensors
    path = tmp_path / "R-101.pkl"
    path.write_bytes(pickle.dumps(document, protocol=2))
    model, meta, report = import_backbone(path, SIZE)
    pixels = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    wanted, found = features(BACKBONE, pixels), features(of(model), pixels)
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert meta["source"]["kind"] == "imagenet-detectron" and len(report.ignored) == 2
    # A bias before a norm, of which some files have a trace, is a shift behind it.
    bias = np.linspace(-1, 1, len(tensors["res_conv1_bn_s"]), dtype=np.float32)
    path.write_bytes(pickle.dumps({**tensors, "conv1_b": bias}, protocol=2))
    shifted = of(import_backbone(path, SIZE)[0])[f"{STEM}.norm.bias"]
    np.testing.assert_allclose(
        shifted - of(model)[f"{STEM}.norm.bias"], bias * tensors["res_conv1_bn_s"], atol=1e-6
    )


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_torchvisions_first_convolution_reads_our_input(tmp_path: Path, form: str) -> None:
    tensors = torchvision_tensors(SIZE, NATIVE)
    path = tmp_path / f"resnet101.{form}"
    if form == "pth":
        torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, path)
    else:
        save_file(tensors, path)
    model, meta, report = import_backbone(path, SIZE)
    rgb = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    weight = torch.from_numpy(tensors["conv1.weight"])
    theirs = F.conv2d((rgb - mean[:, None, None]) / std[:, None, None], weight, stride=2, padding=3)
    norm = [
        torch.from_numpy(tensors[f"bn1.{name}"]) for name in ("running_mean", "running_var", "weight", "bias")
    ]
    theirs = F.batch_norm(theirs, *norm, eps=1e-5)
    ours = 255 * rgb.flip(1) - torch.tensor(SIZE.image.mean_bgr)[:, None, None]
    with torch.no_grad():
        found = model.backbone.stem.conv1(ours)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # the border's zeros are other pixels
    torch.testing.assert_close(found[inside], theirs[inside], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, theirs, rtol=1e-2, atol=1e-2)
    assert meta["source"]["kind"] == "imagenet-torchvision" and "stride" in report.warnings[0]
    other = [name for name in BACKBONE if not name.startswith(STEM)]
    assert all(np.array_equal(of(model)[name], BACKBONE[name]) for name in other)


def test_torchvisions_own_names_at_full_size(tmp_path: Path) -> None:
    from torchvision.models import resnet101

    with torch.device("meta"):
        shapes = {name: value.shape for name, value in resnet101().state_dict().items()}
    full = parse_size(read_document("detector_size", "full"))
    with torch.device("meta"):
        names = {group.prefix: group for group in conv_groups(full)}
    theirs = torchvision_tensors(full, dict.fromkeys(_all_names(full), np.zeros(0, np.float32)))
    assert len(names) == 104 and {*theirs} == set(shapes)


def _all_names(size: DetectorSize) -> list[str]:
    return backbone_names(size)


def test_training_begins_with_it_and_draws_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "backbone.safetensors"
    model, meta, _ = import_backbone(caffe_file(tmp_path / "x.caffemodel"), SIZE)
    save_imported(out, model, meta)
    recipe = parse_recipe(read_document("detector_recipe", "vg"))
    other = replace(SIZE, classes=replace(SIZE.classes, objects=9))  # other classes, the same backbone
    first, second = (_first_weights(other, recipe, seed, out) for seed in (1, 2))
    assert first.size == other
    for found in (first, second):
        assert all(np.array_equal(of(found)[name], BACKBONE[name]) for name in BACKBONE)
    head = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(first.state_dict()[head], second.state_dict()[head])
    drawn = build_detector(other, 1, recipe.init.head_std, recipe.init.residual_gain).state_dict()
    assert torch.equal(first.state_dict()[head], drawn[head])
    wider = replace(SIZE, stem=replace(SIZE.stem, channels=6))
    with pytest.raises(WeightsError, match="backbone of another size than narrow, first: backbone.stem"):
        _first_weights(wider, recipe, 1, out)


def test_what_is_no_resnet_101_is_one_line(tmp_path: Path) -> None:
    tensors = detectron_tensors()
    path = tmp_path / "R-101.pkl"
    cases = {
        "res4_22_branch2b_w is missing": {n: v for n, v in tensors.items() if n != "res4_22_branch2b_w"},
        "1 tensors belong to no part of the backbone, first: 'res5_3_branch2a_w'": {
            **tensors, "res5_3_branch2a_w": np.ones(3, np.float32)
        },
        "holds no usable numbers": {**tensors, "conv1_w": tensors["conv1_w"] * np.float32("nan")},
        "would be \\[4, 3, 5, 5\\], should be": {**tensors, "conv1_w": np.ones((4, 3, 5, 5), np.float32)},
    }  # fmt: skip
    for words, changed in cases.items():
        path.write_bytes(pickle.dumps(changed, protocol=2))
        with pytest.raises(WeightsError, match=words) as caught:
            import_backbone(path, SIZE)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    layers = caffe_layers(NATIVE, SIZE)
    path.write_bytes(write_caffemodel(layers))  # a whole detector is no backbone
    with pytest.raises(WeightsError, match="layers with weights belong to no part"):
        import_backbone(path, SIZE)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import lxmert.detector.convert_cli as cli

    monkeypatch.setattr(cli, "parse_size", lambda document: SIZE)
    out, report = tmp_path / "out.safetensors", tmp_path / "report.json"
    weights = caffe_file(tmp_path / "x.caffemodel")
    arguments = ["convert-detector", "--backbone", "--weights", str(weights), "--out", str(out)]
    assert main([*arguments, "--report", str(report)]) == 0
    found, meta = load_detector(out)
    assert meta["backbone"] == "imagenet" and np.array_equal(
        of(found)[f"{STEM}.weight"], NATIVE[f"{STEM}.weight"]
    )
    assert json.loads(report.read_text())["facts"] == {"tensors": 520, "convolutions": 104}
    assert main([*arguments, "--to", "detectron"]) == 2
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main([*arguments[:-1], str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
