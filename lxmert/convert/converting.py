"""One conversion: what is read, what the other form can hold, what is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxmert.convert.configs import config_of
from lxmert.convert.documents import FORMS, Names, read_names
from lxmert.convert.opening import SIDE_HEAD
from lxmert.convert.reading import CARRIED, Weights, explain, read_any
from lxmert.convert.writing import MODEL, whole_folder, write_safetensors, write_torch
from lxmert.data.answers import read_answer_list
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import WeightsError, suggest
from lxmert.files import atomic_write_json, atomic_write_text
from lxmert.models.keys import Stored, stored_from_ours

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What to make of the weights; see the options of `convert`."""

    to: str = "ours"
    form: str | None = None
    vocabulary: Path | None = None
    answers: Path | None = None
    heads: int | None = None
    encoder_only: bool = False
    data_parallel: bool = False


def convert(source: str | Path, out: str | Path, wish: Wish) -> Iterator[str]:
    """Converts weights, saying what it does.

    Args:
        source: file or folder.
        out: file; a folder for transformers.
        wish: what to make.

    Yields:
        Lines for the reader: what was found, what was left out and why, what was written.

    Raises:
        WeightsError: not everything is accounted for, or the other form cannot hold it.
        DataError: a file cannot be read or written.
    """
    names = read_names()
    if wish.to not in FORMS:
        raise WeightsError(f"{out}: no form is called {wish.to!r}.{suggest(wish.to, FORMS)}")
    weights = read_any(source, wish.form, wish.heads)
    yield from explain(weights)
    answers = _answers(weights, wish)
    if wish.encoder_only:
        weights = _encoder_only(weights)
        yield "left out: every head: --encoder-only"
    if wish.to == "ours":
        yield from _write_ours(weights, Path(out), answers)
    elif wish.to == "reference":
        yield from _write_reference(weights, Path(out), names, wish.data_parallel)
    else:
        yield from _write_transformers(weights, Path(out), names, answers, wish.vocabulary)


def _answers(weights: Weights, wish: Wish) -> list[str] | None:
    """The answers of the head, by label id, if they are known."""
    if wish.answers is None:
        return weights.metadata.get("answers")
    answers = read_answer_list(wish.answers)
    if len(answers) != weights.description.answers:
        raise WeightsError(
            f"{wish.answers}: lists {len(answers)} answers, but the head of {weights.opened.path} has"
            f" {weights.description.answers}. Give the list these weights were trained with."
        )
    return answers


def _encoder_only(weights: Weights) -> Weights:
    stored = {name: item for name, item in weights.stored.items() if name.startswith("encoder.")}
    described = replace(
        weights.description, kind="encoder", objectives=(), answers=None, pair=False,
        object_classes=None, attribute_classes=None,
    )  # fmt: skip
    spec = {**weights.metadata.get("spec", {}), "kind": "encoder"}
    kept = {name: value for name, value in weights.metadata.items() if name != "answers"}
    metadata = {**kept, "spec": spec, "model": {**kept.get("model", {}), **described.counts()}}
    return replace(weights, stored=stored, description=described, metadata=metadata)


def _write_ours(weights: Weights, out: Path, answers: list[str] | None) -> Iterator[str]:
    if weights.form == "ours" and weights.description.kind != "encoder":
        raise WeightsError(
            f"{weights.opened.path}: is ours already. Use it as it is, or say --to reference or transformers."
        )
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: our weights end in .safetensors; name it so.")
    metadata = weights.metadata | ({} if answers is None else {"answers": answers})
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    write_safetensors(out, weights.stored, {"lxmert": text})
    yield f"{out}: {len(weights.stored)} tensors, {_numbers(weights.stored)} numbers"
    if weights.form != "ours" and "profile" not in weights.metadata.get("model", {}):
        yield "not known: the extraction profile of the features it was trained on; predict takes any"


