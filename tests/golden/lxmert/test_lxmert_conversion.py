"""Released weights through conversion, at the published size: entries, bits, and `transformers`' answers.

The files are those the original code and `transformers` write, with random numbers: about 1 GB each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from lxmert_parity import OBJECTIVES, Counts, make_batch, published_size, their_inputs
from safetensors.torch import load_file

from lxmert.convert.converting import Wish, convert
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import build_pretraining
from lxmert.models.weights import read_weights

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5
COUNTS = Counts()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Removed at once: pytest would keep gigabytes."""
    with tempfile.TemporaryDirectory(prefix="lxmert-conversion-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def pretrained() -> torch.nn.Module:
    """`transformers`' pretraining model with weights of the initial spread, norms and biases included."""
    model = meta_model("LxmertForPreTraining", COUNTS.answers).to_empty(device="cpu")
    model.tie_weights()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.02)
            if name.endswith("orm.weight"):
                parameter.add_(1.0)
    return model.eval()


def meta_model(name: str, answers: int) -> torch.nn.Module:
    with torch.device("meta"):
        return getattr(transformers, name)(transformers.LxmertConfig(num_qa_labels=answers))


def fine_tuned(pretrained: torch.nn.Module, answers: int) -> torch.nn.Module:
    """`transformers`' question-answering model with the pretrained encoder, sharing its memory."""
    model, draw = meta_model("LxmertForQuestionAnswering", answers), torch.Generator().manual_seed(answers)
    state = {name: value for name, value in pretrained.state_dict().items() if name.startswith("lxmert.")}
    state |= {
        name: torch.randn(value.shape, generator=draw) * 0.02
        for name, value in model.state_dict().items()
        if name.startswith("answer_head.")
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def reference_names(state: dict[str, torch.Tensor], task: bool) -> dict[str, torch.Tensor]:
    """As the original code saves the same model from several GPUs; written down by hand, without our map."""
    root = "lxrt_encoder.model.module.bert." if task else "module.bert."
    named = {}
    for name, value in state.items():
        if name.startswith("lxmert."):
            named[root + name.removeprefix("lxmert.")] = value
        else:
            named[name.removeprefix("answer_head.") if task else f"module.{name}"] = value
    return named


def run(source: Path, out: Path, to: str = "ours", **wishes: bool) -> list[str]:
    return list(convert(source, out, Wish(to=to, **wishes)))


def load_ours(path: Path, build: Callable[[LxmertEncoder], torch.nn.Module]) -> torch.nn.Module:
    """Our model over the file's memory."""
    with torch.device("meta"):
        model = build(LxmertEncoder(published_size(), COUNTS.words, COUNTS.feature_width))
    tensors, metadata = read_weights(path)
    assert metadata["spec"]["size"] | {"hidden_dropout": 0.0, "attention_dropout": 0.0} == published_size()
    if "objectives" in dict(model.named_children()):
        tensors["objectives.masked_lm.words"] = tensors["encoder.embeddings.words.weight"]
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval()


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    difference = float((found - expected).abs().max())
    print(f"largest difference from transformers: {difference:.1e}")
    assert found.shape == expected.shape and difference <= TOLERANCE, f"differs by {difference:.2e}"


@torch.no_grad()
@pytest.mark.parametrize(("task", "answers"), [("vqa", 3129), ("gqa", 1842)])
def test_answers_of_fine_tuned_weights(
    pretrained: torch.nn.Module, folder: Path, task: str, answers: int
) -> None:
    """BEST.pth of the original, converted, answers as `transformers` does."""
    model = fine_tuned(pretrained, answers)
    torch.save(reference_names(model.state_dict(), task=True), folder / "BEST.pth")
    said = run(folder / "BEST.pth", folder / "ours.safetensors")
    assert any("455 matched, 0 missing, 0 unexpected, 0 of another shape" in line for line in said)
    ours = load_ours(
        folder / "ours.safetensors",
        lambda encoder: TaskModel(encoder, build_head("classification", 768, answers)),
    )
    batch = make_batch(COUNTS, examples=2)
    expected = model(**their_inputs(batch)).question_answering_score
    assert expected.shape == (2, answers)
    check(ours(batch), expected)


@torch.no_grad()
def test_every_head_of_pretrained_weights(pretrained: torch.nn.Module, folder: Path) -> None:
    """model_LXRT.pth, converted, gives what `transformers` does in all six heads."""
    torch.save(reference_names(pretrained.state_dict(), task=False), folder / "model_LXRT.pth")
    assert (folder / "model_LXRT.pth").stat().st_size == pytest.approx(912_207_008, rel=1e-3)
    said = run(folder / "model_LXRT.pth", folder / "ours.safetensors")
    assert any("473 matched, 0 missing, 0 unexpected, 0 of another shape" in line for line in said)
    ours = load_ours(
        folder / "ours.safetensors",
        lambda encoder: build_pretraining(
            encoder, OBJECTIVES, COUNTS.objects, COUNTS.attributes, COUNTS.answers
        ),
    )
    batch = make_batch(COUNTS, examples=2)
    expected = pretrained(**their_inputs(batch))
    encoded, heads, real = ours.encoder(batch, read="all"), ours.objectives, batch.attention_mask.bool()
    check(heads["masked_lm"].logits(encoded.language)[real], expected.prediction_logits[real])
    check(heads["matching"].classifier(encoded.pooled), expected.cross_relationship_score)
    check(heads["qa"].head.score(encoded.pooled), expected.question_answering_score)
    regions = pretrained.obj_predict_head(pretrained.lxmert(**their_inputs(batch)).vision_output)
    states = heads["masked_region"].transform(encoded.vision)
    for name, key in (("object", "obj"), ("attribute", "attr"), ("feature", "feat")):
        check(getattr(heads["masked_region"], name)(states), regions[key])


@pytest.mark.slow
@pytest.mark.parametrize(("answers", "entries"), [(None, 473), (3129, 455), (1842, 455)])
def test_round_trips_are_bit_exact(
    pretrained: torch.nn.Module, folder: Path, answers: int | None, entries: int
) -> None:
    """Original -> ours -> `transformers` (and its `from_pretrained`) -> original, every entry."""
    model = pretrained if answers is None else fine_tuned(pretrained, answers)
    state = reference_names(model.state_dict(), task=answers is not None)
    assert len(state) == entries
    torch.save(state, folder / "original.pth")
    run(folder / "original.pth", folder / "ours.safetensors")
    run(folder / "ours.safetensors", folder / "hub", "transformers")
    stored = load_file(folder / "hub" / "model.safetensors")
    assert len(stored) == entries - (answers is None)  # the tied matrix once
    again = type(model).from_pretrained(folder / "hub").state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    run(folder / "hub", folder / "back.pth", "reference", data_parallel=True)
    back = torch.load(folder / "back.pth", weights_only=True, mmap=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
