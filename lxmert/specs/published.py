"""What is taken of what was published, and what is made here: the branches of a configuration."""

from __future__ import annotations

from lxmert.errors import suggest
from lxmert.specs.runs import PRETRAIN, Document, Run
from lxmert.specs.settings import Settings

# Keys of config.yaml that choose between what was published and what is made here.
BRANCHES = ("features", "weights", "detector", "annotations", "nlvr2_images")
DOWNLOAD = "download"


class Published(Settings):
    """A configuration with its branches; `Resolved` says what its attributes are."""

    corpus: Document
    branches: dict[str, str]
    pretrainings: dict[str, Run]
    _assets: dict[str, str]

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
