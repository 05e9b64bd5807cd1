"""The post-norm BERT block as LXMERT uses it: embeddings, attention, feed-forward, dropout.

Letters: B examples, L text tokens, R regions, N either, H hidden width, A heads, D = H / A, T tokens of all
examples one after the other (see `models/rows.py`).

Constructors leave weights unset; :func:`initialise` or a weights file fills them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.errors import SpecError, suggest
from lxmert.models.dropout import Dropout, DropoutNoise, fold_seed
from lxmert.models.packed import Packed
from lxmert.models.products import by_onednn, finish_product, product
from lxmert.models.quantized import Quantized
from lxmert.models.rows import Rows

LAYER_NORM_EPS = 1e-12
INITIAL_STD = 0.02  # made for a width of 768; narrow models learn sooner from more


@dataclass(frozen=True)
class Size:
    """The widths and depths of an encoder, as a system's document names them."""

    hidden: int
    heads: int
    intermediate: int
    language_layers: int
    relation_layers: int
    cross_layers: int
    max_positions: int = 512
    token_types: int = 2
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    initial_std: float = INITIAL_STD

    @classmethod
    def of(cls, document: Size | Mapping[str, float]) -> Size:
        """The size a document states.

        Raises:
            SpecError: an unknown or missing key, or a hidden width the heads do not divide.
        """
        if isinstance(document, Size):
            return document
        known = [item.name for item in fields(cls)]
        for name in document:
            if name not in known:
                raise SpecError(f"size/{name}: unknown setting.{suggest(name, known)}")
        missing = [name for name in known[:6] if name not in document]
        if missing:
            raise SpecError(f"size: missing {', '.join(missing)}; add them to the system's size.")
        size = cls(**document)  # type: ignore[arg-type]
        if size.hidden % size.heads:
            raise SpecError(
                f"size/hidden: {size.hidden} is not a multiple of heads {size.heads}; change one."
            )
        return size


class Linear(nn.Linear):
    """A linear layer whose values come later; drawing them here would use the global generator."""

    # What stands in for the weights at inference, see models/quantized.py and models/packed.py.
    quantized: Quantized | None = None
    packed: Packed | None = None

    def reset_parameters(self) -> None:
        """Nothing: see the class."""

    def forward(
        self,
        tokens: Tensor,
        gelu: bool = False,
        residual: Tensor | None = None,
        rows: tuple[int, int] | None = None,
    ) -> Tensor:
        """Tokens [..., I] to [..., O]; what follows the product anyway costs no pass of its own.

        Args:
            tokens: float [..., I].
            gelu: apply the exact GELU.
            residual: add this, float [..., O].
            rows: first and end of the outputs wanted; None: all O.
        """
        if self.quantized is not None:
            return finish_product(self.quantized(tokens, rows), gelu, residual)
        if self.packed is not None and not torch.is_grad_enabled() and by_onednn(tokens, self.weight):
            return self.packed(tokens, rows, gelu, residual)
        if rows is None:
            return product(tokens, self.weight, self.bias, gelu, residual)
        return product(tokens, self.weight[slice(*rows)], self.bias[slice(*rows)], gelu, residual)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last dimension, eps 1e-12."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=LAYER_NORM_EPS)


class Embedding(nn.Module):
    """A table whose row 0 gets no gradient from look-ups.

    The reference gives ``padding_idx=0`` to the word, position *and* token-type tables. So position 0
    (the place of [CLS]), the only token type in use and the [PAD] word learn nothing from look-ups;
    weight decay alone shrinks them. The [PAD] word still learns through the tied decoder. Looks like
    an oversight, kept for parity: tests/golden/lxmert fails without it.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the table, [*ids.shape, H]."""
        return functional.embedding(ids, self.weight, padding_idx=0)


