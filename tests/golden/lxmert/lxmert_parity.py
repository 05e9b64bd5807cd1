"""Our pretraining model and `transformers`' over the same memory, and a batch for both."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from lxmert.data.masking import masked_features
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import PretrainingModel, build_pretraining
from lxmert.models.weights import KeyMap, from_ours, model_tensors
from lxmert.specs.documents import PACKAGE, read_yaml
from lxmert.types import Batch

SYSTEM = PACKAGE / "systems" / "lxmert"
OBJECTIVES = {
    "masked_lm": 1.0,
    "matching": 1.0,
    "masked_region": {"object": 1.0, "attribute": 1.0, "feature": 1.0, "masked_only": False},
    "qa": 1.0,
}
TINY = {
    "hidden": 24,
    "heads": 3,
    "intermediate": 40,
    "language_layers": 2,
    "relation_layers": 1,
    "cross_layers": 2,
    "max_positions": 20,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}


@dataclass(frozen=True)
class Counts:
    """Everything but the encoder's size."""

    words: int = 30522
    feature_width: int = 2048
    objects: int = 1600
    attributes: int = 400
    answers: int = 9500


TINY_COUNTS = Counts(words=50, feature_width=12, objects=7, attributes=5, answers=11)


def keys() -> KeyMap:
    return KeyMap(read_yaml(SYSTEM / "keys.yaml"))


def published_size() -> dict:
    size = read_yaml(SYSTEM / "system.yaml")["sizes"]["lxr955"]
    return size | {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def build_ours(size: dict, counts: Counts, seed: int = 5) -> PretrainingModel:
    encoder = LxmertEncoder(size, counts.words, counts.feature_width)
    model = build_pretraining(encoder, OBJECTIVES, counts.objects, counts.attributes, counts.answers)
    initialise(model, seed)
    return model


def build_theirs(size: dict, counts: Counts, ours: PretrainingModel) -> torch.nn.Module:
    """`transformers`' model, its parameters views of ours."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LxmertConfig(
        vocab_size=counts.words,
        hidden_size=size["hidden"],
        num_attention_heads=size["heads"],
        intermediate_size=size["intermediate"],
        max_position_embeddings=size["max_positions"],
        l_layers=size["language_layers"],
        r_layers=size["relation_layers"],
        x_layers=size["cross_layers"],
        visual_feat_dim=counts.feature_width,
        num_object_labels=counts.objects,
        num_attr_labels=counts.attributes,
        num_qa_labels=counts.answers,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.device("meta"):
        model = transformers.LxmertForPreTraining(config)
    state = from_ours(model_tensors(ours), keys(), "transformers_pretraining")
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    model.requires_grad_(True)
    assert model.cls.predictions.decoder.weight is model.lxmert.embeddings.word_embeddings.weight
    # `transformers` rounds the inverse of the mask rate.
    assert model.visual_loss_normalizer == 6.67
    model.visual_loss_normalizer = 1 / 0.15
    return model


def make_batch(counts: Counts, examples: int = 3, tokens: int = 20, regions: int = 36) -> Batch:
    """A pretraining batch whose texts are 20, 9, 12, 5, ... tokens long, padded to `tokens`."""
    generator = torch.Generator().manual_seed(11)

    def below(limit: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, limit, shape, generator=generator)

    def share(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    lengths = torch.tensor([20, 9, 12, 5])[torch.arange(examples) % 4].clamp(max=tokens)
    attention_mask = (torch.arange(tokens) < lengths[:, None]).long()
    labels = below(counts.words, examples, tokens)
    labels[(share(examples, tokens) >= 0.3) | (attention_mask == 0)] = -1
    answer = below(counts.answers, examples)
    answer[-1] = -1
    features = torch.relu(torch.randn(examples, regions, counts.feature_width, generator=generator)) * 3
    region_masked = share(examples, regions) < 0.15
    region_masked[0, 0] = True
    corners = share(examples, regions, 4).sort(dim=-1).values
    targets = {
        "masked_lm_labels": labels,
        "matched": below(2, examples),
        "object_ids": below(counts.objects, examples, regions),
        "object_scores": share(examples, regions),
        "attribute_ids": below(counts.attributes, examples, regions),
        "attribute_scores": share(examples, regions),
        "original_features": torch.from_numpy(masked_features(features.numpy(), region_masked.numpy())),
        "region_masked": region_masked,
        "answer": answer,
    }
    features[region_masked] = 0.0
    ids = (below(counts.words - 1, examples, tokens) + 1) * attention_mask
    return Batch(ids, attention_mask, features, corners, None, targets)


def their_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "visual_feats": batch.features,
        "visual_pos": batch.boxes_norm,
    }


def their_targets(batch: Batch) -> dict[str, dict]:
    """Our targets in their form, one loss at a time; they ignore label -100, we -1."""
    targets = batch.targets

    def ignored(labels: torch.Tensor) -> torch.Tensor:
        return labels.masked_fill(labels == -1, -100)

    return {
        "masked_lm": {"labels": ignored(targets["masked_lm_labels"])},
        "matching": {"matched_label": targets["matched"]},
        "qa": {"ans": ignored(targets["answer"])},
        "regions": {
            "obj_labels": {
                "obj": (targets["object_ids"], targets["object_scores"]),
                "attr": (targets["attribute_ids"], targets["attribute_scores"]),
                "feat": (every_region(targets), targets["region_masked"].float()),
            }
        },
    }


def every_region(targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """The original features, [B, R, F], zeros where nothing is asked."""
    masked, kept = targets["region_masked"], targets["original_features"]
    features = kept.new_zeros(*masked.shape, kept.shape[-1])
    for row in range(len(masked)):
        features[row, masked[row]] = kept[row, : int(masked[row].sum())]
    return features


def worst_gradient_difference(ours: PretrainingModel, theirs: torch.nn.Module) -> float:
    """Largest difference over all gradients, relative to a tensor's largest value where that is above 1.

    Both models' gradients are dropped.
    """
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    named = from_ours(gradients, keys(), "transformers_pretraining")
    expected = dict(theirs.named_parameters(remove_duplicate=False))
    assert named.keys() == expected.keys()
    worst = 0.0
    for name, gradient in named.items():
        scale = max(1.0, expected[name].grad.abs().max().item())
        worst = max(worst, (gradient - expected[name].grad).abs().max().item() / scale)
    ours.zero_grad()
    theirs.zero_grad()
    return worst
