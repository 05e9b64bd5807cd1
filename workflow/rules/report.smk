# Scores, curves and example panels as one page, and the scores as a table.


rule report:
    input:
        scores=scores(),
        histories=histories(),
        specs=[f"results/{name}/spec.json" for name in PLAN.runs],
        answers=scored_answers(),
        examples=scored_examples(),
        listings=drawn_listings(),
        features=[store(name) for name in scored_image_sets()],
        detector=rules.evaluate_detector.output if PLAN.trains_detector() else [],
        vocabularies=raw(PLAN.name_files()),
    output:
        page="results/report/index.html",
        table="results/report/summary.tsv",
        text="results/report/summary.txt",
        figures=report(
            directory("results/report/figures"),
            patterns=["{name}.png"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
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
        runs=[*PLAN.pretrainings, *PLAN.runs],
        raw=raw_root,
        listings=listings_option,
    shell:
        "python -m lxmert --threads {threads} report --results {params.results} --runs {params.runs}"
        " --examples {input.examples} {params.listings} --features {input.features}"
        " --objects {params.raw}/vg/objects_vocab.txt --attributes {params.raw}/vg/attributes_vocab.txt"
        " --out {output.page} --out-table {output.table} --out-text {output.text}"
        " --out-figures {output.figures} > /dev/null 2> {log}"
