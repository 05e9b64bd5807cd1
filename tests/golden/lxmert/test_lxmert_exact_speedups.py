"""Whatever is left out or shared changes no number: small model, float64, against the plain path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lxmert_parity import (
    TINY,
    TINY_COUNTS,
    build_ours,
    build_theirs,
    make_batch,
    their_inputs,
    their_targets,
    worst_gradient_difference,
)

from lxmert.models.heads import TaskModel, build_head
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.training.optimizers import BertAdam
from lxmert.types import Batch


@pytest.fixture
def encoder() -> LxmertEncoder:
    return build_ours(TINY, TINY_COUNTS).encoder.double()


def batch(regions: int = 6, examples: int = 4) -> Batch:
    made = make_batch(TINY_COUNTS, examples, tokens=12, regions=regions)
    return replace(made, features=made.features.double(), boxes_norm=made.boxes_norm.double())


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-12) -> bool:
    return left.shape == right.shape and (left - right).abs().max().item() <= tolerance


@pytest.mark.parametrize("read", ["pooled", "language"])
@pytest.mark.parametrize("cross_layers", [1, 2])
def test_reading_less_gives_equal_values_and_gradients(read: str, cross_layers: int) -> None:
    encoder = build_ours(TINY | {"cross_layers": cross_layers}, TINY_COUNTS).encoder.double()
    gradients, values = [], []
    for each in ("all", read):
        encoder.zero_grad()
        encoded = encoder(batch(), read=each)
        value = encoded.pooled if read == "pooled" else encoded.language
        value.square().sum().backward()
        values.append(value.detach())
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    assert close(*values)
    for name, gradient in gradients[0].items():
        less = gradients[1][name]
        assert (gradient is None) == (less is None), name
        assert gradient is None or close(gradient, less, 1e-10), name


def test_what_is_not_read_is_not_returned(encoder: LxmertEncoder) -> None:
    assert encoder(batch(), read="pooled").language is None
    assert encoder(batch(), read="pooled").vision is None
    assert encoder(batch(), read="language").vision is None


def test_shared_images_and_sentences_equal_the_plain_path(encoder: LxmertEncoder) -> None:
    made = batch()
    image, sentence = torch.tensor([0, 0, 3, 0, 2]), torch.tensor([1, 2, 2, 0, 3])
    plain = Batch(
        made.input_ids[sentence],
        made.attention_mask[sentence],
        made.features[image],
        made.boxes_norm[image],
        torch.ones(5, 6, dtype=torch.int64),
    )
    questions = encoder.encode_questions(made.input_ids, made.attention_mask).select(sentence)
    for project in (True, False):
        images = encoder.encode_images(made.features, made.boxes_norm, project=project).select(image)
        for read in ("all", "language", "pooled"):
            expected, shared = encoder(plain, read=read), encoder.fuse(questions, images, read)
            for name in ("language", "vision", "pooled"):
                left, right = getattr(expected, name), getattr(shared, name)
                assert (left is None) == (right is None)
                assert left is None or close(left, right)


def test_padded_regions_change_nothing(encoder: LxmertEncoder) -> None:
    made = batch(regions=6)
    for real in (1, 5):
        short = replace(made, features=made.features[:, :real], boxes_norm=made.boxes_norm[:, :real])
        mask = torch.zeros(4, 6, dtype=torch.int64)
        mask[:, :real] = 1
        padded = encoder(replace(made, region_mask=mask), read="all")
        expected = encoder(short, read="all")
        assert close(padded.pooled, expected.pooled)
        assert close(padded.vision[:, :real], expected.vision)


def test_padded_regions_change_no_loss() -> None:
    model = build_ours(TINY, TINY_COUNTS).double()
    made = batch(regions=6)
    mask = torch.ones(4, 6, dtype=torch.int64)
    mask[:, 4:] = 0
    cut = {name: value[:, :4] if value.dim() > 1 and value.shape[1] == 6 else value
           for name, value in made.targets.items()}  # fmt: skip
    short = replace(made, features=made.features[:, :4], boxes_norm=made.boxes_norm[:, :4], targets=cut)
    padded, expected = model(replace(made, region_mask=mask)), model(short)
    for name, loss in expected.items():
        assert padded[name].mean().item() == pytest.approx(loss.mean().item(), rel=1e-6), name


def test_checkpointed_layers_give_equal_gradients_under_dropout() -> None:
    size = TINY | {"hidden_dropout": 0.2, "attention_dropout": 0.2}
    model = build_ours(size, TINY_COUNTS).double().train()
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        model.encoder.checkpoint_layers = checkpointing
        model.encoder.noise.begin(1, 2)
        model.total(model(batch())).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_a_task_step_leaves_the_dead_tensors_alone() -> None:
    """Quirk Q5: no gradient, so no decay either; quirk Q7: row 0 of the tables only decays."""
    encoder = LxmertEncoder(TINY, TINY_COUNTS.words, TINY_COUNTS.feature_width)
    model = TaskModel(encoder, build_head("classification", TINY["hidden"], 9))
    initialise(model, 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = BertAdam(model.named_parameters(), lr=0.01, weight_decay=0.01)
    model.train()
    model(make_batch(TINY_COUNTS, 4, 12, 6)).square().sum().backward()
    optimizer.step(factor=0.5)
    same = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    last = "encoder.cross_layers.1.vision_"
    # 16 tensors of the reference; ours stack query, key and value, so 4 fewer.
    assert same == {name for name in before if name.startswith(last)}
    assert len(same) == 12
    assert not [key for key in optimizer.state_dict() if last in key]
    after = dict(model.named_parameters())
    for table in ("words", "positions", "token_types"):
        name = f"encoder.embeddings.{table}.weight"
        assert torch.allclose(after[name][0], before[name][0] * (1 - 0.005 * 0.01), rtol=1e-6, atol=0)
    unused = "encoder.embeddings.token_types.weight"
    assert torch.allclose(after[unused][1], before[unused][1] * (1 - 0.005 * 0.01), rtol=1e-6, atol=0)


def test_the_padding_word_learns_through_the_decoder_only() -> None:
    model = build_ours(TINY, TINY_COUNTS)
    made = make_batch(TINY_COUNTS, 4, 12, 6)
    model.total(model(made)).backward()
    tables = model.encoder.embeddings
    assert float(tables.words.weight.grad[0].abs().max()) > 0
    assert float(tables.positions.weight.grad[0].abs().max()) == 0
    assert float(tables.positions.weight.grad[1].abs().max()) > 0
    assert float(tables.token_types.weight.grad.abs().max()) == 0
    model.zero_grad()
    nothing_hidden = torch.full_like(made.targets["masked_lm_labels"], -1)
    made.targets["masked_lm_labels"] = nothing_hidden
    model.total(model(made)).backward()
    assert float(tables.words.weight.grad[0].abs().max()) == 0


@pytest.mark.parametrize("regions", [1, 7])
def test_small_losses_and_gradients_equal_transformers(regions: int) -> None:
    """The same comparison as at full size, in float64, for odd shapes."""
    ours = build_ours(TINY, TINY_COUNTS)
    theirs = build_theirs(TINY, TINY_COUNTS, ours).double()
    ours = ours.double()
    made = make_batch(TINY_COUNTS, 3, 12, regions)
    made.targets["original_features"] = made.targets["original_features"].double()
    made = replace(made, features=made.features.double(), boxes_norm=made.boxes_norm.double())
    losses = ours(made)
    targets = {k: v for one in their_targets(made).values() for k, v in one.items()}
    expected, total = theirs(**their_inputs(made), **targets).loss, ours.total(losses)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    total.backward()
    assert worst_gradient_difference(ours, theirs) <= 1e-6  # losses are summed in float32
