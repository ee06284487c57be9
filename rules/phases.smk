# Where the statistical phase ends and the feature phase begins.
rule phase_metrics:
    input:
        behaviour=expand("<models>/behaviour/step{step}.parquet", step=SHOWN),
        ngram_entropy="<text>/tables/ngram_entropy.parquet",
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        rotation_summary="<results>/tables/block{layer}/rotation_summary.parquet",
        dimensionality="<results>/tables/block{layer}/dimensionality.parquet",
        recon_metrics="<results>/tables/block{layer}/recon_metrics.parquet",
        extension_metrics=extension_tables(),
        training_log=training_log(),
        snapshots="<models>/tables/snapshots.parquet",
    output:
        table="<results>/tables/block{layer}/phase_metrics.parquet",
        record="<records>/phase_metrics.block{layer}.json",
    log:
        "<logs>/phase_metrics.block{layer}.log",
    benchmark:
        "<benchmarks>/phase_metrics.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("phase_metrics"),
        code=code("phase_metrics"),
    shell:
        "python -m snapcoder phase_metrics --in behaviour {input.behaviour}"
        " --in ngram_entropy {input.ngram_entropy} --in trajectory {input.trajectory}"
        " --in rotation_summary {input.rotation_summary} --in dimensionality {input.dimensionality}"
        " --in recon_metrics {input.recon_metrics} --in extension_metrics {input.extension_metrics}"
        " --in training_log {input.training_log} --in snapshots {input.snapshots}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule phase_segments:
    input:
        phase_metrics="<results>/tables/block{layer}/phase_metrics.parquet",
        draws=expand("<models>/behaviour/step{step}.draws.parquet", step=SHOWN),
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        training_log=training_log(),
        seed_trajectories=seed_trajectories(),
    output:
        table="<results>/tables/block{layer}/phase_segments.parquet",
        record="<records>/phase_segments.block{layer}.json",
    log:
        "<logs>/phase_segments.block{layer}.log",
    benchmark:
        "<benchmarks>/phase_segments.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("phase_segments"),
        code=code("phase_segments"),
    shell:
        "python -m snapcoder phase_segments --in phase_metrics {input.phase_metrics} --in draws {input.draws}"
        " --in trajectory {input.trajectory} --in training_log {input.training_log}"
        " --in seed_trajectories {input.seed_trajectories}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
