"""10 to 100 boxes an image: padding changes no logit, and runs train and predict on cuts of one store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_task import IMAGES, SIZE, TinyTask

from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.errors import LxmertError
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.weights import model_tensors, save_weights
from lxmert.training.finetune import finetune
from lxmert.training.finetune_data import FinetuneInputs
from lxmert.training.predict import predict
from lxmert.types import Batch, Regions

CPU = torch.device("cpu")
WIDTH = 6
CUT = {"rule": "threshold", "threshold": 0.2, "min_boxes": 10, "max_boxes": 100}


def write_store(path: Path, draw: np.random.Generator, width: int = WIDTH, images: int = IMAGES) -> None:
    """Up to 100 boxes an image in proposal order, of which 10 to 100 score 0.2 or more."""
    profile = {"profile": "tiny", "version": 1, "store": {"order": "proposal"}}
    with RegionWriter(path, StoreSchema(width, "float16", 100, 4, 3, profile)) as writer:
        for image in range(images):
            count = 100 if image % 3 else 10 + image
            corners = draw.random((count, 2)) * 40
            scores = draw.random((3, count)).astype(np.float32)
            scores[2] *= (0.25, 0.5, 1.0)[image % 3]
            regions = Regions(
                np.concatenate([corners, corners + 1 + draw.random((count, 2)) * 40], 1).astype(np.float32),
                draw.random((count, width)).astype(np.float16),
                draw.integers(0, 4, count), scores[0], draw.integers(0, 3, count), scores[1], scores[2],
                width=100, height=90,
            )  # fmt: skip
            writer.put(f"i{image}", regions)
        writer.finish({})


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adaptive")
    draw = np.random.default_rng(0)
    for name in ("left", "right"):
        write_store(folder / f"{name}.lmdb", draw)
    return [folder / "left.lmdb", folder / "right.lmdb"]


@pytest.mark.parametrize("head", ["classification", "pair_classification"])
def test_padding_changes_no_logit(tmp_path, head):
    """LXMERT's depth in float32: each image in company of others' boxes, and without a padded place."""
    write_store(tmp_path / "left.lmdb", np.random.default_rng(1), 64)
    source = RegionSource([tmp_path / "left.lmdb"], CUT)
    keys = [f"left/i{number}" for number in range(IMAGES)]
    size = {
        **SIZE, "hidden": 96, "heads": 12, "intermediate": 384, "language_layers": 9, "relation_layers": 5,
        "cross_layers": 5,
    }  # fmt: skip
    model = TaskModel(LxmertEncoder(size, 50, 64), build_head(head, 96, 30))
    initialise(model, 3)
    model.eval()
    pair = 2 if head == "pair_classification" else 1
    words = torch.randint(5, 50, (IMAGES // pair, 8), generator=torch.Generator().manual_seed(0))
    words = words.repeat_interleave(pair, 0)

    def logits(rows: slice) -> tuple[torch.Tensor, list[int]]:
        read = source.read(keys[rows])
        mask = torch.from_numpy(read.region_mask)
        batch = Batch(
            words[rows], torch.ones_like(words[rows]), torch.from_numpy(read.features),
            torch.from_numpy(read.boxes_norm), None if bool(mask.all()) else mask,
        )  # fmt: skip
        with torch.no_grad():
            return model(batch), mask.sum(1).tolist()

    together, counts = logits(slice(0, IMAGES))
    assert min(counts) == 10 and max(counts) > 70 and len(set(counts)) > 5
    apart = torch.cat([logits(slice(at, at + pair))[0] for at in range(0, IMAGES, pair)])
    deviation = (together - apart).abs().max().item()
    print(f"{head}: logits of {together.std():.3f} deviate by {deviation:.1e} at most")
    assert together.std() > 0.05
    assert deviation <= 1e-6


def trained(tiny: TinyTask, stores: list[Path], folder: Path, cut: dict | None):
    """Trains on a cut; gives the function that answers a split on some cut, and the weights."""
    spec = tiny.spec(recipe={"cut": cut, "optimizer": {"name": "bert_adam", "lr": 1e-2, "weight_decay": 0}})
    inputs = FinetuneInputs(stores, tiny.folder / "single", tiny.vocabulary, None, None)
    trainer, meta = finetune(spec, inputs, folder / "train", CPU, 0)
    weights = folder / "weights.safetensors"
    tensors = {name: value.clone() for name, value in model_tensors(trainer.job.model).items()}
    save_weights(weights, tensors, meta)

    def answer(name: str, at: int, cut: dict | None = cut) -> np.ndarray:
        reading = {**spec, "recipe": {**spec["recipe"], "cut": cut, "evaluate_batch": at}}
        arguments = (reading, stores, tiny.folder / "single", "hidden", weights, folder / name)
        return predict(*arguments, CPU)[0]

    return answer, tensors


def test_runs_train_and_predict_on_adaptive_boxes(tiny: TinyTask, stores: list[Path], tmp_path: Path):
    answer, tensors = trained(tiny, stores, tmp_path / "adaptive", CUT)
    many, single = answer("many", 16), answer("single", 1)
    assert len(many) == 9 and np.array_equal(many, single)  # company of longer images changes no answer
    assert all(torch.isfinite(value).all() for value in tensors.values())
    _, fixed = trained(tiny, stores, tmp_path / "fixed", {"rule": "profile", "profile": "lxmert-36"})
    assert any(not torch.equal(tensors[name], fixed[name]) for name in tensors)  # other boxes, other training
    with pytest.raises(LxmertError, match="cut to 36 best boxes"):
        answer("other", 16, {"rule": "top", "boxes": 36})
