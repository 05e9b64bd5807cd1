"""Published weights in and out: every tensor, every row order, every damaged file."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
import yaml
from caffe_writer import caffe_layers, field, narrow_size, random_native, shallow, varint, write_caffemodel

from lxmert.cli import main
from lxmert.detector.documents import parse_size
from lxmert.detector.model import load_detector
from lxmert.detector.weights.anchors import caffe_anchors, stock_anchors
from lxmert.detector.weights.containers import hf_config
from lxmert.detector.weights.convert import export_weights, import_weights, native_shapes, save_imported
from lxmert.detector.weights.layouts import detectron_from_native, native_from_detectron
from lxmert.detector.weights.names import ANCHORS_KEY, FULL_COUNTS, conv_groups, count_groups
from lxmert.detector.weights.report import Report
from lxmert.errors import LxmertError, WeightsError
from lxmert.specs.documents import read_document

SIZE = narrow_size()
NATIVE = random_native(SIZE)
LAYERS = caffe_layers(NATIVE, SIZE)
CLS, ATTR = "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.attr_score.bias"
BOXES = "roi_heads.box_predictor.bbox_pred.weight"


def state(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        first[n].dtype == second[n].dtype
        and first[n].shape == second[n].shape
        and first[n].tobytes() == second[n].tobytes()
        for n in first
    )


def as_detectron(seed: int = 0, anchors: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """A file's tensors as the published pickle holds them."""
    found = detectron_from_native(random_native(SIZE, seed), {}, SIZE)
    if anchors is None:
        found.pop(ANCHORS_KEY)
    else:
        found[ANCHORS_KEY] = anchors
    return found


def write_pickle(path, tensors):
    with open(path, "wb") as handle:
        pickle.dump({"model": tensors, "__author__": "x"}, handle, protocol=2)


# Caffe


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("double", [False, True])
def test_both_wire_layouts_load_equal(tmp_path, legacy, packed, double):
    path = tmp_path / "resnet101_faster_rcnn_final.caffemodel"
    path.write_bytes(write_caffemodel(LAYERS, legacy, packed, double))
    model, meta, report = import_weights(path, SIZE)
    assert same(state(model), NATIVE)
    assert meta["source"]["kind"] == "caffe" and meta["bbox_divisors"] == [1, 1, 1, 1]
    assert len(report.tensors) == 104 * 6 + 15 and report.facts["convolutions"] == 104
    assert report.facts["tensors"] == 535 and not report.ignored


def test_both_wire_layouts_give_equal_features(tmp_path):
    pixels = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3.0, 4.0, 40.0, 50.0]])
    found = []
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.caffemodel"
        path.write_bytes(write_caffemodel(LAYERS, legacy))
        model, meta, _ = import_weights(path, SIZE)
        save_imported(tmp_path / "ours.safetensors", model, meta)
        model, _ = load_detector(tmp_path / "ours.safetensors")
        found.append(model.describe(model.backbone(pixels), boxes))
    assert found[0].features.abs().sum() > 0
    assert torch.equal(found[0].features, found[1].features)
    assert torch.equal(found[0].attribute_logits, found[1].attribute_logits)


def test_norm_factor_of_zero_divides_nothing(tmp_path):
    layers = [(n, k, [*a[:2], np.zeros(1, np.float32)] if k == "BatchNorm" else a) for n, k, a in LAYERS]
    (tmp_path / "w.caffemodel").write_bytes(write_caffemodel(layers))
    model, _, _ = import_weights(tmp_path / "w.caffemodel", SIZE)
    name = "backbone.stem.conv1.norm.running_mean"
    np.testing.assert_array_equal(state(model)[name], NATIVE[name] * 2)


def test_relation_branch_is_accounted_for_and_unknown_layers_are_errors(tmp_path):
    path = tmp_path / "w.caffemodel"
    extra = [("heatmap_scale", "Scale", [np.ones((7, 3), np.float32)])]
    path.write_bytes(write_caffemodel(LAYERS + extra))
    _, _, report = import_weights(path, SIZE)
    assert [row["from"] for row in report.ignored] == ["heatmap_scale[0]"]
    assert "relation branch" in report.ignored[0]["why"]
    path.write_bytes(write_caffemodel([*LAYERS, ("fc_attr2", "InnerProduct", [np.ones(3, np.float32)])]))
    with pytest.raises(WeightsError, match='"fc_attr"|fc_attr2'):
        import_weights(path, SIZE)


