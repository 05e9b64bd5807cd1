"""Which stages of a plan have settings other than the shipped ones."""

from __future__ import annotations

from lxmert.specs.plan import Plan
from lxmert.specs.runs import PRETRAIN

# Keys of config.yaml by which settings are changed or the data made smaller.
ALTERING = ("overrides", "sample", "subset", "seed")
# What of a run in config.yaml says which run it is; the rest changes its settings.
NAMING = ("task", "system", "init", "vision")


def altered_stages(plan: Plan) -> dict[str, list[str]]:
    """For each run, the stages before it and its own whose job specs differ from the shipped ones.

    The seed is left out: a value on record holds for any.
    """
    config = {key: value for key, value in plan.config.items() if key not in ALTERING}
    runs = {
        name: {key: value for key, value in (settings or {}).items() if key in NAMING}
        for name, settings in plan.config.get("runs", {}).items()
    }
    shipped = Plan({**config, "runs": runs, "seed": plan.config["seed"]}, "the shipped settings")
    return {name: _altered(plan, shipped, name) for name in plan.runs}


def _altered(plan: Plan, shipped: Plan, run: str) -> list[str]:
    task, pretraining = plan.runs[run].task, plan.pretraining_of(run)
    ours, theirs = _specs(plan, run, task, pretraining), _specs(shipped, run, task, pretraining)
    return [stage for stage in ours if ours[stage] != theirs[stage]]


def _specs(plan: Plan, run: str, task: str, pretraining: str | None) -> dict[str, str]:
    drawn = {"world": plan.world_spec()} if plan.corpus["raw"] == "generate" else {}
    before = {
        "vocabulary": plan.vocabulary_spec(),
        "detector": plan.detector_spec(),
        "extraction": plan.extract_spec(),
        "examples": plan.prepare_spec(task),
    }
    start = {"pretraining": plan.pretrain_spec(pretraining)} if pretraining else {}
    if pretraining:
        before["pretraining examples"] = plan.prepare_spec(PRETRAIN)
    return {**drawn, **before, **start, "fine-tuning": plan.finetune_spec(run)}
