"""Extraction other than exact: groups of one shape, fast numbers behind the gate, and what the log says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from micro_detector import extract, micro_detector, save, write_pictures

from lxmert.data.region_cut import parse_cut
from lxmert.data.region_store import RegionStore
from lxmert.detector.documents import parse_profile
from lxmert.detector.extract import Extractor
from lxmert.detector.extract_job import Loaded, same_shapes
from lxmert.detector.preprocess import Blob
from lxmert.specs.documents import read_document

SIZES = [(80, 64), (64, 72), (80, 64), (80, 64), (64, 72), (70, 64), (80, 64)]


@pytest.fixture(scope="module")
def model():
    return micro_detector()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model) -> Path:
    return save(model, tmp_path_factory.mktemp("weights") / "detector.safetensors")


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "images", SIZES)


@pytest.fixture(scope="module")
def exact(tmp_path_factory, weights, listing) -> RegionStore:
    folder = tmp_path_factory.mktemp("exact")
    assert extract(folder, weights, listing, "exact.lmdb") == 0
    return RegionStore(folder / "exact.lmdb")


def blobs(sides: str) -> Iterator[Loaded]:
    """A letter for each image; equal letters have one shape, a dot is an image that could not be read."""
    for number, letter in enumerate(sides):
        blob = Blob(np.zeros((3, ord(letter), 8), np.float32), 1.0, 8, 8) if letter != "." else None
        yield Loaded(f"{number}", Path(f"{number}"), blob, "" if blob else "bad")


@pytest.mark.parametrize("sides", ["", "a", "abababab", "aaaaaaaaab", "a.b.a.c.a", "abcdefghijk" * 6])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_groups_have_one_shape_and_miss_no_image(sides, batch):
    groups = list(same_shapes(blobs(sides), batch))
    assert all(len({None if i.blob is None else i.blob.pixels.shape for i in group}) == 1 for group in groups)
    assert all(1 <= len(group) <= batch for group in groups)
    assert sorted(int(item.id) for group in groups for item in group) == list(range(len(sides)))
    # Nobody waits longer than the window, however rare its shape.
    for place, group in enumerate(groups):
        assert all(int(item.id) <= (place + 1) * batch + 4 * batch for item in group)


def close(store: RegionStore, exact: RegionStore, tolerance: float) -> float:
    """Share of exact boxes that are kept, whose features then agree."""
    assert list(store.ids) == list(exact.ids)
    kept = []
    for image_id in exact.ids:
        found, wanted = store.regions(image_id), exact.regions(image_id)
        distance = np.abs(wanted.boxes_px[:, None] - found.boxes_px[None]).max(2)
        match = distance.argmin(1)
        near = distance.min(1) < 0.05
        kept.append(near)
        difference = np.abs(found.features[match].astype("f4") - wanted.features)[near]
        assert difference.max(initial=0) <= tolerance
    return float(np.concatenate(kept).mean())


def test_images_of_one_shape_together_give_the_same_within_rounding(tmp_path, weights, listing, exact):
    assert extract(tmp_path, weights, listing, "a.lmdb", "--batch", 3) == 0
    with RegionStore(tmp_path / "a.lmdb") as store:
        assert close(store, exact, 2e-3) >= 0.95
        assert store.provenance["numerics"]["batch"] == 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--precision", "bfloat16"), "bfloat16"),
        (("--precision", "float16"), "float16"),
        (("--channels-last",), "float32 channels-last"),
        (("--precision", "bfloat16", "--channels-last", "--batch", 4), "bfloat16 channels-last"),
    ],
)
def test_fast_numbers_print_their_deviation_first(tmp_path, weights, listing, exact, capsys, options, name):
    assert extract(tmp_path, weights, listing, "a.lmdb", *options, "--parity-limit", 0.2) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "parity: " in line]
    assert len(told) == 1 and f"parity: {name} against float32: relative deviation" in told[0]
    median = float(re.search(r"features ([0-9.e-]+) \(median\)", told[0])[1])
    assert median < (0.2 if "16" in name else 1e-4) and (median > 0 or name == "float32 channels-last")
    with RegionStore(tmp_path / "a.lmdb") as store:
        assert list(store.ids) == list(exact.ids)
        numerics = store.provenance["numerics"]
        assert numerics["precision"] == name.split()[0] and numerics["channels_last"] == ("last" in name)


def test_a_deviation_above_the_limit_is_refused(tmp_path, weights, listing, capsys):
    options = ("--precision", "bfloat16", "--parity-limit", 1e-9)
    assert extract(tmp_path, weights, listing, "a.lmdb", *options) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        message.startswith("--precision bfloat16: relative deviation") and "may be 1e-09 at most" in message
    )
    assert not (tmp_path / "a.lmdb").exists()


def test_the_log_has_rate_share_of_the_network_and_what_became_of_all(tmp_path, weights, listing, capsys):
    assert extract(tmp_path, weights, listing, "a.lmdb") == 0
    last = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line][-1]
    assert re.search(r": 7 images in [\d.]+ s, [\d.]+ images/s, network busy \d+ %, 0 bad$", last)


@pytest.mark.parametrize("changes", [
    {"min_boxes": 12, "max_boxes": 12}, {"min_boxes": 4, "max_boxes": 30}, {"min_boxes": 1, "max_boxes": 45},
])  # fmt: skip
@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.3, 0.9])
def test_a_cut_store_equals_an_extraction_with_the_cuts_numbers(tmp_path, model, listing, changes, threshold):
    """The 50 best in proposal order, cut as they are read: row for row the direct extraction."""
    document = read_document("profile", "butd-100")
    document["selection"] |= {"min_boxes": 50, "max_boxes": 50}
    wide = Extractor(model, parse_profile(document))
    selection = document["selection"] | changes | {"threshold": threshold}
    direct = Extractor(
        model, parse_profile({**document, "selection": selection, "store": {"dtype": "float16"}})
    )
    cut = parse_cut({"rule": "threshold", "threshold": threshold, **changes})
    cutting = 0
    for number in range(len(SIZES)):
        blob = wide.read(listing.with_suffix("") / f"{number}.png")
        stored, expected = wide.regions(blob), direct.regions(blob)
        found = stored.take(cut.rows(stored.selection_scores, True))
        cutting += len(found) < len(stored)
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
    assert cutting
