"""Random reads of a region store beside a msgpack LMDB in UNITER's record form, and beside memcpy.

Prints ratios from one run: candidates take turns, one round to warm up, then the median and range of the
rest. `pip install msgpack msgpack-numpy` for the reference. Run from the root of a checkout:

    OMP_NUM_THREADS=1 python benchmarks/bench_store.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import torch

from lxmert.data.region_record import StoreSchema
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.types import Regions

BATCH = 32


def make_regions(rng: np.random.Generator, boxes: int, width: int) -> Regions:
    """Regions of realistic shape: non-negative features, boxes inside 640 x 480."""
    corners = np.sort(rng.random((boxes, 2, 2)), axis=1) * (640, 480)
    scores = rng.random((3, boxes)).astype(np.float32)
    return Regions(
        boxes_px=corners.reshape(boxes, 4).astype(np.float32),
        features=np.maximum(rng.standard_normal((boxes, width), np.float32), 0),
        object_ids=rng.integers(0, 1600, boxes),
        object_scores=scores[0],
        attribute_ids=rng.integers(0, 400, boxes),
        attribute_scores=scores[1],
        selection_scores=scores[2],
        width=640,
        height=480,
    )


def build(folder: Path, images: int, boxes: int, width: int) -> list[str]:
    """Writes both files with the same features; returns the image ids."""
    try:
        import msgpack
        import msgpack_numpy
    except ImportError:
        raise SystemExit("the reference needs: pip install msgpack msgpack-numpy") from None
    rng = np.random.default_rng(0)
    schema = StoreSchema(width, "float16", boxes, 1600, 400, {"profile": "bench", "version": 1})
    ids = [f"COCO_val2014_{number:012d}" for number in range(images)]
    reference = lmdb.open(
        str(folder / "msgpack.lmdb"), subdir=False, map_size=1 << 36, lock=False, sync=False
    )
    with RegionWriter(folder / "store.lmdb", schema) as writer:
        for image_id in ids:
            regions = make_regions(rng, boxes, width)
            writer.put(image_id, regions)
            record = {
                "features": regions.features.astype(np.float16),
                "norm_bb": rng.random((boxes, 6)).astype(np.float16),
                "conf": regions.selection_scores[:, None].astype(np.float16),
                "soft_labels": rng.random((boxes, 1601)).astype(np.float16),
            }
            packed = msgpack.packb(record, default=msgpack_numpy.encode, use_bin_type=True)
            with reference.begin(write=True) as transaction:
                transaction.put(image_id.encode(), packed)
        writer.finish({})
    reference.close()
    return ids


def compare(
    candidates: dict[str, Callable[[list[str]], None]], ids: list[str], rounds: int
) -> dict[str, float]:
    """Prints microseconds per image; returns the medians."""
    rng = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        order = [ids[index] for index in rng.permutation(len(ids))]
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate(order)
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - began) / len(ids))
    for name, values in seconds.items():
        middle, low, high = (1e6 * value for value in (statistics.median(values), min(values), max(values)))
        print(f"  {name:44s} {middle:8.1f} us/image  ({low:.1f} to {high:.1f})")
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Builds, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--boxes", type=int, default=36)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = build(folder, args.images, args.boxes, args.width)
        measure(folder, ids, args)


def measure(folder: Path, ids: list[str], args: argparse.Namespace) -> None:
    """The two comparisons: records as stored, and float32 batches."""
    import msgpack
    import msgpack_numpy

    store = RegionStore(folder / "store.lmdb")
    size, payload = (folder / "store.lmdb").stat().st_size, store.payload_bytes
    print(
        f"torch {torch.__version__}, {len(ids)} images, {args.boxes} x {args.width} float16, 1 thread, cached"
    )
    print(f"file size / payload: {size / payload:.4f}")
    reference = lmdb.open(str(folder / "msgpack.lmdb"), subdir=False, readonly=True, lock=False)
    transaction = reference.begin(buffers=True)

    def unpack(image_id: str) -> dict[str, np.ndarray]:
        packed = transaction.get(image_id.encode())
        return msgpack.unpackb(packed, object_hook=msgpack_numpy.decode, raw=False)

    half = np.empty((args.boxes, args.width), np.float16)
    halves = np.empty((BATCH, args.boxes, args.width), np.float16)
    features = np.empty((BATCH, args.boxes, args.width), np.float32)
    boxes = np.empty((BATCH, args.boxes, 4), np.float32)
    mask = np.empty((BATCH, args.boxes), np.int64)
    flat = {image_id: np.array(store.regions(image_id).features) for image_id in ids}

    def store_records(order: list[str]) -> None:
        for image_id in order:
            np.copyto(half, store.regions(image_id).features)

    def msgpack_records(order: list[str]) -> None:
        for image_id in order:
            np.copyto(half, unpack(image_id)["features"])

    def msgpack_views(order: list[str]) -> None:
        for image_id in order:
            unpack(image_id)

    def store_views(order: list[str]) -> None:
        for image_id in order:
            store.regions(image_id)

    def store_batches(order: list[str]) -> None:
        for start in range(0, len(order) - BATCH + 1, BATCH):
            store.read_batch(order[start : start + BATCH], features, boxes, mask)

    def store_half_batches(order: list[str]) -> None:
        for start in range(0, len(order) - BATCH + 1, BATCH):
            store.read_batch(order[start : start + BATCH], halves, boxes, mask)

    def half_copies(order: list[str]) -> None:
        for start in range(0, len(order) - BATCH + 1, BATCH):
            for row, image_id in enumerate(order[start : start + BATCH]):
                np.copyto(halves[row], flat[image_id])

    def msgpack_batches(order: list[str]) -> None:
        # As UNITER's loader: float32 tensors of both arrays, then one padded batch.
        padded = torch.empty(BATCH, args.boxes, args.width)
        padded_boxes = torch.empty(BATCH, args.boxes, 6)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            for row, image_id in enumerate(order[start : start + BATCH]):
                record = unpack(image_id)
                padded[row] = torch.tensor(record["features"]).float()
                padded_boxes[row] = torch.tensor(record["norm_bb"]).float()

    def msgpack_tensors(order: list[str]) -> None:
        # What UNITER's reader does for one image.
        for image_id in order:
            record = unpack(image_id)
            torch.tensor(record["features"]).float(), torch.tensor(record["norm_bb"]).float()

    print("one record, features copied out as stored:")
    single = compare({"region store": store_records, "msgpack": msgpack_records}, ids, args.rounds)
    print("one record as the reader gives it:")
    candidates = {
        "region store: float16 views": store_views,
        "msgpack: float16 arrays": msgpack_views,
        "msgpack, UNITER's reader: float32 tensors": msgpack_tensors,
    }
    reads = compare(candidates, ids, args.rounds)
    print(f"batches of {BATCH}, float32, with boxes:")
    floats = compare({"region store": store_batches, "msgpack": msgpack_batches}, ids, args.rounds)
    print(f"batches of {BATCH}, as stored:")
    plain = compare({"region store, with boxes": store_half_batches, "memcpy": half_copies}, ids, args.rounds)
    ours, arrays, uniter = (reads[name] for name in candidates)
    print(f"UNITER's reader / region store, one read  {uniter / ours:6.2f}  (bar 5)")
    print(f"msgpack arrays / region store, one read   {arrays / ours:6.2f}")
    for what, times in (("record, copied", single), ("float32 batch", floats)):
        print(f"msgpack / region store, {what:17s} {times['msgpack'] / times['region store']:6.2f}")
    share = plain["memcpy"] / plain["region store, with boxes"]
    print(f"memcpy / region store, batch as stored    {share:6.2f}  (bar 0.50)")


if __name__ == "__main__":
    main()
