"""BERT's weights as the beginning of pretraining, in both spellings of its norms."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from convert_models import COUNTS, SIZE, build
from safetensors.torch import save_file

from lxmert.convert.bert import start_from_bert
from lxmert.errors import LxmertError, WeightsError
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import build_pretraining
from lxmert.models.weights import model_tensors

transformers = pytest.importorskip("transformers")
LAYERS = 4  # two more than the language encoder takes


@pytest.fixture(scope="module")
def bert() -> dict[str, torch.Tensor]:
    """What `transformers` names the tensors of a small BERT with its two heads."""
    torch.manual_seed(2)
    config = transformers.BertConfig(
        vocab_size=COUNTS["vocabulary"], hidden_size=SIZE["hidden"], num_hidden_layers=LAYERS,
        num_attention_heads=SIZE["heads"], intermediate_size=SIZE["intermediate"],
        max_position_embeddings=SIZE["max_positions"],
    )  # fmt: skip
    state = transformers.BertForPreTraining(config).state_dict()
    return {
        name: torch.randn_like(value) if value.is_floating_point() else value for name, value in state.items()
    }


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the archives of 2018 and 2019 have them."""
    named = {}
    for name, value in state.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        named[name] = value
    del named["cls.predictions.decoder.bias"]
    named.pop("bert.embeddings.position_ids", None)
    return named


