"""Random reads of a region store beside a msgpack LMDB in UNITER's record form, and beside memcpy.

    python benchmarks/bench_store.py [--images N]

Both files hold the same float16 features of 36 boxes and are in the page cache; images are read in random
order on one thread. The reference needs `pip install msgpack msgpack-numpy`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np
import torch
from big_data import draw_regions
from timing import Timing, alternate, parse, pin, ratio, record

from lxmert.data.region_record import StoreSchema
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter

BATCH = 32


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
            regions = draw_regions(rng, width, boxes)
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


class Readers:
    """What reads all images of an order, by either file.

    Args:
        folder: where :func:`build` wrote.
        ids: the images.
        boxes: of each image.
        width: of a feature.
    """

    def __init__(self, folder: Path, ids: list[str], boxes: int, width: int) -> None:
        import msgpack
        import msgpack_numpy

        self.store = RegionStore(folder / "store.lmdb")
        reference = lmdb.open(str(folder / "msgpack.lmdb"), subdir=False, readonly=True, lock=False)
        transaction = reference.begin(buffers=True)

        def unpack(image_id: str) -> dict[str, np.ndarray]:
            packed = transaction.get(image_id.encode())
            return msgpack.unpackb(packed, object_hook=msgpack_numpy.decode, raw=False)

        self.unpack, self._keep_open = unpack, reference
        self.boxes, self.width = boxes, width
        self.half = np.empty((boxes, width), np.float16)
        self.halves = np.empty((BATCH, boxes, width), np.float16)
        self.features = np.empty((BATCH, boxes, width), np.float32)
        self.norms = np.empty((BATCH, boxes, 4), np.float32)
        self.mask = np.empty((BATCH, boxes), np.int64)
        self.flat = {image_id: np.array(self.store.regions(image_id).features) for image_id in ids}

    def views(self, order: list[str]) -> None:
        """Ours: one record after the other, as the store gives it."""
        for image_id in order:
            self.store.regions(image_id)

    def msgpack_views(self, order: list[str]) -> None:
        """Theirs: arrays."""
        for image_id in order:
            self.unpack(image_id)

    def msgpack_tensors(self, order: list[str]) -> None:
        """Theirs: float32 tensors of both arrays, what UNITER's reader gives for one image."""
        for image_id in order:
            record = self.unpack(image_id)
            torch.tensor(record["features"]).float(), torch.tensor(record["norm_bb"]).float()

    def copies(self, order: list[str]) -> None:
        """Ours: features copied out as stored."""
        for image_id in order:
            np.copyto(self.half, self.store.regions(image_id).features)

    def msgpack_copies(self, order: list[str]) -> None:
        """Theirs: features copied out as stored."""
        for image_id in order:
            np.copyto(self.half, self.unpack(image_id)["features"])

    def batches(self, order: list[str]) -> None:
        """Ours: float32 batches with boxes, as models read them."""
        for images in _batches(order):
            self.store.read_batch(images, self.features, self.norms, self.mask)

    def msgpack_batches(self, order: list[str]) -> None:
        """Theirs: tensors of each image, boxes with their area, then one padded batch of zeros to fill."""
        for images in _batches(order):
            padded = torch.zeros(BATCH, self.boxes, self.width)
            padded_boxes = torch.zeros(BATCH, self.boxes, 7)
            for row, image_id in enumerate(images):
                record = self.unpack(image_id)
                boxes = torch.tensor(record["norm_bb"]).float()
                padded[row] = torch.tensor(record["features"]).float()
                padded_boxes[row] = torch.cat([boxes, boxes[:, 4:5] * boxes[:, 5:]], dim=-1)

    def half_batches(self, order: list[str]) -> None:
        """Ours: batches as stored, with boxes."""
        for images in _batches(order):
            self.store.read_batch(images, self.halves, self.norms, self.mask)

    def memcpy(self, order: list[str]) -> None:
        """The yardstick: the same bytes from arrays in memory, each at its own address."""
        for images in _batches(order):
            for row, image_id in enumerate(images):
                np.copyto(self.halves[row], self.flat[image_id])


def _batches(order: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(order) - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def measure(ids: list[str], repeats: int, **readers: Callable[[list[str]], None]) -> dict[str, Timing]:
    """Times the readers, each round in a new random order; prints microseconds an image."""
    orders = {name: np.random.default_rng(1) for name in readers}

    def reading(name: str) -> Callable[[], None]:
        return lambda: readers[name]([ids[index] for index in orders[name].permutation(len(ids))])

    timings = alternate({name: reading(name) for name in readers}, repeats)
    for name, timing in timings.items():
        middle, low, high = (1e6 * value / len(ids) for value in (timing.median, timing.low, timing.high))
        print(f"  {name:18s} {middle:8.1f} us an image  ({low:.1f} to {high:.1f})")
    return timings


def main() -> None:
    """Builds and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--boxes", type=int, default=36)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    args = parse(parser)
    if args.tiny:
        args.images, args.repeats = 64, 1
    pin(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = build(folder, args.images, args.boxes, args.width)
        compare(Readers(folder, ids, args.boxes, args.width), ids, args.repeats)
        size = (folder / "store.lmdb").stat().st_size
        share = size / RegionStore(folder / "store.lmdb").payload_bytes - 1
        claim = "Size of a region store's file above that of its records"
        record("bench_store/file_size", claim, share, None, unit="%")


def compare(readers: Readers, ids: list[str], repeats: int) -> None:
    """Measures and records each comparison."""
    records = measure(
        ids,
        repeats,
        store=readers.views,
        msgpack=readers.msgpack_views,
        uniter=readers.msgpack_tensors,
    )
    _record("one_read", "Random read of one image, against UNITER's msgpack reader", records, "uniter", 5.0)
    _record("one_read_arrays", "The same, against msgpack's arrays not yet tensors", records, "msgpack")
    copies = measure(ids, repeats, store=readers.copies, msgpack=readers.msgpack_copies)
    _record("one_copy", "Random read of one image, features copied out", copies, "msgpack")
    floats = measure(ids, repeats, store=readers.batches, msgpack=readers.msgpack_batches)
    _record("batch", f"Float32 batches of {BATCH} with boxes, against msgpack", floats, "msgpack")
    loaded = measure(ids, repeats, store=readers.half_batches, msgpack=readers.msgpack_batches)
    claim = f"Batches of {BATCH} as each loader makes them, ours as stored, UNITER's float32 tensors"
    _record("loaded_batch", claim, loaded, "msgpack", 5.0)
    plain = measure(ids, repeats, store=readers.half_batches, memcpy=readers.memcpy)
    spread = ratio(plain, "memcpy", "store")
    claim = f"Speed of random batches of {BATCH} as stored, with boxes and masks, of that of memcpy"
    record("bench_store/memcpy", claim, spread["median"], 0.5, "%", plain, spread)


def _record(
    name: str, claim: str, timings: dict[str, Timing], reference: str, bar: float | None = None
) -> None:
    spread = ratio(timings, reference, "store")
    record(f"bench_store/{name}", claim, spread["median"], bar, timings=timings, spread=spread)


if __name__ == "__main__":
    main()
