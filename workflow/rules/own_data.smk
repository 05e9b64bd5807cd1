# Your own images and lines, as the stages read them.


rule own_data:
    input:
        unpack(own_inputs),
    output:
        images="data/{corpus}/raw/own/images.json",
        manifest="data/{corpus}/raw/own/data.json",
        coverage=report(
            "data/{corpus}/raw/own/coverage.txt",
            caption="../report/coverage.rst",
            category="Data",
            labels={"figure": "answers"},
        ),
    log:
        "logs/own_data/{corpus}.log",
    benchmark:
        "benchmarks/own_data/{corpus}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="4GB",
        runtime="1h",
    params:
        spec=lambda wildcards: PLAN.own_data_spec(),
        root=subpath(output.manifest, parent=True),
    shell:
        "python -m lxmert --threads {threads} own-data --spec {params.spec:q} --examples {input.examples:q}"
        " --images {input.images:q} --out-root {params.root} --out-images {output.images}"
        " --out-manifest {output.manifest} --out-text {output.coverage} 2> {log}"


rule own_vocabulary:
    input:
        own_vocabulary,
    output:
        "data/{corpus}/raw/own/vocab.txt",
    log:
        "logs/own_data/{corpus}_vocabulary.log",
    benchmark:
        "benchmarks/own_data/{corpus}_vocabulary.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="10m",
    shell:
        "python -m lxmert --threads {threads} vocabulary --spec '{{\"train\": false}}' --texts {input:q}"
        " --out {output} 2> {log}"


if PLAN.trains_detector():

    rule own_boxes:
        input:
            unpack(own_inputs),
        output:
            "data/{corpus}/raw/vg/boxes.json",
        log:
            "logs/own_data/{corpus}_boxes.log",
        benchmark:
            "benchmarks/own_data/{corpus}_boxes.tsv"
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="4GB",
            runtime="1h",
        params:
            spec=lambda wildcards: PLAN.own_boxes_spec(),
            root=subpath(output[0], parent=True),
        shell:
            "python -m lxmert --threads {threads} own-boxes --spec {params.spec:q}"
            " --examples {input.examples:q} --images {input.images:q} --out-root {params.root}"
            " --out-manifest {output} 2> {log}"

else:

    rule own_names:
        input:
            own_detector,
        output:
            "data/{corpus}/raw/vg/boxes.json",
        log:
            "logs/own_data/{corpus}_names.log",
        benchmark:
            "benchmarks/own_data/{corpus}_names.tsv"
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="4GB",
            runtime="10m",
        params:
            root=subpath(output[0], parent=True),
        shell:
            "python -m lxmert --threads {threads} own-boxes --names-of {input:q} --out-root {params.root}"
            " --out-manifest {output} 2> {log}"
