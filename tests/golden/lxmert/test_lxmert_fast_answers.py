"""The fast path answers as the plain one: 10,240 questions, with every trick, by both kinds of product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lxmert.data.batching import Examples
from lxmert.data.columns import ColumnsWriter
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.models import products
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.rows import Rows
from lxmert.training.inference import chunk_logits, chunks
from lxmert.types import Regions

QUESTIONS, IMAGES, REGIONS, WIDTH, WORDS, ANSWERS = 10_240, 300, 7, 12, 90, 40
SIZE = {
    "hidden": 48,
    "heads": 4,
    "intermediate": 96,
    "language_layers": 2,
    "relation_layers": 2,
    "cross_layers": 3,
    "max_positions": 20,
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Questions of 3 to 20 pieces, some of them asked of several images; images with 3 to 7 regions."""
    folder, draw = tmp_path_factory.mktemp("answers"), np.random.default_rng(5)
    store, table = folder / "set.lmdb", folder / "split.safetensors"
    _write_store(store, draw)
    asked = [np.array([2, *draw.integers(5, WORDS, draw.integers(1, 19)), 3]) for _ in range(QUESTIONS // 2)]
    kinds = {"image": "int32", "images": "strings", "input_ids": "ragged int32"}
    with ColumnsWriter(table, kinds, {"task": "t", "split": "s", "count": QUESTIONS}) as columns:
        ids = [asked[row] for row in draw.integers(0, len(asked), QUESTIONS)]
        columns.append(image=draw.integers(0, IMAGES, QUESTIONS), input_ids=ids)
        columns.append(images=[f"set/{number}" for number in range(IMAGES)])
    return Examples([table], RegionSource([store]), WIDTH)


def _write_store(path: Path, draw: np.random.Generator) -> None:
    schema = StoreSchema(WIDTH, "float16", REGIONS, 9, 9, {"profile": "t", "version": 1})
    with RegionWriter(path, schema) as writer:
        for number in range(IMAGES):
            count = 3 + number % 5
            corners = np.sort(draw.random((count, 2, 2)), axis=1).reshape(count, 4) * 50
            features = np.maximum(draw.standard_normal((count, WIDTH)), 0).astype(np.float32) * 3
            ids, scores = draw.integers(0, 9, (2, count)), draw.random((3, count)).astype(np.float32)
            boxes = corners.astype(np.float32)
            writer.put(
                str(number),
                Regions(boxes, features, ids[0], scores[0], ids[1], scores[1], scores[2], 50, 50),
            )
        writer.finish({})


@pytest.fixture(scope="module")
def model() -> TaskModel:
    made = TaskModel(LxmertEncoder(SIZE, WORDS, WIDTH), build_head("classification", 48, ANSWERS))
    initialise(made, 6, 0.15)  # wide enough that answers differ from question to question
    return made.eval()


@pytest.fixture(scope="module")
def plain(examples: Examples, model: TaskModel) -> torch.Tensor:
    """Logits of every question: padded to 20, padding computed, each with its own image, all layers whole."""

    def keep_padding(mask: torch.Tensor | None, shape: tuple[int, int], *before: int) -> Rows:
        return Rows(shape, mask, None, None, *before)

    logits = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rows, "of", keep_padding)
        for rows in np.split(np.arange(QUESTIONS), QUESTIONS // 512):
            regions = examples.read_regions(examples.image_keys(rows).reshape(-1).tolist())
            tokens = np.zeros((len(rows), 20), np.int64)
            short = examples.tokens(rows)
            tokens[:, : short.shape[1]] = short
            encoder = model.encoder
            questions = encoder.encode_questions(
                torch.from_numpy(tokens), torch.from_numpy((tokens != 0).astype(np.int64))
            )
            images = encoder.encode_images(
                *map(torch.from_numpy, (regions.features, regions.boxes_norm, regions.region_mask))
            )
            logits.append(model.head(encoder.fuse(questions, images, read="all")))
    return torch.cat(logits)


@pytest.mark.parametrize("onednn", [False, True])
def test_ten_thousand_answers_are_those_of_the_plain_path(
    examples: Examples, model: TaskModel, plain: torch.Tensor, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn:
        if not torch.backends.mkldnn.is_available():
            pytest.skip("this PyTorch has no oneDNN")
        monkeypatch.setattr(products, "_LEAST_WEIGHTS", 1)
    fast = torch.empty_like(plain)
    for rows in chunks(examples, 1024):
        fast[torch.from_numpy(rows)] = chunk_logits(model, examples, rows, CPU)
    worst = float((fast - plain).abs().max())
    assert worst <= 1e-5, f"logits differ by {worst:.1e}"
    answers = plain.argmax(1)
    assert len(answers.unique()) >= ANSWERS // 4, "one answer to everything would prove nothing"
    # Two logits nearer than rounding are one answer as good as the other; there are next to none.
    best = plain.topk(2, dim=1).values
    tied = best[:, 0] - best[:, 1] <= 2 * worst
    assert int(tied.sum()) <= 5
    assert bool(((fast.argmax(1) == answers) | tied).all())
