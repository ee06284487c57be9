# Dictionaries of other sizes, sparsities, arms and seeds on the same caches, and what they cost and reach.
rule sweep_point:
    input:
        caches=caches(BASE),
    output:
        metrics="<results>/sweep/block{layer}/{arm}.F{n_features}.at{sparsity}.seed{seed}/crosscoder/metrics.parquet",
        dictionary=kept_dictionary("crosscoder"),
        record="<records>/sweep_point.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.json",
    log:
        "<logs>/sweep_point.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.log",
    benchmark:
        "<benchmarks>/sweep_point.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: HEAVY_THREADS
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="24h",
    params:
        settings=settings("sweep_point"),
        code=code("sweep_point"),
    shell:
        "python -m snapcoder sweep_point --in caches {input.caches}"
        " --out metrics {output.metrics} --out dictionary {output.dictionary}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule sweep_sae:
    input:
        caches="<caches>/block{layer}/step{step}.h5",
    output:
        metrics="<results>/sweep/block{layer}/{arm}.F{n_features}.at{sparsity}.seed{seed}/step{step}/metrics.parquet",
        dictionary=kept_dictionary("step{step}"),
        record="<records>/sweep_sae.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.step{step}.json",
    log:
        "<logs>/sweep_sae.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.step{step}.log",
    benchmark:
        "<benchmarks>/sweep_sae.block{layer}.{arm}.F{n_features}.at{sparsity}.seed{seed}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2000,
        runtime="4h",
    params:
        settings=settings("sweep_sae"),
        code=code("sweep_sae"),
    shell:
        "python -m snapcoder sweep_sae --in caches {input.caches}"
        " --out metrics {output.metrics} --out dictionary {output.dictionary}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule sweep_table:
    input:
        parts=sweep_files("metrics.parquet"),
    output:
        table="<results>/tables/block{layer}/sweep_metrics.parquet",
        record="<records>/sweep_table.block{layer}.json",
    log:
        "<logs>/sweep_table.block{layer}.log",
    benchmark:
        "<benchmarks>/sweep_table.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("sweep_table"),
        code=code("sweep_table"),
    shell:
        "python -m snapcoder sweep_table --in parts {input.parts}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule sweep_figure:
    input:
        tables="<results>/tables/block{layer}/sweep_metrics.parquet",
    output:
        figures=[
            f"<results>/figures/block{{layer}}/{figure.name}.{kind}"
            for figure in figures_of("sweep")
            for kind in ("svg", "png")
        ],
        record="<records>/sweep_figure.block{layer}.json",
    log:
        "<logs>/sweep_figure.block{layer}.log",
    benchmark:
        "<benchmarks>/sweep_figure.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("sweep_figure"),
        code=code("sweep_figure"),
    shell:
        "python -m snapcoder sweep_figure --in tables {input.tables}"
        " --out figures {output.figures}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
