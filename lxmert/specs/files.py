"""Which files and image sets the jobs of a configuration read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxmert.errors import SpecError, suggest
from lxmert.specs.minival import DRAWN_FROM, DRAWN_IDS
from lxmert.specs.own import GIVEN
from lxmert.specs.published import DOWNLOAD
from lxmert.specs.resolve import Resolved
from lxmert.specs.runs import PRETRAIN, Document, run_name

PUBLISHED = "published"
# The choice of `nlvr2_images` that asks each image's own address.
CRAWL = "crawl"
DETECTOR_DATASET, DETECTOR_IMAGES = "visual_genome", "vg"
OWN_DATASET = "custom"
# What a split names for its scores only.
SCORING_KEYS = ("all_questions", "choices")


class Files(Resolved):
    """A resolved configuration, and the files and image sets that follow from it."""

    def image_set(self, name: str) -> Document:
        """The folder of an image set below the raw files, and what restricts it."""
        for dataset in self.datasets.values():
            if name in dataset["image_sets"]:
                found = dict(dataset["image_sets"][name])
                elsewhere = found.pop("gqa_folder", None)
                if elsewhere and self.config["detector_images"] == "gqa":
                    del found["images"]  # GQA's archive holds pictures of its own too
                    found["folder"] = elsewhere
                return found
        known = [image_set for dataset in self.datasets.values() for image_set in dataset["image_sets"]]
        raise SpecError(f"{name}: unknown image set.{suggest(name, known)}")

    def image_sets(self, task: str, splits: list[str] | None = None) -> list[str]:
        """Image sets that splits of a task read, each once; those of every split by default."""
        document = self.tasks[task]
        if "image_sets" in document:
            return list(document["image_sets"].values())
        return list(
            dict.fromkeys(document["splits"][name]["image_set"] for name in splits or document["splits"])
        )

    def training_image_sets(self, task: str) -> list[str]:
        """Image sets of training and of selecting the best weights."""
        document = self.tasks[task]
        if task == PRETRAIN:
            return self.image_sets(task)
        return self.image_sets(task, [*document["train_on"], document["select_on"]])

    def selection_image_sets(self, task: str) -> list[str]:
        """Image sets of selecting the best weights."""
        return self.image_sets(task, [self.tasks[task]["select_on"]])

    def predicted_splits(self, task: str) -> list[str]:
        """Splits of a task that are answered after fine-tuning."""
        return [self.tasks[task]["select_on"], *self.tasks[task]["predict_on"]]

    def scored_splits(self, task: str) -> list[str]:
        """The answered splits whose labels are public."""
        splits = self.tasks[task]["splits"]
        return [name for name in self.predicted_splits(task) if splits[name]["labelled"]]

    def example_document(self, task: str) -> Document:
        """A task's document as its examples are made: of official files, or of what LXMERT published."""
        document = without(self.tasks[task], PUBLISHED)
        if self.branches["annotations"] != PUBLISHED or PUBLISHED not in self.tasks[task]:
            return document
        # What tells where official files lie has no meaning for the published ones.
        kept = {name: value for name, value in document.items() if not list(_raw_files(value))}
        return {**kept, **self.tasks[task][PUBLISHED]}

    def example_files(self, task: str) -> list[str]:
        """Raw files that a task's examples are made of, below the folder of raw files."""
        return list(dict.fromkeys(_raw_files(self.example_document(task), leave_out=SCORING_KEYS)))

    def answers_table(self, task: str) -> str | None:
        """The published answer table that a task's examples take, None where they count their own."""
        return self.example_document(task).get("answers")

    def score_files(self, task: str, split: str) -> list[str]:
        """Official files that the score of a split reads."""
        return list(dict.fromkeys(_raw_files(self.tasks[task]["splits"][split])))

    def detector_files(self) -> list[str]:
        """Official files that training and judging the detector read."""
        files = self.datasets[DETECTOR_DATASET]["files"]
        return [name for name, entry in files.items() if entry["detector"]]

    def own_image_set(self) -> str:
        """The image set of your own data."""
        return str(next(iter(self.datasets[OWN_DATASET]["image_sets"])))

    def used_image_sets(self) -> list[str]:
        """Image sets whose features this plan needs."""
        return list(dict.fromkeys(name for task in self.used_tasks() for name in self.image_sets(task)))

    def trains_detector(self) -> bool:
        """Whether this plan trains a detector: it extracts features, and takes nobody's weights."""
        branches = self.branches
        return branches["features"] != DOWNLOAD and branches["detector"] not in (DOWNLOAD, GIVEN)

    def crawls_images(self) -> bool:
        """Whether this plan reads images of NLVR2 that were crawled one by one."""
        return self.branches["features"] != DOWNLOAD and self.branches["nlvr2_images"] == CRAWL

    def feature_files(self) -> list[str]:
        """Image folders and the files that restrict them, or published features, of this plan."""
        names = self.used_image_sets()
        if self.branches["features"] == DOWNLOAD:
            return [self.image_set(name)["tsv"] for name in names]
        names += [DETECTOR_IMAGES] * self.trains_detector()
        sets = [self.image_set(name) for name in names]
        return [image_set[key] for image_set in sets for key in ("folder", "only_gqa") if key in image_set]

    def all_raw_files(self) -> list[str]:
        """Every raw file and image folder that this plan reads, below the folder of raw files."""
        files = [file for task in self.used_tasks() for file in self.example_files(task)]
        for run in self.runs.values():
            files += [
                file for split in self.scored_splits(run.task) for file in self.score_files(run.task, split)
            ]
            files += [self.published_answers(run.name)] if self.published_weights_of(run.name) else []
            files += [self.finetuned_answers(run.name)] if run.weights else []
        if self.trains_detector():
            files += self.detector_files()
        files = [DRAWN_FROM if name == DRAWN_IDS else name for name in files]
        names = [*self.feature_files(), *self.vocabulary_files(), *self.name_files(), *files]
        return list(dict.fromkeys(names))

    def made_files(self, names: list[str]) -> list[str] | None:
        """What tells that raw files are there which this graph makes itself, None where it makes none."""
        made = self.corpus["made"]
        found = [max((start for start in made if name.startswith(start)), key=len) for name in names if made]
        return list(dict.fromkeys(made[start] for start in found)) if made else None

    def detector_weights(self) -> str | None:
        """Your own file of detector weights: what features come from, or what its training starts from."""
        return self.own["detector"].get("weights") if self.own else None

    def detector_backbone(self) -> str | None:
        """The asset whose backbone training of the detector begins with, None where it needs none."""
        found: str | None = self.corpus["detector"].get("init")
        return found if self.detector_weights() is None else None

    def weights_of(self, run: str) -> str | None:
        """Your own file of pretrained weights that a run starts from."""
        return self.own.get("weights") if self.runs[run].init == "pretrained" else None

    def answers_of_weights(self, run: str) -> str | None:
        """Your own file with the answers that those weights know, where your answers find their rows."""
        return self.own.get("answers") if self.weights_of(run) else None

    def published_assets(self) -> list[str]:
        """Assets with weights that this plan takes instead of training."""
        weights = [self.published_weights_of(name) for name in self.runs]
        weights += [run.weights for run in self.runs.values()]
        weights += [self.bert_weights(name) for name in self.pretrainings]
        extracts = self.branches["features"] != DOWNLOAD and self.used_image_sets()
        detector = [self.published_detector()] if extracts else []
        detector += [self.detector_backbone()] if self.trains_detector() and self.used_image_sets() else []
        return list(dict.fromkeys(name for name in [*weights, *detector] if name))

    def name_files(self) -> list[str]:
        """The names of object and attribute classes, for the report."""
        return ["vg/objects_vocab.txt", "vg/attributes_vocab.txt"]

    def vocabulary_files(self) -> list[str]:
        """The texts a vocabulary is trained on, or the vocabulary itself, below the folder of raw files."""
        settings = self.corpus["vocabulary"]
        return [settings["asset"]] if "asset" in settings else list(settings["texts"])

    def submission_form(self, task: str) -> str:
        """The ending of a task's submission files."""
        return str(self.tasks[task]["submission"]["form"])

    def pretraining_of(self, run: str) -> str | None:
        """The pretraining here whose weights a run starts from."""
        name = run_name(self.runs[run].system, PRETRAIN)
        return name if self.runs[run].init == "pretrained" and name in self.pretrainings else None

    def published_weights_of(self, run: str) -> str | None:
        """The asset with the published weights that a run starts from."""
        found = self.runs[run]
        return self.published_weights(found.system) if found.init == "pretrained" else None

    def published_answers(self, run: str) -> str:
        """The answer table of the published weights that a run starts from, below the raw files."""
        return str(self.corpus["published"]["systems"][self.runs[run].system]["answers"])

    def taken_runs(self) -> list[str]:
        """Runs that take published fine-tuned weights instead of training."""
        return [name for name, run in self.runs.items() if run.weights]

    def finetuned_answers(self, run: str) -> str:
        """The answers of the fine-tuned weights that a run takes, below the raw files."""
        found = self.runs[run]
        return str(self.published_finetuned(found.system, found.task)["answers"])

    def used_tasks(self) -> list[str]:
        """Tasks whose examples are needed, `pretrain` first where some run starts from it."""
        pretraining = [PRETRAIN] if self.pretrainings else []
        return pretraining + list(dict.fromkeys(run.task for run in self.runs.values()))


def without(document: Document, *names: str) -> Document:
    """The document less the named settings and its source, whose wording changes no result."""
    return {key: value for key, value in document.items() if key not in names and key != "source"}


def _raw_files(document: Any, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Every raw file that a document names."""
    if isinstance(document, str) and document.endswith(".json"):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            if key not in leave_out:
                yield from _raw_files(value, leave_out)
    elif isinstance(document, list):
        for value in document:
            yield from _raw_files(value, leave_out)
