"""Training and evaluation batches from memory-mapped examples and region stores.

A batch is a function of (examples, seed, step): workers may build any of them in any order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.columns import Columns
from lxmert.data.masking import (
    choose_regions,
    mask_words,
    masked_features,
    mismatched_rows,
    pad_ragged,
    sample_answers,
)
from lxmert.data.regions import RegionBatch, RegionSource
from lxmert.data.sampling import generator, step_rows
from lxmert.data.wordpiece import WordPieceTokenizer
from lxmert.errors import DataError
from lxmert.types import Batch, BatchArrays

log = logging.getLogger(__name__)


class Examples:
    """Labelled or unlabelled examples of one task and split (or several, joined), with their regions.

    Args:
        paths: columns files; joined in this order.
        regions: where images are read, None for a blind model, which sees one empty region.
        feature_width: width of that empty region.
        leave_out: whether examples of quarantined images are left out; otherwise they see an empty region.
    """

    def __init__(
        self, paths: list[Path], regions: RegionSource | None, feature_width: int, leave_out: bool = False
    ) -> None:
        self.parts = [Columns(path) for path in paths]
        self.regions, self.feature_width = regions, feature_width
        self.bounds = np.cumsum([0, *(len(part) for part in self.parts)])
        self._kept: np.ndarray | None = None
        if regions is not None:
            self._places = [
                regions.require(part.strings("images"), path, part.meta.get("absent_images", ()))
                for path, part in zip(paths, self.parts, strict=True)
            ]
            seen = [
                _seen(part, places, regions, path, leave_out)
                for path, part, places in zip(paths, self.parts, self._places, strict=True)
            ]
            if leave_out and any(part is not None for part in seen):
                self._kept = np.flatnonzero(
                    np.concatenate(
                        [
                            np.ones(len(part), bool) if found is None else found
                            for part, found in zip(self.parts, seen, strict=True)
                        ]
                    )
                )
        if not len(self):
            raise DataError(
                f"{', '.join(map(str, paths))}: no examples. Raise `subset` or check the annotations."
            )

    def __len__(self) -> int:
        return int(self.bounds[-1]) if self._kept is None else len(self._kept)

    @property
    def images_per_example(self) -> int:
        """1, or 2 where a sentence speaks of a pair."""
        shape = self.parts[0].array("image").shape
        return shape[1] if len(shape) == 2 else 1

    def arrays(self, rows: np.ndarray, answers: int) -> BatchArrays:
        """Some examples with soft targets; an example of two images gives two rows, left image first.

        Args:
            rows: int64 [B], counted over the joined parts.
            answers: number of answers K.
        """
        tokens = np.repeat(self.tokens(rows), self.images_per_example, axis=0)
        targets = {"answer_targets": self.soft_targets(rows, answers)}
        return _join(tokens, attention_mask(tokens), self._read(rows), targets)

    def batch(self, rows: np.ndarray, answers: int) -> Batch:
        """As :meth:`arrays`, as tensors."""
        return self.arrays(rows, answers).tensors()

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """Word pieces of some examples: int64 [B, L], padded with 0."""
        tokens = np.zeros((len(rows), 1), np.int64)
        for here, columns, inside in self._located(rows):
            ids = columns.ragged("input_ids")
            piece, _ = pad_ragged(ids.values, ids.offsets, inside)
            tokens = np.pad(tokens, ((0, 0), (0, max(0, piece.shape[1] - tokens.shape[1]))))
            tokens[here, : piece.shape[1]] = piece
        return tokens

    def image_keys(self, rows: np.ndarray) -> np.ndarray:
        """Image keys of some examples: str [B, P], P images an example."""
        keys = np.empty((len(rows), self.images_per_example), object)
        for here, columns, inside in self._located(rows):
            names = columns.strings("images")
            images = columns.array("image")[inside].reshape(len(inside), -1)
            keys[here] = np.array([[names[int(image)] for image in row] for row in images], object)
        return keys

    def soft_targets(self, rows: np.ndarray, answers: int) -> np.ndarray:
        """Soft scores of every answer: float32 [B, K]."""
        targets = np.zeros((len(rows), answers), np.float32)
        for here, columns, inside in self._located(rows):
            ids, lengths = columns.ragged("answer_ids").take(inside)
            scores, _ = columns.ragged("answer_scores").take(inside)
            targets[np.repeat(here, lengths), ids] = scores
        return targets

    def read_regions(self, keys: Sequence[str]) -> RegionBatch:
        """Regions of some images; a blind model gets one empty region for each."""
        if self.regions is not None:
            return self.regions.read(keys)
        shape = (len(keys), 1)
        return RegionBatch(
            np.zeros((*shape, self.feature_width), np.float32),
            np.zeros((*shape, 4), np.float32),
            np.ones(shape, np.int64),
        )

    def _read(self, rows: np.ndarray) -> RegionBatch:
        """Regions of all images of some examples, an example's images side by side."""
        if self.regions is None:
            return self.read_regions([""] * (len(rows) * self.images_per_example))
        places = np.empty((len(rows), self.images_per_example), np.int64)
        for here, part, inside in self._parts(rows):
            images = self.parts[part].array("image")[inside].reshape(len(inside), -1)
            places[here] = self._places[part][images]
        return self.regions.read(places.reshape(-1))

    def by_image(self) -> np.ndarray:
        """All rows, examples of one image side by side: int64 [N]. Stable, so always the same."""
        rows = []
        for part, columns in enumerate(self.parts):
            images = columns.array("image")
            first = images if images.ndim == 1 else images[:, 0]
            rows.append(self.bounds[part] + np.argsort(first, kind="stable"))
        order = np.concatenate(rows)
        if self._kept is None:
            return order
        place = np.full(len(order), -1)
        place[self._kept] = np.arange(len(self._kept))
        ordered: np.ndarray = place[order]
        return ordered[ordered >= 0]

    def _located(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Columns, np.ndarray]]:
        """Which of `rows` lie in which file: their positions in `rows`, the file, their rows there."""
        for here, part, inside in self._parts(rows):
            yield here, self.parts[part], inside

    def _parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """As :meth:`_located`, with the file's number."""
        if self._kept is not None:
            rows = self._kept[rows]
        located = np.searchsorted(self.bounds, rows, side="right") - 1
        for part in np.unique(located).tolist():
            here = np.flatnonzero(located == part)
            yield here, part, rows[here] - self.bounds[part]


