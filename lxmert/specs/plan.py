"""config.yaml resolved: the runs there are, the documents they use, and one job spec for each job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lxmert.errors import SpecError, suggest
from lxmert.specs.checks import checked, fill_defaults, mistakes, partial, schema
from lxmert.specs.documents import (
    document_names,
    document_path,
    merge,
    read_document,
    read_yaml,
    recipe_names,
    recipe_path,
    shown,
)
from lxmert.specs.jobs import job_spec_text

Document = dict[str, Any]

# LXMERT's runs bear the task's name; those of other systems begin with the system's.
UNPREFIXED = "lxmert"
PRETRAIN = "pretrain"
DETECTOR_DATASET, DETECTOR_IMAGES = "visual_genome", "vg"
# What a split names for its scores only.
SCORING_KEYS = ("all_questions", "choices")
# What of a task document the examples do not depend on.
NOT_IN_EXAMPLES = (
    "head",
    "loss",
    "metrics",
    "predict_on",
    "select_by",
    "select_on",
    "submission",
    "train_on",
)


def run_name(system: str, task: str) -> str:
    """The name of a system's own run of a task, or of its pretraining."""
    return task if system == UNPREFIXED else f"{system}_{task}"


@dataclass(frozen=True)
class Run:
    """One system on one task (or, with task `pretrain`, its pretraining)."""

    name: str
    task: str
    system: str
    recipe: Document
    init: str = "pretrained"
    vision: bool = True