def _write_reference(weights: Weights, out: Path, names: Names, data_parallel: bool) -> Iterator[str]:
    if out.suffix != ".pth":
        raise WeightsError(f"{out}: the original code's weights end in .pth; name it so.")
    dialect = f"reference_{weights.description.kind}"
    stored = stored_from_ours(weights.stored, names.keys, dialect)
    if data_parallel:
        wrapper = "lxrt_encoder.model."
        stored = {
            f"{wrapper}module.{name.removeprefix(wrapper)}"
            if name.startswith(wrapper)
            else (name if weights.description.kind == "task" else f"module.{name}"): item
            for name, item in stored.items()
        }
    write_torch(out, stored)
    yield f"{out}: {len(stored)} tensors"
    yield (
        "not kept: sizes, dropouts, answers and training spec: a .pth file holds tensors alone."
        f" It needs {_flags(weights)}, and {weights.description.size['heads']} heads"
    )


def _flags(weights: Weights) -> str:
    size = weights.description.size
    return (
        f"--llayers {size['language_layers']} --xlayers {size['cross_layers']}"
        f" --rlayers {size['relation_layers']}"
    )


def _write_transformers(
    weights: Weights, out: Path, names: Names, answers: list[str] | None, vocabulary: Path | None
) -> Iterator[str]:
    if out.exists() and not out.is_dir():
        raise WeightsError(f"{out}: a folder is written here, and this is a file; name another.")
    described, stored = weights.description, dict(weights.stored)
    words = _vocabulary(weights, vocabulary)
    side: dict[str, Stored] = {}
    if described.pair:  # transformers has no class for two images a sentence
        side = {name: stored.pop(name) for name in list(stored) if name.startswith("head.")}
        described = replace(described, kind="encoder", answers=None, pair=False)
    config = config_of(described, names, answers if described.answers else None)
    dialect = f"transformers_{described.kind}"
    carried = {**weights.metadata, **({} if answers is None else {"answers": answers})}
    header = {"format": "pt", CARRIED: json.dumps(carried, sort_keys=True, allow_nan=False)}
    named = stored_from_ours(stored, names.keys, dialect, repeat_tied=False)
    named_side = stored_from_ours(side, names.keys, "reference_task")
    with whole_folder(out) as folder:
        atomic_write_json(folder / "config.json", config)
        if words is not None:
            _write_tokenizer(folder, words, described.size["max_positions"])
        if side:
            write_safetensors(folder / SIDE_HEAD, named_side, {"format": "pt"})
        write_safetensors(folder / MODEL, named, header)
    if words is None:
        yield "not written: the tokenizer's files: no vocabulary was given (--vocabulary vocab.txt)"
    else:
        yield f"{out / 'vocab.txt'}: {len(words)} word pieces"
    if side:
        yield f"{out / SIDE_HEAD}: {len(side)} tensors: transformers has no class for heads over image pairs"
    yield f"{out / MODEL}: {len(named)} tensors for {config['architectures'][0]}"


def _vocabulary(weights: Weights, vocabulary: Path | None) -> list[str] | None:
    """Word pieces for the folder: those given, or those of the folder that was read."""
    beside = None if weights.opened.folder is None else weights.opened.folder / "vocab.txt"
    if vocabulary is None and (beside is None or not beside.is_file()):
        return None
    path = vocabulary or beside
    assert path is not None
    words = read_vocabulary(path).tokens
    if len(words) != weights.description.vocabulary:
        raise WeightsError(
            f"{path}: has {len(words)} word pieces, but {weights.opened.path} was made for"
            f" {weights.description.vocabulary}. Give the vocabulary it was made with."
        )
    return words


def _write_tokenizer(out: Path, words: list[str], longest: int) -> None:
    atomic_write_text(out / "vocab.txt", "".join(f"{word}\n" for word in words))
    settings: dict[str, Any] = {
        "tokenizer_class": "LxmertTokenizer",
        "do_lower_case": True,
        "model_max_length": longest,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    atomic_write_json(out / "tokenizer_config.json", settings)


def _numbers(stored: dict[str, Stored]) -> int:
    total = 0
    for item in stored.values():
        count = 1
        for length in item.shape:
            count *= length
        total += count
    return total
