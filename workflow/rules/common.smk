# The plan made of config.yaml, and the typed functions that say which files a job reads.

import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient
from snakemake.iocontainers import InputFiles, ResourceList, Wildcards

if workflow.basedir not in sys.path:
    sys.path.insert(0, str(workflow.basedir))

from lxmert.assets.catalogue import load_catalogue
from lxmert.assets.places import Places, read_settings
from lxmert.assets.planning import (
    crawled_assets,
    needed_assets,
    plan_download,
    read_places,
)
from lxmert.errors import LxmertError
from lxmert.specs import Plan, load_plan
from lxmert.specs.minival import DRAWN_FROM, DRAWN_IDS, DRAWN_NUMBER


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
RECEIPTS = f"data/{CORPUS}/assets"
WEIGHTS = f"weights/{CORPUS}/published"
CRAWLED = [asset.id for asset in crawled_assets(PLAN, load_catalogue())]
BACKBONE = f"weights/{CORPUS}/detector_backbone.safetensors"
PUBLISHED_FEATURES = PLAN.branches["features"] == "download"

# Jobs run this checkout's package, also under --directory and in an environment of their own. How files are
# fetched, where scalars go and what becomes of bad or missing images (which changes neither features nor listings)
# are no parameters of a job: other ones make nothing run again.
EXPORTED = {
    "PYTHONPATH": str(workflow.basedir),
    "LXMERT_ASSETS": json.dumps(PLAN.config["assets"]),
    "LXMERT_BAD_IMAGES": PLAN.bad_images,
    "LXMERT_MISSING_IMAGES": PLAN.config["missing_images"]["evaluated"],
    "LXMERT_TENSORBOARD": PLAN.config["tensorboard"] or "",
}
SETTINGS = " ".join(f"{name}={shlex.quote(text)}" for name, text in EXPORTED.items())
# A scheduler signals a job's shell with the job; a shell that lives on lets the job save, and hands on its status.
shell.prefix(
    f"trap : TERM USR1; export {SETTINGS}; ".replace("{", "{{").replace("}", "}}")
)


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


def receipt(asset: str) -> str:
    """What tells that a published file is there, or that an archive's images were crawled."""
    folder = f"data/{CORPUS}/crawl" if asset in CRAWLED else RECEIPTS
    return f"{folder}/{asset}.json"


def receipts(names: list[str]) -> list[str]:
    """Receipts of the assets that give raw files or folders."""
    catalogue = load_catalogue()
    assets = [
        asset.id for name in names for asset in catalogue.providers(f"raw/{name}")
    ]
    return [receipt(asset) for asset in dict.fromkeys(assets)]


def crawled_from(wildcards: Wildcards) -> list[str]:
    """What tells that the records are there which name the addresses of an archive's images."""
    catalogue = load_catalogue()
    places = catalogue[wildcards.asset].crawl.values()
    return [receipt(catalogue.producer(place).id) for place in places]


def raw(names: list[str]) -> list[str]:
    """Raw files as inputs: the manifests of what is made here, or receipts of the published files."""
    made = PLAN.made_files(names)
    if made is not None:
        return [f"{RAW}/{name}" for name in made]
    drawn = [f"{RAW}/{name}" for name in names if name == DRAWN_IDS]
    return drawn + receipts([name for name in names if name != DRAWN_IDS])


def raw_root(wildcards: Wildcards) -> str:
    """The folder of raw files."""
    return RAW


def downloads() -> list[str]:
    """Everything that comes from elsewhere."""
    weights = [published_weights(asset) for asset in PLAN.published_assets()]
    return [*raw(PLAN.all_raw_files()), *(file for files in weights for file in files)]


ANNOUNCED: list[str] = []
WARNED: list[tuple[str, str]] = []


