# When features form, turn and fade.
rule snapshot_features:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        cache="<caches>/block{layer}/step{step}.h5",
        extension=own_extension(".safetensors"),
        extension_codes=own_extension(".codes.h5"),
    output:
        table="<results>/trajectories/block{layer}/step{step}.parquet",
        record="<records>/snapshot_features.block{layer}.step{step}.json",
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
        record="<records>/trajectories.block{layer}.json",
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
        snapshots="<models>/tables/snapshots.parquet",
    output:
        rotation="<results>/tables/block{layer}/direction_rotation.parquet",
        summary="<results>/tables/block{layer}/rotation_summary.parquet",
        intervals="<results>/tables/block{layer}/rotation_intervals.parquet",
        turning="<results>/tables/block{layer}/turning_points.parquet",
        record="<records>/rotation.block{layer}.json",
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
        " --in extensions {input.extensions} --in caches {input.caches} --in snapshots {input.snapshots}"
        " --out rotation {output.rotation} --out summary {output.summary}"
        " --out intervals {output.intervals} --out turning {output.turning}"
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
        tests="<results>/tables/block{layer}/dimensionality_tests.parquet",
        record="<records>/dimensionality.block{layer}.json",
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
        " --out table {output.table} --out tests {output.tests}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule timing:
    input:
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        rotation="<results>/tables/block{layer}/direction_rotation.parquet",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
    output:
        table="<results>/tables/block{layer}/feature_timing.parquet",
        record="<records>/timing.block{layer}.json",
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


rule onset_distribution:
    input:
        timing="<results>/tables/block{layer}/feature_timing.parquet",
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        onsets="<results>/tables/block{layer}/feature_onsets.parquet",
    output:
        distribution="<results>/tables/block{layer}/onset_distribution.parquet",
        tests="<results>/tables/block{layer}/onset_tests.parquet",
        record="<records>/onset_distribution.block{layer}.json",
    log:
        "<logs>/onset_distribution.block{layer}.log",
    benchmark:
        "<benchmarks>/onset_distribution.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("onset_distribution"),
        code=code("onset_distribution"),
    shell:
        "python -m snapcoder onset_distribution --in timing {input.timing} --in trajectory {input.trajectory}"
        " --in onsets {input.onsets}"
        " --out distribution {output.distribution} --out tests {output.tests}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule onset_sensitivity:
    input:
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        rotation_summary="<results>/tables/block{layer}/rotation_summary.parquet",
    output:
        thresholds="<results>/tables/block{layer}/threshold_sensitivity.parquet",
        snapshots="<results>/tables/block{layer}/snapshot_sensitivity.parquet",
        shuffled="<results>/tables/block{layer}/shuffled_order.parquet",
        record="<records>/onset_sensitivity.block{layer}.json",
    log:
        "<logs>/onset_sensitivity.block{layer}.log",
    benchmark:
        "<benchmarks>/onset_sensitivity.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("onset_sensitivity"),
        code=code("onset_sensitivity"),
    shell:
        "python -m snapcoder onset_sensitivity --in trajectory {input.trajectory}"
        " --in rotation_summary {input.rotation_summary}"
        " --out thresholds {output.thresholds} --out snapshots {output.snapshots}"
        " --out shuffled {output.shuffled}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule heldout_snapshots:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        caches=caches(BASE),
    output:
        table="<results>/tables/block{layer}/heldout_snapshots.parquet",
        record="<records>/heldout_snapshots.block{layer}.json",
    log:
        "<logs>/heldout_snapshots.block{layer}.log",
    benchmark:
        "<benchmarks>/heldout_snapshots.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("heldout_snapshots"),
        code=code("heldout_snapshots"),
    shell:
        "python -m snapcoder heldout_snapshots --in dictionary {input.dictionary} --in codes {input.codes}"
        " --in caches {input.caches}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
