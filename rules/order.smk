# What comes before what: tests of order, and when features form in the activations themselves.
rule formation_rows:
    input:
        codes="<results>/codes/block{layer}.h5",
    output:
        table="<results>/formation/block{layer}/rows.parquet",
        record="<records>/formation_rows.block{layer}.json",
    log:
        "<logs>/formation_rows.block{layer}.log",
    benchmark:
        "<benchmarks>/formation_rows.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("formation_rows"),
        code=code("formation_rows"),
    shell:
        "python -m snapcoder formation_rows --in codes {input.codes}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule formation:
    input:
        rows="<results>/formation/block{layer}/rows.parquet",
        cache="<caches>/block{layer}/step{step}.h5",
    output:
        table="<results>/formation/block{layer}/step{step}.parquet",
        record="<records>/formation.block{layer}.step{step}.json",
    log:
        "<logs>/formation.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/formation.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("formation"),
        code=code("formation"),
    shell:
        "python -m snapcoder formation --in rows {input.rows} --in cache {input.cache}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule formation_table:
    input:
        parts=expand(
            "<results>/formation/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
    output:
        formation="<results>/tables/block{layer}/feature_formation.parquet",
        onsets="<results>/tables/block{layer}/formation_onset.parquet",
        record="<records>/formation_table.block{layer}.json",
    log:
        "<logs>/formation_table.block{layer}.log",
    benchmark:
        "<benchmarks>/formation_table.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("formation_table"),
        code=code("formation_table"),
    shell:
        "python -m snapcoder formation_table --in parts {input.parts}"
        " --out formation {output.formation} --out onsets {output.onsets}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule order_tests:
    input:
        timing="<results>/tables/block{layer}/feature_timing.parquet",
        complexity="<results>/tables/block{layer}/complexity.parquet",
        phase_metrics="<results>/tables/block{layer}/phase_metrics.parquet",
        draws=expand("<models>/behaviour/step{step}.draws.parquet", step=SHOWN),
        formation="<results>/tables/block{layer}/formation_onset.parquet",
        onsets="<results>/tables/block{layer}/feature_onsets.parquet",
        explanations=explanation_tables(),
    output:
        table="<results>/tables/block{layer}/order_tests.parquet",
        record="<records>/order_tests.block{layer}.json",
    log:
        "<logs>/order_tests.block{layer}.log",
    benchmark:
        "<benchmarks>/order_tests.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("order_tests"),
        code=code("order_tests"),
    shell:
        "python -m snapcoder order_tests --in timing {input.timing} --in complexity {input.complexity}"
        " --in phase_metrics {input.phase_metrics} --in draws {input.draws} --in formation {input.formation}"
        " --in onsets {input.onsets} --in explanations {input.explanations}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