def test_caffe_errors_name_layer_and_remedy(tmp_path):
    path = tmp_path / "w.caffemodel"
    wrong = {name: (name, kind, arrays) for name, kind, arrays in LAYERS}
    cases = {
        "cls_score is missing": [x for x in LAYERS if x[0] != "cls_score"],
        "stands twice": [*LAYERS, LAYERS[3]],
        "is \\[16, 5\\], should be \\[6, 16\\]": [
            wrong[x[0]] if x[0] != "cls_score" else ("cls_score", x[1], [np.ones((16, 5), "f4"), x[2][1]])
            for x in LAYERS
        ],
        "of type 'InnerProduct', should be Convolution": [
            (x[0], "InnerProduct", x[2]) if x[0] == "conv1" else x for x in LAYERS
        ],
        "has 1 arrays, should have 3": [
            (x[0], x[1], x[2][:1]) if x[0] == "bn_conv1" else x for x in LAYERS
        ],
        "not finite": [
            (x[0], x[1], [x[2][0] * np.float32("nan")]) if x[0] == "conv1" else x for x in LAYERS
        ],
    }  # fmt: skip
    for words, layers in cases.items():
        path.write_bytes(write_caffemodel(layers))
        with pytest.raises(WeightsError, match=words) as caught:
            import_weights(path, SIZE)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="empty"):
        import_weights(path, SIZE, kind="caffe")
    with pytest.raises(LxmertError, match="no such file"):
        import_weights(tmp_path / "none.caffemodel", SIZE)


