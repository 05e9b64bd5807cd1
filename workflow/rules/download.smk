# Raw files: drawn here (a generated corpus), or found in data/<corpus>/raw in their official form.


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
        raw(PLAN.all_raw_files()),
    localrule: True
