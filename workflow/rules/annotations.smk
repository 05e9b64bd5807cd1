# Image listings, the vocabulary, and examples as memory-mapped columns.


rule list_images:
    input:
        images=listed_images,
        restriction=raw_restriction,
    output:
        "data/{corpus}/images/{image_set}.json",
    log:
        "logs/list_images/{corpus}_{image_set}.log",
    benchmark:
        "benchmarks/list_images/{corpus}_{image_set}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="20m",
    params:
        options=listing_options,
    shell:
        "python -m lxmert --threads {threads} list-images --image-set {wildcards.image_set}"
        " {params.options} --out {output} 2> {log}"


# Images to select on where LXMERT's list of them cannot be had (config: `minival: drawn`).
rule draw_minival:
    input:
        lambda wildcards: raw([DRAWN_FROM]),
    output:
        f"data/{{corpus}}/raw/{DRAWN_IDS}",
    log:
        "logs/draw_minival/{corpus}.log",
    benchmark:
        "benchmarks/draw_minival/{corpus}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="2GB",
        runtime="20m",
    params:
        questions=f"{RAW}/{DRAWN_FROM}",
        number=DRAWN_NUMBER,
    shell:
        "python -m lxmert --threads {threads} draw-minival --questions {params.questions}"
        " --number {params.number} --out {output} 2> {log}"


rule vocabulary:
    input:
        raw(PLAN.vocabulary_files()),
    output:
        "data/{corpus}/vocab.txt",
    log:
        "logs/vocabulary/{corpus}.log",
    benchmark:
        "benchmarks/vocabulary/{corpus}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="4GB",
        runtime="1h",
    params:
        spec=lambda wildcards: PLAN.vocabulary_spec(),
        texts=[f"{RAW}/{name}" for name in PLAN.vocabulary_files()],
    shell:
        "python -m lxmert --threads {threads} vocabulary --spec {params.spec:q}"
        " --texts {params.texts} --out {output} 2> {log}"


rule prepare:
    input:
        raw=example_files,
        vocabulary="data/{corpus}/vocab.txt",
        listings=listings,
    output:
        directory("examples/{corpus}/{task}"),
    log:
        "logs/prepare/{corpus}_{task}.log",
    benchmark:
        "benchmarks/prepare/{corpus}_{task}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="8GB",
        runtime="4h",
    params:
        spec=lambda wildcards: PLAN.prepare_spec(wildcards.task),
        raw=raw_root,
        answers=answers_option,
    shell:
        "python -m lxmert --threads {threads} prepare --task {wildcards.task} --spec {params.spec:q}"
        " --raw {params.raw} --vocabulary {input.vocabulary} --listings {input.listings}"
        " {params.answers} --out-folder {output} 2> {log}"
