"""Answers of a whole split: images once each, no padding, nothing computed that is not read.

Examples come sorted by image, a chunk at a time. Within a chunk each image passes the object-relationship
encoder once and each distinct sentence the language encoder once; only the layers that cross the two see
every pair, and they see sentences of one length at a time, so that no token is padding and none needs a mask.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lxmert.data.batching import Examples
from lxmert.errors import LxmertError
from lxmert.memory import is_out_of_memory
from lxmert.models.heads import TaskModel
from lxmert.models.lxmert import EncodedImages, EncodedQuestions, LxmertEncoder
from lxmert.objectives import Loss
from lxmert.training.job import Evaluation

log = logging.getLogger(__name__)

# Tokens of one pass. On a CPU its largest buffer, [tokens, 4H] float32, then stays below the 32 MB that the
# allocator reuses without asking the system; a GPU wants more work at once.
_TOKENS = {"cpu": 2048, "other": 65536}
_IMAGE_BYTES = 256 << 20  # what the images of a chunk may take, features and encoded states together
_LEAST_TOKENS = 8  # no more than one example


@dataclass
class AtOnce:
    """What a device holds at once; halved when its memory runs out, which changes no answer.

    Attributes:
        device: where the model is.
        tokens: of one pass.
        image_bytes: what the images of a window may take.
    """

    device: torch.device
    tokens: int
    image_bytes: int = _IMAGE_BYTES

    @classmethod
    def on(cls, device: torch.device) -> AtOnce:
        """What such a device usually holds."""
        return cls(device, _TOKENS.get(device.type, _TOKENS["other"]))

    def halve(self) -> None:
        """Asks for less from now on.

        Raises:
            LxmertError: it would not even be one example.
        """
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.tokens <= _LEAST_TOKENS:
            raise LxmertError(
                f"out of memory on {self.device} while answering one example at a time. Use a device with"
                " more memory, or a smaller evaluate_batch."
            )
        self.tokens, self.image_bytes = self.tokens // 2, self.image_bytes // 2
        log.warning(
            "out of memory on %s; going on with %d tokens at once and the same answers",
            self.device,
            self.tokens,
        )


def chunk_logits(
    model: TaskModel,
    examples: Examples,
    rows: np.ndarray,
    device: torch.device,
    at_once: AtOnce | None = None,
) -> torch.Tensor:
    """Logits [B, K] of some examples, in their order; fastest where examples of one image are neighbours.

    Args:
        model: in evaluation mode.
        examples: where texts and regions are read.
        rows: int64 [B].
        device: where the model is.
        at_once: what it holds at once, which the caller keeps from chunk to chunk; None: what is usual.

    Raises:
        LxmertError: not even one example fits into memory.
    """
    at_once = at_once or AtOnce.on(device)
    while True:
        try:
            return _logits(model, examples, rows, at_once)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback would keep the tensors of the failed pass.
        at_once.halve()


@torch.inference_mode()
def _logits(model: TaskModel, examples: Examples, rows: np.ndarray, at_once: AtOnce) -> torch.Tensor:
    device = at_once.device
    tokens = examples.tokens(rows)
    keys, image = np.unique(examples.image_keys(rows).astype(str), return_inverse=True)
    image = image.reshape(len(rows), examples.images_per_example)
    if examples.regions is None:  # a blind model sees the same nothing everywhere
        keys, image = keys[:1], np.zeros_like(image)
    limit = max(_images_at_once(model.encoder, examples, at_once), examples.images_per_example)
    parts = []
    for begin, end in _image_windows(image, limit):
        used, inside = np.unique(image[begin:end], return_inverse=True)
        images = _encode_images(model.encoder, examples, [str(keys[index]) for index in used], at_once)
        inside = inside.reshape(end - begin, -1)
        parts.append(_answer(model, tokens[begin:end], images, torch.from_numpy(inside).to(device), at_once))
    return torch.cat(parts)


def _images_at_once(encoder: LxmertEncoder, examples: Examples, at_once: AtOnce) -> int:
    regions = 1 if examples.regions is None else examples.regions.max_boxes
    values = regions * (encoder.feature_width + 4 * encoder.size.hidden)  # features, states, projections
    return max(1, at_once.image_bytes // (4 * values))


def _image_windows(image: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Runs of rows that name at most `limit` images: first row and end of each."""
    begin, seen = 0, set[int]()
    for row, named in enumerate(image.tolist()):
        if len(seen.union(named)) > limit:
            yield begin, row
            begin, seen = row, set()
        seen.update(named)
    if begin < len(image):
        yield begin, len(image)


