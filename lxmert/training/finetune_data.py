"""What a fine-tuning run reads, opened and tried before PyTorch is imported.

Importing PyTorch takes seconds. A file that is missing or damaged is said before that, and so the first
training batch stands in memory well under a second after the command was typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.data.answers import read_answers
from lxmert.data.batching import Examples, FinetuneBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.files import fingerprint


@dataclass
class FinetuneInputs:
    """Files a fine-tuning run reads.

    Attributes:
        features: region stores.
        examples: folder of the task's examples: answers.json and one columns file a split.
        vocabulary: vocab.txt.
        init: pretrained weights; None starts from scratch.
        pretrain_answers: the answer table of those weights.
    """

    features: Sequence[Path]
    examples: Path
    vocabulary: Path
    init: Path | None = None
    pretrain_answers: Path | None = None

    def split(self, name: str) -> Path:
        """The columns file of a split."""
        return self.examples / f"{name}.safetensors"

    def fingerprints(self, splits: Sequence[str]) -> dict[str, Any]:
        """Size and checksum of everything the result depends on."""
        paths = [*self.features, self.vocabulary, self.examples / "answers.json", *map(self.split, splits)]
        paths += [path for path in (self.init, self.pretrain_answers) if path is not None]
        return {str(path): fingerprint(path) for path in paths}


@dataclass
class FinetuneData:
    """The opened files of a fine-tuning run.

    Attributes:
        regions: region stores; a blind run opens them, too, for the width of its empty region.
        answers: the task's answers; position = id.
        words: entries of the vocabulary.
        batches: training batches.
        held_out: examples of the selection split.
    """

    regions: RegionSource
    answers: list[str]
    words: int
    batches: FinetuneBatches
    held_out: Examples

    @classmethod
    def open(cls, spec: dict[str, Any], inputs: FinetuneInputs) -> FinetuneData:
        """Opens everything and makes the first batch.

        Args:
            spec: the job spec.
            inputs: files to read.

        Raises:
            LxmertError: a file cannot be read, or does not fit the others.
        """
        recipe, task = spec["recipe"], spec["task"]
        regions = RegionSource(inputs.features, recipe.get("cut"))
        seen = regions if spec["vision"] else None
        answers = read_answers(inputs.examples / "answers.json")
        train = Examples([inputs.split(name) for name in task["train_on"]], seen, regions.feature_width, True)
        batches = FinetuneBatches(train, len(answers), recipe["global_batch"], spec["seed"])
        batches.arrays(0)
        held_out = Examples([inputs.split(task["select_on"])], seen, regions.feature_width)
        return cls(regions, answers, len(read_vocabulary(inputs.vocabulary)), batches, held_out)
