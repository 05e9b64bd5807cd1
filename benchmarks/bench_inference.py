"""Answering a split at lxr955's size, beside `transformers`' LxmertForQuestionAnswering, same weights.

    python benchmarks/bench_inference.py [--part vqa gqa ladder alone int8] [--threads N]

Weights are random, float32; questions have the lengths of VQA (5.4 an image) and GQA (20 an image). The
reference gets them padded to 20, in image order, from memory, in the batch size that suits it best; ours
reads the region store. Parts: `vqa` and `gqa` the ratios, with a check that logits agree to 1e-5; `ladder`
what each trick adds to those before it, `alone` what it gives by itself; `int8` the quantised option.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lxr955
import numpy as np
import torch
from lxr955 import Questions
from timing import Timing, alternate, parse, pin, ratio, record
from torch import Tensor

from lxmert.models.heads import TaskModel
from lxmert.models.layers import Attention, Linear
from lxmert.models.lxmert import EncodedImages
from lxmert.models.packed import packed
from lxmert.models.quantized import quantized
from lxmert.training.inference import chunk_logits, chunks

CPU = torch.device("cpu")
BATCHES = (8, 16, 32, 64)
SAMPLE = 96  # questions the reference answers
CHUNK = 1024  # evaluate_batch of the VQA recipe
PARTS = ("vqa", "gqa", "ladder", "alone", "int8")


def reference(model: torch.nn.Module, data: Questions, size: int, count: int | None = None) -> Tensor:
    """Logits of the first `count` questions in image order, as a plain loop gets them; NaN for the others.

    A question takes it the same time however many there are, so that some are enough; None: all.
    """
    order = torch.from_numpy(data.examples.by_image())[:count]
    logits = torch.full((len(data), lxr955.ANSWERS["vqa"]), float("nan"))
    with torch.inference_mode():
        for rows in order.split(size):
            found = lxr955.their_logits(model, data.batch(rows))
            logits[rows, : found.shape[1]] = found
    return logits[:, : found.shape[1]]


def a_question(timings: dict[str, Timing], counts: dict[str, int]) -> dict[str, Timing]:
    """Timings divided by the number of questions."""
    return {
        name: Timing(
            each.median / counts[name], each.low / counts[name], each.high / counts[name], each.peak_mb
        )
        for name, each in timings.items()
    }


def best_batch(model: torch.nn.Module, data: Questions) -> int:
    """The reference's fastest batch size on the first questions: sizes take turns, each one's best counts."""
    rows = torch.from_numpy(data.examples.by_image()[: max(BATCHES)])

    def answer(size: int) -> None:
        with torch.inference_mode():
            for some in rows.split(size):
                lxr955.their_logits(model, data.batch(some))

    timings = alternate({str(size): partial(answer, size) for size in BATCHES}, repeats=2)
    return int(min(timings, key=lambda size: timings[size].low))


def pipeline(model: TaskModel, data: Questions) -> Tensor:
    """Logits of all questions, as `predict` gets them."""
    logits = None
    for rows in chunks(data.examples, CHUNK):
        found = chunk_logits(model, data.examples, rows, CPU)
        logits = found.new_empty(len(data), found.shape[1]) if logits is None else logits
        logits[torch.from_numpy(rows)] = found
    return logits


def measure(
    name: str, candidates: dict[str, Callable[[], Tensor]], repeats: int
) -> tuple[dict[str, Timing], dict[str, Tensor]]:
    """Times the candidates and keeps what they gave."""
    outputs: dict[str, Tensor] = {}

    def keeping(key: str, function: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            outputs[key] = function()

        return run

    timings = alternate({key: keeping(key, run) for key, run in candidates.items()}, repeats, warmup=1)
    for key, timing in timings.items():
        print(
            f"  {name} {key:58s} {timing.median:7.2f} s ({timing.low:.2f} to {timing.high:.2f})", flush=True
        )
    return timings, outputs


def part_ratio(folder: Path, like: str, images: int, bar: float, repeats: int) -> None:
    """Ours against the reference."""
    data = lxr955.make_questions(folder, like, images)
    ours = lxr955.build_ours(lxr955.ANSWERS[like])
    theirs = lxr955.build_theirs(ours)
    size = best_batch(theirs, data)
    with_packed, packing = prepared(ours, packed(ours), folder)
    timings, outputs = measure(
        like,
        {
            "transformers": lambda: reference(theirs, data, size, SAMPLE),
            "ours": lambda: inside(with_packed, lambda: pipeline(ours, data)),
        },
        repeats,
    )
    timings = a_question(
        timings, dict.fromkeys(timings, len(data)) | {"transformers": min(SAMPLE, len(data))}
    )
    difference, same = compare(outputs["transformers"], outputs["ours"])
    assert difference <= 1e-5 and same == 1.0, f"logits differ by {difference}, {same:.2%} same answers"
    spread = ratio(timings, "transformers", "ours")
    record(
        f"bench_inference/{like}",
        f"{like.upper()} inference, lxr955, float32, {lxr955.QUESTIONS_PER_IMAGE[like]} questions an image,"
        " against transformers",
        spread["median"],
        bar,
        timings=timings,
        spread=spread,
        notes={
            "questions": f"{len(data)}, reference the first {min(SAMPLE, len(data))} of them",
            "questions per second": f"{1 / timings['ours'].median:.1f}, reference"
            f" {1 / timings['transformers'].median:.1f} at its best batch {size}",
            "largest difference of logits": f"{difference:.1e}, every answer the same",
            "packing the weights, once a run": f"{packing:.1f} s",
            "peak memory, MB": {key: round(timing.peak_mb) for key, timing in timings.items()},
        },
    )


def inside(
    context: Callable[[], contextlib.AbstractContextManager[None]], run: Callable[[], Tensor]
) -> Tensor:
    """Runs inside a context."""
    with context():
        return run()


def prepared(
    model: TaskModel, change: contextlib.AbstractContextManager[None], folder: Path
) -> tuple[Callable[[], contextlib.AbstractContextManager[None]], float]:
    """What gives the model's matrices the stand-ins of `change`, prepared once; and the seconds that took."""
    data = lxr955.make_questions(folder, "vqa", 1, seed=1)
    with change:
        began = time.perf_counter()
        pipeline(model, data)  # each matrix is prepared when first used
        seconds = time.perf_counter() - began
        ready = [(part, part.quantized, part.packed) for part in model.modules() if isinstance(part, Linear)]

    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        for part, integers, floats in ready:
            part.quantized, part.packed = integers, floats
        try:
            yield
        finally:
            for part, *_ in ready:
                part.quantized = part.packed = None

    return changed, seconds