def _encode_images(
    encoder: LxmertEncoder, examples: Examples, keys: list[str], at_once: AtOnce
) -> EncodedImages:
    """The images, encoded a few at a time, with what the first cross layer makes of them alone."""
    regions = examples.read_regions(keys)
    real = None if bool(regions.region_mask.all()) else torch.from_numpy(regions.region_mask)
    features, boxes = torch.from_numpy(regions.features), torch.from_numpy(regions.boxes_norm)
    parts, device = [], at_once.device
    for some in _slices(len(keys), regions.features.shape[1], at_once):
        mask = None if real is None else real[some].to(device)
        parts.append(encoder.encode_images(features[some].to(device), boxes[some].to(device), mask, True))
    return EncodedImages.join(parts)


def _answer(
    model: TaskModel, tokens: np.ndarray, images: EncodedImages, image: torch.Tensor, at_once: AtOnce
) -> torch.Tensor:
    """Logits [B, K] of sentences int64 [B, L], each with its images int64 [B, P], of those encoded."""
    encoder, pairs, device = model.encoder, image.shape[1], at_once.device
    lengths = (tokens != 0).sum(axis=1)
    logits = None
    for length in np.unique(lengths):
        group = np.flatnonzero(lengths == length)
        distinct, sentence = np.unique(tokens[group, :length], axis=0, return_inverse=True)
        questions = _encode_questions(encoder, torch.from_numpy(distinct), at_once)
        sentence = torch.from_numpy(sentence.reshape(-1)).to(device)
        where = torch.from_numpy(group).to(device)
        for some in _slices(len(group), pairs * (int(length) + images.states.shape[1]), at_once):
            encoded = encoder.fuse(
                questions.select(sentence[some].repeat_interleave(pairs)),
                images.select(image[where[some]].reshape(-1)),
                read="pooled",
            )
            found = model.head(encoded)
            if logits is None:
                logits = found.new_empty(len(tokens), found.shape[1])
            logits[where[some]] = found
    assert logits is not None, "a chunk has examples"
    return logits


def _encode_questions(encoder: LxmertEncoder, distinct: torch.Tensor, at_once: AtOnce) -> EncodedQuestions:
    """Sentences int64 [S, L] without padding."""
    parts = [
        encoder.encode_questions(distinct[some].to(at_once.device)).states
        for some in _slices(len(distinct), distinct.shape[1], at_once)
    ]
    return EncodedQuestions(torch.cat(parts), None)


def _slices(count: int, tokens_each: int, at_once: AtOnce) -> Iterator[slice]:
    """Cuts `count` items in equal parts of as many tokens as one pass takes, and the rest."""
    size = max(1, at_once.tokens // tokens_each)
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


def chunks(examples: Examples, size: int, start: int = 0) -> Iterator[np.ndarray]:
    """Rows of a split in chunks of `size`, questions about one image together."""
    order = examples.by_image()
    for begin in range(start, len(order), size):
        yield order[begin : begin + size]


def label_score(
    model: TaskModel,
    examples: Examples,
    answers: int,
    chunk: int,
    device: torch.device,
    loss: Callable[[torch.Tensor, torch.Tensor], Loss],
) -> Evaluation:
    """Mean soft score of the answers given, what LXMERT selects its weights by; and the mean loss.

    Args:
        model: in evaluation mode.
        examples: labelled examples.
        answers: number of answers K.
        chunk: examples at a time.
        device: where the model is.
        loss: of logits and soft targets, both float32 [B, K].
    """
    total, lost, counted, at_once = 0.0, 0.0, 0.0, AtOnce.on(device)
    for rows in chunks(examples, chunk):
        logits = chunk_logits(model, examples, rows, device, at_once).float().cpu()
        targets = torch.from_numpy(examples.soft_targets(rows, answers))
        chosen = logits.argmax(dim=1, keepdim=True)
        total += float(targets.gather(1, chosen).double().sum())
        part = loss(logits, targets)
        lost, counted = lost + float(part.sum), counted + float(part.denominator)
    score = total / len(examples)
    return Evaluation({"score": score, "held_out_loss": lost / max(counted, 1e-12)}, select_by=score)