def test_hostile_lengths_claim_no_memory(tmp_path):
    path = tmp_path / "w.caffemodel"
    huge = field(7, field(1, varint(2**62))) + field(5, b"\0" * 8)
    deep = b"\x0a" * 4000
    runs = (b"\x2d\0\0\0\0" + b"\x08\x01") * 6_000
    for body in (field(100, field(1, b"a") + field(7, huge)), deep, field(100, field(7, runs)) * 4):
        path.write_bytes(body)
        tracemalloc.start()
        with pytest.raises(WeightsError) as caught:
            import_weights(path, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 64e6 and "\n" not in str(caught.value)
        tracemalloc.stop()


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """One mutation: a byte changed, a run removed, repeated or cut off."""
    out, at = bytearray(data), int(rng.integers(len(data)))
    kind = rng.integers(5)
    if kind <= 1:
        out[at] ^= int(rng.integers(1, 256))
    elif kind == 2:
        del out[at : at + int(rng.integers(1, 64))]
    elif kind == 3:
        out[at:at] = out[at : at + int(rng.integers(1, 64))]
    else:
        del out[at:]
    return bytes(out)


@pytest.mark.parametrize("legacy", [False, True])
def test_mutated_files_give_one_line_or_load(tmp_path, legacy):
    """1,000 seeded mutations over both layouts. A changed number cannot be seen without a checksum: such a
    file loads, and then differs in no more than the one tensor that was hit."""
    size = shallow(SIZE)
    native = random_native(size)
    data = write_caffemodel(caffe_layers(native, size), legacy)
    rng, path = np.random.default_rng(int(legacy)), tmp_path / "w.caffemodel"
    refused = loaded = 0
    for _ in range(500):
        path.write_bytes(flipped(data, rng))
        try:
            model, _, _ = import_weights(path, size, kind="caffe")
        except LxmertError as error:
            text = str(error)
            assert "\n" not in text and str(path) in text and len(text) < 600 + len(str(path))
            refused += 1
            continue
        found = state(model)
        hit = [n for n in native if not np.array_equal(found[n], native[n])]
        # A norm's factor stands for two vectors; a byte that moves within a run touches one array.
        assert len({n.rsplit(".", 1)[0] for n in hit}) <= 1
        loaded += 1
    assert refused > 200 and loaded > 20


# detectron2 and Hugging Face


def anchor_tables():
    caffe, stock = caffe_anchors(SIZE), stock_anchors(SIZE)
    rng = np.random.default_rng(4)
    return {
        "none": None,
        "caffe": caffe,
        "permuted": caffe[rng.permutation(len(caffe))],
        "stock": stock,
        "own": (stock * 1.3).astype(np.float32),
    }


@pytest.mark.parametrize("table", ["none", "caffe", "permuted", "stock", "own"])
def test_pickle_round_trip_is_bit_equal(tmp_path, table):
    tensors = as_detectron(1, anchor_tables()[table])
    write_pickle(tmp_path / "in.pkl", tensors)
    model, meta, report = import_weights(tmp_path / "in.pkl", SIZE)
    kind = {"none": "stock", "permuted": "caffe"}.get(table, table)
    assert report.facts["anchors"]["kind"] == kind and bool(report.warnings) == (kind != "caffe")
    save_imported(tmp_path / "ours.safetensors", model, meta)
    export_weights(tmp_path / "ours.safetensors", "detectron", tmp_path / "out.pkl")
    with open(tmp_path / "out.pkl", "rb") as handle:
        out = pickle.load(handle)  # our own file
    assert out["__author__"] and bits(out["model"], tensors)


def test_rows_are_rotated_background_first(tmp_path):
    tensors = as_detectron(2, caffe_anchors(SIZE))
    write_pickle(tmp_path / "w.pkl", tensors)
    model, _, report = import_weights(tmp_path / "w.pkl", SIZE)
    found = state(model)
    np.testing.assert_array_equal(found[CLS][0], tensors[CLS][-1])
    np.testing.assert_array_equal(found[CLS][1:], tensors[CLS][:-1])
    embedding = "roi_heads.box_predictor.cls_embedding.weight"
    np.testing.assert_array_equal(found[embedding][0], tensors[embedding][-1])
    np.testing.assert_array_equal(found[ATTR], np.roll(tensors[ATTR], 1))
    assert not found[BOXES][:4].any() and np.array_equal(found[BOXES][4:], tensors[BOXES])
    moved = {CLS, embedding, ATTR, BOXES, CLS.replace("weight", "bias")}
    assert moved <= report.permutations.keys()
    assert all(report.permutations[name] == "last row first" for name in (CLS, embedding, ATTR))


def test_background_first_files_keep_their_rows(tmp_path):
    tensors = dict(as_detectron(2, caffe_anchors(SIZE)))
    for part in ("weight", "bias"):
        tensors[BOXES.replace("weight", part)] = NATIVE[BOXES.replace("weight", part)]
    write_pickle(tmp_path / "w.pkl", tensors)
    model, meta, _ = import_weights(tmp_path / "w.pkl", SIZE, background="first")
    np.testing.assert_array_equal(state(model)[CLS], tensors[CLS])
    save_imported(tmp_path / "ours.safetensors", model, meta)
    export_weights(tmp_path / "ours.safetensors", "detectron", tmp_path / "out.pkl")
    assert bits(pickle.loads((tmp_path / "out.pkl").read_bytes())["model"], tensors)


def test_native_to_detectron_and_back_keeps_the_function():
    tensors = detectron_from_native(NATIVE, {}, SIZE)
    again, meta = native_from_detectron(tensors, native_shapes(SIZE), SIZE, "x", Report({}))
    objectness = "proposal_generator.rpn_head.objectness_logits.weight"
    half = SIZE.anchors
    np.testing.assert_array_equal(
        again[objectness][half:], NATIVE[objectness][half:] - NATIVE[objectness][:half]
    )
    divided = again[BOXES].reshape(-1, 4, 16) / np.array([10, 10, 5, 5], np.float32)[:, None]
    np.testing.assert_allclose(divided[1:], NATIVE[BOXES].reshape(-1, 4, 16)[1:], rtol=1e-6)
    for name in NATIVE:
        if not name.startswith(("proposal_generator.rpn_head.objectness", BOXES[:-6])):
            np.testing.assert_array_equal(again[name], NATIVE[name])
    assert meta["cell_anchors"] is None


def test_permuted_anchors_propose_the_same_boxes(tmp_path):
    """The same network written with shuffled anchors gives the same proposals."""
    tensors = as_detectron(1, caffe_anchors(SIZE))
    order = np.random.default_rng(4).permutation(SIZE.anchors)
    shuffled = dict(tensors)
    shuffled[ANCHORS_KEY] = tensors[ANCHORS_KEY][order]
    for part in ("weight", "bias"):
        name = f"proposal_generator.rpn_head.objectness_logits.{part}"
        shuffled[name] = tensors[name][order]
        name = f"proposal_generator.rpn_head.anchor_deltas.{part}"
        blocks = tensors[name].reshape(SIZE.anchors, 4, *tensors[name].shape[1:])
        shuffled[name] = blocks[order].reshape(tensors[name].shape)
    found = []
    for name, value in (("a", tensors), ("b", shuffled)):
        write_pickle(tmp_path / f"{name}.pkl", value)
        found.append(state(import_weights(tmp_path / f"{name}.pkl", SIZE)[0]))
    assert same(*found)


def test_own_anchors_are_used_and_survive_saving(tmp_path):
    own = (stock_anchors(SIZE) * 1.25).astype(np.float32)
    write_pickle(tmp_path / "w.pkl", as_detectron(1, own))
    model, meta, _ = import_weights(tmp_path / "w.pkl", SIZE)
    save_imported(tmp_path / "ours.safetensors", model, meta)
    loaded, _ = load_detector(tmp_path / "ours.safetensors")
    anchors = loaded.proposal_generator.anchors(torch.zeros(1, 8, 2, 3)).numpy()
    np.testing.assert_array_equal(anchors[: SIZE.anchors], own - [0, 0, 1, 1])
    np.testing.assert_array_equal(anchors[-1], own[-1] + [32, 16, 31, 15])
    assert loaded.bbox_divisors == (10, 10, 5, 5)


def test_divisors_belong_to_the_rows(tmp_path):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(write_caffemodel(LAYERS))
    model, meta, _ = import_weights(path, SIZE)
    save_imported(tmp_path / "caffe.safetensors", model, meta)
    export_weights(tmp_path / "caffe.safetensors", "detectron", tmp_path / "w.pkl")
    other, _, _ = import_weights(tmp_path / "w.pkl", SIZE)
    features = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(4, 1)
    torch.testing.assert_close(
        other.regress(features, boxes)[:, 1:], model.regress(features, boxes)[:, 1:], rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("container", ["pytorch_model.bin", "model.safetensors"])
def test_hugging_face_round_trip_is_bit_equal(tmp_path, container):
    from safetensors.numpy import save_file

    tensors = as_detectron(3, caffe_anchors(SIZE))
    for group in conv_groups(SIZE):
        tensors[f"{group.prefix}.norm.num_batches_tracked"] = np.array(7, np.int64)
    config = hf_config(SIZE, (10.0, 10.0, 5.0, 5.0))
    config["MODEL"]["SOMETHING"] = [1, {"x": None}]
    folder = tmp_path / "frcnn-vg-finetuned"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if container.endswith(".bin"):
        torch.save({n: torch.from_numpy(np.array(v)) for n, v in tensors.items()}, folder / container)
    else:
        save_file(tensors, folder / container)
    model, meta, report = import_weights(folder, SIZE)
    assert len(report.ignored) == 104 and meta["bbox_divisors"] == [10, 10, 5, 5]
    save_imported(tmp_path / "ours.safetensors", model, meta)
    out = tmp_path / "out"
    export_weights(tmp_path / "ours.safetensors", "huggingface", out, hf_weights=container)
    assert yaml.safe_load((out / "config.yaml").read_text()) == config
    if container.endswith(".bin"):
        written = torch.load(out / container, weights_only=True)
    else:
        from safetensors.torch import load_file

        written = load_file(out / container)
    assert bits({n: v.numpy() for n, v in written.items()}, tensors)


def test_hugging_face_configuration_is_read(tmp_path):
    folder = tmp_path / "hf"
    path = tmp_path / "w.caffemodel"
    path.write_bytes(write_caffemodel(LAYERS))
    model, meta, _ = import_weights(path, SIZE)
    save_imported(tmp_path / "ours.safetensors", model, meta)
    export_weights(tmp_path / "ours.safetensors", "huggingface", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["MODEL"]["ANCHOR_GENERATOR"]["OFFSET"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    moved, _, report = import_weights(folder, SIZE)
    assert report.facts["anchors"]["kind"] == "own"
    anchors = moved.proposal_generator.anchors(torch.zeros(1, 8, 1, 1)).numpy()
    np.testing.assert_array_equal(anchors, caffe_anchors(SIZE) + [8, 8, 7, 7])
    for key, value in (("MAX_POOL", False), ("PIXEL_MEAN", [1, 2, 3])):
        (folder / "config.yaml").write_text(yaml.safe_dump({"MODEL": {**config["MODEL"], key: value}}))
        with pytest.raises(WeightsError, match=key):
            import_weights(folder, SIZE)
    (folder / "config.yaml").unlink()
    with pytest.raises(WeightsError, match=r"holds no config.yaml"):
        import_weights(folder, SIZE)


def test_files_without_attribute_layers(tmp_path):
    tensors = {n: v for n, v in as_detectron(1, caffe_anchors(SIZE)).items() if "attr" not in n}
    tensors.pop("roi_heads.box_predictor.cls_embedding.weight")
    write_pickle(tmp_path / "w.pkl", tensors)
    model, meta, report = import_weights(tmp_path / "w.pkl", SIZE)
    assert model.size.classes.attributes == 0 and report.facts["tensors"] == 530
    found = model.describe(torch.rand(1, 8, 6, 6), torch.tensor([[1.0, 2.0, 30.0, 40.0]]))
    assert found.attribute_logits.shape == (1, 1)
    save_imported(tmp_path / "ours.safetensors", model, meta)
    export_weights(tmp_path / "ours.safetensors", "detectron", tmp_path / "out.pkl")
    assert bits(pickle.loads((tmp_path / "out.pkl").read_bytes())["model"], tensors)


def test_left_over_missing_and_foreign_tensors_are_errors(tmp_path):
    good = as_detectron(1, caffe_anchors(SIZE))
    for change, words in (
        ({"extra.weight": np.ones(2, np.float32)}, "1 tensors unknown, first: 'extra.weight'"),
        ({CLS: None}, "1 tensors missing"),
        ({CLS: good[CLS][:3]}, r"cls_score.weight is \[3, 16\], should be \[6, 16\]"),
        ({CLS: good[CLS] * np.float32("inf")}, "no finite numbers"),
        ({ANCHORS_KEY: good[ANCHORS_KEY][:3]}, "cell_anchors"),
        ({"x.norm.num_batches_tracked": np.array(1)}, "counts for no norm"),
    ):
        write_pickle(tmp_path / "w.pkl", {k: v for k, v in {**good, **change}.items() if v is not None})
        with pytest.raises(WeightsError, match=words) as caught:
            import_weights(tmp_path / "w.pkl", SIZE)
        assert "\n" not in str(caught.value)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": {}}, 2))
    with pytest.raises(WeightsError, match='"model"'):
        import_weights(tmp_path / "w.pkl", SIZE)


def test_pickles_run_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("never",))

    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": {"a": Bomb()}}, 2))
    with pytest.raises(LxmertError, match="w.pkl"):
        import_weights(tmp_path / "w.pkl", SIZE)


def test_mutated_pickles_and_torch_files_give_one_line(tmp_path):
    tensors = as_detectron(1, caffe_anchors(SIZE))
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(hf_config(SIZE, (10.0, 10.0, 5.0, 5.0))))
    stream = io.BytesIO()
    torch.save({n: torch.from_numpy(np.array(v)) for n, v in tensors.items()}, stream)
    files = {
        tmp_path / "w.pkl": pickle.dumps({"model": tensors}, 2),
        folder / "pytorch_model.bin": stream.getvalue(),
    }
    rng = np.random.default_rng(5)
    for path, data in files.items():
        refused = 0
        for _ in range(60):
            path.write_bytes(flipped(data, rng))
            try:
                import_weights(path, SIZE)
            except LxmertError as error:
                assert "\n" not in str(error)
                refused += 1
        assert refused > 5


# The verb, and the full size


def test_counts_of_the_full_network():
    full = parse_size(read_document("detector_size", "full"))
    shapes = native_shapes(full)
    assert len(conv_groups(full)) == 104 and len(shapes) == 535
    counts = count_groups(shapes)
    assert counts == FULL_COUNTS
    assert sum(counts.values()) == 65_559_518 and sum(counts.values()) - counts["norms"] == 65_348_830
    written = detectron_from_native({n: np.zeros(s, np.float32) for n, s in shapes.items()}, {}, full)
    written.pop(ANCHORS_KEY)
    assert sum(value.size for value in written.values()) == 65_545_166
    groups = {group.conv: group for group in conv_groups(full)}
    assert groups["res4b22_branch2c"].prefix == "backbone.res4.22.conv3"
    assert groups["res2c_branch2a"].scale == "scale2c_branch2a"
    assert groups["res3a_branch1"].norm == "bn3a_branch1"
    assert groups["res5a_branch1"].prefix == "roi_heads.res5.0.shortcut"


def test_the_verb_converts_reports_and_explains(tmp_path, capsys, monkeypatch):
    from dataclasses import asdict

    from lxmert.detector import convert_cli

    monkeypatch.setattr(convert_cli, "read_document", lambda kind, name: asdict(SIZE))
    source, ours = tmp_path / "w.caffemodel", tmp_path / "ours.safetensors"
    source.write_bytes(write_caffemodel(LAYERS))
    arguments = ["--threads", "1", "convert-detector", "--weights", str(source), "--out", str(ours)]
    assert main([*arguments, "--report", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["tensors"]) == 639 and report["source"]["files"]["w.caffemodel"]["sha256"]
    assert same(state(load_detector(ours)[0]), NATIVE)
    out = ["convert-detector", "--weights", str(ours), "--to", "detectron", "--out", str(tmp_path / "w.pkl")]
    assert main(out) == 0 and (tmp_path / "w.pkl").stat().st_size > 1000
    source.write_bytes(b"\x0a\x03abc")
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "w.caffemodel" in lines[-1] and "Traceback" not in "".join(lines)
    assert main([*arguments, "--bbox-divisors", "1,2"]) == 2