def announce_downloads(although_complete: bool) -> None:
    """Says on stderr, once, what fetching everything would be, and how much of it is there."""
    assets = needed_assets(PLAN, load_catalogue())
    if not assets or ANNOUNCED or not workflow.is_main_process:
        return
    settings = read_settings(PLAN.config["assets"], "config.yaml", os.environ)
    crawled = crawled_assets(PLAN, load_catalogue())
    found = plan_download(
        assets, Places(Path.cwd(), CORPUS), settings, crawled, read_places(PLAN)
    )
    if although_complete or not found.is_complete:
        chosen = ", ".join(f"{name}: {value}" for name, value in PLAN.branches.items())
        ANNOUNCED.append(found.text(f"corpus {CORPUS} with {chosen}"))
        print(*ANNOUNCED, file=sys.stderr)


def announced_downloads(wildcards: Wildcards) -> list[str]:
    """Everything that comes from elsewhere; where `download` is asked for, a dry run says what it would be."""
    announce_downloads(although_complete=True)
    return downloads()


def places_option(wildcards: Wildcards) -> str:
    """Options that say which files are read of an asset: some are made of others, some left out by default."""
    asset = load_catalogue()[wildcards.asset]
    read = read_places(PLAN)
    places = [
        place
        for place in asset.places()
        if any(f"{name}/".startswith(f"{place}/") for name in read)
    ]
    left_out = any(
        member.on_request and member.place in places for member in asset.members
    )
    return f"--places {' '.join(places)}" if asset.derived or left_out else ""


def listed_images(wildcards: Wildcards) -> list[str]:
    """What a listing is made of: an image folder, told by what it came with, or the published features."""
    if PUBLISHED_FEATURES and wildcards.image_set != "vg":
        return [store(wildcards.image_set)]
    return raw([PLAN.image_set(wildcards.image_set)["folder"]])


def raw_restriction(wildcards: Wildcards) -> list[str]:
    """The question file that restricts an image set, if one does."""
    restriction = PLAN.image_set(wildcards.image_set).get("only_gqa")
    return raw([restriction]) if restriction and not PUBLISHED_FEATURES else []


def listing_options(wildcards: Wildcards) -> str:
    """What an image set holds: its folder, the questions that restrict it, how many images at most."""
    image_set = PLAN.image_set(wildcards.image_set)
    if PUBLISHED_FEATURES and wildcards.image_set != "vg":
        options = [f"--store {store(wildcards.image_set)}"]
    else:
        options = [f"--folder {RAW}/{image_set['folder']}"]
        if "only_gqa" in image_set:
            options.append(f"--only-gqa {RAW}/{image_set['only_gqa']}")
    if PLAN.config["subset"]:
        options.append(f"--subset {PLAN.config['subset']}")
    return " ".join(options)


def detector_init() -> list[str]:
    """The weights that detector training starts from, if there are any: yours, or a published backbone."""
    if PLAN.detector_weights():
        return [PLAN.detector_weights()]
    return [BACKBONE] if PLAN.detector_backbone() else []


