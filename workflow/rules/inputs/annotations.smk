# What image listings and examples are made of.


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
