"""Which splits have scores on unseen questions, and what the weights have seen of the others."""

from __future__ import annotations

from lxmert.errors import SpecError, suggest
from lxmert.specs.files import DETECTOR_IMAGES, PUBLISHED, Files
from lxmert.specs.leaks import leaks_of
from lxmert.specs.minival import PUBLISHED_IDS, with_published_ids
from lxmert.specs.runs import PRETRAIN, Document, Run

DETECTOR_TRAINED_ON = "vg/splits/train.txt"


class Unseen(Files):
    """A resolved configuration, and what its runs have seen."""

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
        return self._leaks(run, split, self._learning(self.runs[run]))

    def _leaks(self, run: str, split: str, learnt: dict[str, Document] | None) -> list[str]:
        found = self.runs[run]
        task, genome, pretraining = self.tasks[found.task], None, None
        if not self.own:
            genome = self.tasks[PRETRAIN]["image_sets"]["genome"]
            pretraining = self.tasks[PRETRAIN] if found.init != "scratch" else None
        if pretraining and (found.weights or self.published_weights_of(run)):
            pretraining = {**pretraining, "minival_ids": PUBLISHED_IDS}  # what they held out
        return leaks_of(split, task, learnt, found.weights, pretraining, genome)

    def _learning(self, run: Run) -> dict[str, Document] | None:
        """The splits that fine-tuned weights learnt from, None where nobody said which."""
        task = self.tasks[run.task]
        if not run.weights:
            return {name: task["splits"][name] for name in task["train_on"]}
        known = self.published_finetuned(run.system, run.task)["learnt_from"]
        if run.weights not in known:
            return None
        return {name: with_published_ids(task["splits"][name]) for name in known[run.weights]}

    def _headline(self, task: str) -> list[str]:
        """Scored splits of which no run of a task is known to have learnt: the scores of others say so."""
        learnt = {name: self._learning(run) or {} for name, run in self.runs.items() if run.task == task}
        return [
            split
            for split in self.scored_splits(task)
            if not any(self._leaks(run, split, splits) for run, splits in learnt.items())
        ]

    def overlap_files(self) -> list[str]:
        """Raw files that tell which photographs splits share."""
        spec = self._overlap()
        names = [spec["image_data"], spec["detector"] and spec["detector"]["list"], spec.get("minival_ids")]
        return [name for name in names if name]

    def _overlap(self) -> Document:
        tasks = [task for task in self.used_tasks() if task != PRETRAIN]
        roles = {
            task: {
                "splits": list(self.tasks[task]["splits"]),
                "train_on": self.tasks[task]["train_on"],
                "headline": self._headline(task),
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