def compare(expected: Tensor, found: Tensor) -> tuple[float, float]:
    """Largest difference of logits, and the share with the same answer, of questions that both answered."""
    both = ~(expected.isnan() | found.isnan()).any(dim=1)
    expected, found = expected[both], found[both]
    same = (expected.argmax(dim=1) == found.argmax(dim=1)).double().mean()
    return float((expected - found).abs().max()), float(same)


@contextlib.contextmanager
def eager_attention() -> Iterator[None]:
    """Attention as a chain of operations, with its scores in memory."""

    def mix(
        self: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *_: int, **__: int
    ) -> Tensor:
        query, key, value = (self._split_heads(part) for part in (query, key, value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        return torch.matmul(weights, value).transpose(1, 2).flatten(2)

    fused, Attention.mix = Attention.mix, mix
    try:
        yield
    finally:
        Attention.mix = fused


class Tricks:
    """Our encoder with some of the tricks, batch by batch."""

    def __init__(self, model: TaskModel, data: Questions, batch: int) -> None:
        self.model, self.data, self.batch = model, data, batch

    @torch.inference_mode()
    def run(
        self,
        sdpa: bool = False,
        lengths: str = "20",
        read: str = "all",
        images: str = "each",
        onednn: bool = False,
    ) -> Tensor:
        """Logits of all questions.

        Args:
            sdpa: fused attention.
            lengths: pad to "20", to the batch's "longest", or batch questions of "equal" length.
            read: what is computed, see `LxmertEncoder.forward`.
            images: encoded for "each" question, "once", or once and "projected" for the first cross layer.
            onednn: products by oneDNN, with GELU and residual sum in the same pass.
        """
        with contextlib.ExitStack() as stack:
            if not sdpa:
                stack.enter_context(eager_attention())
            stack.enter_context(torch.backends.mkldnn.flags(enabled=onednn))
            return self._run(lengths, read, images)

    def _run(self, lengths: str, read: str, images: str) -> Tensor:
        encoder, whole = self.model.encoder, self.data.padded
        logits = torch.empty(len(self.data), lxr955.ANSWERS["vqa"])
        shared = None if images == "each" else self._encode_images(images == "projected")
        for rows in self._batches(lengths):
            longest = 20 if lengths == "20" else int(whole.attention_mask[rows].sum(1).max())
            ids, mask = whole.input_ids[rows, :longest], whole.attention_mask[rows, :longest]
            image = self.data.image[rows]
            if shared is None:
                seen = encoder.encode_images(whole.features[image], whole.boxes_norm[image])
            else:
                seen = shared.select(image)
            logits[rows] = self.model.head(encoder.fuse(encoder.encode_questions(ids, mask), seen, read))
        return logits

    def _encode_images(self, project: bool) -> EncodedImages:
        whole, encoder = self.data.padded, self.model.encoder
        return EncodedImages.join([
            encoder.encode_images(features, boxes, None, project)
            for features, boxes in zip(whole.features.split(56), whole.boxes_norm.split(56), strict=True)
        ])  # fmt: skip

    def _batches(self, lengths: str) -> Iterator[Tensor]:
        order = self.data.examples.by_image()
        if lengths == "equal":
            size = self.data.padded.attention_mask.sum(1).numpy()[order]
            for length in np.unique(size):
                yield from torch.from_numpy(order[size == length]).split(self.batch)
        else:
            yield from torch.from_numpy(order).split(self.batch)


LADDER = (
    ("one product for Q, K, V and both streams", {}),
    ("fused attention", {"sdpa": True}),
    ("questions of equal length together", {"lengths": "equal"}),
    ("last cross layer: no visual side, [CLS] only", {"read": "pooled"}),
    ("each image encoded once", {"images": "once"}),
    ("first cross layer's visual Q, K, V once", {"images": "projected"}),
    ("oneDNN; GELU and residual in the product", {"onednn": True}),
)


def part_tricks(folder: Path, cumulative: bool, images: int, repeats: int) -> None:
    """The share of each trick, on top of those before it, or alone over the first."""
    data = lxr955.make_questions(folder, "vqa", images)
    ours = lxr955.build_ours(lxr955.ANSWERS["vqa"])
    tricks, candidates = Tricks(ours, data, 64), {}
    if cumulative:
        theirs, options = lxr955.build_theirs(ours), {}
        size = best_batch(theirs, data)
        candidates["transformers"] = lambda: reference(theirs, data, size)
        for name, more in LADDER:
            options = options | more
            candidates[name] = lambda options=options: tricks.run(**options)
        with_packed, _ = prepared(ours, packed(ours), folder)
        candidates["as predict does it, weights packed"] = lambda: inside(
            with_packed, lambda: pipeline(ours, data)
        )
    else:
        extra = (("text trimmed to the batch's longest", {"lengths": "longest"}),)
        for name, more in (*LADDER, *extra):
            candidates[name] = lambda more=more: tricks.run(**more)
    timings, outputs = measure("ladder" if cumulative else "alone", candidates, repeats)
    first = next(iter(candidates))
    for name, output in outputs.items():
        difference, same = compare(outputs[first], output)
        assert difference <= 1e-5 and same == 1.0, f"{name}: differ by {difference}, {same:.2%} same answers"
    notes, before = {}, first
    for name in list(candidates)[1:]:
        gain = ratio(timings, before if cumulative else first, name)["median"]
        total = ratio(timings, first, name)["median"]
        notes[name] = f"x {gain:.2f}, together {total:.2f}" if cumulative else f"x {gain:.2f}"
        before = name
    last = list(candidates)[-1]
    if cumulative:
        claim = "Share of each trick, one after the other, VQA against transformers"
        spread = ratio(timings, first, last)
        record(
            "bench_inference/ladder",
            claim,
            spread["median"],
            None,
            timings=timings,
            spread=spread,
            notes=notes,
        )
    else:
        claim = "Share of each trick alone, against our plain path: the best of them"
        best = max(ratio(timings, first, name)["median"] for name in list(candidates)[1:])
        record("bench_inference/alone", claim, best, None, timings=timings, notes=notes)


def part_int8(folder: Path, images: int, repeats: int) -> None:
    """The quantised option against the reference."""
    data = lxr955.make_questions(folder, "vqa", images)
    ours = lxr955.build_ours(lxr955.ANSWERS["vqa"])
    theirs = lxr955.build_theirs(ours)
    size = best_batch(theirs, data)

    with_int8, packing = prepared(ours, quantized(ours, "int8"), folder)
    with_packed, _ = prepared(ours, packed(ours), folder)
    candidates = {
        "transformers": lambda: reference(theirs, data, size, SAMPLE),
        "ours": lambda: inside(with_packed, lambda: pipeline(ours, data)),
        "ours, int8": lambda: inside(with_int8, lambda: pipeline(ours, data)),
    }
    timings, outputs = measure("int8", candidates, repeats)
    timings = a_question(
        timings, dict.fromkeys(timings, len(data)) | {"transformers": min(SAMPLE, len(data))}
    )
    difference, same = compare(outputs["ours"], outputs["ours, int8"])
    spread = ratio(timings, "transformers", "ours, int8")
    record(
        "bench_inference/int8",
        "VQA inference with --quantize int8 against transformers in float32",
        spread["median"],
        3.0,
        timings=timings,
        spread=spread,
        notes={
            "unchanged answers, random weights": f"{same:.1%} of {len(data)}",
            "packing the weights, once a run": f"{packing:.1f} s",
            "largest difference of logits": f"{difference:.1e} at a standard deviation of"
            f" {float(outputs['ours'].std()):.1e}",
            "against ours in float32": f"{ratio(timings, 'ours', 'ours, int8')['median']:.2f}",
        },
    )


def main() -> None:
    """Measures the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, help="fewer or more than usual")
    args = parse(parser)
    if args.tiny:
        lxr955.shrink()
        args.images, args.repeats = 3, 1
    pin(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in args.part:
            if part == "vqa":
                part_ratio(folder, part, args.images or 60, 2.0, args.repeats)
            elif part == "gqa":
                part_ratio(folder, part, args.images or 25, 2.2, args.repeats)
            elif part == "int8":
                part_int8(folder, args.images or 40, args.repeats)
            else:
                part_tricks(folder, part == "ladder", args.images or 60, args.repeats)


if __name__ == "__main__":
    main()