def _seen(
    columns: Columns, places: np.ndarray, regions: RegionSource, path: Path, leave_out: bool
) -> np.ndarray | None:
    """Which examples have regions for all their images, bool [N]; None, which costs no memory, if all have.

    The log says what becomes of the others.
    """
    lacking = places < 0
    if not lacking.any():
        return None
    names = columns.strings("images")
    seen: np.ndarray = ~lacking[columns.array("image").reshape(len(columns), -1)].any(axis=1)
    log.warning(
        "%s: %d of %d examples %s: %s",
        path,
        int((~seen).sum()),
        len(seen),
        "are left out" if leave_out else "are answered without their image",
        regions.describe_absent({names[int(image)] for image in np.flatnonzero(lacking)}),
    )
    return seen


def attention_mask(tokens: np.ndarray) -> np.ndarray:
    """1 where a word piece stands: int64 [B, L]. [PAD] is entry 0 and stands nowhere in a sentence."""
    mask: np.ndarray = (tokens != 0).astype(np.int64)
    return mask


class FinetuneBatches:
    """Batches of a fine-tuning run: `batch(step)` for any step.

    Args:
        examples: labelled examples.
        answers: number of answers.
        global_batch: examples of a step.
        seed: the run's seed.
    """

    def __init__(self, examples: Examples, answers: int, global_batch: int, seed: int) -> None:
        self.examples, self.answers, self.seed = examples, answers, seed
        # A set smaller than one batch is one smaller batch rather than none.
        self.global_batch = min(global_batch, len(examples))
        self.steps_per_epoch = len(examples) // self.global_batch

    def arrays(self, step: int) -> BatchArrays:
        """The batch of one step."""
        return self.examples.arrays(self._rows(step), self.answers)

    def batch(self, step: int) -> Batch:
        """The batch of one step, as tensors."""
        return self.arrays(step).tensors()

    def names(self, step: int) -> list[str]:
        """Ids of the examples of one step, for messages."""
        names = np.empty(self.global_batch, object)
        for here, columns, inside in self.examples._located(self._rows(step)):
            ids = columns.strings("id")
            names[here] = [ids[int(row)] for row in inside]
        return [str(name) for name in names]

    def _rows(self, step: int) -> np.ndarray:
        return step_rows(len(self.examples), self.global_batch, step, self.seed, "finetune")


