"""A folder we export is one `transformers` loads, with equal answers; its own folders load here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from convert_models import COUNTS, SIZE, WORDS, build, run
from safetensors.torch import load_file

from lxmert.convert.opening import SIDE_HEAD
from lxmert.models.weights import load_weights
from lxmert.types import Batch

transformers = pytest.importorskip("transformers")
B, L, R = 4, 9, 5


def batch(rows: int = B) -> Batch:
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(5, COUNTS["vocabulary"], (rows, L), generator=draw)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    features = torch.rand(rows, R, COUNTS["feature_width"], generator=draw) * 3
    return Batch(ids * mask, mask, features, torch.rand(rows, R, 4, generator=draw), None, {})


def theirs(model: torch.nn.Module, given: Batch) -> object:
    return model.eval()(
        input_ids=given.input_ids,
        attention_mask=given.attention_mask,
        visual_feats=given.features,
        visual_pos=given.boxes_norm,
    )


def loaded(name: str, folder: Path) -> torch.nn.Module:
    model, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


@torch.no_grad()
def test_answers_of_a_fine_tuned_model(ours: Callable[[str], Path], tmp_path: Path) -> None:
    run(ours("vqa"), tmp_path / "hub", "transformers")
    expected = build("vqa").eval()(batch())
    model = loaded("LxmertForQuestionAnswering", tmp_path / "hub")
    torch.testing.assert_close(theirs(model, batch()).question_answering_score, expected, rtol=0, atol=1e-5)
    assert model.config.num_qa_labels == 9 and model.config.hidden_size == SIZE["hidden"]


@torch.no_grad()
def test_every_head_of_a_pretraining_model(ours: Callable[[str], Path], tmp_path: Path) -> None:
    run(ours("pretraining"), tmp_path / "hub", "transformers")
    ours_model, given = build("pretraining").eval(), batch()
    encoded = ours_model.encoder(given, read="all")
    heads = ours_model.objectives
    found = theirs(loaded("LxmertForPreTraining", tmp_path / "hub"), given)
    words, real = heads["masked_lm"].logits(encoded.language), given.attention_mask.bool()
    torch.testing.assert_close(found.prediction_logits[real], words[real], rtol=0, atol=1e-5)
    matched = heads["matching"].classifier(encoded.pooled)
    torch.testing.assert_close(found.cross_relationship_score, matched, rtol=0, atol=1e-5)
    answers = heads["qa"].head.score(encoded.pooled)
    torch.testing.assert_close(found.question_answering_score, answers, rtol=0, atol=1e-5)
    # An encoder alone takes what it needs of the same folder.
    bare = transformers.LxmertModel.from_pretrained(tmp_path / "hub").eval()
    pooled = theirs(bare, given).pooled_output
    torch.testing.assert_close(pooled, encoded.pooled, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_pair_head_is_applied_by_hand(ours: Callable[[str], Path], tmp_path: Path) -> None:
    """NLVR2: `transformers`' bare model and four lines with the side file give our logits."""
    run(ours("nlvr2"), tmp_path / "hub", "transformers")
    pooled = theirs(loaded("LxmertModel", tmp_path / "hub"), batch()).pooled_output.reshape(B // 2, -1)
    head = load_file(tmp_path / "hub" / SIDE_HEAD)
    inner = torch.nn.functional.linear(pooled, head["logit_fc.0.weight"], head["logit_fc.0.bias"])
    inner = torch.nn.functional.gelu(inner)
    inner = torch.nn.functional.layer_norm(
        inner, inner.shape[1:], head["logit_fc.2.weight"], head["logit_fc.2.bias"], 1e-12
    )
    logits = torch.nn.functional.linear(inner, head["logit_fc.3.weight"], head["logit_fc.3.bias"])
    torch.testing.assert_close(logits, build("nlvr2").eval()(batch()), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["LxmertForQuestionAnswering", "LxmertForPreTraining", "LxmertModel"])
@pytest.mark.parametrize("pickled", [False, True])
def test_their_own_folders_load_here(tmp_path: Path, name: str, pickled: bool) -> None:
    """As `save_pretrained` writes them, and as a pytorch_model.bin, the form of the hub's LXMERT."""
    torch.manual_seed(1)
    config = transformers.LxmertConfig(
        vocab_size=COUNTS["vocabulary"], hidden_size=24, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=20, l_layers=2, r_layers=1, x_layers=2,
        visual_feat_dim=COUNTS["feature_width"], num_object_labels=7, num_attr_labels=5, num_qa_labels=9,
    )  # fmt: skip
    model = getattr(transformers, name)(config)
    model.save_pretrained(tmp_path / "hub")
    if pickled:
        (tmp_path / "hub" / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "hub" / "pytorch_model.bin")
    run(tmp_path / "hub", tmp_path / "ours.safetensors")
    run(tmp_path / "ours.safetensors", tmp_path / "again", "transformers")
    again, state = load_file(tmp_path / "again" / "model.safetensors"), model.state_dict()
    assert set(state) - set(again) <= {"cls.predictions.decoder.weight"}
    assert all(torch.equal(value, state[key]) for key, value in again.items())
    if name == "LxmertForQuestionAnswering":
        mine = build("vqa", seed=8)
        load_weights(mine, tmp_path / "ours.safetensors")
        found = theirs(model, batch()).question_answering_score
        torch.testing.assert_close(mine.eval()(batch()), found, rtol=0, atol=1e-5)


def test_the_tokenizer_reads_as_ours(ours: Callable[[str], Path], tmp_path: Path) -> None:
    from lxmert.data.wordpiece import read_vocabulary

    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    run(ours("vqa"), tmp_path / "hub", "transformers", vocabulary=tmp_path / "vocab.txt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hub")
    text = "Word3 wÖrd7 WORD12, unknown"
    expected = read_vocabulary(tmp_path / "vocab.txt").encode_one(text)
    assert tokenizer(text)["input_ids"] == expected.tolist()
    assert tokenizer.pad_token_id == 0 and tokenizer.mask_token_id == 4
