"""Each objective against its formula, empty targets, and batches cut in pieces."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch.nn import functional

from lxmert.data.masking import masked_features
from lxmert.errors import SpecError
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import PretrainingModel, build_pretraining
from lxmert.objectives import Parts, find_objective
from lxmert.objectives.masked_region import MaskedRegionModelling
from lxmert.specs.documents import PACKAGE, objective_names, read_yaml
from lxmert.types import Batch, Encoded

SIZE = {
    "hidden": 16,
    "heads": 2,
    "intermediate": 20,
    "language_layers": 1,
    "relation_layers": 1,
    "cross_layers": 1,
    "max_positions": 12,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}
ALL = {"masked_lm": 1.0, "matching": 1.0, "masked_region": {"object": 1.0}, "qa": 1.0}
B, L, R, F = 4, 6, 3, 5


def build(objectives: dict | None = None, seed: int = 1, order: list[str] | None = None) -> PretrainingModel:
    encoder = LxmertEncoder(SIZE, 30, F)
    model = build_pretraining(encoder, ALL if objectives is None else objectives, 7, 4, 9, order=order)
    initialise(model, seed)
    return model.double()


def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)

    def below(limit: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, limit, shape, generator=generator)

    def share(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    labels = torch.full((B, L), -1)
    labels[0, 2], labels[0, 3], labels[3, 1] = 4, 5, 6
    masked = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]]).bool()
    kept = masked_features((share(B, R, F) * 3).numpy(), masked.numpy())
    targets = {
        "masked_lm_labels": labels,
        "matched": below(2, B),
        "object_ids": below(7, B, R),
        "object_scores": share(B, R),
        "attribute_ids": below(4, B, R),
        "attribute_scores": share(B, R),
        "original_features": torch.from_numpy(kept),
        "region_masked": masked,
        "answer": torch.tensor([3, -1, -1, 8]),
    }
    ids = below(29, B, L) + 1
    return Batch(ids, torch.ones_like(ids), share(B, R, F), share(B, R, 4), None, targets)


def part(whole: Batch, rows: slice) -> Batch:
    return Batch(
        whole.input_ids[rows],
        whole.attention_mask[rows],
        whole.features[rows],
        whole.boxes_norm[rows],
        None,
        {name: value[rows] for name, value in whole.targets.items()},
    )


def test_region_losses_follow_their_formula() -> None:
    made = batch()
    head = MaskedRegionModelling(16, 7, 4, F, mask_rate=0.15)
    initialise(head, 1)
    head.double()
    vision = torch.randn(B, R, 16, dtype=torch.float64)
    losses = head(Encoded(None, vision, vision[:, 0]), made)
    states, targets = head.transform(vision), made.targets
    for name, decoder in (("object", head.object), ("attribute", head.attribute)):
        chances = functional.log_softmax(decoder(states), -1)
        each = -chances.gather(-1, targets[f"{name}_ids"][..., None])[..., 0]
        expected = (each * targets[f"{name}_scores"]).sum() / (B * R) / 0.15
        assert losses[name].mean().item() == pytest.approx(expected.item(), rel=1e-6)
    kept = targets["original_features"]  # of two regions at most
    originals = torch.stack([kept[0, 0], kept[2, 0], kept[2, 1], kept[3, 0]])
    distance = (head.feature(states)[targets["region_masked"]] - originals).abs()
    smooth = torch.where(distance < 1, distance.square() / 2, distance - 0.5).mean(-1)
    expected = smooth.sum() / (B * R) / 0.15
    assert losses["feature"].mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_masked_only_restricts_object_and_attribute() -> None:
    made = batch()
    heads = [MaskedRegionModelling(16, 7, 4, F, masked_only=flag).double() for flag in (True, False)]
    for head in heads:
        initialise(head, 1)
    vision = torch.randn(B, R, 16, dtype=torch.float64)
    encoded = Encoded(None, vision, vision[:, 0])
    restricted = heads[0](encoded, made)
    for name in ("object_scores", "attribute_scores"):
        made.targets[name] = made.targets[name] * made.targets["region_masked"]
    weighted = heads[1](encoded, made)
    for name in ("object", "attribute", "feature"):
        assert restricted[name].mean().item() == pytest.approx(weighted[name].mean().item(), rel=1e-6)


def test_nothing_to_predict_is_zero_with_a_gradient() -> None:
    """The reference gives NaN here (quirk Q8)."""
    model, made = build(), batch()
    made.targets["masked_lm_labels"].fill_(-1)
    made.targets["answer"].fill_(-1)
    made.targets["region_masked"].fill_(False)
    losses = model(made)
    for name in ("masked_lm", "qa", "feature"):
        assert losses[name].mean().item() == 0.0, name
    total = model.total(losses)
    total.backward()
    assert torch.isfinite(total)
    grown = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(bool(torch.isfinite(gradient).all()) for gradient in grown.values())
    # What was asked still learns, and what was not is asked for nothing.
    still = [name for name, gradient in grown.items() if not gradient.any()]
    assert any(name.startswith("objectives.qa.") for name in still)
    assert grown["encoder.pooler.weight"].any()


def test_denominators_need_no_forward_pass() -> None:
    model, made = build(), batch()
    counted = {name: value.item() for name, value in model.denominators(made).items()}
    assert counted == {"masked_lm": 3, "matching": 4, "object": 12, "attribute": 12, "feature": 12, "qa": 2}
    assert counted == {name: loss.denominator.item() for name, loss in model(made).items()}


def test_pieces_of_a_batch_add_up_to_the_whole() -> None:
    """Unequal pieces, one of them without a masked word or an answer."""
    model, whole = build(), batch()
    model.total(model(whole)).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    pieces = [part(whole, slice(0, 1)), part(whole, slice(1, 3)), part(whole, slice(3, 4))]
    counted = [model.denominators(piece) for piece in pieces]
    together = {name: sum(one[name] for one in counted) for name in counted[0]}
    for piece in pieces:
        model.total(model(piece), together).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-6, atol=1e-9)


def test_weights_of_the_recipe_scale_the_total() -> None:
    weighted = {
        "masked_lm": 2.0,
        "matching": 0.0,
        "masked_region": {"object": 0.5, "feature": 0.0},
        "qa": None,
    }
    model, made = build(weighted), batch()
    losses = model(made)
    assert set(losses) == {"masked_lm", "matching", "object", "attribute", "feature"}
    expected = 2 * losses["masked_lm"].mean() + 0.5 * losses["object"].mean() + losses["attribute"].mean()
    assert model.total(losses).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("objectives", "read"),
    [({"matching": 1.0}, "pooled"), ({"masked_lm": 1.0, "qa": 1.0}, "language"), (ALL, "all")],
)
def test_only_what_the_objectives_read_is_computed(objectives: dict, read: str) -> None:
    model = build(objectives)
    assert model.read == read
    model.total(model(batch())).backward()


@pytest.mark.parametrize(
    ("objectives", "told"),
    [
        ({"masked_lmm": 1.0}, 'recipe/objectives/masked_lmm: unknown objective. Did you mean "masked_lm"?'),
        (
            {"masked_region": {"objects": 1.0}},
            'masked_region/objects: unknown setting. Did you mean "object"?',
        ),
    ],
)
def test_an_unknown_objective_is_explained(objectives: dict, told: str) -> None:
    with pytest.raises(SpecError) as error:
        build(objectives)
    assert told in str(error.value)


def test_the_decoder_shares_the_word_embeddings() -> None:
    model = build()
    words = model.encoder.embeddings.words.weight
    assert model.objectives["masked_lm"].words is words
    assert sum(parameter is words for parameter in model.parameters()) == 1


def test_every_objective_is_found_by_its_file() -> None:
    listed = read_yaml(PACKAGE / "systems" / "lxmert" / "system.yaml")["objectives"]
    assert sorted(listed) == objective_names() and len(listed) == 4
    losses = [name for objective in listed for name in find_objective(objective).names]
    assert len(losses) == len(set(losses)) == 6
    assert list(build({name: ALL[name] for name in sorted(ALL)}, order=listed).objectives) == listed


def test_a_new_objective_is_a_file_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but its module and what a system lists must know it."""

    class Length(torch.nn.Module):
        reads, names, switches = "pooled", ("length",), ("squared",)

        def __init__(self, hidden: int, squared: bool) -> None:
            super().__init__()
            self.score, self.squared = torch.nn.Linear(hidden, 1), squared

        @classmethod
        def of(cls, parts: Parts, settings: dict) -> Length:
            return cls(parts.hidden, settings.get("squared", False))

    monkeypatch.setitem(sys.modules, "lxmert.objectives.length", types.SimpleNamespace(OBJECTIVE=Length))
    monkeypatch.setattr("lxmert.objectives.objective_names", lambda: ["length", "qa"])
    model = build({"qa": 1.0, "length": {"length": 0.5, "squared": True}}, order=["length", "qa"])
    assert list(model.objectives) == ["length", "qa"] and model.weights == {"length": 0.5, "qa": 1.0}
    assert model.objectives["length"].squared
    with pytest.raises(SpecError, match="recipe/objectives/qa: the system has no such objective"):
        build({"qa": 1.0}, order=["length"])
    with pytest.raises(SpecError, match='length/square: unknown setting. Did you mean "squared"'):
        build({"length": {"square": True}})


def test_a_loss_without_a_weight_counts_nothing() -> None:
    model = build({"masked_region": {"object": None, "attribute": 2.0}})
    assert model.weights == {"object": 0.0, "attribute": 2.0, "feature": 1.0}
