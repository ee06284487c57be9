# The dictionary over all base snapshots, its sparse code, and its extension to added snapshots.
rule crosscoder:
    input:
        caches=caches(BASE),
        facts=streamed(facts(BASE)),
        weights=streamed(all_checkpoint_files()),
        tokens=streamed("<text>/corpus/tokens.h5"),
    output:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        training="<results>/tables/block{layer}/crosscoder_training.parquet",
        metrics="<results>/tables/block{layer}/recon_metrics.parquet",
        record="<records>/crosscoder.block{layer}.json",
    log:
        "<logs>/crosscoder.block{layer}.log",
    benchmark:
        "<benchmarks>/crosscoder.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: HEAVY_THREADS
    resources:
        gpu=STUDY.crosscoder.gpus,
        mem_mb=8000,
        runtime="24h",
    params:
        settings=settings("crosscoder"),
        code=code("crosscoder"),
    shell:
        "python -m snapcoder crosscoder --in caches {input.caches} --in facts {input.facts}"
        " --in weights {input.weights} --in tokens {input.tokens}"
        " --out dictionary {output.dictionary} --out training {output.training} --out metrics {output.metrics}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule codes:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        caches=caches(BASE),
    output:
        codes="<results>/codes/block{layer}.h5",
        record="<records>/codes.block{layer}.json",
    log:
        "<logs>/codes.block{layer}.log",
    benchmark:
        "<benchmarks>/codes.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: HEAVY_THREADS
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        settings=settings("codes"),
        code=code("codes"),
    shell:
        "python -m snapcoder codes --in dictionary {input.dictionary} --in caches {input.caches}"
        " --out codes {output.codes}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule extension:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        codes="<results>/codes/block{layer}.h5",
        cache="<caches>/block{layer}/step{step}.h5",
        caches=caches(BASE),
        metrics="<results>/tables/block{layer}/recon_metrics.parquet",
    output:
        extension="<results>/extensions/block{layer}/step{step}.safetensors",
        codes="<results>/extensions/block{layer}/step{step}.codes.h5",
        metrics="<results>/extensions/block{layer}/step{step}.parquet",
        record="<records>/extension.block{layer}.step{step}.json",
    log:
        "<logs>/extension.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/extension.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("extension"),
        code=code("extension"),
    shell:
        "python -m snapcoder extension --in dictionary {input.dictionary} --in codes {input.codes}"
        " --in cache {input.cache} --in caches {input.caches} --in metrics {input.metrics}"
        " --out extension {output.extension} --out codes {output.codes} --out metrics {output.metrics}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule extension_table:
    input:
        parts=extensions(".parquet"),
    output:
        table="<results>/tables/block{layer}/extension_metrics.parquet",
        record="<records>/extension_table.block{layer}.json",
    log:
        "<logs>/extension_table.block{layer}.log",
    benchmark:
        "<benchmarks>/extension_table.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("extension_table"),
        code=code("extension_table"),
    shell:
        "python -m snapcoder extension_table --in parts {input.parts}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
