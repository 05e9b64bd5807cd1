"""config.yaml resolved against the documents it names: every mistake found, every default filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lxmert.errors import SpecError, suggest
from lxmert.specs.checks import checked, fill_defaults, mistakes, partial, schema
from lxmert.specs.documents import (
    document_names,
    document_path,
    merge,
    objective_names,
    read_document,
    read_yaml,
    recipe_names,
    recipe_path,
    shown,
)
from lxmert.specs.further_splits import further_splits, split_mistakes, training_mistakes, with_splits
from lxmert.specs.minival import with_drawn_ids
from lxmert.specs.own import GIVEN, OWN, lay_own_over, own_mistakes

Document = dict[str, Any]

# LXMERT's runs bear the task's name; those of other systems begin with the system's.
UNPREFIXED = "lxmert"
PRETRAIN = "pretrain"
# Keys of config.yaml that choose between what was published and what is made here.
BRANCHES = ("features", "weights", "detector", "annotations", "nlvr2_images")
DOWNLOAD = "download"
# What the graph itself calls folders beside those of the runs.
FOLDERS = ("detector", "overlap", "registry", "report")


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
    init: str = "pretrained"  # or "scratch"; "finetuned" where published weights are taken as they are
    vision: bool = True
    weights: str | None = None  # the asset with these
    quantize: str = "none"  # how it answers, see lxmert.models.quantized


class Resolved:
    """What config.yaml asks for, checked and complete.

    Attributes:
        config: the configuration with its defaults.
        corpus: the corpus document.
        branches: what is chosen of `BRANCHES`: `features` is "download" or "extract", and so on.
        runs: fine-tuning runs by name, blind baselines included.
        pretrainings: pretraining runs by name, as far as a run starts from one.
        datasets: dataset documents by name.
        tasks: task documents by name, `pretrain` included.
        left_out: task name -> the further splits of its document, named in config.yaml or not.
        sizes: system name -> encoder size.
        systems: system name -> system document without its sizes.
        detector: {"size": ..., "recipe": ..., "profile": ...}, documents.
    """

    def __init__(self, config: Document, where: str) -> None:
        """Resolves a configuration; see `lxmert.specs.load_plan`."""
        self._where = where
        self._mistakes = mistakes(config, schema("config"), where)
        self._stop_on_mistakes()
        self.config = fill_defaults(config, schema("config"))
        self._overrides: Document = self.config["overrides"]
        self._known("corpus", "corpus", self.config["corpus"], document_names("corpus"))
        self._stop_on_mistakes()
        self.corpus: Document = self._document("corpus", self.config["corpus"])
        self.config["runs"] = self._further_runs()
        self._check_names()
        self._stop_on_mistakes()
        self._check_overrides()
        self._assets: dict[str, str] = {}  # branch -> the asset that config.yaml names for it
        self.branches = {name: self._branch(name) for name in BRANCHES}
        # Settings of your own data; empty where another corpus is chosen.
        self.own: Document = self.config["custom"] if self.corpus["raw"] == OWN else {}
        if self.own:
            self._take_own_data()
        self.datasets = {name: self._document("dataset", name) for name in document_names("dataset")}
        self.tasks = {name: self._document("task", name) for name in self._task_names()}
        self._choose_splits()
        if self.config["minival"] == "drawn":
            self._draw_minival()
        if self.config["detector_images"] != "genome" and self.corpus["raw"] != "assets":
            self._complain(
                "detector_images", f"corpus {self.corpus_name} has images of its own; leave it out."
            )
        self._check_tasks_have_data()
        self.detector = self._detector()
        self._check_own_detector()
        self.systems: dict[str, Document] = {}
        self.sizes: dict[str, Document] = {}
        for system in self._system_names():
            self._add_system(system)
        if set(self.sizes) != set(self._system_names()):
            self._stop_on_mistakes()
        self.runs = {name: self._run(name, settings) for name, settings in self._run_settings().items()}
        needed = dict.fromkeys(run.system for run in self.runs.values() if run.init == "pretrained")
        self.pretrainings: dict[str, Run] = {}
        if self.branches["weights"] == DOWNLOAD:
            self._check_published_weights(list(needed))
        elif self.branches["weights"] != GIVEN:
            self.pretrainings = {run_name(system, PRETRAIN): self._pretraining(system) for system in needed}
        self._check_starts()
        self._check_shared_examples()
        self._stop_on_mistakes()

    @property
    def corpus_name(self) -> str:
        """The corpus, as it stands in paths."""
        return str(self.config["corpus"])

    def _stop_on_mistakes(self) -> None:
        if self._mistakes:
            raise SpecError("\n".join(dict.fromkeys(self._mistakes)))

    def _complain(self, path: str, text: str) -> None:
        self._mistakes.append(f"{self._where}: {path}: {text}")

    def _known(self, path: str, what: str, name: str, known: list[str]) -> bool:
        if name not in known:
            self._complain(path, f'unknown {what} "{name}".{suggest(name, known)}')
        return name in known

    def _branch(self, name: str) -> str:
        """What config.yaml chooses, or else the corpus; the name of an asset means `download`."""
        choices: list[str] = self.corpus["branches"][name]
        chosen = self.config[name] or choices[0]
        assets = self._published_assets(name) if DOWNLOAD in choices else []
        if chosen in assets:
            self._assets[name] = chosen
            return DOWNLOAD
        if chosen not in choices:
            known = [*choices, *assets]
            self._complain(name, f'corpus {self.corpus_name} has no "{chosen}".{suggest(chosen, known)}')
        return str(chosen)

    def _take_own_data(self) -> None:
        for path, text in own_mistakes(self.own):
            self._complain(path, text)
        self._stop_on_mistakes()
        self.corpus = lay_own_over(self.corpus, self.own)
        for part in ("size", "recipe"):
            name, kind = self.corpus["detector"][part], f"detector_{part}"
            self._known(f"custom/detector/{part}", f"detector {part}", name, document_names(kind))
        self._known("custom/detector/profile", "profile", self.corpus["profile"], document_names("profile"))
        self._stop_on_mistakes()
        if "weights" in self.own:
            self.branches["weights"] = GIVEN
        if "train" not in self.own["detector"]:
            self.branches["detector"] = GIVEN

    def _choose_splits(self) -> None:
        """Leaves out further splits, but for those that config.yaml names."""
        wanted, download = self.config["further_splits"], self.branches["features"] == DOWNLOAD
        trained = self.config["train_on"]
        self.left_out: dict[str, list[str]] = {}
        tuned = [name for name in self.tasks if name != PRETRAIN]
        for key, names in (("further_splits", list(self.tasks)), ("train_on", tuned)):
            for name in self.config[key]:
                self._known(f"{key}/{name}", "task", name, names)
        sets = [entry for dataset in self.datasets.values() for entry in dataset["image_sets"].items()]
        featureless = [name for name, entry in sets if download and "tsv" not in entry]
        for name, document in self.tasks.items():
            for text in split_mistakes(document, wanted.get(name, []), self.corpus, featureless):
                self._complain(f"further_splits/{name}", text)
            learnt = trained.get(name, []) if name in tuned else []
            wrong = list(training_mistakes(document, learnt, self.corpus, featureless))
            for text in wrong:
                self._complain(f"train_on/{name}", text)
            self.left_out[name] = further_splits(document)
            self.tasks[name] = with_splits(document, wanted.get(name, []), [] if wrong else learnt)

    def _draw_minival(self) -> None:
        if self.corpus["raw"] != "assets":
            self._complain("minival", f"corpus {self.corpus_name} has images of its own; leave it out.")
        elif self.branches["annotations"] != "rebuild":
            self._complain("minival", "the published annotations are of the published one; rebuild them.")
        self.tasks = {name: with_drawn_ids(document) for name, document in self.tasks.items()}

    def _check_tasks_have_data(self) -> None:
        """Each task's data set is in the corpus; your own data are of one task."""
        places = {f"tasks/{number}": task for number, task in enumerate(self.config["tasks"])}
        runs = self.config["runs"].items()
        places |= {f"runs/{name}": settings["task"] for name, settings in runs if "task" in settings}
        known = [
            name
            for name, task in self.tasks.items()
            if name != PRETRAIN and self.corpus_name in self.datasets[task["dataset"]]["corpora"]
        ]
        strange = {path: task for path, task in places.items() if task not in known}
        for path, task in strange.items():
            self._complain(
                path, f"corpus {self.corpus_name} has no data for {task}. It has: {', '.join(known)}."
            )
        if self.own:
            if len(set(places.values())) > 1:
                self._complain("tasks", f"your own data are of one task; name one of: {', '.join(known)}.")
            for name in known:
                self.tasks[name]["splits"]["test"]["labelled"] = self.own["test_answers"]
        if strange or self.own:
            self._stop_on_mistakes()

    def _check_own_detector(self) -> None:
        begins = self.detector["recipe"]["init"]["backbone"]
        settings = self.own.get("detector", {})
        if "train" in settings and begins == "weights" and "weights" not in settings:
            name = self.detector["recipe"]["recipe"]
            text = f"missing; recipe {name} starts from a trained detector. Name one."
            self._complain("custom/detector/weights", text)

    def _published_assets(self, branch: str) -> list[str]:
        published = self.corpus["published"]
        if branch == "detector":
            return list(published["detector"])
        if branch == "weights":
            return [asset for entry in published["systems"].values() for asset in entry["weights"]]
        return []

    def published_weights(self, system: str) -> str | None:
        """The asset with a system's pretrained weights, None where they are made here."""
        known = self.corpus["published"]["systems"].get(system, {}).get("weights", [])
        if self.branches["weights"] != DOWNLOAD or not known:
            return None
        named = self._assets.get("weights")
        return named if named in known else str(known[0])

    def published_detector(self) -> str | None:
        """The asset with the detector's weights, None where it is trained here."""
        known = self.corpus["published"]["detector"]
        if self.branches["detector"] != DOWNLOAD or not known:
            return None
        return self._assets.get("detector", str(known[0]))

    def published_finetuned(self, system: str, task: str) -> Document:
        """Assets with a system's fine-tuned weights for a task, and their answers; or nothing."""
        found: Document = self.corpus["published"]["systems"].get(system, {}).get("finetuned", {})
        return dict(found.get(task, {}))

    def bert_weights(self, pretraining: str) -> str | None:
        """The asset with BERT's weights that a pretraining begins with, None where it begins with none."""
        run = self.pretrainings[pretraining]
        known = self.corpus["published"]["systems"].get(run.system, {})
        return known.get("bert") if run.recipe.get("init") == "bert" else None

    def _check_starts(self) -> None:
        """BERT's weights need BERT's vocabulary, which a drawn corpus has not."""
        for name, run in self.pretrainings.items():
            if run.recipe.get("init") == "bert" and self.bert_weights(name) is None:
                self._complain(
                    f"overrides/{run.system}/{PRETRAIN}/init",
                    f"corpus {self.corpus_name} has a vocabulary of its own, to which BERT's weights do not"
                    " fit. Set init: scratch, or corpus: full.",
                )

    def _check_published_weights(self, systems: list[str]) -> None:
        known = self.corpus["published"]["systems"]
        for system in systems:
            if system not in known:
                self._complain(
                    "weights",
                    f'nobody published pretrained weights of "{system}" for corpus {self.corpus_name}.'
                    " Set weights: pretrain.",
                )

    def _task_names(self) -> list[str]:
        return document_names("task")

    def _system_names(self) -> list[str]:
        extra = [settings["system"] for settings in self.config["runs"].values() if "system" in settings]
        return list(dict.fromkeys([*self.config["systems"], *extra]))

    def _further_runs(self) -> dict[str, Document]:
        """The corpus's further runs of the tasks that config.yaml names, changed and followed by its own."""
        runs: Document = {
            name: settings
            for name, settings in self.corpus["runs"].items()
            if settings["task"] in self.config["tasks"]
        }
        for name, settings in self.config["runs"].items():
            runs[name] = settings if settings is None else merge(runs.get(name, {}), settings)
        return {name: settings for name, settings in runs.items() if settings is not None}

    def _check_names(self) -> None:
        systems, tasks = document_names("system"), [name for name in self._task_names() if name != PRETRAIN]
        for position, name in enumerate(self.config["tasks"]):
            self._known(f"tasks/{position}", "task", name, tasks)
        for position, name in enumerate(self.config["systems"]):
            self._known(f"systems/{position}", "system", name, systems)
        automatic = self._automatic_names()
        pretrainings = [run_name(system, PRETRAIN) for system in systems]
        taken = {*FOLDERS, *document_names("corpus"), *pretrainings}
        for name, settings in self.config["runs"].items():
            if name in taken:
                self._complain(f"runs/{name}", "the graph uses this name itself; give the run another one.")
            for key, known in (("task", tasks), ("system", systems)):
                if key in settings:
                    self._known(f"runs/{name}/{key}", key, settings[key], known)
            if name not in automatic and "task" not in settings:
                self._complain(
                    f"runs/{name}/task", f"missing; add it, or change one of: {', '.join(automatic)}."
                )

    def _check_shared_examples(self) -> None:
        """Runs of one task read the same examples, so their texts end after as many tokens."""
        runs = [*self.runs.values(), *self.pretrainings.values()]
        for task in dict.fromkeys(run.task for run in runs):
            alike = [run for run in runs if run.task == task and type(run.recipe.get("max_tokens")) is int]
            if len({run.recipe["max_tokens"] for run in alike}) > 1:
                values = ", ".join(f"{run.name} {run.recipe['max_tokens']}" for run in alike)
                places = " and ".join(dict.fromkeys(f"overrides/{run.system}/{task}" for run in alike))
                self._complain(
                    "runs",
                    f"runs of task {task} share its examples, so max_tokens must be the same ({values})."
                    f" Set it in {places}.",
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
        return {**parts, "profile": self._document("profile", self._profile())}

    def _profile(self) -> str:
        """The extraction profile: config's, or the corpus's."""
        own: str = self.config["extraction"].get("profile", self.corpus["profile"])
        if own != self.corpus["profile"] and self.branches["features"] == DOWNLOAD:
            self._complain(
                "extraction/profile",
                f"published features are {self.corpus['profile']}'s; set features: extract, or leave it out.",
            )
        if not self._known("extraction/profile", "profile", own, document_names("profile")):
            self._stop_on_mistakes()
        return own

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
        place = shown(document_path("system", name))
        for objective in document["objectives"]:
            if objective not in objective_names():
                text = f'objectives: unknown objective "{objective}".{suggest(objective, objective_names())}'
                self._mistakes.append(f"{place}: {text}")
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
        init, vision = str(settings.get("init", self.corpus["init"])), settings.get("vision", True)
        if self.own and init == "pretrained" and "weights" not in self.own:
            self._complain(f"runs/{name}/init", "no pretrained weights; name them in custom/weights.")
            init = "scratch"
        weights = settings.get("weights")
        if weights is not None:
            init = "finetuned"
            known = self.published_finetuned(system, task).get("weights", [])
            self._known(f"runs/{name}/weights", "published fine-tuned weights", weights, known)
        return Run(
            name=name,
            task=task,
            system=system,
            recipe=recipe,
            init=init,
            vision=vision,
            weights=weights,
            quantize=settings.get("quantize", "none"),
        )

    def _pretraining(self, system: str) -> Run:
        name = run_name(system, PRETRAIN)
        recipe = self._recipe(system, PRETRAIN) or {}
        known = self.systems[system]["objectives"]
        for objective in recipe.get("objectives", {}):
            path = f"overrides/{system}/{PRETRAIN}/objectives/{objective}"
            if objective not in known:
                self._complain(path, f"{system} has no such objective.{suggest(objective, known)}")
        return Run(name=name, task=PRETRAIN, system=system, recipe=recipe)
