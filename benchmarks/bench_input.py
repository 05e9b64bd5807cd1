"""The input of a pretraining step, batch 256, beside a plain implementation of the same, example by example.

    python benchmarks/bench_input.py [--part masking pieces path] [--images N]

The plain one is Python's `random` and NumPy, one example after the other, as the original code does it: it
cuts the sentence in word pieces at each access, draws an answer, exchanges sentences, hides words and
regions, pads, and stacks arrays. Ours is `lxmert pretrain`'s own, from columns on disk. One thread.

Part `masking` is everything but the bytes of the regions (their reading is bench_store's); `pieces` the same
where the plain one is spared the cutting; `path` all of a batch, the plain one with features in memory as
float32, ours from the region store in the page cache.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import lxr955
import numpy as np
from plain_input import PlainExamples, PlainTokenizer
from timing import alternate, parse, pin, ratio, record

from lxmert.data.batching import PretrainBatches
from lxmert.data.columns import ColumnsWriter
from lxmert.data.masking import choose_regions
from lxmert.data.regions import RegionSource
from lxmert.data.sampling import generator
from lxmert.data.wordpiece import WordPieceTokenizer, read_vocabulary
from lxmert.specs.documents import read_yaml

PARTS = ("masking", "pieces", "path")
RECIPE = read_yaml(lxr955.SYSTEM / "recipes" / "pretrain.yaml")
BATCH, SEED, ANSWERS = 256, 9595, 9500
# An image; the real corpus has 51. So many that an epoch is of more than a few steps, which would make
# orders cost more than they do.
SENTENCES = 500
# So many a round that ours, a quarter of a millisecond each, is no hiccup of the clock.
BATCHES = {"masking": 32, "pieces": 32, "path": 8}


def make(folder: Path, images: int) -> tuple[PretrainBatches, PlainExamples, PlainExamples]:
    """A corpus of random content and realistic shape: ours, plain with texts, plain with word pieces."""
    draw = np.random.default_rng(0)
    count = SENTENCES * images
    store, vocabulary = lxr955.make_store(folder, images, draw), _vocabulary(folder, draw)
    # Words of the vocabulary and a question mark, so that the lengths are those of questions.
    texts = [
        " ".join(vocabulary.tokens[index] for index in draw.integers(1000, lxr955.WORDS, length - 3)) + "?"
        for length in lxr955.draw_lengths("vqa", count, draw)
    ]
    ids, lengths = vocabulary.encode(texts, RECIPE["max_tokens"])
    pieces = np.split(ids, np.cumsum(lengths)[:-1])
    # Captions have no answer; of the questions, most have one, VQA's several.
    accepted = draw.choice([0, 1, 3], count, p=[0.6, 0.3, 0.1])
    answers = [np.sort(draw.choice(ANSWERS, number, replace=False)) for number in accepted]
    scores = [draw.choice(np.float32([0.3, 0.6, 0.9, 1.0]), number) for number in accepted]
    image = np.repeat(np.arange(images), SENTENCES)
    table = folder / "train.safetensors"
    kinds = {"image": "int32", "images": "strings", "input_ids": "ragged int32"}
    kinds |= {"answer_ids": "ragged int32", "answer_scores": "ragged float32"}
    with ColumnsWriter(table, kinds, {"task": "pretrain", "split": "train", "count": count}) as columns:
        columns.append(image=image, input_ids=pieces, answer_ids=answers, answer_scores=scores)
        columns.append(images=[f"{store.stem}/i{number}" for number in range(images)])
    source = RegionSource([store])
    ours = PretrainBatches(table, source, {**RECIPE, "global_batch": BATCH}, vocabulary, SEED)
    regions = source.read([f"{store.stem}/i{number}" for number in range(images)], labels=True)
    regions.features = regions.features.astype(np.float32)
    labelled = [(row.tolist(), score.tolist()) for row, score in zip(answers, scores, strict=True)]
    tokenizer = PlainTokenizer(vocabulary.tokens)
    assert all(tokenizer(text, 20) == row.tolist() for text, row in zip(texts[:99], pieces, strict=False))

    def plain(sentences: list, cutter: PlainTokenizer | None) -> PlainExamples:
        draw = random.Random(SEED)
        return PlainExamples(RECIPE, lxr955.WORDS, sentences, labelled, image.tolist(), regions, draw, cutter)

    return ours, plain(texts, tokenizer), plain([row.tolist() for row in pieces], None)


def _vocabulary(folder: Path, draw: np.random.Generator) -> WordPieceTokenizer:
    """As many entries as BERT's, with its special ones where BERT has them; words of 2 to 8 letters."""
    letters = draw.integers(ord("a"), ord("z") + 1, (2 * lxr955.WORDS, 8)).astype(np.uint8)
    lengths = draw.integers(2, 9, len(letters))
    words = {bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)}
    words = sorted(words)[:: len(words) // lxr955.WORDS][: lxr955.WORDS]
    words[0], words[100:104], words[999] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"], "?"
    path = folder / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    return read_vocabulary(path)


def part(name: str, ours: PretrainBatches, plain: PlainExamples, pieces: PlainExamples, repeats: int) -> None:
    """Times one part of the path."""
    steps = iter(range(10**9))

    def many(make: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(BATCHES[name]):
                make(next(steps))

        return run

    def masking(of: PlainExamples) -> Callable[[int], object]:
        def make(step: int) -> object:
            made = of.text(ours._rows(step).tolist())
            return made, np.array([of.boxes(lxr955.REGIONS) for _ in range(BATCH)])

        return make

    def our_masking(step: int) -> object:
        draw = generator(SEED, "boxes", step)
        return ours.text(step), choose_regions((BATCH, lxr955.REGIONS), RECIPE["region_mask_rate"], draw)

    what, bar, reference, mine = {
        "masking": ("masking, negatives and collation", 20.0, masking(plain), our_masking),
        "pieces": ("the same, the plain one spared tokenising", None, masking(pieces), our_masking),
        "path": (
            "all of a batch, with region features",
            None,
            lambda step: plain.batch(ours._rows(step).tolist()),
            ours.batch,
        ),
    }[name]
    timings = alternate({"example by example": many(reference), "ours": many(mine)}, repeats)
    spread = ratio(timings, "example by example", "ours")
    examples = BATCHES[name] * BATCH
    record(
        f"bench_input/{name}",
        f"Pretraining input against a plain implementation: {what}; batch {BATCH}, 1 thread",
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
        candidates = make(Path(name), args.images)
        for chosen in args.part:
            part(chosen, *candidates, args.repeats)


if __name__ == "__main__":
    main()
