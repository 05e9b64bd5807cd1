"""Images of every kind, handed over in every way, through decoding, network and job."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from detector_scenes import micro_documents
from PIL import Image

from lxmert.cli import main
from lxmert.data.region_store import RegionStore
from lxmert.detector.documents import parse_profile, parse_size
from lxmert.detector.extract import Extractor
from lxmert.detector.model import build_detector, save_detector
from lxmert.detector.preprocess import decode_image
from lxmert.errors import DataError
from lxmert.specs.documents import read_document

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((9, 9, 1), np.uint8))  # [54, 72, 3]
GREY = RGB[:, :, 0]


def saved(image: Image.Image, form: str, **options) -> bytes:
    handle = io.BytesIO()
    image.save(handle, form, **options)
    return handle.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(RGB), "PNG", exif=exif)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colours: int, rows: bytes) -> bytes:
    """A PNG as its specification has it, since Pillow writes no 16-bit colours and no lies."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png() -> bytes:
    """16 bits a colour, lower 8 bits set."""
    levels = (RGB.astype(np.uint16) << 8 | 0xFF).astype(">u2")
    return png(72, 54, 16, 2, b"".join(b"\0" + row.tobytes() for row in levels))


def deep_tiff(order: str) -> bytes:
    """16-bit greyscale in either byte order."""
    data = (GREY.astype(np.uint16) << 8 | 0x7F).astype(f"{order}u2").tobytes()
    tags = {256: 72, 257: 54, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 54, 279: len(data)}
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"MM" if order == ">" else b"II"
    start = struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + start + data + struct.pack(f"{order}H", len(tags)) + table + bytes(4)


THREE_GREYS = np.repeat(GREY[:, :, None], 3, 2)
ALPHA = np.concatenate([RGB, RNG.integers(0, 256, (54, 72, 1), dtype=np.uint8)], 2)
PALETTE = Image.fromarray(RGB).quantize(64)
FRAMES = [Image.fromarray(RGB).quantize(16), Image.new("P", (72, 54))]
# Kind -> the file's bytes and the colours its pixels must have; None where the rule is Pillow's conversion.
KINDS: dict[str, tuple[bytes, np.ndarray | None]] = {
    "png": (saved(Image.fromarray(RGB), "PNG"), RGB),
    "jpeg": (saved(Image.fromarray(RGB), "JPEG", quality=95), None),
    "grey": (saved(Image.fromarray(GREY), "PNG"), THREE_GREYS),
    "grey and alpha": (saved(Image.fromarray(np.dstack([GREY, GREY]), "LA"), "PNG"), THREE_GREYS),
    "alpha": (saved(Image.fromarray(ALPHA), "PNG"), RGB),
    "palette": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "see-through palette": (saved(PALETTE, "PNG", transparency=3), np.asarray(PALETTE.convert("RGB"))),
    "cmyk": (saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB),
    "cmyk jpeg": (saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95), None),
    "16-bit colours": (deep_png(), RGB),
    "16-bit grey, little": (deep_tiff("<"), THREE_GREYS),
    "16-bit grey, big": (deep_tiff(">"), THREE_GREYS),
    "one bit": (saved(Image.fromarray(GREY).convert("1"), "PNG"), None),
    "animation": (saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), None),
    "webp": (saved(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "bmp": (saved(Image.fromarray(RGB), "BMP"), RGB),
    **{f"exif {turn}": (turned(turn), None) for turn in range(1, 9)},
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    size, _ = micro_documents()
    size["classes"] = {"objects": 3, "attributes": 3}
    return build_detector(parse_size(size), 1, head_std=0.05)


@pytest.fixture(scope="module")
def extractor(model) -> Extractor:
    model.eval()
    return Extractor(model, parse_profile(read_document("profile", "sample-16")))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_regions_in_every_way(tmp_path, extractor, kind):
    data, expected = KINDS[kind]
    path = tmp_path / "image.whatever"
    path.write_bytes(data)
    rgb = decode_image(path, order="rgb")
    if expected is not None:
        np.testing.assert_array_equal(rgb, expected)
    bgr = rgb[:, :, ::-1]
    files = (("path", path), ("str", str(path)), ("bytes", data), ("view", memoryview(data)))
    arrays = (("rgb", rgb), ("bgr", np.ascontiguousarray(bgr)), ("bgr", bgr))
    wanted = extractor.image(path)
    assert len(wanted) >= 1
    ways = [*((way, source, None) for way, source in (*files, ("pil", Image.open(path)))),
            *((f"{order} array", source, order) for order, source in arrays)]  # fmt: skip
    for way, source, order in ways:
        found = extractor.image(source, array_order=order)
        for name, value in vars(wanted).items():
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=f"{kind} as {way}: {name}")


TURNS = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True),
         8: (1, False)}  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_exif_turns_and_mirrors_unless_it_is_ignored(turn):
    quarters, mirrored = TURNS[turn]
    # np.rot90 turns to the left, the tag says how the picture must be turned to be seen.
    expected = np.rot90(RGB, quarters)
    if mirrored:
        expected = expected[:, ::-1] if turn in (2, 4) else np.rot90(RGB[:, ::-1], quarters)
    np.testing.assert_array_equal(decode_image(turned(turn), "apply", "rgb"), expected)
    np.testing.assert_array_equal(decode_image(turned(turn), "ignore", "rgb"), RGB)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3), (1, 5000), (5000, 1)])
