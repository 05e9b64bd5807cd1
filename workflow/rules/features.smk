# Region features: shards of an image set, merged into one store; and stores as LXMERT's TSV.


rule extract_coco_features:
    input:
        stores_named("mscoco_"),
    localrule: True


rule extract_vg_features:
    input:
        stores_named("vg_", "gqa_"),
    localrule: True


rule extract_nlvr2_features:
    input:
        stores_named("nlvr2_"),
    localrule: True


rule extract:
    input:
        weights=detector_weights,
        listing="data/{corpus}/images/{image_set}.json",
    output:
        temp("features/{corpus}/parts/{image_set}/{scatteritem}.lmdb"),
    log:
        "logs/extract/{corpus}_{image_set}_{scatteritem}.log",
    benchmark:
        "benchmarks/extract/{corpus}_{image_set}_{scatteritem}.tsv"
    conda:
        f"../../envs/{'detectron2' if PLAN.config['detector_backend'] == 'detectron2' else 'lxmert'}.yaml"
    threads: 4
    resources:
        gpu=0,
        loader_workers=0,
        mem="8GB",
        runtime="12h",
    params:
        gpus=gpus,
        spec=PLAN.extract_spec(),
        numerics=PLAN.extract_options(),
        shard=shard_number,
        backend=PLAN.config["detector_backend"],
        state="state/{corpus}/extract/{image_set}/{scatteritem}",
    shell:
        "python -m lxmert --gpus {params.gpus} --threads {threads}"
        " --workers {resources.loader_workers} extract --spec {params.spec:q} {params.numerics}"
        " --weights {input.weights} --listing {input.listing} --shard {params.shard}"
        " --backend {params.backend} --state {params.state} --out {output} 2> {log}"


rule merge:
    input:
        parts=gather.shard("features/{{corpus}}/parts/{{image_set}}/{scatteritem}.lmdb"),
        listing="data/{corpus}/images/{image_set}.json",
    output:
        "features/{corpus}/{image_set}.lmdb",
    log:
        "logs/merge/{corpus}_{image_set}.log",
    benchmark:
        "benchmarks/merge/{corpus}_{image_set}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="4GB",
        runtime="4h",
    shell:
        "python -m lxmert --threads {threads} merge --parts {input.parts} --listing {input.listing}"
        " --out {output} 2> {log}"


rule convert_tsv:
    input:
        converted_stores(),
    localrule: True


rule export_tsv:
    input:
        "features/{corpus}/{image_set}.lmdb",
    output:
        "features/{corpus}/tsv/{image_set}.tsv",
    log:
        "logs/tsv/export_{corpus}_{image_set}.log",
    benchmark:
        "benchmarks/tsv/export_{corpus}_{image_set}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="4h",
    shell:
        "python -m lxmert --threads {threads} store export --form lxmert-tsv --store {input}"
        " --out {output} 2> {log}"


rule import_tsv:
    input:
        unpack(tsv_and_model),
    output:
        "features/{corpus}/from_tsv/{image_set}.lmdb",
    log:
        "logs/tsv/import_{corpus}_{image_set}.log",
    benchmark:
        "benchmarks/tsv/import_{corpus}_{image_set}.tsv"
    conda:
        "../../envs/lxmert.yaml"
    threads: 1
    resources:
        gpu=0,
        mem="1GB",
        runtime="4h",
    params:
        schema=tsv_schema,
    shell:
        "python -m lxmert --threads {threads} store import --form lxmert-tsv --source {input.tsv} {params.schema}"
        " --out {output} 2> {log}"
