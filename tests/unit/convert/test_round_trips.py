"""Every form into every other and back, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from convert_models import ANSWERS, COUNTS, KINDS, WORDS, run, same
from safetensors.torch import load_file, save_file

from lxmert.convert.opening import SIDE_HEAD
from lxmert.errors import WeightsError
from lxmert.models.weights import read_weights

Ours = Callable[[str], Path]
TIED = "cls.predictions.decoder.weight"
ENTRIES = {"pretraining": 171, "vqa": 153, "nlvr2": 153}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True) if path.suffix == ".pth" else load_file(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data_parallel", [False, True])
def test_ours_reference_ours(ours: Ours, tmp_path: Path, kind: str, data_parallel: bool) -> None:
    source, middle, back = ours(kind), tmp_path / "BEST.pth", tmp_path / "back.safetensors"
    run(source, middle, "reference", data_parallel=data_parallel)
    named = tensors(middle)
    assert len(named) == ENTRIES[kind]
    if kind == "pretraining":
        assert all(name.startswith("module.") == data_parallel for name in named)
        start = "module." * data_parallel
        words = named[f"{start}bert.embeddings.word_embeddings.weight"]
        assert named[f"{start}{TIED}"].data_ptr() == words.data_ptr()  # one memory, as the original saves it
    else:
        root = "lxrt_encoder.model.module.bert." if data_parallel else "lxrt_encoder.model.bert."
        assert {name for name in named if not name.startswith(root)} == {
            f"logit_fc.{number}.{part}" for number in (0, 2, 3) for part in ("weight", "bias")
        }
    said = run(middle, back, heads=3)
    assert f"{middle}: {ENTRIES[kind]} matched, 0 missing, 0 unexpected, 0 of another shape" in said
    assert same(read_weights(source)[0], read_weights(back)[0])
    metadata = read_weights(back)[1]
    assert metadata["model"]["answers"] == ANSWERS[kind] and metadata["spec"]["size"]["heads"] == 3
    assert metadata["origin"]["file"] == "BEST.pth" and metadata["origin"]["form"] == "reference"
    assert "profile" not in metadata["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_ours_transformers_ours(ours: Ours, tmp_path: Path, kind: str) -> None:
    """The file is the same byte for byte: what ours says of itself travels in the folder's header."""
    source, folder, back = ours(kind), tmp_path / "hub", tmp_path / "back.safetensors"
    run(source, folder, "transformers")
    run(folder, back)
    assert source.read_bytes() == back.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_reference_transformers_reference(ours: Ours, tmp_path: Path, kind: str) -> None:
    first, folder, back = tmp_path / "a.pth", tmp_path / "hub", tmp_path / "b.pth"
    run(ours(kind), first, "reference", data_parallel=True)
    run(first, folder, "transformers", heads=3)
    run(folder, back, "reference", data_parallel=True)
    assert same(tensors(first), tensors(back))


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reference_transformers(ours: Ours, tmp_path: Path, kind: str) -> None:
    """A foreign folder, without our words in its header, keeps its tensors and its config."""
    first, middle, back = tmp_path / "a", tmp_path / "m.pth", tmp_path / "b"
    run(ours(kind), first, "transformers")
    model = first / "model.safetensors"
    save_file(load_file(model), model, {"format": "pt"})
    run(first, middle, "reference")
    run(middle, back, "transformers", heads=3)
    assert same(tensors(model), tensors(back / "model.safetensors"))
    configs = [json.loads((folder / "config.json").read_text()) for folder in (first, back)]
    unknown = {"attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range"}
    changed = {name for name in configs[0] if configs[0][name] != configs[1].get(name)}
    # No .pth says dropouts, nor how many objects a task's weights were pretrained with.
    assert changed <= unknown | {"num_object_labels", "num_attr_labels"}


def test_the_tied_matrix_is_left_out_aliased_and_made_again(ours: Ours, tmp_path: Path) -> None:
    source, folder, back = ours("pretraining"), tmp_path / "hub", tmp_path / "m.pth"
    run(source, folder, "transformers")
    named = load_file(folder / "model.safetensors")
    assert TIED not in named and len(named) == ENTRIES["pretraining"] - 1
    said = run(folder, back, "reference")
    assert f"left out: {TIED}: tied to the word embeddings, written once" in said
    whole = tensors(back)
    assert torch.equal(whole[TIED], whole["bert.embeddings.word_embeddings.weight"])
    # The other way round: only the second name is there, as some exports have it.
    del named["lxmert.embeddings.word_embeddings.weight"]
    save_file(named | {TIED: whole[TIED]}, folder / "model.safetensors")
    run(folder, tmp_path / "again.safetensors")
    assert same(read_weights(source)[0], read_weights(tmp_path / "again.safetensors")[0])


