# When features form, turn and fade.
rule trajectories:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        caches=caches(SHOWN),
        extensions=extensions(".safetensors"),
        extension_codes=extensions(".codes.h5"),
    output:
        table="<results>/tables/block{layer}/feature_trajectory.parquet",
        record="<results>/provenance/trajectories.block{layer}.json",
    log:
        "<logs>/trajectories.block{layer}.log",
    benchmark:
        "<benchmarks>/trajectories.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("trajectories"),
        code=code("trajectories"),
    shell:
        "python -m snapcoder trajectories --in dictionary {input.dictionary} --in codes {input.codes}"
        " --in caches {input.caches} --in extensions {input.extensions}"
        " --in extension_codes {input.extension_codes}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule rotation:
    input:
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extensions=extensions(".safetensors"),
        caches=caches(SHOWN),
    output:
        rotation="<results>/tables/block{layer}/direction_rotation.parquet",
        summary="<results>/tables/block{layer}/rotation_summary.parquet",
        record="<results>/provenance/rotation.block{layer}.json",
    log:
        "<logs>/rotation.block{layer}.log",
    benchmark:
        "<benchmarks>/rotation.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("rotation"),
        code=code("rotation"),
    shell:
        "python -m snapcoder rotation --in trajectory {input.trajectory} --in dictionary {input.dictionary}"
        " --in extensions {input.extensions} --in caches {input.caches}"
        " --out rotation {output.rotation} --out summary {output.summary}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule dimensionality:
    input:
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extensions=extensions(".safetensors"),
        caches=caches(SHOWN),
    output:
        table="<results>/tables/block{layer}/dimensionality.parquet",
        record="<results>/provenance/dimensionality.block{layer}.json",
    log:
        "<logs>/dimensionality.block{layer}.log",
    benchmark:
        "<benchmarks>/dimensionality.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("dimensionality"),
        code=code("dimensionality"),
    shell:
        "python -m snapcoder dimensionality --in trajectory {input.trajectory}"
        " --in dictionary {input.dictionary} --in extensions {input.extensions} --in caches {input.caches}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule timing:
    input:
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        rotation="<results>/tables/block{layer}/direction_rotation.parquet",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
    output:
        table="<results>/tables/block{layer}/feature_timing.parquet",
        record="<results>/provenance/timing.block{layer}.json",
    log:
        "<logs>/timing.block{layer}.log",
    benchmark:
        "<benchmarks>/timing.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("timing"),
        code=code("timing"),
    shell:
        "python -m snapcoder timing --in trajectory {input.trajectory} --in rotation {input.rotation}"
        " --in dictionary {input.dictionary}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule formation_rows:
    input:
        codes="<results>/codes/block{layer}.h5",
    output:
        table="<results>/formation/block{layer}/rows.parquet",
        record="<results>/provenance/formation_rows.block{layer}.json",
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
        cache="<results>/activations/block{layer}/step{step}.h5",
    output:
        table="<results>/formation/block{layer}/step{step}.parquet",
        record="<results>/provenance/formation.block{layer}.step{step}.json",
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
        record="<results>/provenance/formation_table.block{layer}.json",
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
        draws=expand("<results>/behaviour/step{step}.draws.parquet", step=SHOWN),
        formation="<results>/tables/block{layer}/formation_onset.parquet",
    output:
        table="<results>/tables/block{layer}/order_tests.parquet",
        record="<results>/provenance/order_tests.block{layer}.json",
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
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
