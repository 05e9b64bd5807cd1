# The bottom-up-attention detector, from Visual Genome's boxes to weights and average precision.


rule train_detector:
    input:
        raw=raw(PLAN.detector_files()),
        listing=f"data/{CORPUS}/images/vg.json",
        init=detector_init(),
    output:
        weights=ensure(f"weights/{CORPUS}/detector.safetensors", non_empty=True),
        metrics="results/detector/metrics.json",
        history="results/detector/history.jsonl",
    log:
        "logs/detector/train.log",
    benchmark:
        "benchmarks/detector/train.tsv"
    priority: 10
    conda:
        "../../envs/lxmert.yaml"
    threads: 8
    resources:
        gpu=0,
        loader_workers=0,
        mem="16GB",
        runtime="5d",
    params:
        gpus=gpus,
        spec=PLAN.detector_spec(),
        raw=raw_root,
        init=init_option,
        state=f"state/{CORPUS}/detector",
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads}"
        " --workers {resources.loader_workers} train-detector --spec {params.spec:q}"
        " --raw {params.raw} --listing {input.listing} {params.init} --state {params.state}"
        " --out-weights {output.weights} --out-metrics {output.metrics} --out-history {output.history}"
        " 2> {log}"


rule evaluate_detector:
    input:
        raw=raw(PLAN.detector_files()),
        listing=f"data/{CORPUS}/images/vg.json",
        weights=rules.train_detector.output.weights,
    output:
        metrics=report(
            "results/detector/val_score.json",
            caption="../report/detector.rst",
            category="Detector",
            labels={"figure": "average precision"},
        ),
        panels=report(
            directory("results/detector/panels"),
            patterns=["{name}.png"],
            caption="../report/panels.rst",
            category="Detector",
            labels={"figure": "{name}"},
        ),
    log:
        "logs/detector/evaluate.log",
    benchmark:
        "benchmarks/detector/evaluate.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 4
    resources:
        gpu=0,
        loader_workers=0,
        mem="8GB",
        runtime="4h",
    params:
        gpus=gpus,
        spec=PLAN.detector_spec(),
        raw=raw_root,
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads}"
        " --workers {resources.loader_workers} evaluate-detector --spec {params.spec:q}"
        " --weights {input.weights} --raw {params.raw} --listing {input.listing} --split val"
        " --out-metrics {output.metrics} --out-panels {output.panels} 2> {log}"
