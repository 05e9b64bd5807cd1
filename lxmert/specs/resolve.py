"""config.yaml resolved against the documents it names: every mistake found, every default filled in."""

from __future__ import annotations

from lxmert.errors import suggest
from lxmert.specs.checks import fill_defaults, mistakes, schema
from lxmert.specs.documents import document_names, document_path, objective_names, shown
from lxmert.specs.further_splits import further_splits, split_mistakes, training_mistakes, with_splits
from lxmert.specs.minival import with_drawn_ids
from lxmert.specs.named_runs import NamedRuns
from lxmert.specs.own import GIVEN, OWN, lay_own_over, own_mistakes
from lxmert.specs.published import BRANCHES, DOWNLOAD
from lxmert.specs.runs import PRETRAIN, Document, Run, run_name


class Resolved(NamedRuns):
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
