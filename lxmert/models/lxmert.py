"""The LXMERT encoder: two single-stream encoders, then layers that cross the streams.

Source: Tan & Bansal 2019, arXiv 1908.07490, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lxmert.models.dropout import Dropout, DropoutNoise
from lxmert.models.layers import Attention, BertLayer, Embedding, FeedForward, LayerNorm, Linear, Size
from lxmert.models.rows import Rows, additive_mask
from lxmert.types import Batch, Encoded

Read = Literal["all", "language", "pooled"]


@dataclass(frozen=True)
class EncodedImages:
    """N images after the object-relationship encoder; shared by all their questions.

    Attributes:
        states: float [N, R, H].
        mask: additive [N, 1, 1, R], or None when every region is real.
        projected: [N, R, 3H], query, key and value of the first cross layer; None: made when needed.
    """

    states: Tensor
    mask: Tensor | None
    projected: Tensor | None = None

    @classmethod
    def join(cls, parts: Sequence[EncodedImages]) -> EncodedImages:
        """Images encoded in parts, padded alike; all of them with projections, or none."""
        if len(parts) == 1:
            return parts[0]
        masks = None
        if any(part.mask is not None for part in parts):
            masks = [
                part.states.new_zeros(len(part.states), 1, 1, part.states.shape[1])
                if part.mask is None
                else part.mask
                for part in parts
            ]
        projected = [part.projected for part in parts if part.projected is not None]
        return cls(
            torch.cat([part.states for part in parts]),
            None if masks is None else torch.cat(masks),
            torch.cat(projected) if projected else None,
        )

    def select(self, rows: Tensor) -> EncodedImages:
        """The images at `rows` int64 [B], repeated as often as named."""
        mask, projected = self.mask, self.projected
        return EncodedImages(
            self.states.index_select(0, rows),
            None if mask is None else mask.index_select(0, rows),
            None if projected is None else projected.index_select(0, rows),
        )


@dataclass(frozen=True)
class EncodedQuestions:
    """B sentences after the language encoder.

    Attributes:
        states: float [B, L, H], zeros where a token is padding.
        mask: additive [B, 1, 1, L], or None when no token is padding.
    """

    states: Tensor
    mask: Tensor | None

    def select(self, rows: Tensor) -> EncodedQuestions:
        """The sentences at `rows` int64 [B], repeated as often as named."""
        mask = self.mask
        return EncodedQuestions(
            self.states.index_select(0, rows), None if mask is None else mask.index_select(0, rows)
        )


class TextEmbeddings(nn.Module):
    """Word, position and token-type embeddings, normed; every token is of type 0."""

    def __init__(self, size: Size, vocabulary: int, noise: DropoutNoise) -> None:
        super().__init__()
        self.words = Embedding(vocabulary, size.hidden)
        self.positions = Embedding(size.max_positions, size.hidden)
        self.token_types = Embedding(size.token_types, size.hidden)
        self.norm = LayerNorm(size.hidden)
        self.dropout = Dropout(size.hidden_dropout, noise)

    def forward(self, input_ids: Tensor, rows: Rows) -> Tensor:
        """Word pieces int64 [B, L] to [T, H]."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Token type 0 is looked up, not added as a row: its gradient is then zero, not absent, and
        # the optimiser decays the table as the reference does.
        context = self.positions(places) + self.token_types(torch.zeros_like(places[:1]))  # [L, H]
        if rows.places is None:
            words = (self.words(input_ids) + context).flatten(0, 1)
        else:
            words = self.words(input_ids.flatten().index_select(0, rows.places))
            words = words + context.index_select(0, rows.places % input_ids.shape[1])
        return self.dropout(self.norm(words), before=rows.before)


class RegionEmbeddings(nn.Module):
    """Region features and boxes, each projected and normed, then averaged (section 2.1)."""

    def __init__(self, size: Size, feature_width: int, noise: DropoutNoise) -> None:
        super().__init__()
        self.features = Linear(feature_width, size.hidden)
        self.features_norm = LayerNorm(size.hidden)
        self.boxes = Linear(4, size.hidden)
        self.boxes_norm = LayerNorm(size.hidden)
        self.dropout = Dropout(size.hidden_dropout, noise)

    def forward(self, features: Tensor, boxes_norm: Tensor, rows: Rows) -> Tensor:
        """Features [B, R, F] and boxes [B, R, 4] to [T, H]."""
        features = rows.gather(features).to(self.features.weight.dtype)  # stores hold float16
        appearance = self.features_norm(self.features(features))
        position = self.boxes_norm(self.boxes(rows.gather(boxes_norm)))
        return self.dropout((appearance + position) / 2, before=rows.before)


