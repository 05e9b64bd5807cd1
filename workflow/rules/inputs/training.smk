# What pretraining and fine-tuning read, and where their weights begin.


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


def weights(names: list[str]) -> list[str]:
    """Weights of runs."""
    return [f"results/{name}/weights.safetensors" for name in names]
