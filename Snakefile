# From raw images and official annotation files to a file a leaderboard accepts.
# `snakemake --list-target-rules` names the stages; config.yaml says what runs.

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"


scattergather:
    shard=PLAN.corpus["shards"],


include: "workflow/rules/download.smk"
include: "workflow/rules/own_data.smk"
include: "workflow/rules/annotations.smk"
include: "workflow/rules/detector.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/registry.smk"
include: "workflow/rules/report.smk"


# The one handler there may be. Before a long job: bytes to fetch, disk needed, what is there, what needs a
# person; nothing once all is there.
onstart:
    check_arrays()
    announce_downloads(although_complete=False)


rule all:
    default_target: True
    input:
        submissions(),
        rules.report.output,
    localrule: True
