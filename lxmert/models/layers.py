"""The post-norm BERT block as LXMERT uses it: embeddings, attention, feed-forward, dropout.

Letters: B examples, L text tokens, R regions, N either, H hidden width, A heads, D = H / A.

Constructors leave weights unset; :func:`initialise` or a weights file fills them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.errors import SpecError, suggest
from lxmert.models.products import finish_product, product
from lxmert.models.quantized import Quantized

MASKED_SCORE = -10000.0  # in float32 exp(-10000) is exactly 0: a masked key weighs nothing
LAYER_NORM_EPS = 1e-12
_BLOCK = 8  # batch rows that share one seeding of a device's generator
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

    quantized: Quantized | None = None  # stands in for the weights at inference, see models/quantized.py

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


class DropoutNoise:
    """The random numbers of all dropouts of one model, drawn from counters.

    A mask depends on (key, forward pass, place in the model, row of the global batch) and on nothing
    else: not on the global generator, not on other masks. So a resumed run repeats an unbroken one, a
    layer computed twice (activation checkpointing) sees the same mask twice, and a batch cut in
    micro-batches or among ranks sees the masks of the whole, as long as its pieces are padded alike.

    PyTorch's own dropout spends about 8 ns an element on the CPU, more than the layer it follows at
    small widths. Here one 64-bit draw decides four elements, 0.6 ns each; the rate is therefore rounded
    to a multiple of 1/65536, and survivors are scaled by the rounded rate.
    """

    def __init__(self) -> None:
        self.key: tuple[int, ...] = (0,)
        self.passes = 0
        self.rows: tuple[int, int] | None = None
        self._places = 0

    def begin(self, *key: int, rows: tuple[int, int] | None = None) -> None:
        """Set the key, say (seed, step); the next forward pass is number 0.

        Args:
            key: what the masks depend on.
            rows: first row and end of the batches to come within the global batch; None: all of it.
        """
        self.key = tuple(int(part) for part in key)
        self.passes = 0
        self.rows = rows

    def advance(self) -> None:
        """Count one forward pass."""
        self.passes += 1

    def new_place(self) -> int:
        """The number of the next dropout of the model."""
        self._places += 1
        return self._places

    def scaled_mask(
        self, like: Tensor, rate: float, *place: int, cuts: Sequence[int] | None = None
    ) -> Tensor:
        """0 where dropped, 1 / (1 - rate) elsewhere; shape, dtype and device of `like`.

        Args:
            like: contiguous in its batch rows: [B, ...], or such tensors one after the other.
            rate: share to drop.
            place: where in the model.
            cuts: sizes along dimension 0 of the tensors that `like` joins; None: it is one.
        """
        if cuts is not None:
            parts = [self.scaled_mask(part, rate, *place, use) for use, part in enumerate(like.split(cuts))]
            return torch.cat(parts)
        dropped = round(rate * 65536)
        scale = 65536 / (65536 - dropped)
        seed = (*self.key, self.passes, *place)
        if like.device.type != "cpu":
            return self.drawn_in_blocks(like, 1 / scale, seed).mul_(scale)
        start = self._elements_before(like)
        source = np.random.PCG64(seed)
        source.advance(start // 4)
        bits = source.random_raw(-(-(start % 4 + like.numel()) // 4)).view(np.int16)[start % 4 :]
        mask = torch.empty(like.shape, dtype=like.dtype)
        return torch.ge(
            torch.from_numpy(bits[: like.numel()]).view(like.shape), dropped - 32768, out=mask
        ).mul_(scale)

    def drawn_in_blocks(self, like: Tensor, kept: float, seed: tuple[int, ...]) -> Tensor:
        """1 with probability `kept`, else 0; by the device's generator, seeded for every few batch rows."""
        first, stop = self.rows or (0, 1)
        mask = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        rows = mask.view(stop - first, -1)
        for block in range(first // _BLOCK, -(-stop // _BLOCK)):
            generator = torch.Generator(like.device).manual_seed(fold_seed(*seed, block))
            low, high = max(block * _BLOCK, first), min((block + 1) * _BLOCK, stop)
            if high - low == _BLOCK:
                rows[low - first : high - first].bernoulli_(kept, generator=generator)
            else:
                whole = torch.empty((_BLOCK, rows.shape[1]), dtype=like.dtype, device=like.device)
                whole.bernoulli_(kept, generator=generator)
                rows[low - first : high - first] = whole[low - block * _BLOCK : high - block * _BLOCK]
        return mask

    def _elements_before(self, like: Tensor) -> int:
        """How many elements of the global batch's tensor stand before this piece of it."""
        if self.rows is None:
            return 0
        first, stop = self.rows
        return first * (like.numel() // (stop - first))


class Dropout(nn.Module):
    """Dropout whose masks come from a :class:`DropoutNoise`."""

    def __init__(self, rate: float, noise: DropoutNoise) -> None:
        super().__init__()
        self.rate = float(rate)
        self.noise = noise
        self.place = noise.new_place()

    @property
    def active(self) -> bool:
        """Whether values are dropped at all."""
        return self.training and self.rate > 0

    def forward(self, values: Tensor, use: int = 0) -> Tensor:
        """The values, some of them zeroed; uses within one forward pass are told apart by number."""
        if not self.active:
            return values
        return values * self.noise.scaled_mask(values, self.rate, self.place, use)

    def add_to(self, residual: Tensor, values: Tensor, cuts: Sequence[int] | None = None) -> Tensor:
        """``residual + dropout(values)`` in one pass; `cuts` as in :meth:`DropoutNoise.scaled_mask`."""
        if not self.active:
            return residual + values
        mask = self.noise.scaled_mask(values, self.rate, self.place, 0, cuts=cuts)
        return torch.addcmul(residual, values, mask)


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

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Self-attention block: tokens [B, N, H] and their additive mask to [B, N, H]."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return self.finish(self.mix(query, key, value, mask), tokens)

    def first_token(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Row 0 of :meth:`forward`, [B, 1, H], without computing the other rows."""
        first = tokens[:, :1]
        query, key, value = self.project_apart(first, tokens)
        return self.finish(self.mix(query, key, value, mask), first)

    def project_apart(self, readers: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query of `readers` [B, N, H], key and value of `read` [B, M, H]."""
        key, value = self.qkv(read, rows=(self.hidden, 3 * self.hidden)).chunk(2, dim=-1)
        return self.query(readers), key, value

    def query(self, readers: Tensor) -> Tensor:
        """Query of `readers` [B, N, H] alone."""
        return self.qkv(readers, rows=(0, self.hidden))

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, use: int = 0) -> Tensor:
        """Values weighted by softmax(query . key / sqrt(D) + mask): [B, N, H], [B, M, H] to [B, N, H].

        A module that serves several directions numbers its uses, so that their dropouts differ.
        """
        query, key, value = (self._split_heads(part) for part in (query, key, value))
        dropout = self.probability_dropout
        if dropout.active:
            # The fused kernels draw their dropout from the global generator, so the sum is spelt out.
            scores = torch.matmul(query * (1 / math.sqrt(query.shape[-1])), key.transpose(-1, -2))
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)  # [B, A, N, M]
            mixed = torch.matmul(dropout(weights, use).to(value.dtype), value)
        else:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=None if mask is None else mask.to(query.dtype)
            )
        return mixed.transpose(1, 2).flatten(2)  # [B, N, H]

    def finish(self, mixed: Tensor, residual: Tensor, cuts: Sequence[int] | None = None) -> Tensor:
        """Output projection, dropout, and the norm of the sum with the query's own stream.

        Rows of two streams one after the other need the sizes of both, `cuts`.
        """
        if not self.output_dropout.active:
            return self.norm(self.output(mixed, residual=residual))
        return self.norm(self.output_dropout.add_to(residual, self.output(mixed), cuts))

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

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, H] to [B, N, H]."""
        raised = self.inner(tokens, gelu=True)  # [B, N, I]
        if not self.dropout.active:
            return self.norm(self.outer(raised, residual=tokens))
        return self.norm(self.dropout.add_to(tokens, self.outer(raised)))


class BertLayer(nn.Module):
    """Self-attention, then feed-forward: one layer of a single-stream encoder."""

    def __init__(self, size: Size, noise: DropoutNoise) -> None:
        super().__init__()
        self.attention = Attention(size, noise)
        self.feed_forward = FeedForward(size, noise)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens [B, N, H] and their additive mask [B, 1, 1, N] to [B, N, H]."""
        return self.feed_forward(self.attention(tokens, mask))


class Transform(nn.Module):
    """Linear H to H, GELU, norm: what BERT puts before a decoder."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = Linear(hidden, hidden)
        self.norm = LayerNorm(hidden)

    def forward(self, states: Tensor) -> Tensor:
        """States [..., H] to [..., H]."""
        return self.norm(self.linear(states, gelu=True))


def additive_mask(mask: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """What to add to attention scores: [B, N] of ones and zeros to [B, 1, 1, N] of 0 and -10000.

    A mask of ones only, or None, gives None where that can be known without waiting for a GPU.
    """
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):
        return None
    return ((1.0 - mask.to(dtype)) * MASKED_SCORE)[:, None, None, :]


def fold_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


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