def start(path: Path, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The small model after the weights were put into it."""
    torch.save(tied(state), path)
    model = build("pretraining")
    start_from_bert(model, path)
    return model


def tied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    words, decoder = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
    again = {decoder: state[words]} if decoder in state and words in state else {}
    if "cls.predictions.decoder.bias" in state:
        again["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    return state | again


@pytest.mark.parametrize("old", [False, True])
def test_every_tensor_bert_has_is_taken(
    bert: dict, tmp_path: Path, old: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before, model = (
        model_tensors(build("pretraining")),
        start(tmp_path / "bert.bin", old_names(bert) if old else bert),
    )
    after = model_tensors(model)
    encoder, heads = "encoder.embeddings.", "objectives.masked_lm."
    expected = {
        f"{encoder}words.weight": bert["bert.embeddings.word_embeddings.weight"],
        f"{encoder}token_types.weight": bert["bert.embeddings.token_type_embeddings.weight"],
        f"{encoder}norm.weight": bert["bert.embeddings.LayerNorm.weight"],
        f"{encoder}norm.bias": bert["bert.embeddings.LayerNorm.bias"],
        "encoder.pooler.weight": bert["bert.pooler.dense.weight"],
        f"{heads}bias": bert["cls.predictions.bias"],
        f"{heads}transform.norm.weight": bert["cls.predictions.transform.LayerNorm.weight"],
        "objectives.matching.classifier.weight": bert["cls.seq_relationship.weight"],
    }
    for number in range(SIZE["language_layers"]):
        layer, ours = f"bert.encoder.layer.{number}.", f"encoder.language_layers.{number}."
        thirds = [bert[f"{layer}attention.self.{part}.weight"] for part in ("query", "key", "value")]
        expected[f"{ours}attention.qkv.weight"] = torch.cat(thirds)
        expected[f"{ours}feed_forward.outer.bias"] = bert[f"{layer}output.dense.bias"]
        expected[f"{ours}feed_forward.norm.weight"] = bert[f"{layer}output.LayerNorm.weight"]
    for name, value in expected.items():
        assert torch.equal(after[name], value), name
    starts = (
        "encoder.embeddings.",
        "encoder.language_layers.",
        "encoder.pooler.",
        heads,
        "objectives.matching.",
    )
    for name, value in after.items():
        assert torch.equal(value, before[name]) != name.startswith(starts), name
    # 5 embeddings, 2 x 16 of layers, 2 of the pooler, 8 of the heads.
    assert "47 matched, 0 missing, 0 unexpected, 0 of another shape" in caplog.text
    for told in (
        "left out: 32 tensors: LXMERT's language encoder has fewer layers",
        "keep their random values: 34 tensors: BERT sees no regions",
        "keep their random values: 84 tensors: BERT has no second stream",
        "keep their random values: 6 tensors: BERT answers no questions",
    ):
        assert told in caplog.text


def test_a_folder_a_safetensors_file_and_a_bare_model(bert: dict, tmp_path: Path) -> None:
    """Without the heads: they keep their random values; names without their root."""
    bare = {name.removeprefix("bert."): value for name, value in bert.items() if name.startswith("bert.")}
    (tmp_path / "hub").mkdir()
    save_file(bare, tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"num_attention_heads": 3}))
    model, before = build("pretraining"), model_tensors(build("pretraining"))
    report = start_from_bert(model, tmp_path / "hub")
    assert report.reasons["cls.seq_relationship.bias"] == "the file has no head for the next sentence"
    after = model_tensors(model)
    assert torch.equal(after["objectives.masked_lm.bias"], before["objectives.masked_lm.bias"])
    assert torch.equal(after["encoder.pooler.bias"], bare["pooler.dense.bias"])


def test_objectives_the_recipe_lacks_are_left_out(bert: dict, tmp_path: Path) -> None:
    torch.save(tied(bert), tmp_path / "bert.bin")
    encoder = LxmertEncoder(SIZE, COUNTS["vocabulary"], COUNTS["feature_width"])
    model = build_pretraining(encoder, {"qa": 1.0}, 0, 0, 11)
    report = start_from_bert(model, tmp_path / "bert.bin")
    assert report.reasons["cls.predictions.bias"] == "the recipe has no such objective"
    assert "cls.seq_relationship.weight" in report.allowed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"bert.pooler.dense.bias": None},
            "1 missing, 0 unexpected, 0 of another shape, .*missing: bert.pooler",
        ),
        (
            {"bert.poolr.dense.bias": torch.zeros(24)},
            "unexpected: 'bert.poolr.dense.bias'.*near: bert.pooler",
        ),
        ({"bert.encoder.layer.1.output.dense.bias": None}, "1 missing"),
        ({"cls.predictions.transform.dense.bias": None}, "1 missing.*cls.predictions.transform.dense.bias"),
        ({"bert.pooler.dense.bias": torch.zeros(25)}, r"bert.pooler.dense.bias \[25\] for \[24\]"),
        (
            {"bert.embeddings.word_embeddings.weight": torch.zeros(60, 24)},
            "has 60 word pieces.*the model has 50",
        ),
        ({"bert.embeddings.word_embeddings.weight": None}, "no weights of BERT: no tensor is called"),
        ({"bert.encoder.x_layers.0.lang_inter.dense.bias": torch.zeros(1)}, "weights of LXMERT, not of BERT"),
        ({"bert.pooler.dense.bias": torch.zeros(24, dtype=torch.int32)}, "would hold int32"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    bert: dict, tmp_path: Path, change: dict, told: str
) -> None:
    state = {name: value for name, value in (tied(bert) | change).items() if value is not None}
    torch.save(state, tmp_path / "bert.bin")
    model, before = build("pretraining"), model_tensors(build("pretraining"))
    with pytest.raises(LxmertError, match=told):
        start_from_bert(model, tmp_path / "bert.bin")
    assert all(torch.equal(value, before[name]) for name, value in model_tensors(model).items())


def test_another_number_of_heads_is_refused(bert: dict, tmp_path: Path) -> None:
    """No shape would show it, and every number would be read wrongly."""
    torch.save(tied(bert), tmp_path / "pytorch_model.bin")
    (tmp_path / "bert_config.json").write_text(json.dumps({"num_attention_heads": 6}))
    with pytest.raises(WeightsError, match="BERT has 6 attention heads, but the model has 3"):
        start_from_bert(build("pretraining"), tmp_path)
