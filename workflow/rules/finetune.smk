# Fine-tuning: one system on one task, and its twin that never sees an image.


rule finetune:
    input:
        weights(list(PLAN.runs)),
    localrule: True


rule finetune_run:
    input:
        features=finetuning_stores,
        examples=run_examples,
        vocabulary=f"data/{CORPUS}/vocab.txt",
        weights=initial_weights,
        answers=pretrained_answers,
    output:
        weights=ensure("results/{run}/weights.safetensors", non_empty=True),
        last=ensure("results/{run}/last.safetensors", non_empty=True),
        spec="results/{run}/spec.json",
        metrics="results/{run}/metrics.json",
        history="results/{run}/history.jsonl",
    log:
        "logs/finetune/{run}.log",
    benchmark:
        "benchmarks/finetune/{run}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 8
    resources:
        gpu=0,
        ranks=1,
        loader_workers=0,
        mem="16GB",
        runtime="1d",
    params:
        gpus=gpus,
        spec=lambda wildcards: PLAN.finetune_spec(wildcards.run),
        init=initial_options,
        state="state/{run}",
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads}"
        " --workers {resources.loader_workers} finetune --ranks {resources.ranks}"
        " --spec {params.spec:q}"
        " --features {input.features} --examples {input.examples} --vocabulary {input.vocabulary}"
        " {params.init} --state {params.state}"
        " --out-weights {output.weights} --out-last {output.last} --out-spec {output.spec}"
        " --out-metrics {output.metrics} --out-history {output.history} 2> {log}"


if PLAN.taken_runs():

    ruleorder: take_finetuned > finetune_run

    # A run that trains nothing: its weights are published ones, and its answers theirs.
    rule take_finetuned:
        input:
            taken_weights,
        output:
            weights=ensure("results/{run}/weights.safetensors", non_empty=True),
            spec="results/{run}/spec.json",
            metrics="results/{run}/metrics.json",
            history="results/{run}/history.jsonl",
        log:
            "logs/finetune/{run}.log",
        benchmark:
            "benchmarks/finetune/{run}.tsv"
        wildcard_constraints:
            run=alternatives(PLAN.taken_runs()),
        conda:
            "../../envs/lxmert.yaml"
        threads: 1
        resources:
            gpu=0,
            mem="8GB",
            runtime="30m",
        params:
            spec=lambda wildcards: PLAN.finetune_spec(wildcards.run),
            file=lambda wildcards: published_file(PLAN.runs[wildcards.run].weights),
            answers=lambda wildcards: f"{RAW}/{PLAN.finetuned_answers(wildcards.run)}",
        shell:
            "python -m lxmert --threads {threads} take-finetuned --spec {params.spec:q}"
            " --weights {params.file} --answers {params.answers} --out-weights {output.weights}"
            " --out-spec {output.spec} --out-metrics {output.metrics} --out-history {output.history}"
            " 2> {log}"
