# When features form, turn and fade.
rule snapshot_features:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        cache="<results>/activations/block{layer}/step{step}.h5",
        extension=own_extension(".safetensors"),
        extension_codes=own_extension(".codes.h5"),
    output:
        table="<results>/trajectories/block{layer}/step{step}.parquet",
        record="<results>/provenance/snapshot_features.block{layer}.step{step}.json",
    log:
        "<logs>/snapshot_features.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/snapshot_features.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=1000 + round(1100 * STUDY.evolution.memory_gb),
        runtime="4h",
    params:
        settings=settings("snapshot_features"),
        code=code("snapshot_features"),
    shell:
        "python -m snapcoder snapshot_features --in dictionary {input.dictionary} --in codes {input.codes}"
        " --in cache {input.cache} --in extension {input.extension}"
        " --in extension_codes {input.extension_codes}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule trajectories:
    input:
        parts=expand(
            "<results>/trajectories/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
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
        "python -m snapcoder trajectories --in parts {input.parts}"
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