def test_a_tied_matrix_that_differs_is_refused(ours: Ours, tmp_path: Path) -> None:
    run(ours("pretraining"), tmp_path / "m.pth", "reference")
    named = {name: value.clone() for name, value in tensors(tmp_path / "m.pth").items()}
    named[TIED][3, 1] += 1
    torch.save(named, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match=f"{TIED}: differs from the tensor it is tied to"):
        run(tmp_path / "m.pth", tmp_path / "out.safetensors", heads=3)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_pair_head_lies_beside_a_bare_model(ours: Ours, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    said = run(ours("nlvr2"), folder, "transformers")
    assert any("transformers has no class for heads over image pairs" in line for line in said)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LxmertModel"] and "num_qa_labels" not in config
    assert set(load_file(folder / SIDE_HEAD)) == {
        f"logit_fc.{number}.{part}" for number in (0, 2, 3) for part in ("weight", "bias")
    }
    # Weights of another kind in the same folder do not inherit it.
    run(ours("vqa"), folder, "transformers")
    assert not (folder / SIDE_HEAD).exists()
    run(folder, tmp_path / "vqa_back.safetensors")


def test_an_encoder_alone(ours: Ours, tmp_path: Path) -> None:
    """Any kind without its heads: in all three forms, and into a task model of transformers' names."""
    source = ours("pretraining")
    said = run(source, tmp_path / "e.safetensors", encoder_only=True)
    assert "left out: every head: --encoder-only" in said
    encoder, metadata = read_weights(tmp_path / "e.safetensors")
    assert all(name.startswith("encoder.") for name in encoder)
    assert metadata["spec"]["kind"] == "encoder" and metadata["model"]["answers"] is None
    run(tmp_path / "e.safetensors", tmp_path / "m_LXRT.pth", "reference", data_parallel=True)
    assert all(name.startswith("module.bert.") for name in tensors(tmp_path / "m_LXRT.pth"))
    run(tmp_path / "m_LXRT.pth", tmp_path / "hub", "transformers", heads=3)
    assert (tmp_path / "hub" / "config.json").read_text().count("LxmertModel") == 1
    run(tmp_path / "hub", tmp_path / "back.safetensors")
    assert same(encoder, read_weights(tmp_path / "back.safetensors")[0])


def test_answers_and_word_pieces_travel(ours: Ours, tmp_path: Path) -> None:
    answers = ["", "no", "yes", *(f"answer {number}" for number in range(6))]
    listed, vocabulary = tmp_path / "label2ans.json", tmp_path / "vocab.txt"
    listed.write_text(json.dumps(answers))
    vocabulary.write_text("".join(f"{word}\n" for word in WORDS))
    run(ours("vqa"), tmp_path / "hub", "transformers", answers=listed, vocabulary=vocabulary)
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["id2label"]["1"] == "no" and config["label2id"][""] == 0
    model = tmp_path / "hub" / "model.safetensors"
    save_file(load_file(model), model, {"format": "pt"})  # as another program would have written it
    run(tmp_path / "hub", tmp_path / "back.safetensors")
    assert read_weights(tmp_path / "back.safetensors")[1]["answers"] == answers
    run(tmp_path / "hub", tmp_path / "hub2", "transformers")
    assert (tmp_path / "hub2" / "vocab.txt").read_bytes() == vocabulary.read_bytes()
    listed.write_text(json.dumps(answers[1:]))
    with pytest.raises(WeightsError, match="lists 8 answers, but the head of .* has 9"):
        run(tmp_path / "hub", tmp_path / "hub3", "transformers", answers=listed)
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(WeightsError, match="has 5 word pieces, but .* was made for 50"):
        run(ours("vqa"), tmp_path / "hub3", "transformers", vocabulary=vocabulary)
    assert not (tmp_path / "hub3").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_stay_as_they_are(ours: Ours, tmp_path: Path, dtype: torch.dtype) -> None:
    run(ours("vqa"), tmp_path / "a.pth", "reference")
    cast = {name: value.to(dtype) for name, value in tensors(tmp_path / "a.pth").items()}
    torch.save(cast, tmp_path / "a.pth")
    run(tmp_path / "a.pth", tmp_path / "hub", "transformers", heads=3)
    run(tmp_path / "hub", tmp_path / "b.pth", "reference")
    assert same(cast, tensors(tmp_path / "b.pth"))


def test_older_pickles_and_wrapped_tables_are_read(ours: Ours, tmp_path: Path) -> None:
    """What PyTorch wrote before 2020, a table inside a checkpoint, buffers of old transformers."""
    source = ours("vqa")
    run(source, tmp_path / "a.pth", "reference")
    named = tensors(tmp_path / "a.pth")
    positions = {"lxrt_encoder.model.bert.embeddings.position_ids": torch.arange(20)[None]}
    torch.save({"state_dict": named | positions}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    said = run(tmp_path / "old.pth", tmp_path / "b.safetensors", heads=3)
    assert any(line.startswith("left out: bert.embeddings.position_ids: a buffer") for line in said)
    assert same(read_weights(source)[0], read_weights(tmp_path / "b.safetensors")[0])


def test_sizes_no_shape_shows_are_told_and_kept(ours: Ours, tmp_path: Path) -> None:
    """Heads: 64 wide unless told; a folder's config says them, and dropouts."""
    run(ours("vqa"), tmp_path / "a.pth", "reference")
    with pytest.raises(WeightsError, match="24 is no multiple of 64. Give --heads"):
        run(tmp_path / "a.pth", tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="24 wide, which 5 heads do not divide"):
        run(tmp_path / "a.pth", tmp_path / "b.safetensors", heads=5)
    run(ours("vqa"), tmp_path / "hub", "transformers")
    model = tmp_path / "hub" / "model.safetensors"
    save_file(load_file(model), model, {"format": "pt"})
    run(tmp_path / "hub", tmp_path / "b.safetensors")
    size = read_weights(tmp_path / "b.safetensors")[1]["spec"]["size"]
    assert (size["heads"], size["hidden_dropout"], size["attention_dropout"]) == (3, 0.0, 0.1)
    assert COUNTS["feature_width"] == read_weights(tmp_path / "b.safetensors")[1]["model"]["feature_width"]
