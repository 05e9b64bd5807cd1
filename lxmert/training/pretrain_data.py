"""What pretraining reads, opened and tried before PyTorch is imported; see `finetune_data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.data.answers import read_answer_table
from lxmert.data.batching import PretrainBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.files import fingerprint


@dataclass
class PretrainInputs:
    """Files pretraining reads.

    Attributes:
        features: region stores.
        train: columns file of the aggregated corpus.
        valid: columns file of its held-out part.
        answers: the joint answer table.
        vocabulary: vocab.txt.
        init: weights to begin with, where the recipe's `init` is not `scratch`.
    """

    features: Sequence[Path]
    train: Path
    valid: Path
    answers: Path
    vocabulary: Path
    init: Path | None = None

    def fingerprints(self) -> dict[str, Any]:
        """Size and checksum of everything the result depends on."""
        paths = [*self.features, self.train, self.valid, self.answers, self.vocabulary]
        paths += [] if self.init is None else [self.init]
        return {str(path): fingerprint(path) for path in paths}


@dataclass
class PretrainData:
    """The opened files of a pretraining run.

    Attributes:
        regions: region stores.
        answers: entries of the joint answer table.
        words: entries of the vocabulary.
        batches: training batches.
        held_out: batches of the held-out part: one fixed draw of masks and mismatches, and every objective,
            so that epochs compare.
    """

    regions: RegionSource
    answers: int
    words: int
    batches: PretrainBatches
    held_out: PretrainBatches

    @classmethod
    def open(cls, spec: dict[str, Any], inputs: PretrainInputs) -> PretrainData:
        """Opens everything and makes the first batch.

        Args:
            spec: the job spec.
            inputs: files to read.

        Raises:
            LxmertError: a file cannot be read, or does not fit the others.
        """
        recipe, seed = spec["recipe"], spec["seed"]
        regions = RegionSource(inputs.features, recipe.get("cut"))
        vocabulary = read_vocabulary(inputs.vocabulary)
        batches = PretrainBatches(inputs.train, regions, recipe, vocabulary, seed)
        batches.arrays(0)
        held_out_recipe = {**recipe, "global_batch": recipe["evaluate_batch"], "start_epochs": {}}
        held_out = PretrainBatches(inputs.valid, regions, held_out_recipe, vocabulary, seed, "valid")
        table = read_answer_table(inputs.answers)
        return cls(regions, len(table), len(vocabulary), batches, held_out)
