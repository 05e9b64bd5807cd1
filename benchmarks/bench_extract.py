"""Images per second of the detector at full size: both backends, and a plain torchvision Faster R-CNN.

    python benchmarks/bench_extract.py [--repeats N] [--threads N] [--tiny]

All have the same seeded weights and get the same decoded picture; 300 proposals go through the last stage.
detectron2 (skipped with a word where it is not installed) runs as it stands: norms apart, all regions at
once. Features of both backends are compared before anything is timed. Peak memory is that of a process that
does nothing else. At the end stands the roofline: how much of the time is products and convolutions, and at
what speed against a plain matrix product's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from extract_reference import plain_faster_rcnn
from PIL import Image
from timing import alternate, parse, peak_memory_mb, pin, ratio, record, reset_peak_memory
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lxmert.detector.backends import for_inference
from lxmert.detector.documents import DetectorSize, parse_profile, parse_size
from lxmert.detector.extract import Extractor
from lxmert.detector.model import Detector, with_classes
from lxmert.detector.preprocess import Blob, decode_image, make_blob
from lxmert.detector.rectangles import shared_rectangles
from lxmert.detector.seeded import seeded_detector
from lxmert.errors import SpecError
from lxmert.specs.documents import read_document

FULL = parse_size(read_document("detector_size", "full"))
TINY = with_classes(parse_size(read_document("detector_size", "sample")), 40, 12, "bench_extract")
PROFILE = parse_profile(read_document("profile", "lxmert-36"))
PROFILE = replace(PROFILE, store=replace(PROFILE.store, dtype="float32"))
OURS, PLAIN, DETECTRON, TORCHVISION = (
    "ours",
    "ours, plain convolutions",
    "detectron2",
    "torchvision FasterRCNN",
)
NAMES = (OURS, PLAIN, DETECTRON, TORCHVISION)
# What multiplies: everything else moves memory or decides.
PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "mkldnn_convolution", "mkldnn::_", "aten::linear")


def picture(height: int = 480, width: int = 640) -> Image.Image:
    """Soft blobs of colour with noise, of COCO's usual size."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray(np.clip(pixels + rng.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8))


def candidate(name: str, model: Detector) -> tuple[Any, Callable[[Blob], object]]:
    """The network of a name with the weights of `model`, and what runs it on a picture.

    Raises:
        SpecError: detectron2 is not installed.
    """
    model = copy.deepcopy(model)
    if name == TORCHVISION:
        network = plain_faster_rcnn(model)

        def run(blob: Blob) -> object:
            with torch.inference_mode():
                return network([torch.from_numpy(blob.pixels)])

        return network, run
    backend = "detectron2" if name == DETECTRON else "torchvision"
    network = for_inference(model, backend, "plain" if name == PLAIN else "rearranged")
    extractor = Extractor(network, PROFILE)
    return extractor, extractor.regions


def memory_alone(name: str, size: DetectorSize) -> None:
    """Prints the peak memory of a process that extracts one picture."""
    _, run = candidate(name, seeded_detector(size).requires_grad_(False))
    blob = read(picture(), size)
    before = peak_memory_mb()
    reset_peak_memory()
    run(blob)
    print(json.dumps({"peak_mb": peak_memory_mb(), "before_mb": before}))


def read(image: Image.Image, size: DetectorSize) -> Blob:
    """Network input of a picture."""
    shape = size.image
    return make_blob(decode_image(image), shape.short_side_px, shape.long_side_px, shape.mean_bgr)


def peak_alone(name: str, args: argparse.Namespace) -> float:
    """Peak memory, MB, of a process of its own."""
    command = [sys.executable, __file__, "--alone", name, "--threads", str(args.threads)]
    command += ["--tiny"] * args.tiny
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def product_speed(side: int = 2048) -> float:
    """Multiplications and additions a second of a plain matrix product, best of five."""
    a, b, best = torch.randn(side, side), torch.randn(side, side), float("inf")
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * int(np.prod(x)) * weight[0]