class Plan:
    """What config.yaml asks for, checked and complete.

    Attributes:
        config: the configuration with its defaults.
        corpus: the corpus document.
        runs: fine-tuning runs by name, blind baselines included.
        pretrainings: pretraining runs by name, as far as a run starts from one.
        datasets: dataset documents by name.
        tasks: task documents by name, `pretrain` included.
        sizes: system name -> encoder size.
        systems: system name -> system document without its sizes.
        detector: {"size": ..., "recipe": ..., "profile": ...}, documents.
    """

    def __init__(self, config: Document, where: str) -> None:
        """Resolves a configuration; see `load_plan`."""
        self._where = where
        self._mistakes = mistakes(config, schema("config"), where)
        self._stop_on_mistakes()
        self.config = fill_defaults(config, schema("config"))
        self._overrides: Document = self.config["overrides"]
        self._check_names()
        self._stop_on_mistakes()
        self._check_overrides()
        self.corpus: Document = self._document("corpus", self.config["corpus"])
        self.datasets = {name: self._document("dataset", name) for name in document_names("dataset")}
        self.tasks = {name: self._document("task", name) for name in self._task_names()}
        self.detector = self._detector()
        self.systems: dict[str, Document] = {}
        self.sizes: dict[str, Document] = {}
        for system in self._system_names():
            self._add_system(system)
        if set(self.sizes) != set(self._system_names()):
            self._stop_on_mistakes()
        self.runs = {name: self._run(name, settings) for name, settings in self._run_settings().items()}
        needed = dict.fromkeys(run.system for run in self.runs.values() if run.init == "pretrained")
        self.pretrainings = {run_name(system, PRETRAIN): self._pretraining(system) for system in needed}
        self._stop_on_mistakes()

    # What there is

    @property
    def corpus_name(self) -> str:
        """The corpus, as it stands in paths."""
        return str(self.config["corpus"])

    def image_set(self, name: str) -> Document:
        """The folder of an image set below the raw files, and what restricts it."""
        for dataset in self.datasets.values():
            if name in dataset["image_sets"]:
                return dict(dataset["image_sets"][name])
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

    def predicted_splits(self, task: str) -> list[str]:
        """Splits of a task that are answered after fine-tuning."""
        return [self.tasks[task]["select_on"], *self.tasks[task]["predict_on"]]

    def scored_splits(self, task: str) -> list[str]:
        """The answered splits whose labels are public."""
        splits = self.tasks[task]["splits"]
        return [name for name in self.predicted_splits(task) if splits[name]["labelled"]]

    def example_files(self, task: str) -> list[str]:
        """Official files that a task's examples are made of, below the folder of raw files."""
        return list(dict.fromkeys(_raw_files(self.tasks[task], leave_out=SCORING_KEYS)))

    def score_files(self, task: str, split: str) -> list[str]:
        """Official files that the score of a split reads."""
        return list(dict.fromkeys(_raw_files(self.tasks[task]["splits"][split])))

    def detector_files(self) -> list[str]:
        """Official files that training and judging the detector read."""
        files = self.datasets[DETECTOR_DATASET]["files"]
        return [name for name, entry in files.items() if entry["detector"]]

    def all_raw_files(self) -> list[str]:
        """Every raw file and image folder that this plan reads, below the folder of raw files."""
        tasks = self.used_tasks()
        names = [DETECTOR_IMAGES, *(name for task in tasks for name in self.image_sets(task))]
        folders = [self.image_set(name)["folder"] for name in names]
        scored = [(run.task, split) for run in self.runs.values() for split in self.scored_splits(run.task)]
        files = [file for task in tasks for file in self.example_files(task)]
        files += [file for task, split in scored for file in self.score_files(task, split)]
        return list(dict.fromkeys([*folders, *self.vocabulary_files(), *self.detector_files(), *files]))

    def vocabulary_files(self) -> list[str]:
        """The texts a vocabulary is trained on, or the vocabulary itself, below the folder of raw files."""
        settings = self.corpus["vocabulary"]
        return [settings["asset"]] if "asset" in settings else list(settings["texts"])

    def submission_form(self, task: str) -> str:
        """The ending of a task's submission files."""
        return str(self.tasks[task]["submission"]["form"])

    def pretraining_of(self, run: str) -> str | None:
        """The pretraining whose weights a run starts from."""
        return run_name(self.runs[run].system, PRETRAIN) if self.runs[run].init == "pretrained" else None

    def used_tasks(self) -> list[str]:
        """Tasks whose examples are needed, `pretrain` first where some run starts from it."""
        pretraining = [PRETRAIN] if self.pretrainings else []
        return pretraining + list(dict.fromkeys(run.task for run in self.runs.values()))

    # Job specs: what changes the result of that very job, and nothing else

    def world_spec(self) -> str:
        """The generator's spec."""
        return self._text("world", seed=True, **merge(self.corpus["world"], self.config["sample"]))

    def vocabulary_spec(self) -> str:
        """Size of the vocabulary, and whether it is trained or taken as it is."""
        settings = self.corpus["vocabulary"]
        return self._text("vocabulary", size=settings["size"], train="asset" not in settings)

    def prepare_spec(self, task: str) -> str:
        """How raw files become examples."""
        lengths = [
            run.recipe["max_tokens"]
            for run in [*self.runs.values(), *self.pretrainings.values()]
            if run.task == task
        ]
        return self._text(
            "prepare",
            seed=True,
            subset=True,
            task=_without(self.tasks[task], *NOT_IN_EXAMPLES),
            max_tokens=max(lengths, default=20),
            min_answer_count=self.corpus["min_answer_count"],
        )

    def detector_spec(self) -> str:
        """The detector and how it is trained."""
        parts = {part: self.detector[part] for part in ("size", "recipe")}
        return self._text("detector", seed=True, subset=True, corpus=self.corpus_name, **parts)

    def extract_spec(self) -> str:
        """The detector and its extraction profile."""
        return self._text("extract", **{part: self.detector[part] for part in ("size", "profile")})

    def pretrain_spec(self, name: str) -> str:
        """A pretraining run."""
        return self._text(PRETRAIN, seed=True, subset=True, **self._of_run(self.pretrainings[name]))

    def finetune_spec(self, name: str) -> str:
        """A fine-tuning run."""
        run = self.runs[name]
        task = _without(self.tasks[run.task], "metrics", "submission")
        more = {"task": task, "vision": run.vision, "init": run.init}
        return self._text("finetune", seed=True, subset=True, **self._of_run(run), **more)

    def predict_spec(self, name: str) -> str:
        """What answering a split depends on beside the weights."""
        run = self.runs[name]
        parts = self._of_run(run)
        parts["recipe"] = {key: run.recipe[key] for key in ("evaluate_batch", "max_tokens")}
        return self._text(
            "predict", subset=True, **parts, task=_without(self.tasks[run.task], "metrics"), vision=run.vision
        )

    def score_spec(self, task: str) -> str:
        """What a score depends on beside its files."""
        return self._text("score", task=_without(self.tasks[task]))

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

    # How it is made

    def _stop_on_mistakes(self) -> None:
        if self._mistakes:
            raise SpecError("\n".join(dict.fromkeys(self._mistakes)))

    def _complain(self, path: str, text: str) -> None:
        self._mistakes.append(f"{self._where}: {path}: {text}")

    def _known(self, path: str, what: str, name: str, known: list[str]) -> bool:
        if name not in known:
            self._complain(path, f'unknown {what} "{name}".{suggest(name, known)}')
        return name in known

    def _task_names(self) -> list[str]:
        return document_names("task")

    def _system_names(self) -> list[str]:
        extra = [settings["system"] for settings in self.config["runs"].values() if "system" in settings]
        return list(dict.fromkeys([*self.config["systems"], *extra]))

    def _check_names(self) -> None:
        systems, tasks = document_names("system"), [name for name in self._task_names() if name != PRETRAIN]
        self._known("corpus", "corpus", self.config["corpus"], document_names("corpus"))
        for position, name in enumerate(self.config["tasks"]):
            self._known(f"tasks/{position}", "task", name, tasks)
        for position, name in enumerate(self.config["systems"]):
            self._known(f"systems/{position}", "system", name, systems)
        automatic = self._automatic_names()
        for name, settings in self.config["runs"].items():
            for key, known in (("task", tasks), ("system", systems)):
                if key in settings:
                    self._known(f"runs/{name}/{key}", key, settings[key], known)
            if name not in automatic and "task" not in settings:
                self._complain(
                    f"runs/{name}/task", f"missing; add it, or change one of: {', '.join(automatic)}."
                )

    def _check_overrides(self) -> None:
        systems = document_names("system")
        for system, settings in self._overrides.items():
            if self._known(f"overrides/{system}", "system", system, [*systems, "detector"]):
                known = ["size", "recipe"] if system == "detector" else ["size", *recipe_names(system)]
                for part in settings:
                    self._known(f"overrides/{system}/{part}", "recipe", part, known)

    def _document(self, kind: str, name: str) -> Document:
        document: Document = checked(read_document(kind, name), kind, shown(document_path(kind, name)))
        return document

    def _overridden(self, document: Document, rules: Document, system: str, part: str) -> Document:
        """The document with config's overrides laid over it; what is wrong with them is put down."""
        over = self._overrides.get(system, {}).get(part, {})
        return self._laid_over(document, over, rules, f"overrides/{system}/{part}")

    def _laid_over(self, document: Document, over: Document, rules: Document, path: str) -> Document:
        found = mistakes(over, partial(rules), self._where, path)
        merged: Document = merge(document, over)
        # A setting may be right by itself and wrong with the others, such as an optimiser without its rate.
        self._mistakes += found or (mistakes(merged, rules, self._where, path) if over else [])
        return merged

    def _detector(self) -> Document:
        names = self.corpus["detector"]
        parts = {}
        for part in ("size", "recipe"):
            kind = f"detector_{part}"
            parts[part] = self._overridden(self._document(kind, names[part]), schema(kind), "detector", part)
        return {**parts, "profile": self._document("profile", self.corpus["profile"])}

    def _add_system(self, name: str) -> None:
        document = self._document("system", name)
        sizes = document.pop("sizes")
        if name not in self.corpus["systems"]:
            supported = ", ".join(self.corpus["systems"])
            self._complain(
                "systems", f'"{name}" has no size in corpus {self.corpus_name}. It has: {supported}.'
            )
            return
        size = self.corpus["systems"][name]["size"]
        if self._known(f"systems/{name}", "size", size, list(sizes)):
            rules = schema("system")["properties"]["sizes"]["additionalProperties"]
            self.systems[name] = document
            self.sizes[name] = self._overridden(sizes[size], rules, name, "size")

    def _recipe(self, system: str, name: str) -> Document | None:
        """The recipe file, the corpus's changes, then config's."""
        path = recipe_path(system, name)
        if not path.is_file():
            self._complain(
                "tasks", f"{system} has no recipe for {name}. Known: {', '.join(recipe_names(system))}."
            )
            return None
        kind = "pretrain_recipe" if name == PRETRAIN else "finetune_recipe"
        document = checked(read_yaml(path, shown(path)), kind, shown(path))
        short = self.corpus["systems"][system]["recipes"].get(name, {})
        document = checked(merge(document, short), kind, shown(document_path("corpus", self.corpus_name)))
        return self._overridden(document, schema(kind), system, name)

    def _automatic_names(self) -> list[str]:
        names = [run_name(system, task) for system in self.config["systems"] for task in self.config["tasks"]]
        blind = [f"{name}_blind" for name in names] if self.config["blind_baselines"] else []
        return names + blind

    def _run_settings(self) -> dict[str, Document]:
        """Settings of every run: the automatic ones, changed and followed by config's own."""
        settings: dict[str, Document] = {}
        for system in self.config["systems"]:
            for task in self.config["tasks"]:
                settings[run_name(system, task)] = {"system": system, "task": task}
        if self.config["blind_baselines"]:
            settings |= {f"{name}_blind": {**entry, "vision": False} for name, entry in settings.items()}
        for name, entry in self.config["runs"].items():
            own = {"system": self.config["systems"][0] if self.config["systems"] else UNPREFIXED}
            settings[name] = merge(settings.get(name, own), entry)
        return settings

    def _run(self, name: str, settings: Document) -> Run:
        system, task = settings["system"], settings["task"]
        recipe = self._recipe(system, task) or {}
        over = settings.get("recipe", {})
        if over:
            recipe = self._laid_over(recipe, over, schema("finetune_recipe"), f"runs/{name}/recipe")
        init, vision = settings.get("init", "pretrained"), settings.get("vision", True)
        return Run(name=name, task=task, system=system, recipe=recipe, init=init, vision=vision)

    def _pretraining(self, system: str) -> Run:
        name = run_name(system, PRETRAIN)
        return Run(name=name, task=PRETRAIN, system=system, recipe=self._recipe(system, PRETRAIN) or {})


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
