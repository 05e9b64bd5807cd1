"""The runs of a configuration: the automatic ones, the corpus's further ones, and its own."""

from __future__ import annotations

from lxmert.errors import suggest
from lxmert.specs.checks import checked, schema
from lxmert.specs.documents import (
    document_names,
    document_path,
    merge,
    read_yaml,
    recipe_names,
    recipe_path,
    shown,
)
from lxmert.specs.published import Published
from lxmert.specs.runs import PRETRAIN, UNPREFIXED, Document, Run, run_name

# What the graph itself calls folders beside those of the runs.
FOLDERS = ("detector", "overlap", "registry", "report")


class NamedRuns(Published):
    """A configuration with its runs; `Resolved` says what its attributes are."""

    own: Document
    tasks: dict[str, Document]
    runs: dict[str, Run]
    systems: dict[str, Document]

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
