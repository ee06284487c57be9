# The table of contents: what a study is made of, in pipeline order. Logic lives in workflow/snapcoder.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/report_files.smk"


pathvars:
    text=ROOT,
    models=ROOT,
    caches=f"{ROOT}/activations",
    results=RESULTS,
    records=f"{ROOT}/provenance",
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


include: "rules/corpus.smk"
include: "rules/snapshots.smk"
include: "rules/activations.smk"
include: "rules/crosscoder.smk"
include: "rules/sweep.smk"
include: "rules/evolution.smk"
include: "rules/presence.smk"
include: "rules/tasks.smk"
include: "rules/evaluation.smk"
include: "rules/phases.smk"
include: "rules/features.smk"
include: "rules/order.smk"
include: "rules/report.smk"
include: "rules/controls.smk"


rule all:
    default_target: True
    input:
        page="<results>/report/index.html",
        pages=expand("<results>/report/block{layer}/index.html", layer=LAYERS),
        dictionaries=kept_dictionaries(),


rule sweep:
    input:
        configured_sweep,


rule controls:
    input:
        configured_controls,
