# Scores beside the values on record: published ones, and for the embedded corpus those that the shipped settings gave.

import json

from lxmert.specs.shipped import altered_stages


rule compare_results:
    input:
        scores=scores(),
        specs=[f"results/{name}/spec.json" for name in PLAN.runs],
    output:
        record="results/registry/comparison.json",
        table=report(
            "results/registry/comparison.txt",
            caption="../report/registry.rst",
            category="Scores",
            labels={"table": "values on record"},
        ),
    log:
        "logs/registry.log",
    benchmark:
        "benchmarks/registry.tsv"
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="5m",
    params:
        results=subpath(output.record, ancestor=2),
        corpus=CORPUS,
        runs=json.dumps(altered_stages(PLAN), sort_keys=True),
    shell:
        "python -m lxmert --threads {threads} registry compare --corpus {params.corpus}"
        " --results {params.results} --runs {params.runs:q} --out {output.record}"
        " --out-text {output.table} > /dev/null 2> {log}"


# Prints the comparison and fails where a score of the shipped settings lies outside its tolerance.
rule registry:
    input:
        record=rules.compare_results.output.record,
        table=rules.compare_results.output.table,
    log:
        "logs/registry_check.log",
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="5m",
    shell:
        "cat {input.table} && python -m lxmert registry check {input.record} 2> {log}"
