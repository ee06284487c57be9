# What the dictionary costs the model, and every score of what a snapshot can do side by side.
rule reconstruction_loss:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tokens="<text>/corpus/tokens.h5",
        cache="<caches>/block{layer}/step{step}.h5",
        codes="<results>/codes/block{layer}.h5",
        own_codes=own_extension(".codes.h5"),
        tasks="<models>/tasks/examples.jsonl",
        prompts=expand("<models>/prompts/block{{layer}}/step{step}.h5", step=BASE),
        own="<models>/prompts/block{layer}/step{step}.h5",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extension=own_extension(".safetensors"),
    output:
        losses="<results>/reconstruction/block{layer}/step{step}.parquet",
        tasks="<results>/reconstruction/block{layer}/step{step}.tasks.parquet",
        record="<records>/reconstruction_loss.block{layer}.step{step}.json",
    log:
        "<logs>/reconstruction_loss.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/reconstruction_loss.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("reconstruction_loss"),
        code=code("reconstruction_loss"),
    shell:
        "python -m snapcoder reconstruction_loss --in facts {input.facts} --in weights {input.weights}"
        " --in tokens {input.tokens} --in cache {input.cache} --in codes {input.codes} --in own_codes {input.own_codes}"
        " --in tasks {input.tasks} --in prompts {input.prompts} --in own {input.own}"
        " --in dictionary {input.dictionary} --in extension {input.extension}"
        " --out losses {output.losses} --out tasks {output.tasks}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule harness:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tokenizer="<text>/corpus/tokenizer.json",
        files=harness_files(),
    output:
        table="<models>/harness/step{step}.parquet",
        record="<records>/harness.step{step}.json",
    log:
        "<logs>/harness.step{step}.log",
    benchmark:
        "<benchmarks>/harness.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime="12h",
    params:
        settings=settings("harness"),
        code=code("harness"),
    shell:
        "python -m snapcoder harness --in facts {input.facts} --in weights {input.weights}"
        " --in tokenizer {input.tokenizer} --in files {input.files}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule downstream_tables:
    input:
        losses=expand(
            "<results>/reconstruction/block{{layer}}/step{step}.parquet", step=SHOWN
        ),
        tasks=expand(
            "<results>/reconstruction/block{{layer}}/step{step}.tasks.parquet",
            step=SHOWN,
        ),
        performance="<models>/tables/task_performance.parquet",
        harness=harness_tables(),
    output:
        losses="<results>/tables/block{layer}/reconstruction_loss.parquet",
        tasks="<results>/tables/block{layer}/task_reconstruction.parquet",
        scores="<results>/tables/block{layer}/downstream_performance.parquet",
        record="<records>/downstream_tables.block{layer}.json",
    log:
        "<logs>/downstream_tables.block{layer}.log",
    benchmark:
        "<benchmarks>/downstream_tables.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("downstream_tables"),
        code=code("downstream_tables"),
    shell:
        "python -m snapcoder downstream_tables --in losses {input.losses} --in tasks {input.tasks}"
        " --in performance {input.performance} --in harness {input.harness}"
        " --out losses {output.losses} --out tasks {output.tasks} --out scores {output.scores}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
