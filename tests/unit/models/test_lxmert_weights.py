"""Weights files, strict loading, key maps: round trips and every message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lxmert.errors import SpecError, WeightsError
from lxmert.models.weights import (
    KeyMap,
    from_ours,
    load_tensors,
    load_weights,
    model_tensors,
    read_metadata,
    read_weights,
    save_weights,
    to_ours,
)

DOCUMENT = {
    "prefixes": [{"from": "module.", "to": ""}, {"from": "lxmert.", "to": "bert."}],
    "dialects": {"plain": {}, "hf": {"bert.": "lxmert."}},
    "names": {
        "bert.words.weight": "encoder.words.weight",
        "bert.layer.{}.query.weight": {"to": "encoder.layers.{}.qkv.weight", "rows": "query"},
        "bert.layer.{}.key.weight": {"to": "encoder.layers.{}.qkv.weight", "rows": "key"},
        "bert.layer.{}.value.weight": {"to": "encoder.layers.{}.qkv.weight", "rows": "value"},
        "cls.decoder.weight": {"to": "encoder.words.weight", "tied_with": "head.bias"},
        "cls.bias": "head.bias",
    },
}


@pytest.fixture
def keys() -> KeyMap:
    return KeyMap(DOCUMENT)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {
        "encoder.words.weight": torch.randn(5, 2),
        "encoder.layers.0.qkv.weight": torch.randn(6, 2),
        "encoder.layers.11.qkv.weight": torch.randn(6, 2),
        "head.bias": torch.randn(5),
    }


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dialect", ["plain", "hf"])
def test_names_go_out_and_come_back(
    keys: KeyMap, tensors: dict[str, torch.Tensor], prefix: str, dialect: str
) -> None:
    out = {prefix + name: value.clone() for name, value in from_ours(tensors, keys, dialect).items()}
    root = prefix + ("lxmert." if dialect == "hf" else "bert.")
    assert len(out) == 9
    assert torch.equal(out[f"{root}layer.11.value.weight"], tensors["encoder.layers.11.qkv.weight"][4:])
    back, unknown = to_ours(out, keys)
    assert not unknown and back.keys() == tensors.keys()
    assert all(torch.equal(back[name], value) for name, value in tensors.items())


def test_a_tied_tensor_may_be_left_out_but_not_differ(keys: KeyMap, tensors: dict[str, torch.Tensor]) -> None:
    out = from_ours(tensors, keys, "plain")
    only_decoder = {name: value for name, value in out.items() if name != "bert.words.weight"}
    assert torch.equal(
        to_ours(only_decoder, keys)[0]["encoder.words.weight"], tensors["encoder.words.weight"]
    )
    out["cls.decoder.weight"] = out["cls.decoder.weight"] + 1
    with pytest.raises(WeightsError, match=r"cls.decoder.weight: differs .*encoder.words.weight"):
        to_ours(out, keys)
    del tensors["head.bias"]
    assert "cls.decoder.weight" not in from_ours(tensors, keys, "plain")


def test_faults_of_foreign_weights_are_named(keys: KeyMap, tensors: dict[str, torch.Tensor]) -> None:
    out = from_ours(tensors, keys, "plain")
    assert to_ours(out | {"pooler.x": torch.zeros(1)}, keys)[1] == ["pooler.x"]
    with pytest.raises(WeightsError, match="given twice"):
        to_ours(out | {"module.cls.bias": out["cls.bias"]}, keys)
    with pytest.raises(WeightsError, match="given twice"):
        to_ours(out | {"module.bert.layer.0.key.weight": out["cls.bias"]}, keys)
    del out["bert.layer.0.key.weight"]
    with pytest.raises(WeightsError, match=r"layers.0.qkv.weight: no tensor for key"):
        to_ours(out, keys)
    with pytest.raises(WeightsError, match="new.weight: has no name in keys.yaml"):
        from_ours({"new.weight": torch.zeros(1)}, keys, "plain")
    with pytest.raises(SpecError, match="names/a: needs"):
        KeyMap({"names": {"a": {"to": "b", "rows": "first"}}})


def test_a_file_holds_tensors_and_what_they_are(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    metadata = {"size": {"hidden": 3}, "answers": ["yes", "nö"]}
    for name in ("a", "b"):
        save_weights(tmp_path / f"{name}.safetensors", model_tensors(model), metadata)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert read_metadata(tmp_path / "a.safetensors") == metadata
    other = nn.Linear(3, 2)
    report, told = load_weights(other, tmp_path / "a.safetensors")
    assert told == metadata and report.complete and str(report).startswith("2 matched, 0 missing")
    assert torch.equal(other.weight, model.weight)


def test_a_shared_parameter_is_written_once() -> None:
    shared = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    shared[1].weight = shared[0].weight
    assert list(model_tensors(shared)) == ["0.weight", "0.bias", "1.bias"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weight": None}, "1 missing, first: weight"),
        ({"surplus": torch.zeros(1)}, "1 unexpected, first: surplus"),
        ({"weight": torch.zeros(2, 4)}, "1 of another shape, first: weight [2, 4] for [2, 3]"),
    ],
)
def test_loading_is_strict_and_all_or_nothing(change: dict, told: str) -> None:
    model = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model_tensors(model).items()}
    given = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)} | change
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(WeightsError) as error:
        load_tensors(model, given, "x.safetensors")
    assert str(error.value).startswith("x.safetensors: ") and told in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model_tensors(model).items())


def test_what_is_allowed_is_reported() -> None:
    model = nn.Linear(3, 2)
    given = {"weight": torch.zeros(2, 3), "head.x": torch.zeros(1)}
    allow = {"bias": "it has none", "head.": "other answers"}
    report = load_tensors(model, given, "x", allow=allow)
    assert report.allowed == ["bias", "head.x"] and report.loaded == ["weight"]
    assert report.reasons == {"bias": "it has none", "head.x": "other answers"}
    assert str(report).endswith("2 left out knowingly")


def test_unreadable_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_weights(tmp_path / "none.safetensors")
    torn = tmp_path / "torn.safetensors"
    save_weights(torn, {"a": torch.zeros(100)}, {})
    torn.write_bytes(torn.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"torn.safetensors: not a readable safetensors file"):
        read_weights(torn)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="convert them first"):
        read_metadata(tmp_path / "foreign.safetensors")
