# The plan made of config.yaml, and the typed functions that say which files a job reads.

import re
import sys
from pathlib import Path

from snakemake.io import ancient
from snakemake.iocontainers import InputFiles, Wildcards

if workflow.basedir not in sys.path:
    sys.path.insert(0, str(workflow.basedir))

from lxmert.errors import LxmertError
from lxmert.specs import Plan, load_plan

# Jobs run this checkout's package, also under --directory and in an environment of their own.
shell.prefix(f"export PYTHONPATH={workflow.basedir}; ")


def plan_of(settings: dict) -> Plan:
    """The plan, or the configuration's mistakes on stderr, one a line, and status 2."""
    overlays = [Path(file).name for file in workflow.overwrite_configfiles]
    try:
        return load_plan(
            settings, " + ".join(dict.fromkeys(["config.yaml", *overlays]))
        )
    except LxmertError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


PLAN = plan_of(config)
CORPUS = PLAN.corpus_name
RAW = f"data/{CORPUS}/raw"


def alternatives(names: list[str]) -> str:
    """A pattern that matches these names and no others."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    corpus=re.escape(CORPUS),
    image_set=r"[a-z0-9_]+",
    task=alternatives(list(PLAN.tasks)),
    run=alternatives(list(PLAN.runs)),
    pretraining=alternatives(list(PLAN.pretrainings)),
    split=r"[a-z0-9_-]+",
    scatteritem=r"\d+-of-\d+",
    extension="json|csv",


# Raw files


def raw(names: list[str]) -> list[str]:
    """Raw files as inputs: the manifest of a generated corpus, or the official files themselves."""
    if PLAN.corpus["raw"] == "generate":
        return [f"{RAW}/world.json"]
    return [f"{RAW}/{name}" for name in names]


def raw_root(wildcards: Wildcards) -> str:
    """The folder of raw files."""
    return RAW


def raw_folder(wildcards: Wildcards) -> list[str]:
    """What tells that the images of a set are there.

    A drawn world lists anew whenever it is drawn anew. A folder's time says nothing of its images.
    """
    files = raw([PLAN.image_set(wildcards.image_set)["folder"]])
    return files if PLAN.corpus["raw"] == "generate" else ancient(files)


def raw_restriction(wildcards: Wildcards) -> list[str]:
    """The question file that restricts an image set, if one does."""
    restriction = PLAN.image_set(wildcards.image_set).get("only_gqa")
    return raw([restriction]) if restriction else []


def listing_options(wildcards: Wildcards) -> str:
    """What an image set holds: its folder, the questions that restrict it, how many images at most."""
    image_set = PLAN.image_set(wildcards.image_set)
    options = [f"--folder {RAW}/{image_set['folder']}"]
    if "only_gqa" in image_set:
        options.append(f"--only-gqa {RAW}/{image_set['only_gqa']}")
    if PLAN.config["subset"]:
        options.append(f"--subset {PLAN.config['subset']}")
    return " ".join(options)


def detector_init() -> list[str]:
    """The weights that detector training starts from, if the corpus names them."""
    return [f"{RAW}/{name}" for name in [PLAN.corpus["detector"].get("init")] if name]


def init_option(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that names the weights training starts from."""
    return f"--init {input.init}" if input.init else ""


def example_files(wildcards: Wildcards) -> list[str]:
    """Official files that a task's examples are made of."""
    return raw(PLAN.example_files(wildcards.task))


def listings(wildcards: Wildcards) -> list[str]:
    """Listings of every image set of a task."""
    return [
        f"data/{CORPUS}/images/{name}.json" for name in PLAN.image_sets(wildcards.task)
    ]


def score_files(wildcards: Wildcards) -> list[str]:
    """Official files with the labels of a split."""
    return raw(PLAN.score_files(PLAN.runs[wildcards.run].task, wildcards.split))


# Features


def store(image_set: str) -> str:
    """The region store of an image set."""
    return f"features/{CORPUS}/{image_set}.lmdb"


def stores_named(*beginnings: str) -> list[str]:
    """Region stores of the plan's tasks whose image sets begin so."""
    names = [name for task in PLAN.used_tasks() for name in PLAN.image_sets(task)]
    return [store(name) for name in dict.fromkeys(names) if name.startswith(beginnings)]


def shard_number(wildcards: Wildcards) -> str:
    """The part of an image set that a job extracts, as `1/16`."""
    return wildcards.scatteritem.replace("-of-", "/")


