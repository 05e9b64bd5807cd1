"""What a table of tensors is a model of: its kind, its sizes, and the tensors it must have."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from lxmert.convert.documents import Names, read_system
from lxmert.errors import WeightsError
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.keys import Stored
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import build_pretraining
from lxmert.specs.checks import mistakes, partial, schema

Kind = Literal["pretraining", "task", "encoder"]
HEAD_WIDTH = 64  # of every published encoder of this family
_LAYER = re.compile(r"encoder\.(language|relation|cross)_layers\.(\d+)\.")


@dataclass(frozen=True)
class Description:
    """A model as its weights show it.

    Attributes:
        kind: a pretraining model, one with a task's head, or the encoder alone.
        size: widths, depths, dropouts.
        vocabulary: word pieces.
        feature_width: width of region features.
        object_classes: None where the file has no object head; the other counts likewise.
        attribute_classes: see above.
        answers: of the task's head, or of the pretrained answer head.
        objectives: those whose heads the file has.
        pair: whether the task's head reads two images.
    """

    kind: Kind
    size: dict[str, Any]
    vocabulary: int
    feature_width: int
    object_classes: int | None = None
    attribute_classes: int | None = None
    answers: int | None = None
    objectives: tuple[str, ...] = ()
    pair: bool = False
    assumed: tuple[str, ...] = field(default=(), compare=False)

    def counts(self) -> dict[str, Any]:
        """The counts as metadata and messages name them."""
        return {
            "vocabulary": self.vocabulary,
            "feature_width": self.feature_width,
            "object_classes": self.object_classes,
            "attribute_classes": self.attribute_classes,
            "answers": self.answers,
        }

    def model(self) -> nn.Module:
        """The model, without memory for its parameters."""
        with torch.device("meta"):
            encoder = LxmertEncoder(self.size, self.vocabulary, self.feature_width)
            if self.kind == "task":
                head = "pair_classification" if self.pair else "classification"
                return TaskModel(encoder, build_head(head, self.size["hidden"], self.answers or 0))
            if self.kind == "pretraining":
                recipe: dict[str, Any] = {name: 1.0 for name in self.objectives}
                if "masked_region" in recipe:
                    recipe["masked_region"] = {}
                return build_pretraining(
                    encoder,
                    recipe,
                    self.object_classes or 0,
                    self.attribute_classes or 0,
                    self.answers or 0,
                )
            return _Bare(encoder)

    def expected(self) -> dict[str, Stored]:
        """Our names and shapes of all tensors the model has; they cannot be read."""
        named = self.model().named_parameters()
        return {name: Stored.of(parameter.detach()) for name, parameter in named}


def check_size(size: Any, source: str, whole: bool = True) -> None:
    """Refuses sizes no encoder can have.

    Args:
        size: settings by our names.
        source: the file, for messages.
        whole: whether every setting must be there.

    Raises:
        WeightsError: the first mistake.
    """
    rules = schema("system")["properties"]["sizes"]["additionalProperties"]
    if wrong := mistakes(size, rules if whole else partial(rules), source):
        raise WeightsError(f"{wrong[0]} These are no weights of LXMERT's, or the file is damaged.")


class _Bare(nn.Module):
    """An encoder under the name it has in the other models."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder


def describe(shapes: Mapping[str, tuple[int, ...]], source: str, heads: int | None = None) -> Description:
    """A model from the shapes of its tensors.

    Args:
        shapes: by our names; stacked tensors may be missing, what they say is said by others.
        source: the file, for messages.
        heads: number of attention heads (above 0), which no shape shows; 64 wide if None.

    Raises:
        WeightsError: tensors that show a size are missing, or the number of heads cannot be guessed.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes or len(shapes[name]) != 2 or 0 in shapes[name]:
            raise WeightsError(f"{source}: has no matrix that is our {name}; these are no LXMERT weights.")
        return shapes[name]

    vocabulary, hidden = shape("encoder.embeddings.words.weight")
    layers = {(match[1], match[2]) for name in shapes if (match := _LAYER.match(name))}
    # Up to the first gap: a number that a spoilt name makes up must not make up layers.
    depths = {
        stream: next(number for number in itertools.count() if (stream, str(number)) not in layers)
        for stream in ("language", "relation", "cross")
    }
    feed_forwards = [
        lengths[0]
        for name, lengths in shapes.items()
        if name.endswith("feed_forward.inner.weight") and len(lengths) == 2
    ]
    assumed = []
    if heads is None:
        if hidden % HEAD_WIDTH:
            raise WeightsError(
                f"{source}: does not say how many attention heads it has, and {hidden} is no multiple of"
                f" {HEAD_WIDTH}. Give --heads."
            )
        heads = hidden // HEAD_WIDTH
        assumed.append(f"{heads} attention heads ({HEAD_WIDTH} wide, as published; --heads changes it)")
    elif hidden % heads:
        raise WeightsError(
            f"{source}: is {hidden} wide, which {heads} heads do not divide. Give other --heads."
        )
    size: dict[str, Any] = {
        "hidden": hidden,
        "heads": heads,
        "intermediate": max(set(feed_forwards), key=feed_forwards.count, default=4 * hidden),
        **{f"{stream}_layers": depth for stream, depth in depths.items()},
        "max_positions": shape("encoder.embeddings.positions.weight")[0],
        "token_types": shape("encoder.embeddings.token_types.weight")[0],
        "hidden_dropout": 0.1,
        "attention_dropout": 0.1,
        "initial_std": 0.02,
    }
    check_size(size, source)
    found = Description("encoder", size, vocabulary, shape("encoder.regions.features.weight")[1])
    return replace(_with_heads(found, shapes), assumed=tuple(assumed))


def _with_heads(found: Description, shapes: Mapping[str, tuple[int, ...]]) -> Description:
    def rows(name: str) -> int | None:
        return shapes[name][0] if shapes.get(name) else None

    if any(name.startswith("head.") for name in shapes):
        inputs = (shapes.get("head.inner.weight") or (0,))[-1]
        return replace(
            found,
            kind="task",
            answers=rows("head.outer.weight") or rows("head.outer.bias") or 0,
            pair=inputs == 2 * found.size["hidden"],
        )
    objectives = tuple(
        name
        for name in read_system()["objectives"]
        if any(key.startswith(f"objectives.{name}.") for key in shapes)
    )
    if not objectives:
        return found
    region = "objectives.masked_region."
    return replace(
        found,
        kind="pretraining",
        objectives=objectives,
        object_classes=rows(f"{region}object.weight") or rows(f"{region}object.bias"),
        attribute_classes=rows(f"{region}attribute.weight") or rows(f"{region}attribute.bias"),
        answers=rows("objectives.qa.head.outer.weight") or rows("objectives.qa.head.outer.bias"),
    )


def left_out(found: Description, names: Names) -> dict[str, str]:
    """Groups of heads a pretraining model lacks, and why it may."""
    if found.kind != "pretraining":
        return {}
    return {
        prefix.split(".")[1]: why
        for prefix, why in names.optional.items()
        if prefix.split(".")[1] not in found.objectives
    }
