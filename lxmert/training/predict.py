"""Answers of one split by one run's weights; stopped or killed, it goes on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxmert.data.answers import read_answers
from lxmert.data.batching import Examples
from lxmert.data.regions import RegionSource
from lxmert.errors import Interrupted, WeightsError
from lxmert.files import fingerprint
from lxmert.models.heads import TaskModel
from lxmert.models.packed import packed
from lxmert.models.quantized import quantized
from lxmert.models.weights import load_tensors, model_of, read_metadata, read_weights
from lxmert.progress import Progress
from lxmert.state import JobState, StopSignal
from lxmert.training.building import build_task_model
from lxmert.training.inference import AtOnce, chunk_logits, chunks
from lxmert.training.precision import Precision, double

log = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0  # where the recipe does not say


def predict(
    spec: dict[str, Any],
    features: Sequence[Path],
    examples_folder: Path,
    split: str,
    weights: Path,
    state_folder: Path,
    device: torch.device,
    quantize: str = "none",
) -> tuple[np.ndarray, JobState]:
    """The answer of every example of a split, in file order: int64 [N], and the state to clear.

    Args:
        spec: the job spec; it computes in the number format of its recipe, as evaluations in training do.
        features: region stores.
        examples_folder: folder of the task's examples.
        split: the split to answer.
        weights: the run's weights.
        state_folder: folder for unfinished work.
        device: where to compute.
        quantize: how the encoder multiplies, see `lxmert.models.quantized`.

    Raises:
        LxmertError: an input does not fit.
        Interrupted: a signal asked to stop; the answers so far are saved.
    """
    columns = examples_folder / f"{split}.safetensors"
    answers_file = examples_folder / "answers.json"
    inputs = [*features, columns, answers_file, weights]
    key = {"spec": spec, "split": split, "inputs": {str(path): fingerprint(path) for path in inputs}}
    if quantize != "none":
        key["quantize"] = quantize  # some answers differ, so that unfinished work is another's
    state = JobState(state_folder, key)
    regions = RegionSource(features, spec["recipe"].get("cut"))
    answers = answers_of(weights, examples_folder)
    examples = Examples([columns], regions if spec["vision"] else None, regions.feature_width)
    model = load_task_model(spec, weights, len(answers), regions, device)
    precision = Precision(spec["recipe"].get("precision", "fp32"), device)

    saved = state.load()
    found: list[np.ndarray] = [] if saved is None else [saved[0]["predicted"].numpy()]
    done = sum(map(len, found))
    if done:
        log.info("going on at example %d of %d from %s", done, len(examples), state.folder)
    progress = Progress(len(examples), "examples", f"predict {split}", start=done)
    save_seconds = spec["recipe"].get("save_every_seconds", _SAVE_SECONDS)
    last_save, at_once = time.monotonic(), AtOnce.on(device)
    with StopSignal() as stop, precision.lowered(), quantized(model, quantize), packed(model):
        for rows in chunks(examples, spec["recipe"]["evaluate_batch"], start=done):
            logits = chunk_logits(model, examples, rows, device, at_once)
            found.append(logits.argmax(dim=1).cpu().numpy())
            done += len(rows)
            progress.advance(len(rows))
            if stop.requested or time.monotonic() - last_save >= save_seconds:
                found = [np.concatenate(found)]
                state.save({"predicted": torch.from_numpy(found[0])}, {"step": done})
                last_save = time.monotonic()
            if stop.requested and done < len(examples):
                raise Interrupted(f"saved {done} of {len(examples)} answers in {state.folder}")
    progress.close()
    predicted = np.empty(len(examples), np.int64)
    predicted[examples.by_image()] = np.concatenate(found)
    return predicted, state


def answers_of(weights: Path, examples_folder: Path) -> list[str]:
    """What the rows of a run's answer head mean: its own list where the weights carry one.

    Raises:
        WeightsError: they carry none, and the examples have another number of answers.
    """
    meta = read_metadata(weights)
    listed = read_answers(examples_folder / "answers.json")
    own, count = meta.get("answers"), meta.get("model", {}).get("answers")
    if isinstance(own, list):
        if own != listed:
            strange = len(set(own) - set(listed))
            log.info(
                "answers by the weights' own list of %d, %d of them not in the examples'", len(own), strange
            )
        return own
    if count != len(listed):
        raise WeightsError(
            f"{weights}: has {count} answers, but answers.json lists {len(listed)}."
            " Predict with the examples this run was trained on, or give the list: lxmert convert --answers."
        )
    return listed


def load_task_model(
    spec: dict[str, Any], weights: Path, answers: int, regions: RegionSource, device: torch.device
) -> TaskModel:
    """A run's model with its weights, ready to answer.

    Raises:
        WeightsError: the weights were trained on features of another width or profile, or do not fit.
    """
    tensors, meta = read_weights(weights)
    described = model_of(meta, weights)
    _check_features(described, regions, weights)
    model = build_task_model(spec, described["vocabulary"], described["feature_width"], answers)
    if spec["recipe"].get("precision") == "fp64":
        double(model)
    load_tensors(model, tensors, str(weights))
    return model.to(device).eval()


def _check_features(described: dict[str, Any], regions: RegionSource, weights: Path) -> None:
    if described["feature_width"] != regions.feature_width:
        raise WeightsError(
            f"{weights}: was trained on features {described['feature_width']} wide, but those given are"
            f" {regions.feature_width} wide. Predict with features of the extraction this run was trained on."
        )
    profile = described.get("profile", regions.profile)  # weights from elsewhere do not state it
    if profile != regions.profile:
        trained, given = (
            f"{item['name']} (version {item['version']})" for item in (profile, regions.profile)
        )
        raise WeightsError(
            f"{weights}: was trained on features of extraction profile {trained}, but those given are of"
            f" {given}. Predict with features of the profile this run was trained on."
        )