def converted_stores() -> list[str]:
    """Stores that `convert_tsv` makes: of the published TSVs, or of what a generated corpus exports."""
    names = [name for task in PLAN.config["tasks"] for name in PLAN.image_sets(task)]
    if PLAN.corpus["raw"] == "generate":
        names = [
            name
            for task in PLAN.config["tasks"]
            for name in PLAN.selection_image_sets(task)
        ]
    return [f"features/{CORPUS}/from_tsv/{name}.lmdb" for name in dict.fromkeys(names)]


def tsv_and_model(wildcards: Wildcards) -> dict[str, str]:
    """Region features as TSV: the published file, or our own export and the store it came from."""
    if PLAN.corpus["raw"] == "generate":
        return {
            "tsv": f"features/{CORPUS}/tsv/{wildcards.image_set}.tsv",
            "like": store(wildcards.image_set),
        }
    return {"tsv": f"{RAW}/{PLAN.image_set(wildcards.image_set)['tsv']}"}


def tsv_schema(wildcards: Wildcards, input: InputFiles) -> str:
    """Options that say what made the features, which a TSV does not."""
    if "like" in input.keys():
        return f"--like {input.like}"
    return f"--profile {PLAN.detector['profile']['profile']} --detector {PLAN.detector['size']['size']}"


# Training


def pretraining_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that pretraining reads."""
    return [store(name) for name in PLAN.training_image_sets("pretrain")]


def finetuning_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that a run trains and selects on."""
    return [
        store(name) for name in PLAN.training_image_sets(PLAN.runs[wildcards.run].task)
    ]


def prediction_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that a split reads."""
    return [
        store(name)
        for name in PLAN.image_sets(PLAN.runs[wildcards.run].task, [wildcards.split])
    ]


def run_examples(wildcards: Wildcards) -> str:
    """The folder of a run's examples."""
    return f"examples/{CORPUS}/{PLAN.runs[wildcards.run].task}"


def initial_weights(wildcards: Wildcards) -> list[str]:
    """The pretrained weights a run starts from, and none from scratch."""
    name = PLAN.pretraining_of(wildcards.run)
    return [f"results/{name}/weights.safetensors"] if name else []


def pretrained_answers(wildcards: Wildcards) -> list[str]:
    """The folder that holds the answer table of the pretrained weights."""
    return [f"examples/{CORPUS}/pretrain"] if PLAN.pretraining_of(wildcards.run) else []


def initial_options(wildcards: Wildcards, input: InputFiles) -> str:
    """Options that name the weights a run starts from."""
    if not input.weights:
        return ""
    return f"--init {input.weights} --pretrain-answers {input.answers}/answers.json"


# Results


def submission(run: str, split: str) -> str:
    """The file with a run's answers to a split."""
    return f"results/{run}/{split}_predict.{PLAN.submission_form(PLAN.runs[run].task)}"


def answers_to_score(wildcards: Wildcards) -> str:
    """The answers that a score judges."""
    return submission(wildcards.run, wildcards.split)


def submissions(blind: bool = True) -> list[str]:
    """Every file of answers, of every run or of those that see."""
    runs = [run for run in PLAN.runs.values() if run.vision or blind]
    return [
        submission(run.name, split)
        for run in runs
        for split in PLAN.predicted_splits(run.task)
    ]


def leaderboard_files() -> list[str]:
    """Answers to the splits that leaderboards take, of the runs that see."""
    runs = [run for run in PLAN.runs.values() if run.vision]
    return [
        submission(run.name, split)
        for run in runs
        for split in PLAN.tasks[run.task]["predict_on"]
    ]


def scores() -> list[str]:
    """Every score there can be."""
    return [
        f"results/{run.name}/{split}_score.json"
        for run in PLAN.runs.values()
        for split in PLAN.scored_splits(run.task)
    ]


def weights(names: list[str]) -> list[str]:
    """Weights of runs."""
    return [f"results/{name}/weights.safetensors" for name in names]


def histories() -> list[str]:
    """Figures and curves of every run."""
    return [
        f"results/{name}/{file}"
        for name in [*PLAN.pretrainings, *PLAN.runs]
        for file in ("metrics.json", "history.jsonl")
    ]


def scored_answers() -> list[str]:
    """Answers to the splits that have scores."""
    return [
        submission(run.name, split)
        for run in PLAN.runs.values()
        for split in PLAN.scored_splits(run.task)
    ]


def scored_examples() -> list[str]:
    """Folders of the examples of every fine-tuned task."""
    tasks = dict.fromkeys(run.task for run in PLAN.runs.values())
    return [f"examples/{CORPUS}/{task}" for task in tasks]


def scored_image_sets() -> list[str]:
    """Image sets of the splits that have scores."""
    names = [
        name
        for run in PLAN.runs.values()
        for name in PLAN.image_sets(run.task, PLAN.scored_splits(run.task))
    ]
    return list(dict.fromkeys(names))