class PretrainBatches:
    """Batches of pretraining, with everything hidden, swapped and asked for.

    Args:
        path: columns file of the aggregated corpus.
        regions: where images are read.
        recipe: the pretraining recipe (rates, batch size, when objectives begin).
        vocabulary: what the sentences are cut with.
        seed: the run's seed.
        purpose: "train", or another word for a fixed draw of its own ("valid").
    """

    def __init__(
        self,
        path: Path,
        regions: RegionSource,
        recipe: dict[str, Any],
        vocabulary: WordPieceTokenizer,
        seed: int,
        purpose: str = "train",
    ) -> None:
        self.columns, self.regions, self.recipe = Columns(path), regions, recipe
        self.seed, self.purpose = seed, purpose
        self._entries = len(vocabulary)
        self._mask_id = vocabulary.token_id("[MASK]")
        self._special_ids = (vocabulary.token_id("[CLS]"), vocabulary.token_id("[SEP]"))
        # Examples of quarantined images are left out; their sentences still serve as wrong ones.
        absent = self.columns.meta.get("absent_images", ())
        self._places = regions.require(self.columns.strings("images"), path, absent)
        seen = _seen(self.columns, self._places, regions, path, leave_out=True)
        self._kept = None if seen is None else np.flatnonzero(seen)
        self._count = count = len(self.columns) if self._kept is None else len(self._kept)
        if not count:
            raise DataError(f"{path}: no examples. Raise `subset` or check the annotations.")
        self.global_batch = min(recipe["global_batch"], count)
        self.steps_per_epoch = count // self.global_batch

    def arrays(self, step: int) -> BatchArrays:
        """The batch of one step."""
        rows = self._rows(step)
        draw = generator(self.seed, "pretrain", self.purpose, "masks", step)
        input_ids, mask, targets = self._text(step, rows, draw)
        regions = self._regions(self._places[self.columns.array("image")[rows]], targets, draw)
        return _join(input_ids, mask, regions, targets)

    def batch(self, step: int) -> Batch:
        """The batch of one step, as tensors."""
        return self.arrays(step).tensors()

    def text(self, step: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The batch of one step without its regions: word pieces and mask, int64 [B, L], and targets."""
        draw = generator(self.seed, "pretrain", self.purpose, "masks", step)
        return self._text(step, self._rows(step), draw)

    def _text(
        self, step: int, rows: np.ndarray, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        images = self.columns.array("image")
        matching = self._has_begun("matching", step)
        mismatch_rate = self.recipe["mismatch_rate"] if matching else 0.0
        sentence_rows, matched = mismatched_rows(rows, images, mismatch_rate, draw)
        answers = self._answers(rows, matched, draw)
        targets = {
            "answer": answers if self._has_begun("qa", step) else np.full_like(answers, -1),
            "matched": matched if matching else np.full_like(matched, -1),
        }
        tokens = self.columns.ragged("input_ids")
        input_ids, mask = pad_ragged(tokens.values, tokens.offsets, sentence_rows)
        input_ids, labels = mask_words(
            input_ids,
            mask,
            self.recipe["word_mask_rate"],
            self._mask_id,
            self._special_ids,
            self._entries,
            draw,
        )
        targets["masked_lm_labels"] = labels
        return input_ids, mask, targets

    def names(self, step: int) -> list[str]:
        """Row and image of the examples of one step, for messages."""
        keys, images = self.columns.strings("images"), self.columns.array("image")
        return [f"{row} ({keys[int(images[row])]})" for row in self._rows(step)]

    def _rows(self, step: int) -> np.ndarray:
        rows = step_rows(self._count, self.global_batch, step, self.seed, "pretrain", self.purpose)
        return self._among_kept(rows)

    def _among_kept(self, places: np.ndarray) -> np.ndarray:
        """Rows of the file, of places among the examples that have regions."""
        rows: np.ndarray = places if self._kept is None else self._kept[places]
        return rows

    def _has_begun(self, objective: str, step: int) -> bool:
        """Whether an objective asks anything yet; before matching does, no sentence is exchanged."""
        start_epochs: dict[str, float] = self.recipe.get("start_epochs", {})
        return bool(step >= start_epochs.get(objective, 0) * self.steps_per_epoch)

    def _answers(self, rows: np.ndarray, matched: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        ids, scores = self.columns.ragged("answer_ids"), self.columns.ragged("answer_scores")
        answers = sample_answers(ids.values, scores.values, ids.offsets, rows, draw)
        # A question beside another image has no answer to learn.
        asked: np.ndarray = np.where(matched == 1, answers, -1)
        return asked

    def _regions(
        self, places: np.ndarray, targets: dict[str, np.ndarray], draw: np.random.Generator
    ) -> RegionBatch:
        """Regions of the batch with some hidden or replaced; what stood there goes to `targets`."""
        regions = self.regions.read(places, labels=True)
        chosen, zeroed, replaced = choose_regions(
            regions.region_mask.shape, self.recipe["region_mask_rate"], draw
        )
        real = regions.region_mask == 1
        chosen, zeroed, replaced = chosen & real, zeroed & real, replaced & real
        targets["original_features"] = masked_features(regions.features, chosen)
        targets["region_masked"] = chosen
        for name in ("object_ids", "object_scores", "attribute_ids", "attribute_scores"):
            targets[name] = getattr(regions, name)
        regions.features[zeroed] = 0.0
        count = int(replaced.sum())
        donors = self._among_kept(draw.integers(0, self._count, count))
        places = self._places[self.columns.array("image")[donors]]
        regions.features[replaced] = self.regions.random_features(places, draw.random(count))
        return regions


def _join(
    input_ids: np.ndarray, mask: np.ndarray, regions: RegionBatch, targets: dict[str, np.ndarray]
) -> BatchArrays:
    real = None if regions.region_mask.all() else regions.region_mask
    return BatchArrays(input_ids, mask, regions.features, regions.boxes_norm, real, targets)
