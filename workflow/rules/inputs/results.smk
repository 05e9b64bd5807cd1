# Answers, scores and what a report shows.

WARNED: list[tuple[str, str]] = []


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


def score_files(wildcards: Wildcards) -> list[str]:
    """Official files with the labels of a split."""
    require_split(wildcards)
    return raw(PLAN.score_files(PLAN.runs[wildcards.run].task, wildcards.split))


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