def _conv_flops(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * int(np.prod(out_shape)) * int(np.prod(weight[1:]))


def _added_conv_flops(other: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * int(np.prod(other)) * int(np.prod(weight[1:]))


FORMULAS = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.mkldnn._convolution_pointwise: _conv_flops,
    torch.ops.mkldnn._convolution_pointwise_: _added_conv_flops,
}


def flops(run: Callable[[], object]) -> float:
    """Multiplications and additions of a run."""
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        run()
    return float(counter.get_total_flops())


def roofline(run: Callable[[], object]) -> dict[str, float]:
    """Share of a run's time in products and convolutions, and the speed there.

    Both come from one profiled run, whose clock also counts what runs between the operators.
    """
    done = flops(run)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
    inside = sum(
        event.self_cpu_time_total for event in found.key_averages() if event.key.startswith(PRODUCTS)
    )
    return {"share": inside / 1e6 / seconds, "gflops": done / (inside / 1e6) / 1e9, "done": done}


def compare(first: Extractor, second: Extractor, blob: Blob) -> tuple[float, bool]:
    """Largest difference of a kept feature, and whether kept boxes and their ids are the same."""
    ours, theirs = first.regions(blob), second.regions(blob)
    same = len(ours) == len(theirs) and np.array_equal(ours.object_ids, theirs.object_ids)
    if not same:
        return float("inf"), False
    boxes = np.abs(ours.boxes_px - theirs.boxes_px).max()
    return float(np.abs(ours.features - theirs.features).max()), bool(boxes <= 1e-3)


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", choices=NAMES, help="only print the peak memory of one candidate")
    args = parse(parser)
    pin(args.threads)
    size = TINY if args.tiny else FULL
    if args.alone:
        memory_alone(args.alone, size)
        return
    blob, runs, extractors, missing = read(picture(), size), {}, {}, ""
    model = seeded_detector(size).requires_grad_(False)
    for name in NAMES:
        try:
            extractors[name], runs[name] = candidate(name, model)
        except SpecError as error:
            missing = str(error)
            print(missing, flush=True)
    if DETECTRON in runs:
        difference, same = compare(extractors[OURS], extractors[DETECTRON], blob)
        assert difference <= 1e-3 and same, f"backends differ: {difference}, same boxes: {same}"
    busy: dict[str, list[float]] = {name: [] for name in runs}

    def timed(name: str) -> Callable[[], None]:
        def run() -> None:
            began = time.process_time()
            runs[name](copy.copy(blob))
            busy[name].append(time.process_time() - began)

        return run

    timings = alternate({name: timed(name) for name in runs}, args.repeats)
    peaks = {name: peak_alone(name, args) for name in runs}
    for name, timing in timings.items():
        print(
            f"  {name:28s} {1 / timing.median:6.3f} images/s"
            f" ({1 / timing.high:.3f} to {1 / timing.low:.3f}), {median(busy[name][1:]):.1f} s of processors,"
            f" peak memory {peaks[name]:.0f} MB",
            flush=True,
        )
    proposals = extractors[OURS].stages(blob).proposals
    height, width = (side // size.stride + 1 for side in blob.pixels.shape[1:])
    shared = shared_rectangles(proposals, height, width, size.head.pool, 1 / size.stride)
    bound, line = product_speed(), roofline(lambda: runs[OURS](blob))
    nominal = flops(lambda: runs[PLAIN](blob))
    notes = {
        "images a second": {name: f"{1 / timing.median:.3f}" for name, timing in timings.items()},
        # Of all threads: what a machine that does other things besides cannot spoil.
        "processor seconds an image": {name: f"{median(each[1:]):.1f}" for name, each in busy.items()},
        "peak memory of a process of its own, MB": {name: round(peak) for name, peak in peaks.items()},
        "proposals": f"{len(proposals)}, {len(shared.cells)} different after quantisation;"
        f" {len(shared)} rectangles for {shared.cells.numel()} cells",
        "roofline": f"{line['share']:.0%} of the time in products and convolutions, at"
        f" {line['gflops']:.0f} GFLOP/s; a plain matrix product of 2048 reaches {bound / 1e9:.0f}",
        "arithmetic": f"{line['done'] / 1e9:.0f} GFLOP an image instead of {nominal / 1e9:.0f}:"
        f" {nominal / timings[OURS].median / 1e9:.0f} GFLOP/s of the plain network's",
    }
    for key in ("proposals", "roofline", "arithmetic"):
        print(f"  {key}: {notes[key]}", flush=True)
    for name, short, bar in ((DETECTRON, "detectron2", 1.5), (TORCHVISION, "torchvision", None)):
        if name not in runs:
            continue
        spread = ratio(timings, name, OURS)
        record(
            f"bench_extract/{short}",
            f"Extraction at full size, {len(proposals)} proposals, against {name} with the same weights",
            spread["median"], bar, timings=timings, spread=spread, notes=notes,
        )  # fmt: skip
    if DETECTRON in runs:
        record(
            "bench_extract/memory", "Peak memory of extraction, detectron2's as a multiple of ours",
            peaks[DETECTRON] / peaks[OURS], 1.0,
            notes={"largest difference of features": f"{difference:.1e}, kept boxes the same"},
        )  # fmt: skip
    elif not args.tiny:
        raise SystemExit(missing)


if __name__ == "__main__":
    main()
