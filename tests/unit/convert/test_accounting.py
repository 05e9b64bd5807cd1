"""Everything in a file is accounted for, or nothing is written; messages say what, where, what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from convert_models import KINDS, build, metadata, run
from safetensors.torch import load_file, save_file

from lxmert.cli import main
from lxmert.convert.documents import SYSTEM, read_names
from lxmert.convert.opening import open_weights
from lxmert.errors import LxmertError, WeightsError
from lxmert.models.weights import model_tensors, save_weights

Ours = Callable[[str], Path]


@pytest.fixture
def reference(ours: Ours, tmp_path: Path) -> Callable[[str, dict], Path]:
    """Writes a snapshot of the original code with changes; a value None leaves a tensor out."""

    def write(kind: str, changes: dict) -> Path:
        path = tmp_path / f"{kind}.pth"
        run(ours(kind), path, "reference")
        named = torch.load(path, weights_only=True) | changes
        torch.save({name: value.clone() for name, value in named.items() if value is not None}, path)
        return path

    return write


def refused(path: Path, tmp_path: Path, **wishes: object) -> str:
    with pytest.raises(LxmertError) as error:
        run(path, tmp_path / "out.safetensors", heads=3, **wishes)
    text = str(error.value)
    assert "\n" not in text and str(path) in text and not (tmp_path / "out.safetensors").exists()
    return text


def test_a_renamed_key_is_refused_with_its_near_match(reference: Callable, tmp_path: Path) -> None:
    old, new = (
        "bert.encoder.x_layers.1.visn_inter.dense.weight",
        "bert.encoder.x_layers.1.visn_iner.dense.weight",
    )
    path = reference("pretraining", {old: None, new: torch.zeros(40, 24)})
    text = refused(path, tmp_path)
    assert "170 matched, 1 missing, 1 unexpected, 0 of another shape" in text
    assert f"unexpected: '{new}' (near: {old})" in text and f"missing: {old}" in text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("pretraining", "bert.encoder.layer.1.attention.self.key.bias"),
        ("pretraining", "bert.pooler.dense.weight"),
        ("pretraining", "answer_head.logit_fc.2.bias"),
        ("vqa", "lxrt_encoder.model.bert.encoder.r_layers.0.output.dense.bias"),
        ("vqa", "logit_fc.3.bias"),
        ("nlvr2", "logit_fc.0.weight"),
    ],
)
def test_a_missing_tensor_is_named(reference: Callable, tmp_path: Path, kind: str, name: str) -> None:
    text = refused(reference(kind, {name: None}), tmp_path)
    assert "1 missing, 0 unexpected" in text and name.removeprefix("lxrt_encoder.model.") in text


def test_shapes_are_compared(reference: Callable, tmp_path: Path) -> None:
    name = "bert.encoder.x_layers.0.lang_self_att.self.value.weight"
    text = refused(reference("pretraining", {name: torch.zeros(24, 25)}), tmp_path)
    assert f"1 of another shape; of another shape: {name} [24, 25] for [24, 24]" in text


def test_layers_that_do_not_follow_each_other_are_surplus(reference: Callable, tmp_path: Path) -> None:
    name = "bert.encoder.layer.999999999.output.dense.bias"
    text = refused(reference("pretraining", {name: torch.zeros(24)}), tmp_path)
    assert f"unexpected: '{name}'" in text


def test_half_a_head_is_refused_and_a_whole_one_may_be_left_out(reference: Callable, tmp_path: Path) -> None:
    region = [f"obj_predict_head.decoder_dict.feat.{part}" for part in ("weight", "bias")]
    assert "2 missing" in refused(reference("pretraining", dict.fromkeys(region)), tmp_path)
    named = torch.load(reference("pretraining", {}), weights_only=True)
    whole = [name for name in named if name.startswith(("obj_predict_head.", "answer_head."))]
    said = run(reference("pretraining", dict.fromkeys(whole)), tmp_path / "out.safetensors", heads=3)
    told = [line.partition("not in the file: ")[2] for line in said if "not in the file" in line]
    assert told == [
        "masked_region: pretrained without region objectives",
        "qa: pretrained without question answering",
    ]


def test_two_names_of_one_tensor(reference: Callable, tmp_path: Path) -> None:
    path = reference("vqa", {"module.logit_fc.0.bias": torch.zeros(48)})
    assert "given twice under different names" in refused_anywhere(path, tmp_path)


def refused_anywhere(path: Path, tmp_path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        run(path, tmp_path / "out.safetensors", heads=3)
    assert not (tmp_path / "out.safetensors").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["uniter.embeddings.word_embeddings.weight"], "weights of UNITER"),
        (["module.vlbert.word_embeddings.weight"], "weights of VL-BERT"),
        (["bert.encoder.v_layer.0.attention.self.query.weight"], "weights of ViLBERT"),
        (["backbone.stem.conv1.weight"], "weights of a detector"),
        (["bert.embeddings.word_embeddings.weight"], "weights of BERT"),
        (
            ["first.weight", "second.weight"],
            "none of 2 tensors has a name of LXMERT's, first: 'first.weight'",
        ),
    ],
)
def test_weights_of_others_are_named(tmp_path: Path, names: list[str], told: str) -> None:
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "w.pth")
    assert told in refused(tmp_path / "w.pth", tmp_path)


def test_whole_numbers_are_no_weights(reference: Callable, tmp_path: Path) -> None:
    name = "bert.pooler.dense.bias"
    text = refused(reference("pretraining", {name: torch.zeros(24, dtype=torch.int64)}), tmp_path)
    assert f"{name}: holds int64; only floating-point weights convert" in text


def test_thirds_of_different_formats_are_refused(reference: Callable, tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.attention.self.key.weight"
    path = reference("pretraining", {name: torch.zeros(24, 24, dtype=torch.float16)})
    assert "query, key and value differ in width or number format" in refused_anywhere(path, tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_act": "relu"}, "config.json says hidden_act 'relu', but LXMERT is made with 'gelu' alone"),
        ({"l_layers": 3}, "config.json says l_layers 3, but the tensors show 2"),
        ({"num_qa_labels": 3129}, "config.json says num_qa_labels 3129, but the tensors show 9"),
        ({"num_attention_heads": 0}, "heads: 0 is too small"),
        ({"num_attention_heads": "3"}, "heads: must be a whole number"),
        ({"hidden_dropout_prob": "high"}, "hidden_dropout: must be a number"),
        ({"num_qa_labels": None}, "num_qa_labels must be a whole number above 0"),
        ({"num_attention_heads": 5}, "24 wide, which 5 heads do not divide"),
    ],
)
def test_a_config_that_disagrees_is_refused(ours: Ours, tmp_path: Path, changes: dict, told: str) -> None:
    run(ours("vqa"), tmp_path / "hub", "transformers")
    config = tmp_path / "hub" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(WeightsError) as error:
        run(tmp_path / "hub", tmp_path / "out.safetensors")
    assert told in str(error.value) and str(tmp_path / "hub") in str(error.value)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "the folder has none of model.safetensors, pytorch_model.bin"),
        ({"model.safetensors.index.json": "{}"}, "the folder has weights in parts"),
        ({"pytorch_model.bin": "<html>sign in</html>"}, "is a web page instead of weights"),
        ({"pytorch_model.bin": ""}, "is empty"),
        ({"pytorch_model.bin": "version https://git-lfs.github.com/spec/v1"}, "is a pointer of git-lfs"),
        ({"pytorch_model.bin": "abcdefghijkl"}, "is neither a PyTorch nor a safetensors file"),
    ],
)
def test_folders_without_weights(tmp_path: Path, files: dict[str, str], told: str) -> None:
    (tmp_path / "hub").mkdir()
    for name, text in files.items():
        (tmp_path / "hub" / name).write_text(text)
    with pytest.raises(WeightsError, match=told):
        open_weights(tmp_path / "hub")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_ours_is_accounted_for_too(tmp_path: Path, kind: str) -> None:
    tensors = model_tensors(build(kind))
    first = next(name for name in tensors if name.startswith("encoder.cross_layers"))
    tensors[first + "x"] = tensors.pop(first)
    save_weights(tmp_path / "w.safetensors", tensors, metadata(kind))
    with pytest.raises(WeightsError, match=rf"1 missing, 1 unexpected.*near: {first}\)"):
        run(tmp_path / "w.safetensors", tmp_path / "w.pth", "reference")
    assert not (tmp_path / "w.pth").exists()


@pytest.mark.parametrize(
    "value",
    [
        {"spec": [1]},
        {"model": 3},
        {"spec": {"size": {"heads": 0}}},
        {"spec": {"size": {"heads": "3"}}},
        {"spec": {"size": [1]}},
        {"answers": [1, 2]},
        {"answers": ["a", "a"]},
        {"spec": {"size": {"initial_std": float("nan")}}},
        "[" * 100_000,
    ],
    ids=str,
)
def test_headers_of_ours_that_say_nonsense(ours: Ours, tmp_path: Path, value: object) -> None:
    tensors = load_file(ours("vqa"))
    text = value if isinstance(value, str) else json.dumps(value)
    save_file(tensors, tmp_path / "w.safetensors", {"lxmert": text})
    for form, name in (("reference", "w.pth"), ("transformers", "hub")):
        with pytest.raises(WeightsError, match=r"w\.safetensors: "):
            run(tmp_path / "w.safetensors", tmp_path / name, form)
        assert not (tmp_path / name).exists()


def test_outputs_have_the_names_of_their_forms(ours: Ours, tmp_path: Path) -> None:
    source = ours("vqa")
    with pytest.raises(WeightsError, match="is ours already"):
        run(source, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"end in \.pth"):
        run(source, tmp_path / "x.safetensors", "reference")
    run(source, tmp_path / "x.pth", "reference")
    with pytest.raises(WeightsError, match=r"end in \.safetensors"):
        run(tmp_path / "x.pth", tmp_path / "y.pth", heads=3)
    with pytest.raises(WeightsError, match="a folder is written here, and this is a file"):
        run(source, tmp_path / "x.pth", "transformers")


def test_a_head_transformers_asks_for_is_missed(tmp_path: Path) -> None:
    tensors = {name: value for name, value in model_tensors(build("pretraining")).items()}
    tensors = {name: value for name, value in tensors.items() if "masked_lm" not in name}
    save_weights(tmp_path / "w.safetensors", tensors, metadata("pretraining"))
    with pytest.raises(WeightsError, match="masked_lm: the weights have no such head"):
        run(tmp_path / "w.safetensors", tmp_path / "hub", "transformers")
    assert not (tmp_path / "hub").exists()
    run(tmp_path / "w.safetensors", tmp_path / "m.pth", "reference")  # the original's names can


def test_the_verb_prints_the_report_and_ends_with_status_2(
    ours: Ours, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "convert",
                "--weights",
                str(ours("vqa")),
                "--to",
                "reference",
                "--out",
                str(tmp_path / "BEST.pth"),
            ]
        )
        == 0
    )
    assert "117 matched, 0 missing, 0 unexpected, 0 of another shape" in capsys.readouterr().err
    named = torch.load(tmp_path / "BEST.pth", weights_only=True)
    torch.save({name: value for name, value in named.items() if "pooler" not in name}, tmp_path / "b.pth")
    verb = [
        "convert",
        "--weights",
        str(tmp_path / "b.pth"),
        "--heads",
        "3",
        "--out",
        str(tmp_path / "o.safetensors"),
    ]
    assert main(verb) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert len(lines) == 1 and "2 missing" in lines[0]
    assert not list(tmp_path.glob("o.safetensors*"))


def test_a_system_names_the_file_of_its_names(tmp_path: Path) -> None:
    shutil.copy(SYSTEM / "keys.yaml", tmp_path / "names.yaml")
    (tmp_path / "system.yaml").write_text("system: other\nkeys: names.yaml\n")
    assert read_names(tmp_path).others == read_names().others != {}
