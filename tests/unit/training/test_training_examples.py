"""Examples as training reads them: of several files, of stores that do not fit, of quarantined images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_task import IMAGES, TinyTask

from lxmert.data.batching import Examples, PretrainBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import DataError


def test_joined_files_give_the_rows_of_each(tiny: TinyTask) -> None:
    regions = RegionSource(tiny.features)
    paths = [tiny.folder / "single" / f"{name}.safetensors" for name in ("train", "more")]
    both = Examples(paths, regions, regions.feature_width)
    second = Examples(paths[1:], regions, regions.feature_width)
    assert len(both) == 51
    rows = np.array([45, 3, 50, 40, 0])
    joined, alone = both.batch(rows, 3), second.batch(np.array([5, 10, 0]), 3)
    length = alone.input_ids.shape[1]
    assert torch.equal(joined.input_ids[[0, 2, 3], :length], alone.input_ids)
    assert torch.equal(joined.targets["answer_targets"][[0, 2, 3]], alone.targets["answer_targets"])
    count = alone.features.shape[1]
    assert torch.equal(joined.features[[0, 2, 3], :count], alone.features)


def test_stores_of_two_extractions_do_not_mix(tiny: TinyTask, tmp_path: Path) -> None:
    weights = [{"weights": {"sha256": letter * 64}} for letter in "ab"]
    one = tiny.other_store(tmp_path / "one.lmdb", provenance=weights[0])
    silent = tiny.other_store(tmp_path / "silent.lmdb")
    RegionSource([silent, one, *tiny.features])  # an imported store does not say who made it
    for number, (changes, told) in enumerate(
        (
            (
                {"version": 2},
                r"other0\.lmdb: made with extraction profile tiny \(version 2\), but .*silent\.lmdb with",
            ),
            ({"width": 8}, r"other1\.lmdb: features are 8 wide, but 6 in .*silent\.lmdb"),
            (
                {"provenance": weights[1]},
                r"other2\.lmdb: made with detector weights b{12}, but .*one\.lmdb with a{12}",
            ),
        )
    ):
        other = tiny.other_store(tmp_path / f"other{number}.lmdb", **changes)
        with pytest.raises(DataError, match=told):
            RegionSource([silent, one, other])


def test_examples_of_quarantined_images_are_left_out_of_training_and_answered_blind(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [{"id": "i11", "file": "i11.jpg", "reason": "truncated file"}]
    path = tiny.other_store(tmp_path / "left.lmdb", images=IMAGES - 1, provenance={"quarantined": listed})
    regions = RegionSource([path, tiny.features[1]])
    with pytest.raises(DataError, match="image i12, .* run: snakemake"):
        regions.require(["left/i12", "left/i11"], Path("x"))
    columns = tiny.folder / "pairs" / "train.safetensors"
    kept = Examples([columns], regions, regions.feature_width, leave_out=True)
    every = Examples([columns], regions, regions.feature_width)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    lacking = (every.image_keys(np.arange(40)) == "left/i11").any(axis=1)
    assert 0 < lacking.sum() == len(every) - len(kept)
    assert f"{lacking.sum()} of 40 examples are left out: 1 images without regions, first left/i11" in told[0]
    assert "are answered without their image" in told[1] and "truncated file" in told[1]
    assert (kept.image_keys(np.arange(len(kept))) == every.image_keys(np.flatnonzero(~lacking))).all()
    assert sorted(kept.by_image()) == list(range(len(kept)))
    np.testing.assert_array_equal(
        kept.tokens(kept.by_image()), every.tokens(every.by_image()[~lacking[every.by_image()]])
    )
    read = every.read_regions(["left/i11", "right/i0"])
    assert read.region_mask[0].tolist()[:2] == [1, 0] and not read.features[0].any()
    assert not regions.random_features(["left/i11"], np.array([0.5])).any()
    batches = PretrainBatches(
        tiny.folder / "pretrain" / "train.safetensors",
        regions,
        tiny.pretrain_spec()["recipe"],
        read_vocabulary(tiny.vocabulary),
        3,
    )
    for step in range(10):
        batch = batches.batch(step)
        assert batch.region_mask is None or (batch.region_mask.sum(dim=1) > 1).all()
