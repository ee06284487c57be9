# Whether a feature is there, by evidence beside its decoder norm.
rule presence:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        cache="<caches>/block{layer}/step{step}.h5",
        extension=own_extension(".safetensors"),
        extension_codes=own_extension(".codes.h5"),
    output:
        table="<results>/presence/block{layer}/step{step}.parquet",
        record="<records>/presence.block{layer}.step{step}.json",
    log:
        "<logs>/presence.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/presence.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime="2h",
    params:
        settings=settings("presence"),
        code=code("presence"),
    shell:
        "python -m snapcoder presence --in dictionary {input.dictionary} --in codes {input.codes}"
        " --in cache {input.cache} --in extension {input.extension}"
        " --in extension_codes {input.extension_codes}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule feature_onsets:
    input:
        presence=expand(
            "<results>/presence/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
        timing="<results>/tables/block{layer}/feature_timing.parquet",
    output:
        onsets="<results>/tables/block{layer}/feature_onsets.parquet",
        presence="<results>/tables/block{layer}/feature_presence.parquet",
        record="<records>/feature_onsets.block{layer}.json",
    log:
        "<logs>/feature_onsets.block{layer}.log",
    benchmark:
        "<benchmarks>/feature_onsets.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("feature_onsets"),
        code=code("feature_onsets"),
    shell:
        "python -m snapcoder feature_onsets --in presence {input.presence}"
        " --in trajectory {input.trajectory} --in timing {input.timing}"
        " --out onsets {output.onsets} --out presence {output.presence}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