class Attention(nn.Module):
    """Multi-head attention, its output projection and the norm over the residual sum.

    Query, key and value weights are stacked in one [3H, H] matrix: one product where all three come
    from the same tokens, a slice of the rows where only some are read.
    """

    def __init__(self, size: Size, noise: DropoutNoise) -> None:
        super().__init__()
        self.heads = size.heads
        self.hidden = size.hidden
        self.qkv = Linear(size.hidden, 3 * size.hidden)
        self.output = Linear(size.hidden, size.hidden)
        self.norm = LayerNorm(size.hidden)
        self.probability_dropout = Dropout(size.attention_dropout, noise)
        self.output_dropout = Dropout(size.hidden_dropout, noise)

    def forward(self, tokens: Tensor, rows: Rows) -> Tensor:
        """Self-attention block: tokens [T, H] to [T, H]."""
        query, key, value = rows.spread(self.qkv(tokens)).chunk(3, dim=-1)
        mixed = self.mix(query, key, value, rows.mask, before=rows.examples_before)
        return self.finish(rows.gather(mixed), tokens, rows)

    def first_token(self, tokens: Tensor, rows: Rows) -> Tensor:
        """What :meth:`forward` gives for the first token of each sequence, [B, H], and nothing else."""
        first = rows.first(tokens)
        key, value = rows.spread(self.key_value(tokens)).chunk(2, dim=-1)
        mixed = self.mix(self.query(first)[:, None], key, value, rows.mask, before=rows.examples_before)
        return self.finish(mixed[:, 0], first, rows.firsts())

    def query(self, tokens: Tensor) -> Tensor:
        """Queries alone, [T, H]."""
        return self.qkv(tokens, rows=(0, self.hidden))

    def key_value(self, tokens: Tensor) -> Tensor:
        """Keys and values alone, [T, 2H]."""
        return self.qkv(tokens, rows=(self.hidden, 3 * self.hidden))

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        use: int = 0,
        before: int = 0,
    ) -> Tensor:
        """Values weighted by softmax(query . key / sqrt(D) + mask): [B, N, H], [B, M, H] to [B, N, H].

        A module that serves several directions numbers its uses, so that their dropouts differ; `before`
        is the number of examples of the global batch before these.
        """
        query, key, value = (self._split_heads(part) for part in (query, key, value))
        dropout = self.probability_dropout
        if dropout.active:
            # The fused kernels draw their dropout from the global generator, so the sum is spelt out.
            scores = torch.matmul(query * (1 / math.sqrt(query.shape[-1])), key.transpose(-1, -2))
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)  # [B, A, N, M]
            mixed = torch.matmul(dropout(weights, use, before).to(value.dtype), value)
        else:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=None if mask is None else mask.to(query.dtype)
            )
        return mixed.transpose(1, 2).flatten(2)  # [B, N, H]

    def finish(self, mixed: Tensor, residual: Tensor, *streams: Rows) -> Tensor:
        """Output projection, dropout, and the norm of the sum with the query's own stream.

        Args:
            mixed: float [T, H], rows of one stream, or of several one after the other.
            residual: float [T, H].
            streams: the rows of each.
        """
        if not self.output_dropout.active:
            return self.norm(self.output(mixed, residual=residual))
        return self.norm(self.output_dropout.add_to(residual, self.output(mixed), *streams))

    def _split_heads(self, part: Tensor) -> Tensor:
        return part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, A, N, D]


class FeedForward(nn.Module):
    """Linear H to I, exact GELU, linear I to H, dropout, norm of the residual sum."""

    def __init__(self, size: Size, noise: DropoutNoise) -> None:
        super().__init__()
        self.inner = Linear(size.hidden, size.intermediate)
        self.outer = Linear(size.intermediate, size.hidden)
        self.norm = LayerNorm(size.hidden)
        self.dropout = Dropout(size.hidden_dropout, noise)

    def forward(self, tokens: Tensor, rows: Rows) -> Tensor:
        """Tokens [T, H] to [T, H]."""
        raised = self.inner(tokens, gelu=True)  # [T, I]
        if not self.dropout.active:
            return self.norm(self.outer(raised, residual=tokens))
        return self.norm(self.dropout.add_to(tokens, self.outer(raised), rows))


class BertLayer(nn.Module):
    """Self-attention, then feed-forward: one layer of a single-stream encoder."""

    def __init__(self, size: Size, noise: DropoutNoise) -> None:
        super().__init__()
        self.attention = Attention(size, noise)
        self.feed_forward = FeedForward(size, noise)

    def forward(self, tokens: Tensor, rows: Rows) -> Tensor:
        """Tokens [T, H] to [T, H]."""
        return self.feed_forward(self.attention(tokens, rows), rows)


class Transform(nn.Module):
    """Linear H to H, GELU, norm: what BERT puts before a decoder."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = Linear(hidden, hidden)
        self.norm = LayerNorm(hidden)

    def forward(self, states: Tensor) -> Tensor:
        """States [..., H] to [..., H]."""
        return self.norm(self.linear(states, gelu=True))


@torch.no_grad()
def initialise(model: nn.Module, seed: int, std: float = INITIAL_STD) -> None:
    """Fill every parameter: matrices from N(0, std), biases 0, norms 1 and 0.

    Row 0 of the embedding tables is random too, as in the reference. Each matrix has a generator of
    its own, seeded by its name, so that an encoder starts alike under any head.

    Source: lxmert reference, `init_bert_weights`; no truncation.
    """
    scales = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters(recurse=False)
        if name == "weight"
    }
    for name, parameter in model.named_parameters():
        if name in scales:
            parameter.fill_(1.0)
        elif parameter.dim() < 2:
            parameter.zero_()
        else:
            generator = torch.Generator(parameter.device).manual_seed(fold_seed(seed, name) & 0xFFFFFFFF)
            parameter.normal_(0.0, std, generator=generator)
