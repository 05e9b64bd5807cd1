# Answers to the splits, in the form that their leaderboard takes, and scores where labels are public.


rule predict:
    input:
        submissions(),
    localrule: True


rule leaderboard:
    input:
        leaderboard_files(),
    localrule: True


rule predict_split:
    input:
        features=prediction_stores,
        examples=run_examples,
        weights="results/{run}/weights.safetensors",
    output:
        answers="results/{run}/{split}_predict.{extension}",
        meta="results/{run}/{split}_predict.{extension}.meta.json",
    log:
        "logs/predict/{run}_{split}_{extension}.log",
    benchmark:
        "benchmarks/predict/{run}_{split}_{extension}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 8
    resources:
        gpu=0,
        mem="16GB",
        runtime="4h",
    params:
        gpus=gpus,
        spec=lambda wildcards: PLAN.predict_spec(wildcards.run),
        state="state/{run}/predict_{split}",
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads} predict --spec {params.spec:q}"
        " --features {input.features} --examples {input.examples} --split {wildcards.split}"
        " --weights {input.weights} --state {params.state} --out {output.answers} 2> {log}"


rule score:
    input:
        scores(),
    localrule: True


rule score_split:
    input:
        answers=answers_to_score,
        examples=run_examples,
        raw=score_files,
    output:
        report(
            "results/{run}/{split}_score.json",
            caption="../report/score.rst",
            category="Scores",
            labels={"run": "{run}", "split": "{split}"},
        ),
    log:
        "logs/score/{run}_{split}.log",
    benchmark:
        "benchmarks/score/{run}_{split}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="8GB",
        runtime="1h",
    params:
        spec=lambda wildcards: PLAN.score_spec(wildcards.run, wildcards.split),
        task=lambda wildcards: PLAN.runs[wildcards.run].task,
        raw=raw_root,
    shell:
        "python -m lxmert --threads {threads} score --task {params.task} --spec {params.spec:q}"
        " --split {wildcards.split} --predictions {input.answers} --examples {input.examples}"
        " --raw {params.raw} --out {output} 2> {log}"


# Which photographs of each split training has seen; fails if a result would be of such ones.
rule overlap:
    input:
        examples=[f"examples/{CORPUS}/{task}" for task in PLAN.used_tasks()],
        raw=raw(PLAN.overlap_files()),
    output:
        record="results/overlap/overlap.json",
        table=report(
            "results/overlap/overlap.txt",
            caption="../report/overlap.rst",
            category="Data",
            labels={"figure": "overlap of splits"},
        ),
    log:
        "logs/overlap.log",
    benchmark:
        "benchmarks/overlap.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="4GB",
        runtime="20m",
    params:
        spec=PLAN.overlap_spec(),
        raw=raw_root,
    shell:
        "python -m lxmert --threads {threads} overlap --spec {params.spec:q} --examples {input.examples}"
        " --raw {params.raw} --out {output.record} --out-text {output.table} 2> {log} && cat {output.table}"
