# The detector, region stores, and features as TSV.


def detector_init() -> list[str]:
    """The weights that detector training starts from, if there are any: yours, or a published backbone."""
    if PLAN.detector_weights():
        return [PLAN.detector_weights()]
    return [BACKBONE] if PLAN.detector_backbone() else []


def init_option(wildcards: Wildcards, input: InputFiles) -> str:
    """The option that names the weights training starts from."""
    return f"--init {input.init}" if input.init else ""


def detector_weights(wildcards: Wildcards) -> str:
    """The weights of the detector that features come from."""
    trained = f"weights/{CORPUS}/detector.safetensors"
    return trained if PLAN.trains_detector() else PLAN.detector_weights() or trained


def store(image_set: str) -> str:
    """The region store of an image set."""
    return f"features/{CORPUS}/{image_set}.lmdb"


def stores_named(*beginnings: str) -> list[str]:
    """Region stores of the plan's tasks whose image sets begin so."""
    names = [name for task in PLAN.used_tasks() for name in PLAN.image_sets(task)]
    return [store(name) for name in dict.fromkeys(names) if name.startswith(beginnings)]


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
