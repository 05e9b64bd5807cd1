"""BERT's weights as the beginning of a pretraining model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lxmert.convert.documents import SYSTEM
from lxmert.convert.opening import Opened, open_weights
from lxmert.convert.reading import account
from lxmert.errors import WeightsError
from lxmert.models.keys import KeyMap, Stored, stored_from_ours, stored_to_ours, usual_names
from lxmert.models.weights import LoadReport, load_tensors
from lxmert.specs.documents import read_yaml

log = logging.getLogger(__name__)

_LAYER = "bert.encoder.layer."
_HEADS = ("cls.predictions.", "cls.seq_relationship.")  # each there whole or not at all
_WIDTH = 64  # of a head, in every published BERT
_TIED = "tied to the word embeddings"
_NO_OBJECTIVE = "the recipe has no such objective"


def start_from_bert(model: nn.Module, path: str | Path, system: Path = SYSTEM) -> LoadReport:
    """Puts BERT's tensors into a pretraining model; what BERT has not keeps its values.

    Args:
        model: an `LxmertEncoder` with objectives, on any device.
        path: a weights file of BERT's, or a folder with one: an archive of 2018 or 2019, whose norms are
            spelt gamma and beta, or a folder of transformers.
        system: folder of the system's documents, `bert_keys.yaml` among them.

    Returns:
        What became of every tensor, logged as well.

    Raises:
        WeightsError: the file is not BERT's, or of another size or vocabulary; the model is unchanged.
    """
    document = read_yaml(system / "bert_keys.yaml")
    keys = KeyMap({**read_yaml(system / document["names_of"]), **_own_parts(document)}, "bert_keys.yaml")
    opened = open_weights(path)
    _check_heads(opened, model.encoder.size)
    parameters = {name: Stored.of(parameter.detach()) for name, parameter in model.named_parameters()}
    expected = stored_from_ours(parameters, keys, "reference_pretraining")
    usual = usual_names(opened.stored, keys)
    given = {name: opened.stored[original] for name, original in usual.items()}
    _check_kind(given, expected, opened)
    allowed = dict(_absent(expected, given, keys, document["random"]))
    allowed |= _surplus(given, expected, keys, model.encoder.size.language_layers, document["surplus_layers"])
    report = account(expected, given, str(opened.path), allowed, usual)
    tensors, _ = stored_to_ours({name: given[name] for name in report.loaded}, keys)
    load_tensors(model, _floating(tensors, opened), str(opened.path), document["random"])
    log.info("%s: %s", opened.path, report)
    reasons = Counter((name in given, why) for name, why in report.reasons.items())
    for (there, why), count in reasons.items():
        log.info("%s: %d tensors: %s", "left out" if there else "keep their random values", count, why)
    return report


def _own_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("suffixes", "ignored")}


def _check_heads(opened: Opened, size: Any) -> None:
    """The number of heads shows in no shape: the configuration says it, or heads are 64 wide as published."""
    usual = size.heads if size.hidden % _WIDTH else size.hidden // _WIDTH
    heads = (opened.config or {}).get("num_attention_heads", usual)
    if heads != size.heads:
        raise WeightsError(
            f"{opened.path}: BERT has {heads} attention heads, but the model has {size.heads}."
            " Give the encoder BERT's size."
        )


def _check_kind(given: Mapping[str, Stored], expected: Mapping[str, Stored], opened: Opened) -> None:
    words = "bert.embeddings.word_embeddings.weight"
    if any(name.startswith(("bert.encoder.x_layers.", "bert.encoder.visn_fc.")) for name in given):
        raise WeightsError(
            f"{opened.path}: these are weights of LXMERT, not of BERT. Give them to a fine-tuning run."
        )
    if words not in given or len(given[words].shape) != 2:
        raise WeightsError(
            f"{opened.path}: these are no weights of BERT: no tensor is called {words}."
            " Give bert-base-uncased."
        )
    if given[words].shape != expected[words].shape:
        (theirs, hidden), (ours, width) = given[words].shape, expected[words].shape
        raise WeightsError(
            f"{opened.path}: BERT has {theirs} word pieces, {hidden} wide, but the model has {ours}, {width}"
            " wide. Give BERT's own vocabulary and an encoder of its size, or set recipe/init: scratch."
        )


def _absent(
    expected: Mapping[str, Stored], given: Mapping[str, Stored], keys: KeyMap, random: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Names BERT's file may lack, and why."""
    begun = tuple(head for head in _HEADS if any(name.startswith(head) for name in given))
    for name in expected:
        rule, ours = keys.find(name) or (None, "")
        if rule is not None and rule.tied_with is not None:
            yield name, _TIED
        elif not name.startswith(begun):
            yield from ((name, why) for start, why in random.items() if ours.startswith(start))


def _surplus(
    given: Mapping[str, Stored], expected: Mapping[str, Stored], keys: KeyMap, layers: int, why_layers: str
) -> dict[str, str]:
    """Names of BERT's that have no place here, and why."""
    surplus = {}
    for name in given:
        if name in expected:
            continue
        if (why := keys.ignored(name)) is not None:
            surplus[name] = why
        elif keys.find(name) is not None and name.startswith(_HEADS):
            surplus[name] = _NO_OBJECTIVE
        elif name.startswith(_LAYER) and keys.find(name) is not None:
            number = name.removeprefix(_LAYER).split(".")[0]
            if int(number) >= layers:
                surplus[name] = why_layers
    return surplus


def _floating(tensors: Mapping[str, Stored], opened: Opened) -> dict[str, Tensor]:
    for name, stored in tensors.items():
        if not stored.dtype.is_floating_point:
            kind = str(stored.dtype).removeprefix("torch.")
            raise WeightsError(f"{opened.path}: our {name} would hold {kind}; give floating-point weights.")
    return {name: stored.read() for name, stored in tensors.items()}
