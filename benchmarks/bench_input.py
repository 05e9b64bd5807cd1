"""The input of a pretraining step, batch 256, beside a plain implementation of the same, example by example.

    python benchmarks/bench_input.py [--part path text] [--images N]

Both hide words and regions, exchange sentences, draw answers and make the arrays of a batch, on one thread.
The plain one is Python's `random` and NumPy, one example after the other, as the original code does it, but
kinder to itself: sentences are word pieces already, and features are in memory as float32. Ours is
`lxmert pretrain`'s own: columns on disk, mapped, and features from the region store, in the page cache. Part
`path` is all of a batch, `text` all but the regions.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lxr955
import numpy as np
import torch
from timing import alternate, parse, pin, ratio, record

from lxmert.data.batching import PretrainBatches
from lxmert.data.columns import ColumnsWriter
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import WordPieceTokenizer, read_vocabulary
from lxmert.specs.documents import read_yaml

PARTS = ("path", "text")
RECIPE = read_yaml(lxr955.SYSTEM / "recipes" / "pretrain.yaml")
BATCH, SEED, MASK, CLS, SEP, ANSWERS = 256, 9595, 103, 101, 102, 9500
SENTENCES = 20  # an image, in part; Visual Genome has many more
# One batch of either is some tens of milliseconds, so each round makes several.
BATCHES = 4


class PlainExamples:
    """One example after the other, all of it in memory.

    Args:
        sentences: word pieces of each example.
        answers: (ids, scores) of each example.
        images: image of each example.
        regions: features, boxes, ids and scores of all images.
        draw: where chance comes from.
    """

    def __init__(
        self,
        sentences: list[list[int]],
        answers: list[tuple[list[int], list[float]]],
        images: list[int],
        regions: Any,
        draw: random.Random,
    ) -> None:
        self.sentences, self.answers, self.images, self.regions = sentences, answers, images, regions
        self.draw = draw

    def sentence(self, index: int) -> tuple[list[int], int]:
        """The sentence an example takes, and whether it is its own."""
        if self.draw.random() >= RECIPE["mismatch_rate"]:
            return self.sentences[index], 1
        other = self.draw.randrange(len(self.sentences))
        while self.images[other] == self.images[index]:
            other = self.draw.randrange(len(self.sentences))
        return self.sentences[other], 0

    def words(self, sentence: list[int]) -> tuple[list[int], list[int]]:
        """Word pieces with some hidden, and what stood there."""
        ids, labels = [], []
        for piece in sentence:
            labels.append(-1)
            chance = self.draw.random()
            if piece not in (CLS, SEP) and chance < RECIPE["word_mask_rate"]:
                labels[-1] = piece
                chance /= RECIPE["word_mask_rate"]
                if chance < 0.8:
                    piece = MASK
                elif chance < 0.9:
                    piece = self.draw.randrange(lxr955.WORDS)
            ids.append(piece)
        return ids, labels

    def answer(self, index: int, matched: int) -> int:
        """One accepted answer, in proportion to its score; -1 for none."""
        ids, scores = self.answers[index]
        if not ids or not matched:
            return -1
        return ids[0] if len(ids) == 1 else self.draw.choices(ids, scores)[0]

    def features(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Features with some hidden, and which."""
        features = self.regions.features[image].copy()
        masked = np.zeros(len(features), bool)
        for box in range(len(features)):
            chance = self.draw.random()
            if chance < RECIPE["region_mask_rate"]:
                chance /= RECIPE["region_mask_rate"]
                if chance < 0.8:
                    features[box] = 0.0
                elif chance < 0.9:
                    other = self.images[self.draw.randrange(len(self.images))]
                    features[box] = self.regions.features[other, self.draw.randrange(len(features))]
                masked[box] = True
        return features, masked

    def text(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """Everything of a batch but its regions, padded to 20."""
        made: dict[str, list[Any]] = {name: [] for name in ("ids", "mask", "labels", "matched", "answer")}
        for index in rows:
            sentence, matched = self.sentence(index)
            ids, labels = self.words(sentence)
            room = lxr955.MOST_TOKENS - len(ids)
            made["ids"].append(ids + [0] * room)
            made["mask"].append([1] * len(ids) + [0] * room)
            made["labels"].append(labels + [-1] * room)
            made["matched"].append(matched)
            made["answer"].append(self.answer(index, matched))
        return {name: torch.tensor(np.array(value)) for name, value in made.items()}

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch."""
        made, whole = self.text(rows), self.regions
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("features", "original", "masked")}
        labels = ("boxes_norm", "object_ids", "object_scores", "attribute_ids", "attribute_scores")
        columns |= {name: [] for name in labels}
        for index in rows:
            image = self.images[index]
            features, masked = self.features(image)
            columns["features"].append(features)
            columns["masked"].append(masked)
            columns["original"].append(whole.features[image])
            for name in labels:
                columns[name].append(getattr(whole, name)[image])
        return made | {name: torch.from_numpy(np.stack(value)) for name, value in columns.items()}


def make(folder: Path, images: int) -> tuple[PretrainBatches, PlainExamples]:
    """A corpus of random content and realistic shape, for both."""
    draw = np.random.default_rng(0)
    count = SENTENCES * images
    store = lxr955.make_store(folder, images, draw)
    lengths = lxr955.draw_lengths("vqa", count, draw)
    sentences = [[CLS, *draw.integers(1000, lxr955.WORDS, length - 2).tolist(), SEP] for length in lengths]
    # Captions have no answer; of the questions, most have one, VQA's several.
    accepted = draw.choice([0, 1, 3], count, p=[0.6, 0.3, 0.1])
    ids = [np.sort(draw.choice(ANSWERS, number, replace=False)) for number in accepted]
    scores = [draw.choice(np.float32([0.3, 0.6, 0.9, 1.0]), number) for number in accepted]
    image = np.repeat(np.arange(images), SENTENCES)
    table = folder / "train.safetensors"
    kinds = {"image": "int32", "images": "strings", "input_ids": "ragged int32"}
    kinds |= {"answer_ids": "ragged int32", "answer_scores": "ragged float32"}
    with ColumnsWriter(table, kinds, {"task": "pretrain", "split": "train", "count": count}) as columns:
        columns.append(image=image, input_ids=[np.array(row) for row in sentences])
        columns.append(answer_ids=ids, answer_scores=scores)
        columns.append(images=[f"{store.stem}/i{number}" for number in range(images)])
    source = RegionSource([store])
    ours = PretrainBatches(table, source, {**RECIPE, "global_batch": BATCH}, _vocabulary(folder), SEED)
    regions = source.read([f"{store.stem}/i{number}" for number in range(images)], labels=True)
    regions.features = regions.features.astype(np.float32)
    answers = [(row.tolist(), score.tolist()) for row, score in zip(ids, scores, strict=True)]
    return ours, PlainExamples(sentences, answers, image.tolist(), regions, random.Random(SEED))


def _vocabulary(folder: Path) -> WordPieceTokenizer:
    """As many entries as BERT's, with its special ones where BERT has them."""
    words = [f"w{number}" for number in range(lxr955.WORDS)]
    words[0], words[100:104] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    return read_vocabulary(path)


def part(name: str, ours: PretrainBatches, plain: PlainExamples, repeats: int) -> None:
    """Times one part of the path."""
    steps = iter(range(10**9))

    def many(make: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(BATCHES):
                make(next(steps))

        return run

    def rows(step: int) -> list[int]:
        return ours._rows(step).tolist()

    if name == "path":
        candidates = {
            "example by example": many(lambda step: plain.batch(rows(step))),
            "ours": many(ours.batch),
        }
        claim, bar = "Pretraining input, words and regions, against a plain implementation", 20.0
    else:
        candidates = {
            "example by example": many(lambda step: plain.text(rows(step))),
            "ours": many(ours.text),
        }
        claim, bar = "Pretraining input without regions, against a plain implementation", 20.0
    timings = alternate(candidates, repeats)
    spread = ratio(timings, "example by example", "ours")
    examples = BATCHES * BATCH
    record(
        f"bench_input/{name}",
        f"{claim}, batch {BATCH}, 1 thread",
        spread["median"],
        bar,
        timings=timings,
        spread=spread,
        notes={
            "examples per second": f"{examples / timings['ours'].median:.0f}, reference"
            f" {examples / timings['example by example'].median:.0f}"
        },
    )


def main() -> None:
    """Measures the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    args = parse(parser)
    if args.tiny:
        args.images, args.repeats = 40, 1
    pin(1)
    with tempfile.TemporaryDirectory() as name:
        ours, plain = make(Path(name), args.images)
        for chosen in args.part:
            part(chosen, ours, plain, args.repeats)


if __name__ == "__main__":
    main()
