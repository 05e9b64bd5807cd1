# What comes from elsewhere: drawn here (a generated corpus), or fetched, and published features and weights
# in this project's forms.


rule generate:
    output:
        manifest="data/{corpus}/raw/world.json",
    log:
        "logs/generate/{corpus}.log",
    benchmark:
        "benchmarks/generate/{corpus}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 2
    resources:
        gpu=0,
        mem="2GB",
        runtime="30m",
    params:
        spec=lambda wildcards: PLAN.world_spec(),
        root=subpath(output.manifest, parent=True),
    shell:
        "python -m lxmert --threads {threads} --workers {threads} generate --spec {params.spec:q}"
        " --out-root {params.root} --out-manifest {output.manifest} 2> {log}"


rule download:
    input:
        announced_downloads,
    localrule: True


# The files themselves are no outputs: Snakemake removes outputs before a job runs again. What lies in their
# places already is used as it is.
rule fetch:
    output:
        ensure("data/{corpus}/assets/{asset}.json", non_empty=True),
    log:
        "logs/fetch/{corpus}_{asset}.log",
    benchmark:
        "benchmarks/fetch/{corpus}_{asset}.tsv"
    wildcard_constraints:
        asset="[^/]+",
    priority: 20
    retries: 3
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="2d",
    params:
        places=places_option,
        on_request=on_request_option,
    shell:
        "python -m lxmert --threads {threads} assets fetch {wildcards.asset} --corpus {wildcards.corpus}"
        " {params.places} {params.on_request} --out-receipt {output} > /dev/null 2> {log}"


# What an archive holds and is left out unless config names it. Nothing is fetched twice where it came with the rest.
rule fetch_on_request:
    input:
        lambda wildcards: receipt(wildcards.asset),
    output:
        ensure("data/{corpus}/assets/on_request/{asset}.json", non_empty=True),
    log:
        "logs/fetch_on_request/{corpus}_{asset}.log",
    benchmark:
        "benchmarks/fetch_on_request/{corpus}_{asset}.tsv"
    priority: 20
    retries: 3
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="2d",
    params:
        places=on_request_places,
    shell:
        "python -m lxmert --threads {threads} assets fetch {wildcards.asset} --corpus {wildcards.corpus}"
        " {params.places} --out-receipt {output} > /dev/null 2> {log}"


# Images that no archive at hand holds, each from its own address (config: `nlvr2_images: crawl`). What came
# stays, whatever becomes of the job.
rule crawl:
    input:
        crawled_from,
    output:
        ensure("data/{corpus}/crawl/{asset}.json", non_empty=True),
    log:
        "logs/crawl/{corpus}_{asset}.log",
    benchmark:
        "benchmarks/crawl/{corpus}_{asset}.tsv"
    wildcard_constraints:
        asset=alternatives(CRAWLED),
    priority: 20
    retries: 3
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="2GB",
        runtime="7d",
    shell:
        "python -m lxmert --threads {threads} assets crawl {wildcards.asset} --corpus {wildcards.corpus}"
        " --out-receipt {output} > /dev/null 2> {log}"


if PUBLISHED_FEATURES:

    ruleorder: import_published > merge

    rule import_published:
        input:
            published_tsv_receipt,
        output:
            "features/{corpus}/{image_set}.lmdb",
        log:
            "logs/tsv/published_{corpus}_{image_set}.log",
        benchmark:
            "benchmarks/tsv/published_{corpus}_{image_set}.tsv"
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="1GB",
            runtime="4h",
        params:
            tsv=lambda wildcards: f"{RAW}/{published_tsv(wildcards)}",
            profile=PLAN.detector["profile"]["profile"],
            detector=PLAN.detector["size"]["size"],
        shell:
            "python -m lxmert --threads {threads} store import --form lxmert-tsv --source {params.tsv}"
            " --profile {params.profile} --detector {params.detector} --out {output} 2> {log}"


rule convert_published_weights:
    input:
        lambda wildcards: published_weights(wildcards.weights),
    output:
        ensure("weights/{corpus}/{weights}.safetensors", non_empty=True),
    log:
        "logs/convert/{corpus}_{weights}.log",
    benchmark:
        "benchmarks/convert/{corpus}_{weights}.tsv"
    wildcard_constraints:
        weights=alternatives(published_system_weights()),
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="8GB",
        runtime="30m",
    params:
        file=lambda wildcards: published_file(wildcards.weights),
    shell:
        "python -m lxmert --threads {threads} convert --weights {params.file} --out {output} 2> {log}"


if PLAN.detector_backbone():

    # What detector training begins with: a backbone that learnt ImageNet, and the rest at random.
    rule convert_published_backbone:
        input:
            published_weights(PLAN.detector_backbone()),
        output:
            ensure(BACKBONE, non_empty=True),
        log:
            "logs/convert/detector_backbone.log",
        benchmark:
            "benchmarks/convert/detector_backbone.tsv"
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="4GB",
            runtime="30m",
        params:
            file=published_file(PLAN.detector_backbone()),
            size=PLAN.detector["size"]["size"],
        shell:
            "python -m lxmert --threads {threads} convert-detector --backbone --weights {params.file}"
            " --size {params.size} --out {output} 2> {log}"


if PLAN.published_detector():

    ruleorder: convert_published_detector > train_detector

    rule convert_published_detector:
        input:
            published_weights(PLAN.published_detector()),
        output:
            weights=ensure(f"weights/{CORPUS}/detector.safetensors", non_empty=True),
        log:
            "logs/convert/detector.log",
        benchmark:
            "benchmarks/convert/detector.tsv"
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="8GB",
            runtime="30m",
        params:
            file=published_file(PLAN.published_detector()),
            size=PLAN.detector["size"]["size"],
        shell:
            "python -m lxmert --threads {threads} convert-detector --weights {params.file}"
            " --size {params.size} --out {output.weights} 2> {log}"
