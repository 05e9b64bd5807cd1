# The plan made of config.yaml, and the typed functions that say which files a job reads (inputs/).

import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
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
# fetched, where scalars go and what becomes of bad or missing images (which changes no features, listings
# or examples that are made already) are no parameters of a job: other ones make nothing run again.
EXPORTED = {
    "PYTHONPATH": str(workflow.basedir),
    "LXMERT_ASSETS": json.dumps(PLAN.config["assets"]),
    "LXMERT_BAD_IMAGES": PLAN.bad_images,
    "LXMERT_MISSING_IMAGES": PLAN.missing_evaluated,
    "LXMERT_MISSING_LIMIT": PLAN.missing_limit,
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


include: "inputs/raw.smk"
include: "inputs/annotations.smk"
include: "inputs/features.smk"
include: "inputs/training.smk"
include: "inputs/results.smk"
