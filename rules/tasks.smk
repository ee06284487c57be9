# What the snapshots can do, and which features carry it.
rule tasks:
    input:
        tokens="<results>/corpus/tokens.h5",
        tokenizer="<results>/corpus/tokenizer.json",
        files=text_files(STUDY.tasks.files),
    output:
        examples="<results>/tasks/examples.jsonl",
        table="<results>/tables/tasks.parquet",
        record="<results>/provenance/tasks.json",
    log:
        "<logs>/tasks.log",
    benchmark:
        "<benchmarks>/tasks.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("tasks"),
        code=code("tasks"),
    shell:
        "python -m snapcoder tasks --in tokens {input.tokens} --in tokenizer {input.tokenizer}"
        " --in files {input.files}"
        " --out examples {output.examples} --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule behaviour:
    input:
        facts="<results>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tokens="<results>/corpus/tokens.h5",
        ngrams="<results>/corpus/ngrams.h5",
        tasks="<results>/tasks/examples.jsonl",
    output:
        table="<results>/behaviour/step{step}.parquet",
        draws="<results>/behaviour/step{step}.draws.parquet",
        tasks="<results>/behaviour/step{step}.tasks.parquet",
        record="<results>/provenance/behaviour.step{step}.json",
    log:
        "<logs>/behaviour.step{step}.log",
    benchmark:
        "<benchmarks>/behaviour.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("behaviour"),
        code=code("behaviour"),
    shell:
        "python -m snapcoder behaviour --in facts {input.facts} --in weights {input.weights}"
        " --in tokens {input.tokens} --in ngrams {input.ngrams} --in tasks {input.tasks}"
        " --out table {output.table} --out draws {output.draws} --out tasks {output.tasks}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule task_performance:
    input:
        examples=expand("<results>/behaviour/step{step}.tasks.parquet", step=SHOWN),
        tasks="<results>/tables/tasks.parquet",
    output:
        table="<results>/tables/task_performance.parquet",
        record="<results>/provenance/task_performance.json",
    log:
        "<logs>/task_performance.log",
    benchmark:
        "<benchmarks>/task_performance.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("task_performance"),
        code=code("task_performance"),
    shell:
        "python -m snapcoder task_performance --in examples {input.examples} --in tasks {input.tasks}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule prompts:
    input:
        facts="<results>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tasks="<results>/tasks/examples.jsonl",
    output:
        prompts="<results>/prompts/block{layer}/step{step}.h5",
        record="<results>/provenance/prompts.block{layer}.step{step}.json",
    log:
        "<logs>/prompts.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/prompts.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("prompts"),
        code=code("prompts"),
    shell:
        "python -m snapcoder prompts --in facts {input.facts} --in weights {input.weights}"
        " --in tasks {input.tasks}"
        " --out prompts {output.prompts}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule attribution:
    input:
        facts="<results>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tasks="<results>/tasks/examples.jsonl",
        examples="<results>/behaviour/step{step}.tasks.parquet",
        table="<results>/tables/tasks.parquet",
        prompts=expand("<results>/prompts/block{{layer}}/step{step}.h5", step=BASE),
        own="<results>/prompts/block{layer}/step{step}.h5",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extension=own_extension(".safetensors"),
    output:
        attribution="<results>/attribution/block{layer}/step{step}.parquet",
        quality="<results>/attribution/block{layer}/step{step}.quality.parquet",
        curves="<results>/attribution/block{layer}/step{step}.curves.parquet",
        record="<results>/provenance/attribution.block{layer}.step{step}.json",
    log:
        "<logs>/attribution.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/attribution.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("attribution"),
        code=code("attribution"),
    shell:
        "python -m snapcoder attribution --in facts {input.facts} --in weights {input.weights}"
        " --in tasks {input.tasks} --in examples {input.examples} --in table {input.table} --in prompts {input.prompts}"
        " --in own {input.own} --in dictionary {input.dictionary} --in extension {input.extension}"
        " --out attribution {output.attribution} --out quality {output.quality} --out curves {output.curves}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule attribution_tables:
    input:
        attribution=expand(
            "<results>/attribution/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
        quality=expand(
            "<results>/attribution/block{{layer}}/step{step}.quality.parquet",
            step=SHOWN,
        ),
        curves=expand(
            "<results>/attribution/block{{layer}}/step{step}.curves.parquet",
            step=SHOWN,
        ),
    output:
        attribution="<results>/tables/block{layer}/attribution.parquet",
        quality="<results>/tables/block{layer}/attribution_quality.parquet",
        curves="<results>/tables/block{layer}/ablation_curves.parquet",
        record="<results>/provenance/attribution_tables.block{layer}.json",
    log:
        "<logs>/attribution_tables.block{layer}.log",
    benchmark:
        "<benchmarks>/attribution_tables.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("attribution_tables"),
        code=code("attribution_tables"),
    shell:
        "python -m snapcoder attribution_tables --in attribution {input.attribution}"
        " --in quality {input.quality} --in curves {input.curves}"
        " --out attribution {output.attribution} --out quality {output.quality} --out curves {output.curves}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
