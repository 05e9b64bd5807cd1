"""LXMERT at its published size with random weights, ours and `transformers'`, and questions for both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from big_data import draw_regions

from lxmert.data.batching import Examples
from lxmert.data.columns import ColumnsWriter
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.keys import KeyMap, from_ours
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.weights import model_tensors
from lxmert.specs.documents import PACKAGE, read_yaml
from lxmert.types import Batch

SYSTEM = PACKAGE / "systems" / "lxmert"
WORDS, REGIONS, FEATURE_WIDTH, MOST_TOKENS = 30522, 36, 2048, 20
ANSWERS = {"vqa": 3129, "gqa": 1842}
QUESTIONS_PER_IMAGE = {"vqa": 5.4, "gqa": 20}
# Word pieces of a question with [CLS] and [SEP], in shares of 1000. Means 9.5 and 11.8, 1 and 2 % longer than
# the 20 that are kept (specification, section 7.3).
LENGTHS = {
    "vqa": {4: 2, 5: 20, 6: 70, 7: 140, 8: 165, 9: 165, 10: 135, 11: 100, 12: 70, 13: 45, 14: 30, 15: 20,
            16: 12, 17: 8, 18: 5, 19: 3, 20: 10},
    "gqa": {5: 8, 6: 22, 7: 45, 8: 72, 9: 100, 10: 120, 11: 128, 12: 122, 13: 105, 14: 84, 15: 63, 16: 46,
            17: 31, 18: 20, 19: 12, 20: 22},
}  # fmt: skip
TINY = {"hidden": 24, "heads": 2, "intermediate": 48, "language_layers": 2, "relation_layers": 1,
        "cross_layers": 2}  # fmt: skip
_size: dict[str, float] = {}


def shrink() -> None:
    """From now on models are tiny, to see that a benchmark runs."""
    _size.update(TINY)


@dataclass
class Questions:
    """A split on disk as the pipeline reads it, and the same in memory, padded to 20.

    Attributes:
        examples: what the pipeline reads.
        padded: every question as one batch; its features are shared, see `image`.
        image: int64 [N], row of `padded.features` of each question.
    """

    examples: Examples
    padded: Batch
    image: torch.Tensor

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, rows: slice | torch.Tensor) -> Batch:
        """Some questions as the reference would load them: padded to 20, features for each."""
        whole, image = self.padded, self.image[rows]
        return Batch(
            whole.input_ids[rows], whole.attention_mask[rows], whole.features[image], whole.boxes_norm[image]
        )


def draw_lengths(like: str, count: int, draw: np.random.Generator) -> np.ndarray:
    """Lengths in the exact shares of the distribution, as far as `count` allows, in random order."""
    lengths = np.array(list(LENGTHS[like]))
    shares = np.array(list(LENGTHS[like].values()))
    places = (np.arange(count) + 0.5) / count * shares.sum()
    return draw.permutation(lengths[np.searchsorted(np.cumsum(shares), places)])


def make_questions(folder: Path, like: str, images: int, seed: int = 0) -> Questions:
    """Questions and regions of random content and realistic shape, written and opened again."""
    draw = np.random.default_rng(seed)
    count = round(images * QUESTIONS_PER_IMAGE[like])
    store, table = make_store(folder, images, draw), folder / f"{like}_{images}.safetensors"
    image = np.sort(np.concatenate([np.arange(images), draw.integers(0, images, count - images)]))
    tokens = [
        np.array([101, *draw.integers(1000, WORDS, length - 2), 102])
        for length in draw_lengths(like, count, draw)
    ]
    # One to four accepted answers a question, scored as VQA scores three and more agreeing humans: 1.
    answers = [np.sort(draw.choice(ANSWERS[like], draw.integers(1, 5), replace=False)) for _ in range(count)]
    scores = [draw.choice(np.float32([0.3, 0.6, 0.9, 1.0]), len(row)) for row in answers]
    kinds = {"image": "int32", "images": "strings", "input_ids": "ragged int32"}
    kinds |= {"answer_ids": "ragged int32", "answer_scores": "ragged float32"}
    with ColumnsWriter(table, kinds, {"task": like, "split": "bench", "count": count}) as columns:
        columns.append(image=draw.permutation(image), input_ids=tokens)
        columns.append(answer_ids=answers, answer_scores=scores)
        columns.append(images=[f"{store.stem}/i{number}" for number in range(images)])
    examples = Examples([table], RegionSource([store]), FEATURE_WIDTH)
    rows = np.arange(count)
    ids = np.zeros((count, MOST_TOKENS), np.int64)
    short = examples.tokens(rows)
    ids[:, : short.shape[1]] = short
    regions = examples.read_regions([f"{store.stem}/i{number}" for number in range(images)])
    padded = Batch(
        torch.from_numpy(ids),
        torch.from_numpy((ids != 0).astype(np.int64)),
        torch.from_numpy(regions.features).float(),
        torch.from_numpy(regions.boxes_norm),
    )
    return Questions(examples, padded, torch.from_numpy(examples.parts[0].array("image").astype(np.int64)))


def make_store(folder: Path, images: int, draw: np.random.Generator) -> Path:
    """A region store of images i0, i1, ..., written unless it is there."""
    store = folder / f"{images}.lmdb"
    schema = StoreSchema(FEATURE_WIDTH, "float16", REGIONS, 1600, 400, {"profile": "bench", "version": 1})
    if not store.exists():
        with RegionWriter(store, schema) as writer:
            for number in range(images):
                writer.put(f"i{number}", draw_regions(draw, FEATURE_WIDTH, REGIONS))
            writer.finish({})
    return store


def build_ours(answers: int, seed: int = 0, **size: float) -> TaskModel:
    """Our model; `size` changes the published one, lxr955."""
    full = read_yaml(SYSTEM / "system.yaml")["sizes"]["lxr955"] | _size | size
    encoder = LxmertEncoder(full, WORDS, FEATURE_WIDTH)
    model = TaskModel(encoder, build_head("classification", full["hidden"], answers))
    initialise(model, seed)
    return model.eval()


def build_theirs(ours: TaskModel, share: bool = True) -> torch.nn.Module:
    """`transformers`' model with our values; its parameters views of ours, or copies."""
    import transformers

    size, head = ours.encoder.size, ours.head
    config = transformers.LxmertConfig(
        vocab_size=WORDS,
        hidden_size=size.hidden,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.max_positions,
        l_layers=size.language_layers,
        r_layers=size.relation_layers,
        x_layers=size.cross_layers,
        visual_feat_dim=FEATURE_WIDTH,
        num_qa_labels=head.outer.out_features,
        hidden_dropout_prob=size.hidden_dropout,
        attention_probs_dropout_prob=size.attention_dropout,
    )
    with torch.device("meta"):
        model = transformers.LxmertForQuestionAnswering(config)
    named = from_ours(model_tensors(ours), KeyMap(read_yaml(SYSTEM / "keys.yaml")), "transformers_task")
    if not share:
        named = {name: value.detach().clone() for name, value in named.items()}
    model.load_state_dict(named, strict=True, assign=True)
    return model.requires_grad_(True).eval()


def their_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Logits [B, K]."""
    logits: torch.Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        visual_feats=batch.features,
        visual_pos=batch.boxes_norm,
    ).question_answering_score
    return logits