def init_option(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that names the weights training starts from."""
    return f"--init {input.init}" if input.init else ""


def own_inputs(wildcards: Wildcards) -> dict[str, str]:
    """Your own file of examples and the folder of its images."""
    return {name: PLAN.own[name] for name in ("examples", "images")}


def own_vocabulary(wildcards: Wildcards) -> str:
    """Your own file of the vocabulary."""
    return PLAN.own["vocabulary"]


def own_detector(wildcards: Wildcards) -> str:
    """Your own file of detector weights."""
    return PLAN.detector_weights()


def example_files(wildcards: Wildcards) -> list[str]:
    """Raw files that a task's examples are made of."""
    return raw(PLAN.example_files(wildcards.task))


def answers_option(wildcards: Wildcards) -> str:
    """The option that names a published answer table, if the examples take one."""
    table = PLAN.answers_table(wildcards.task)
    return f"--answers-table {RAW}/{table}" if table else ""


def listings(wildcards: Wildcards) -> list[str]:
    """Listings of every image set of a task."""
    return [
        f"data/{CORPUS}/images/{name}.json" for name in PLAN.image_sets(wildcards.task)
    ]


def score_files(wildcards: Wildcards) -> list[str]:
    """Official files with the labels of a split."""
    require_split(wildcards)
    return raw(PLAN.score_files(PLAN.runs[wildcards.run].task, wildcards.split))


# Features


def store(image_set: str) -> str:
    """The region store of an image set."""
    return f"features/{CORPUS}/{image_set}.lmdb"


def stores_named(*beginnings: str) -> list[str]:
    """Region stores of the plan's tasks whose image sets begin so."""
    names = [name for task in PLAN.used_tasks() for name in PLAN.image_sets(task)]
    return [store(name) for name in dict.fromkeys(names) if name.startswith(beginnings)]


def detector_weights(wildcards: Wildcards) -> str:
    """The weights of the detector that features come from."""
    trained = f"weights/{CORPUS}/detector.safetensors"
    return trained if PLAN.trains_detector() else PLAN.detector_weights() or trained


def gpus(wildcards: Wildcards, resources: ResourceList) -> int:
    """How many GPUs a job computes on, asked for as `gpu: 2` or as `gres: gpu:2`.

    Made of resources, so another number makes nothing run again.
    """
    found = re.fullmatch(r"gpu(?::[\w.]+?)??(?::(\d+))?", resources.get("gres") or "")
    return int(found.group(1) or 1) if found else int(resources.get("gpu") or 0)


def check_arrays() -> None:
    """Refuses limits that part a Slurm array: the executor would wait for ever for what they hold back."""
    arrays = getattr(workflow.executor_settings, "array_jobs", None) or ""
    ready = sum(job.rule.name == "extract" for job in workflow.dag.needrun_jobs())
    if not ready or not {"all", "extract"} & set(re.split(r"[,;\s]+", arrays)):
        return
    jobs = workflow.resource_settings.nodes
    if jobs is not None and jobs < ready:
        raise WorkflowError(
            f"--jobs {jobs}: fewer than the {ready} shards to extract, which Slurm gets as arrays."
            f" Say --jobs {ready} or more, or submit them one by one: --slurm-array-jobs none"
        )


def shard_number(wildcards: Wildcards) -> str:
    """The part of an image set that a job extracts, as `1/16`."""
    return wildcards.scatteritem.replace("-of-", "/")


def converted_stores() -> list[str]:
    """Stores made of TSV files: the published ones, or what this graph exports itself."""
    tasks = PLAN.config["tasks"]
    if PUBLISHED_FEATURES:
        names = [name for task in tasks for name in PLAN.image_sets(task)]
        return [store(name) for name in dict.fromkeys(names)]
    names = [name for task in tasks for name in PLAN.selection_image_sets(task)]
    return [f"features/{CORPUS}/from_tsv/{name}.lmdb" for name in dict.fromkeys(names)]


def tsv_and_model(wildcards: Wildcards) -> dict[str, str]:
    """Region features as TSV, exported here, and the store they came from."""
    return {
        "tsv": f"features/{CORPUS}/tsv/{wildcards.image_set}.tsv",
        "like": store(wildcards.image_set),
    }


def tsv_schema(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that says what made the features, which a TSV does not."""
    return f"--like {input.like}"


def published_tsv(wildcards: Wildcards) -> str:
    """The published features of an image set, below the raw files."""
    return PLAN.image_set(wildcards.image_set).get("tsv", "")


def published_tsv_receipt(wildcards: Wildcards) -> list[str]:
    """What tells that they are there."""
    return receipts([published_tsv(wildcards)])


# Training


def pretraining_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that pretraining reads."""
    return [store(name) for name in PLAN.training_image_sets("pretrain")]


def pretraining_init(wildcards: Wildcards) -> list[str]:
    """What tells that the weights are there which pretraining begins with, if its recipe names some."""
    asset = PLAN.bert_weights(wildcards.pretraining)
    return published_weights(asset) if asset else []


def pretraining_init_option(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that names them."""
    asset = PLAN.bert_weights(wildcards.pretraining)
    return f"--init {published_file(asset)}" if asset else ""


def finetuning_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that a run trains and selects on."""
    return [
        store(name) for name in PLAN.training_image_sets(PLAN.runs[wildcards.run].task)
    ]


def require_split(wildcards: Wildcards) -> None:
    """Ends with one line where a file is asked for of a split that its task has not."""
    try:
        PLAN.require_split(wildcards.run, wildcards.split)
    except LxmertError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def prediction_stores(wildcards: Wildcards) -> list[str]:
    """Region stores that a split reads."""
    require_split(wildcards)
    return [
        store(name)
        for name in PLAN.image_sets(PLAN.runs[wildcards.run].task, [wildcards.split])
    ]


def run_examples(wildcards: Wildcards) -> str:
    """The folder of a run's examples."""
    return f"examples/{CORPUS}/{PLAN.runs[wildcards.run].task}"


def initial_weights(wildcards: Wildcards) -> list[str]:
    """The pretrained weights a run starts from, and none from scratch."""
    if PLAN.weights_of(wildcards.run):
        return [PLAN.weights_of(wildcards.run)]
    published = PLAN.published_weights_of(wildcards.run)
    if published:
        return [f"weights/{CORPUS}/{published}.safetensors"]
    name = PLAN.pretraining_of(wildcards.run)
    return [f"results/{name}/weights.safetensors"] if name else []


def pretrained_answers(wildcards: Wildcards) -> list[str]:
    """What tells that the answer table of the pretrained weights is there."""
    if PLAN.answers_of_weights(wildcards.run):
        return [PLAN.answers_of_weights(wildcards.run)]
    if PLAN.published_weights_of(wildcards.run):
        return receipts([PLAN.published_answers(wildcards.run)])
    return [f"examples/{CORPUS}/pretrain"] if PLAN.pretraining_of(wildcards.run) else []


def initial_options(wildcards: Wildcards, input: InputFiles) -> str:
    """Options that name the weights a run starts from."""
    if not input.weights:
        return ""
    if not input.answers:
        return f"--init {input.weights}"
    table = PLAN.answers_of_weights(wildcards.run) or f"{input.answers}/answers.json"
    if PLAN.published_weights_of(wildcards.run):
        table = f"{RAW}/{PLAN.published_answers(wildcards.run)}"
    return f"--init {input.weights} --pretrain-answers {table}"


def taken_weights(wildcards: Wildcards) -> list[str]:
    """What tells that published fine-tuned weights and their answers are there."""
    answers = receipts([PLAN.finetuned_answers(wildcards.run)])
    return [*published_weights(PLAN.runs[wildcards.run].weights), *answers]


def published_system_weights() -> list[str]:
    """Assets with published weights that runs start from."""
    found = [PLAN.published_weights_of(run) for run in PLAN.runs]
    return list(dict.fromkeys(asset for asset in found if asset))


def published_weights(asset: str) -> list[str]:
    """What tells that published weights are there, and all that is read with them."""
    return [receipt(found.id) for found in load_catalogue().read_together([asset])]


def published_file(asset: str) -> str:
    """Where published weights lie once they are fetched."""
    place = load_catalogue()[asset].place or ""
    return f"{WEIGHTS}/{place.removeprefix('weights/')}"


# Results


def submission(run: str, split: str) -> str:
    """The file with a run's answers to a split."""
    return f"results/{run}/{split}_predict.{PLAN.submission_form(PLAN.runs[run].task)}"


def answers_to_score(wildcards: Wildcards) -> str:
    """The answers that a score judges; says on stderr, once, why it would be no score on unseen questions."""
    reasons = PLAN.leaks(wildcards.run, wildcards.split)
    if reasons and workflow.is_main_process and tuple(wildcards) not in WARNED:
        WARNED.append(tuple(wildcards))
        print(
            f"WARNING: {wildcards.run} {wildcards.split}: no score on unseen questions: {'; '.join(reasons)}.",
            file=sys.stderr,
        )
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


def drawn_listings() -> list[str]:
    """Listings of the image sets whose images a report can show."""
    if PUBLISHED_FEATURES:
        return []
    return [f"data/{CORPUS}/images/{name}.json" for name in scored_image_sets()]


def listings_option(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that names them, if there are any."""
    return f"--listings {input.listings}" if input.listings else ""