def test_one_pixel_sides_have_regions_inside(extractor, size):
    regions = extractor.image(saved(Image.new("RGB", size, (9, 200, 9)), "PNG"))
    assert len(regions) >= 1 and (regions.width, regions.height) == size
    assert (regions.boxes_px >= 0).all() and np.isfinite(regions.features).all()
    assert (regions.boxes_px[:, 2] <= size[0]).all() and (regions.boxes_px[:, 3] <= size[1]).all()


JPEG = KINDS["jpeg"][0]
JUNK = {
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "cut.png": KINDS["png"][0][:200],
    "page.jpg": b"<!DOCTYPE html><html>Not found</html>",
    "empty.png": b"",
    "bomb.png": png(60_000, 60_000, 8, 2, bytes(1000)),
    "short.png": png(72, 54, 8, 2, bytes(1000)),
    "spoilt.gif": KINDS["animation"][0][:40],
}


def test_a_job_over_a_folder_of_everything_converts_or_lists_each(tmp_path, model):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (data, _) in enumerate(KINDS.values()):
        (folder / f"{number}.png").write_bytes(data)  # named .png whatever they are, as NLVR2's
    for name, data in JUNK.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    images = [{"id": path.stem + path.suffix[1:], "file": path.name} for path in sorted(folder.iterdir())]
    listing = {"image_set": "all", "folder": str(folder), "subset": None, "images": images}
    (tmp_path / "all.json").write_text(json.dumps(listing))
    save_detector(tmp_path / "detector.safetensors", model, {})
    spec = json.dumps({"profile": read_document("profile", "sample-16")})
    arguments = ["extract", "--spec", spec, "--weights", tmp_path / "detector.safetensors"]
    arguments += [
        "--listing",
        tmp_path / "all.json",
        "--state",
        tmp_path / "state",
        "--out",
        tmp_path / "all.lmdb",
    ]
    assert main(["--threads", "1", "--workers", "2", *map(str, arguments)]) == 0
    with RegionStore(tmp_path / "all.lmdb") as store:
        assert len(store) == len(KINDS)
        listed = {
            entry["file"].rpartition("/")[2]: entry["reason"] for entry in store.provenance["quarantined"]
        }
    assert sorted(listed) == sorted([*JUNK, "folder.jpg"])
    assert all(reason.startswith("cannot be read as an image (") for reason in listed.values()), listed
    assert "not an image" in listed["page.jpg"] and "decompression bomb" in listed["bomb.png"]


def test_arrays_without_an_order_are_refused(extractor):
    with pytest.raises(DataError, match='array_order="rgb" or "bgr"'):
        extractor.image(RGB)
