"""Job specs: what changes the result of one job of a configuration, and nothing else."""

from __future__ import annotations

from typing import Any

from lxmert.specs.documents import merge
from lxmert.specs.files import PUBLISHED, without
from lxmert.specs.jobs import job_spec_text
from lxmert.specs.runs import PRETRAIN, Document, Run
from lxmert.specs.unseen import Unseen

# Sizes of a generated corpus that do not grow with it.
PER_IMAGE = (
    "captions",
    "phrases",
    "questions",
    "sentences",
    "train_sentences",
    "train_shards",
    "directories",
)
# What of a task document the examples do not depend on.
NOT_IN_EXAMPLES = (
    "head",
    "missing_images",
    "phases",
    "predict_on",
    PUBLISHED,
    "select_on",
    "submission",
    "train_on",
)
# What of a task document training reads, and what answering does.
IN_TRAINING = ("task", "head", "train_on", "select_on")
IN_PREDICTING = ("task", "head", "submission")


class JobSpecs(Unseen):
    """A resolved configuration, and the spec of each of its jobs."""

    def world_spec(self) -> str:
        """The generator's spec: the corpus's sizes, scaled, then config's own."""
        sample = self.config["sample"]
        sizes = {part: _scaled(counts, sample["scale"]) for part, counts in self.corpus["world"].items()}
        return job_spec_text({"seed": self.config["seed"], **merge(sizes, sample["world"])})

    def vocabulary_spec(self) -> str:
        """Size of the vocabulary, and whether it is trained or taken as it is."""
        settings = self.corpus["vocabulary"]
        size = {} if settings["size"] is None else {"size": settings["size"]}
        return self._text("vocabulary", **size, train="asset" not in settings)

    def own_data_spec(self) -> str:
        """How your own lines are read and split, and which answers are kept."""
        return self._own_spec("own-data", min_answer_count=self.own["min_answer_count"])

    def own_boxes_spec(self) -> str:
        """How your own boxes are split."""
        return self._own_spec("own-boxes")

    def _own_spec(self, kind: str, **more: Any) -> str:
        task = next(name for name in self.used_tasks() if name != PRETRAIN)
        images = self.tasks[task]["images_per_example"]
        own = {name: self.own[name] for name in ("shares", "test_answers")}
        return self._text(kind, seed=True, images_per_example=images, **own, **more)

    def prepare_spec(self, task: str) -> str:
        """How raw files become examples."""
        published = self.corpus["raw"] == "assets"
        # What was published says nothing of a drawn corpus, and need not be said of the published files.
        rebuilt = published and self.branches["annotations"] != PUBLISHED
        left_out = NOT_IN_EXAMPLES if rebuilt else (*NOT_IN_EXAMPLES, "composition")
        parts: Document = {
            "task": without(self.example_document(task), *left_out),
            "max_tokens": self._max_tokens(task),
            "min_answer_count": self.corpus["min_answer_count"],
            "missing_images": self._missing_images(task),
        }
        if published and task != PRETRAIN:
            counts = self.datasets[self.tasks[task]["dataset"]]["splits"]
            parts["counts"] = {name: counts[name] for name in self.tasks[task]["splits"] if name in counts}
        return self._text("prepare", subset=True, **parts)

    def _missing_images(self, task: str) -> Document:
        """What becomes of examples whose images are missing, unless config's own rule says otherwise.

        That one is no part of the spec (see `missing_limit`): examples that a stricter rule let pass are the
        same under a laxer one, and need not be made again, nor what learnt from them.
        """
        document, limit = self.tasks[task], self.corpus["missing_images"]
        if self.crawls_images():
            limit = document.get("missing_images", {}).get("crawl", limit)
        splits = ["train"] if task == PRETRAIN else document["train_on"]
        return {"train": dict.fromkeys(splits, limit), "evaluated": "stop"}

    @property
    def missing_limit(self) -> str:
        """Config's own limit of training splits, as `prepare` takes it; nothing where the documents' hold."""
        return str(self.config["missing_images"].get("train", ""))

    @property
    def missing_evaluated(self) -> str:
        """What becomes of examples without images in other splits: stop or answer."""
        return str(self.config["missing_images"]["evaluated"])

    def detector_spec(self) -> str:
        """The detector and how it is trained."""
        parts = {part: self.detector[part] for part in ("size", "recipe")}
        return self._text("detector", seed=True, subset=True, corpus=self.corpus_name, **parts)

    def extract_spec(self) -> str:
        """The detector and its extraction profile; what becomes of bad images changes no features."""
        profile = {key: value for key, value in self.detector["profile"].items() if key != "bad_images"}
        return self._text("extract", size=self.detector["size"], profile=profile)

    def extract_options(self) -> str:
        """Options of extraction that trade exactness for speed; none unless config.yaml asks."""
        found = []
        for name, value in sorted(self.config["extraction"].items()):
            option = "--" + name.replace("_", "-")
            if name in ("profile", "bad_images"):
                continue
            if value is True:
                found.append(option)
            elif value is not False:
                found.append(f"{option} {value}")
        return " ".join(found)

    @property
    def bad_images(self) -> str:
        """What becomes of images that give no regions: quarantine or stop."""
        own = self.config["extraction"].get("bad_images")
        return str(own or self.detector["profile"].get("bad_images", "quarantine"))

    def pretrain_spec(self, name: str) -> str:
        """A pretraining run."""
        return self._text(PRETRAIN, seed=True, subset=True, **self._of_run(self.pretrainings[name]))

    def finetune_spec(self, name: str) -> str:
        """A fine-tuning run."""
        run = self.runs[name]
        more = {"task": self._of_task(run.task, IN_TRAINING), "vision": run.vision, "init": run.init}
        return self._text("finetune", seed=True, subset=True, **self._of_run(run), **more)

    def predict_spec(self, name: str) -> str:
        """What answering a split depends on beside the weights."""
        run = self.runs[name]
        parts = self._of_run(run)
        parts["recipe"] = {key: run.recipe[key] for key in ("evaluate_batch", "cut") if key in run.recipe}
        # What is usual goes without saying, so that it makes nothing run again.
        if run.recipe.get("precision", "fp32") != "fp32":
            parts["recipe"]["precision"] = run.recipe["precision"]
        if run.quantize != "none":
            parts["quantize"] = run.quantize
        task = self._of_task(run.task, IN_PREDICTING)
        return self._text("predict", subset=True, **parts, task=task, vision=run.vision)

    def score_spec(self, run: str, split: str) -> str:
        """What a score depends on beside its files, and why it would be none on unseen questions."""
        parts: Document = {"task": without(self.tasks[self.runs[run].task], PUBLISHED, "phases")}
        if leaks := self.leaks(run, split):
            parts["leaks"] = leaks
        return self._text("score", **parts)

    def overlap_spec(self) -> str:
        """Which splits are compared, and with what."""
        return self._text("overlap", subset=True, **self._overlap())

    def _max_tokens(self, task: str) -> int:
        """The longest text of a task's examples, on which its runs agree."""
        runs = [*self.runs.values(), *self.pretrainings.values()]
        return next((int(run.recipe["max_tokens"]) for run in runs if run.task == task), 20)

    def _of_task(self, task: str, names: tuple[str, ...]) -> Document:
        return {name: self.tasks[task][name] for name in names}

    def _of_run(self, run: Run) -> Document:
        return {
            "run": run.name,
            "corpus": self.corpus_name,
            "system": without(self.systems[run.system]),
            "size": self.sizes[run.system],
            "recipe": without(run.recipe),
        }

    def _text(self, kind: str, *, seed: bool = False, subset: bool = False, **parts: Any) -> str:
        common = {"seed": self.config["seed"]} if seed else {}
        if subset:
            common["subset"] = self.config["subset"]
        return job_spec_text({"kind": kind, **common, **parts})


def _scaled(counts: Document, scale: float) -> Document:
    """Sizes of a world with its images and sets multiplied; what is counted per image stays."""
    return {key: n if key in PER_IMAGE else max(1, int(n * scale)) for key, n in counts.items()}
