"""What the graph asks of a configuration: files and image sets of each job, and its job spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxmert.errors import SpecError, suggest
from lxmert.specs.documents import merge
from lxmert.specs.jobs import job_spec_text
from lxmert.specs.leaks import leaks_of
from lxmert.specs.minival import DRAWN_FROM, DRAWN_IDS, PUBLISHED_IDS, with_published_ids
from lxmert.specs.own import GIVEN
from lxmert.specs.resolve import DOWNLOAD, PRETRAIN, Document, Resolved, Run, run_name

PUBLISHED = "published"
# The choice of `nlvr2_images` that asks each image's own address.
CRAWL = "crawl"
DETECTOR_DATASET, DETECTOR_IMAGES = "visual_genome", "vg"
OWN_DATASET = "custom"
DETECTOR_TRAINED_ON = "vg/splits/train.txt"
# What a split names for its scores only.
SCORING_KEYS = ("all_questions", "choices")
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


class Plan(Resolved):
    """A resolved configuration, and what follows from it for the graph."""

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

    def require_split(self, run: str, split: str) -> None:
        """Refuses a split that the task of a run has not, or not here.

        Raises:
            SpecError: with what to do.
        """
        task = self.runs[run].task
        known = list(self.tasks[task]["splits"])
        if split in known:
            return
        if split in self.left_out[task]:
            raise SpecError(
                f"results/{run}: {split} is a further split of {task}. Name it in config.yaml:"
                f" further_splits: {{{task}: [{split}]}}"
            )
        raise SpecError(f"results/{run}: task {task} has no split {split}.{suggest(split, known)}")

    def leaks(self, run: str, split: str) -> list[str]:
        """Why a run's score on a split would be no score on unseen questions; none for a clean split."""
        found = self.runs[run]
        task, genome = self.tasks[found.task], None
        learnt: dict[str, Document] | None = {name: task["splits"][name] for name in task["train_on"]}
        if found.weights:
            learnt = self._published_learning(found)
        pretraining = None
        if not self.own:
            genome = self.tasks[PRETRAIN]["image_sets"]["genome"]
            pretraining = self.tasks[PRETRAIN] if found.init != "scratch" else None
        if pretraining and (found.weights or self.published_weights_of(run)):
            pretraining = {**pretraining, "minival_ids": PUBLISHED_IDS}  # what they held out
        return leaks_of(split, task, learnt, found.weights, pretraining, genome)

    def _published_learning(self, run: Run) -> dict[str, Document] | None:
        """The splits that published fine-tuned weights learnt from, None where nobody said which."""
        known = self.published_finetuned(run.system, run.task)["learnt_from"]
        if run.weights not in known:
            return None
        splits = self.tasks[run.task]["splits"]
        return {name: with_published_ids(splits[name]) for name in known[run.weights]}

    def overlap_files(self) -> list[str]:
        """Raw files that tell which photographs splits share."""
        spec = self._overlap()
        names = [spec["image_data"], spec["detector"] and spec["detector"]["list"], spec.get("minival_ids")]
        return [name for name in names if name]

    def example_document(self, task: str) -> Document:
        """A task's document as its examples are made: of official files, or of what LXMERT published."""
        document = _without(self.tasks[task], PUBLISHED)
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

    # Job specs: what changes the result of that very job, and nothing else

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
            "task": _without(self.example_document(task), *left_out),
            "max_tokens": self._max_tokens(task),
            "min_answer_count": self.corpus["min_answer_count"],
            "missing_images": self._missing_images(task),
        }
        if published and task != PRETRAIN:
            counts = self.datasets[self.tasks[task]["dataset"]]["splits"]
            parts["counts"] = {name: counts[name] for name in self.tasks[task]["splits"] if name in counts}
        return self._text("prepare", subset=True, **parts)

    def _missing_images(self, task: str) -> Document:
        """What becomes of examples whose images are missing: limits of the training splits, and elsewhere."""
        document, settings = self.tasks[task], self.config["missing_images"]
        limit = settings.get("train", self.corpus["missing_images"])
        if "train" not in settings and self.crawls_images():
            limit = document.get("missing_images", {}).get("crawl", limit)
        splits = ["train"] if task == PRETRAIN else document["train_on"]
        return {"train": dict.fromkeys(splits, limit), "evaluated": settings["evaluated"]}

    def crawls_images(self) -> bool:
        """Whether this plan reads images of NLVR2 that were crawled one by one."""
        return self.branches["features"] != DOWNLOAD and self.branches["nlvr2_images"] == CRAWL

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
        parts: Document = {"task": _without(self.tasks[self.runs[run].task], PUBLISHED, "phases")}
        if leaks := self.leaks(run, split):
            parts["leaks"] = leaks
        return self._text("score", **parts)

    def overlap_spec(self) -> str:
        """Which splits are compared, and with what."""
        return self._text("overlap", subset=True, **self._overlap())

    def _overlap(self) -> Document:
        tasks = [task for task in self.used_tasks() if task != PRETRAIN]
        roles = {
            task: {
                "splits": list(self.tasks[task]["splits"]),
                "train_on": self.tasks[task]["train_on"],
                "headline": self.scored_splits(task),
            }
            for task in tasks
        }
        found: Document = {"tasks": roles, "pretraining": None, "detector": None, "image_data": None}
        if self.own:
            trained_on = {"list": DETECTOR_TRAINED_ON, "image_set": self.own_image_set()}
            return {**found, "detector": trained_on if self.trains_detector() else None}
        found["image_data"] = self.tasks[PRETRAIN]["image_data"]
        # Published weights and features are of the detector that learnt from the same list.
        found["detector"] = {"list": DETECTOR_TRAINED_ON, "image_set": DETECTOR_IMAGES}
        inits = {run.init for run in self.runs.values()}
        if self.pretrainings:
            found["pretraining"] = "here"
        if "finetuned" in inits or ("pretrained" in inits and not self.pretrainings):
            sets = list(self.tasks[PRETRAIN]["image_sets"].values())
            held_out = None if self.config["minival"] == "drawn" else PUBLISHED_IDS
            # Published fine-tuned weights began with the published pretraining, whatever is done here.
            pretraining = [found["pretraining"], PUBLISHED] if self.pretrainings else PUBLISHED
            found |= {"pretraining": pretraining, "minival_ids": held_out, "pretrain_sets": sets}
        return found

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
            "system": _without(self.systems[run.system]),
            "size": self.sizes[run.system],
            "recipe": _without(run.recipe),
        }

    def _text(self, kind: str, *, seed: bool = False, subset: bool = False, **parts: Any) -> str:
        common = {"seed": self.config["seed"]} if seed else {}
        if subset:
            common["subset"] = self.config["subset"]
        return job_spec_text({"kind": kind, **common, **parts})


def _scaled(counts: Document, scale: float) -> Document:
    """Sizes of a world with its images and sets multiplied; what is counted per image stays."""
    return {key: n if key in PER_IMAGE else max(1, int(n * scale)) for key, n in counts.items()}


def _without(document: Document, *names: str) -> Document:
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


def load_plan(config: Document, where: str = "config.yaml") -> Plan:
    """A configuration, resolved against the documents it names.

    Args:
        config: what config.yaml holds, overlays merged.
        where: the name of the file in messages.

    Raises:
        SpecError: something in it is wrong; every mistake that can be seen, one a line.
    """
    return Plan(config, where)
