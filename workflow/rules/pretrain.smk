# Pretraining on the aggregated sentences.


rule pretrain:
    input:
        weights(list(PLAN.pretrainings)),
    localrule: True


rule pretrain_system:
    input:
        features=pretraining_stores,
        examples=f"examples/{CORPUS}/pretrain",
        vocabulary=f"data/{CORPUS}/vocab.txt",
        init=pretraining_init,
    output:
        weights=ensure("results/{pretraining}/weights.safetensors", non_empty=True),
        metrics="results/{pretraining}/metrics.json",
        history="results/{pretraining}/history.jsonl",
    log:
        "logs/pretrain/{pretraining}.log",
    benchmark:
        "benchmarks/pretrain/{pretraining}.tsv"
    priority: 10
    conda:
        "../../envs/lxmert.yaml"
    threads: 8
    resources:
        gpu=0,
        ranks=1,
        loader_workers=0,
        mem="32GB",
        runtime="10d",
    params:
        gpus=gpus,
        spec=lambda wildcards: PLAN.pretrain_spec(wildcards.pretraining),
        init=pretraining_init_option,
        state="state/{pretraining}",
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads}"
        " --workers {resources.loader_workers} pretrain --ranks {resources.ranks}"
        " --spec {params.spec:q}"
        " --features {input.features} --train {input.examples}/train.safetensors"
        " --valid {input.examples}/valid.safetensors --answers {input.examples}/answers.json"
        " --vocabulary {input.vocabulary} {params.init} --state {params.state}"
        " --out-weights {output.weights} --out-metrics {output.metrics} --out-history {output.history}"
        " 2> {log}"
