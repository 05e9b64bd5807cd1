# Scores, curves and example panels as one page, and the scores as a table.


rule report:
    input:
        scores=scores(),
        histories=histories(),
        detector=rules.evaluate_detector.output,
    output:
        page="results/report/index.html",
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="4GB",
        runtime="20m",
    params:
        results=subpath(output.page, ancestor=2),
    shell:
        "python -m lxmert --threads {threads} report --results {params.results} --out {output.page} 2> {log}"
