# What the snapshots can do, and which features carry it.
rule tasks:
    input:
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        files=text_files(STUDY.tasks.files),
    output:
        examples="<text>/tasks/examples.jsonl",
        table="<text>/tables/tasks.parquet",
        rejections="<text>/tables/task_rejections.parquet",
        record="<records>/tasks.json",
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
        " --out examples {output.examples} --out table {output.table} --out rejections {output.rejections}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule behaviour:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        ngrams="<text>/corpus/ngrams.h5",
        text="<text>/corpus/ngram_text.h5",
        tasks="<text>/tasks/examples.jsonl",
    output:
        table="<models>/behaviour/step{step}.parquet",
        draws="<models>/behaviour/step{step}.draws.parquet",
        classes="<models>/behaviour/step{step}.classes.parquet",
        tasks="<models>/behaviour/step{step}.tasks.parquet",
        record="<records>/behaviour.step{step}.json",
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
        " --in tokens {input.tokens} --in tokenizer {input.tokenizer} --in ngrams {input.ngrams}"
        " --in text {input.text} --in tasks {input.tasks}"
        " --out table {output.table} --out draws {output.draws} --out classes {output.classes}"
        " --out tasks {output.tasks}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule token_classes:
    input:
        sums=expand("<models>/behaviour/step{step}.classes.parquet", step=SHOWN),
    output:
        losses="<results>/tables/token_class_loss.parquet",
        classes="<results>/tables/token_classes.parquet",
        contrasts="<results>/tables/token_class_contrasts.parquet",
        record="<records>/token_classes.json",
    log:
        "<logs>/token_classes.log",
    benchmark:
        "<benchmarks>/token_classes.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("token_classes"),
        code=code("token_classes"),
    shell:
        "python -m snapcoder token_classes --in sums {input.sums}"
        " --out losses {output.losses} --out classes {output.classes} --out contrasts {output.contrasts}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule task_performance:
    input:
        examples=expand("<models>/behaviour/step{step}.tasks.parquet", step=SHOWN),
        tasks="<text>/tables/tasks.parquet",
    output:
        table="<models>/tables/task_performance.parquet",
        splits="<models>/tables/task_splits.parquet",
        record="<records>/task_performance.json",
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
        " --out table {output.table} --out splits {output.splits}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule prompts:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tasks="<text>/tasks/examples.jsonl",
    output:
        prompts="<models>/prompts/block{layer}/step{step}.h5",
        record="<records>/prompts.block{layer}.step{step}.json",
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
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tasks="<text>/tasks/examples.jsonl",
        examples="<models>/behaviour/step{step}.tasks.parquet",
        table="<text>/tables/tasks.parquet",
        tokenizer="<text>/corpus/tokenizer.json",
        features="<results>/trajectories/block{layer}/step{step}.parquet",
        prompts=expand("<models>/prompts/block{{layer}}/step{step}.h5", step=BASE),
        own="<models>/prompts/block{layer}/step{step}.h5",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extension=own_extension(".safetensors"),
    output:
        attribution="<results>/attribution/block{layer}/step{step}.parquet",
        quality="<results>/attribution/block{layer}/step{step}.quality.parquet",
        positions="<results>/attribution/block{layer}/step{step}.positions.parquet",
        record="<records>/attribution.block{layer}.step{step}.json",
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
        " --in tokenizer {input.tokenizer} --in features {input.features}"
        " --out attribution {output.attribution} --out quality {output.quality} --out positions {output.positions}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule ablation:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tasks="<text>/tasks/examples.jsonl",
        attribution="<results>/attribution/block{layer}/step{step}.parquet",
        # Base snapshots alone: an added one must not rerun the others.
        final=expand(
            "<results>/attribution/block{{layer}}/step{step}.parquet", step=BASE
        ),
        prompts=expand("<models>/prompts/block{{layer}}/step{step}.h5", step=BASE),
        own="<models>/prompts/block{layer}/step{step}.h5",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extension=own_extension(".safetensors"),
        features="<results>/trajectories/block{layer}/step{step}.parquet",
        cache="<caches>/block{layer}/step{step}.h5",
    output:
        curves="<results>/ablation/block{layer}/step{step}.parquet",
        summary="<results>/ablation/block{layer}/step{step}.summary.parquet",
        record="<records>/ablation.block{layer}.step{step}.json",
    log:
        "<logs>/ablation.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/ablation.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("ablation"),
        code=code("ablation"),
    shell:
        "python -m snapcoder ablation --in facts {input.facts} --in weights {input.weights}"
        " --in tasks {input.tasks} --in attribution {input.attribution} --in final {input.final}"
        " --in prompts {input.prompts} --in own {input.own}"
        " --in dictionary {input.dictionary} --in extension {input.extension}"
        " --in features {input.features} --in cache {input.cache}"
        " --out curves {output.curves} --out summary {output.summary}"
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
        positions=expand(
            "<results>/attribution/block{{layer}}/step{step}.positions.parquet",
            step=SHOWN,
        ),
    output:
        attribution="<results>/tables/block{layer}/attribution.parquet",
        quality="<results>/tables/block{layer}/attribution_quality.parquet",
        positions="<results>/tables/block{layer}/attribution_positions.parquet",
        record="<records>/attribution_tables.block{layer}.json",
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
        " --in quality {input.quality} --in positions {input.positions}"
        " --out attribution {output.attribution} --out quality {output.quality} --out positions {output.positions}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule ablation_tables:
    input:
        curves=expand(
            "<results>/ablation/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
        summary=expand(
            "<results>/ablation/block{{layer}}/step{step}.summary.parquet",
            step=SHOWN,
        ),
    output:
        curves="<results>/tables/block{layer}/ablation_curves.parquet",
        summary="<results>/tables/block{layer}/ablation_summary.parquet",
        record="<records>/ablation_tables.block{layer}.json",
    log:
        "<logs>/ablation_tables.block{layer}.log",
    benchmark:
        "<benchmarks>/ablation_tables.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("ablation_tables"),
        code=code("ablation_tables"),
    shell:
        "python -m snapcoder ablation_tables --in curves {input.curves} --in summary {input.summary}"
        " --out curves {output.curves} --out summary {output.summary}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