class CrossLayer(nn.Module):
    """Cross-attention, self-attention per stream, feed-forward per stream (section 2.2.2)."""

    def __init__(self, size: Size, noise: DropoutNoise) -> None:
        super().__init__()
        # One module for both directions: the reference shares it between language and vision.
        self.cross_attention = Attention(size, noise)
        self.language_attention = Attention(size, noise)
        self.vision_attention = Attention(size, noise)
        self.language_feed_forward = FeedForward(size, noise)
        self.vision_feed_forward = FeedForward(size, noise)

    def forward(
        self, language: Tensor, vision: Tensor, text: Rows, regions: Rows, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both streams, each having read the other's *input* and itself.

        Args:
            language: float [T, H].
            vision: float [S, H].
            text: the rows of `language`.
            regions: the rows of `vision`.
            projected: [B, R, 3H], the cross-attention's projections of `vision`, if known.

        Returns:
            Language [T, H] and vision [S, H].
        """
        cross = self.cross_attention
        # Language before vision: one product serves both streams.
        tokens, cuts = torch.cat([language, vision]), [len(text), len(regions)]
        if projected is None:
            of_language, of_vision = cross.qkv(tokens).split(cuts)
            of_vision = regions.spread(of_vision)
        else:
            of_language, of_vision = cross.qkv(language), projected
        language_query, language_key, language_value = text.spread(of_language).chunk(3, dim=-1)
        vision_query, vision_key, vision_value = of_vision.chunk(3, dim=-1)
        before = text.examples_before
        read = [
            text.gather(cross.mix(language_query, vision_key, vision_value, regions.mask, 0, before)),
            regions.gather(cross.mix(vision_query, language_key, language_value, text.mask, 1, before)),
        ]
        language, vision = cross.finish(torch.cat(read), tokens, text, regions).split(cuts)
        language = self.language_feed_forward(self.language_attention(language, text), text)
        vision = self.vision_feed_forward(self.vision_attention(vision, regions), regions)
        return language, vision

    def language_side(
        self,
        language: Tensor,
        vision: Tensor,
        text: Rows,
        regions: Rows,
        projected: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """The language half of :meth:`forward`: [T, H], or [B, H] with `first_only`.

        Exact, forward and backward: in the last layer nothing reads the visual half, and [CLS] reads
        the other tokens only as keys and values of its self-attention.
        """
        cross = self.cross_attention
        if projected is None:
            of_vision = regions.spread(cross.key_value(vision))
        else:
            of_vision = projected[..., cross.hidden :]
        key, value = of_vision.chunk(2, dim=-1)
        query = text.spread(cross.query(language))
        mixed = cross.mix(query, key, value, regions.mask, before=text.examples_before)
        language = cross.finish(text.gather(mixed), language, text)
        attention = self.language_attention
        if first_only:
            return self.language_feed_forward(attention.first_token(language, text), text.firsts())
        return self.language_feed_forward(attention(language, text), text)


class LxmertEncoder(nn.Module):
    """Language encoder, object-relationship encoder, cross-modality encoder, pooler.

    Args:
        size: widths and depths; a mapping is checked.
        vocabulary: number of word pieces.
        feature_width: width of a region feature.
    """

    def __init__(self, size: Size | Mapping[str, float], vocabulary: int, feature_width: int) -> None:
        super().__init__()
        self.size = size = Size.of(size)
        self.vocabulary = vocabulary
        self.feature_width = feature_width
        self.noise = noise = DropoutNoise()
        self.checkpoint_layers = False  # recompute layers in the backward pass instead of keeping them
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] | None = None
        self._compile_options: dict[str, Any] = {}
        self.embeddings = TextEmbeddings(size, vocabulary, noise)
        self.regions = RegionEmbeddings(size, feature_width, noise)
        self.language_layers = nn.ModuleList(BertLayer(size, noise) for _ in range(size.language_layers))
        self.relation_layers = nn.ModuleList(BertLayer(size, noise) for _ in range(size.relation_layers))
        self.cross_layers = nn.ModuleList(CrossLayer(size, noise) for _ in range(size.cross_layers))
        self.pooler = Linear(size.hidden, size.hidden)

    def forward(self, batch: Batch, read: Read = "all") -> Encoded:
        """Encode sentences with their images.

        Args:
            batch: row i of the text belongs to row i of the image.
            read: what the caller reads. "language" leaves out the last layer's visual half, "pooled"
                also all but [CLS] of its language half; values and gradients stay the same.

        Returns:
            The streams asked for (the others None), and pooled [B, H].
        """
        if self.training:
            self.noise.advance()
        questions = self.encode_questions(batch.input_ids, batch.attention_mask)
        images = self.encode_images(batch.features, batch.boxes_norm, batch.region_mask)
        return self.fuse(questions, images, read)

    def encode_questions(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncodedQuestions:
        """Sentences int64 [B, L] through the language encoder; no mask: all are L tokens long."""
        mask = additive_mask(attention_mask)
        rows = self._text_rows(mask, input_ids)
        states = self.embeddings(input_ids, rows)
        for layer in self.language_layers:
            states = self._run(layer, states, rows)
        return EncodedQuestions(rows.spread(states), mask)

    def encode_images(
        self, features: Tensor, boxes_norm: Tensor, region_mask: Tensor | None = None, project: bool = False
    ) -> EncodedImages:
        """Regions through the object-relationship encoder.

        Args:
            features: float [N, R, F], float16 where stores hold that.
            boxes_norm: float [N, R, 4].
            region_mask: int64 [N, R], 1 where real; None when all are.
            project: also make the first cross layer's projections, which depend on the image alone;
                pays when several questions share an image.

        Returns:
            What :meth:`fuse` reads.
        """
        mask = additive_mask(region_mask)
        rows = self._region_rows(mask, features)
        states = self.regions(features, boxes_norm, rows)
        for layer in self.relation_layers:
            states = self._run(layer, states, rows)
        projected = None
        if project and self.cross_layers:
            projected = rows.spread(self.cross_layers[0].cross_attention.qkv(states))
        return EncodedImages(rows.spread(states), mask, projected)

    def fuse(self, questions: EncodedQuestions, images: EncodedImages, read: Read = "all") -> Encoded:
        """Cross the streams; row i of the questions belongs to row i of the images."""
        text = self._text_rows(questions.mask, questions.states)
        regions = self._region_rows(images.mask, images.states)
        language, vision = text.gather(questions.states), regions.gather(images.states)
        projected = images.projected
        layers = list(self.cross_layers)
        last = layers.pop() if layers and read != "all" else None
        for layer in layers:
            language, vision = self._run(layer, language, vision, text, regions, projected)
            projected = None
        first_only = read == "pooled" and last is not None
        if last is not None:
            language = self._run(last.language_side, language, vision, text, regions, projected, first_only)
        pooled = torch.tanh(self.pooler(language if first_only else text.first(language)))
        return Encoded(
            language=None if read == "pooled" else text.spread(language),
            vision=regions.spread(vision) if read == "all" else None,
            pooled=pooled,
        )

    def _text_rows(self, mask: Tensor | None, padded: Tensor) -> Rows:
        before = self.noise.before
        return Rows.of(mask, (padded.shape[0], padded.shape[1]), before.tokens, before.examples)

    def _region_rows(self, mask: Tensor | None, padded: Tensor) -> Rows:
        before = self.noise.before
        return Rows.of(mask, (padded.shape[0], padded.shape[1]), before.regions, before.examples)

    def compile_layers(self, **options: Any) -> None:
        """From now on training runs its layers through `torch.compile`.

        Layer by layer, not as a whole: equal layers share their code, so that four pieces are compiled, and
        what depends on a batch's lengths stays outside. Evaluation has its own fast path.

        Args:
            options: of `torch.compile`.
        """
        self.noise.register()
        self._compiled, self._compile_options = {}, options

    def _run(self, layer, *arguments):  # noqa: ANN001, ANN002, ANN202 - what the layer takes and gives
        if self._compiled is not None and self.training:
            plain = getattr(layer, "forward", layer)
            if plain not in self._compiled:
                self._compiled[plain] = torch.compile(plain, dynamic=True, **self._compile_options)
            layer = self._compiled[plain]
        if self.checkpoint_layers and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, use_reentrant=False, preserve_rng_state=False)
        return layer(*arguments)
