# What each feature is about.
rule examples:
    input:
        codes="<results>/codes/block{layer}.h5",
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        extensions=extensions(".safetensors"),
        extension_codes=extensions(".codes.h5"),
    output:
        table="<results>/tables/block{layer}/feature_examples.parquet",
        record="<records>/examples.block{layer}.json",
    log:
        "<logs>/examples.block{layer}.log",
    benchmark:
        "<benchmarks>/examples.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=1000 + round(1100 * STUDY.features.memory_gb),
        runtime="4h",
    params:
        settings=settings("examples"),
        code=code("examples"),
    shell:
        "python -m snapcoder examples --in codes {input.codes} --in tokens {input.tokens}"
        " --in tokenizer {input.tokenizer} --in dictionary {input.dictionary}"
        " --in extensions {input.extensions} --in extension_codes {input.extension_codes}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule context_length:
    input:
        codes="<results>/codes/block{layer}.h5",
        tokens="<text>/corpus/tokens.h5",
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        facts=facts(BASE),
        weights=all_checkpoint_files(),
    output:
        table="<results>/tables/block{layer}/context_length.parquet",
        record="<records>/context_length.block{layer}.json",
    log:
        "<logs>/context_length.block{layer}.log",
    benchmark:
        "<benchmarks>/context_length.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000 + round(1100 * STUDY.context.memory_gb),
        runtime="4h",
    params:
        settings=settings("context_length"),
        code=code("context_length"),
    shell:
        "python -m snapcoder context_length --in codes {input.codes} --in tokens {input.tokens}"
        " --in dictionary {input.dictionary} --in facts {input.facts} --in weights {input.weights}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule complexity:
    input:
        codes="<results>/codes/block{layer}.h5",
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        windows="<results>/tables/block{layer}/context_length.parquet",
    output:
        table="<results>/tables/block{layer}/complexity.parquet",
        record="<records>/complexity.block{layer}.json",
    log:
        "<logs>/complexity.block{layer}.log",
    benchmark:
        "<benchmarks>/complexity.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=1000 + round(1100 * STUDY.features.memory_gb),
        runtime="4h",
    params:
        settings=settings("complexity"),
        code=code("complexity"),
    shell:
        "python -m snapcoder complexity --in codes {input.codes} --in tokens {input.tokens}"
        " --in tokenizer {input.tokenizer} --in windows {input.windows}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule logits:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        timing="<results>/tables/block{layer}/feature_timing.parquet",
        tokenizer="<text>/corpus/tokenizer.json",
        facts=facts(BASE),
        weights=all_checkpoint_files(),
    output:
        table="<results>/tables/block{layer}/feature_logits.parquet",
        record="<records>/logits.block{layer}.json",
    log:
        "<logs>/logits.block{layer}.log",
    benchmark:
        "<benchmarks>/logits.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("logits"),
        code=code("logits"),
    shell:
        "python -m snapcoder logits --in dictionary {input.dictionary} --in timing {input.timing}"
        " --in tokenizer {input.tokenizer} --in facts {input.facts} --in weights {input.weights}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


# Asks the service that explain.endpoint names; nothing requests it otherwise. A local rule: nodes of a cluster often have no network.
rule explanations:
    input:
        codes="<results>/codes/block{layer}.h5",
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        timing="<results>/tables/block{layer}/feature_timing.parquet",
        examples="<results>/tables/block{layer}/feature_examples.parquet",
    output:
        table="<results>/tables/block{layer}/feature_explanations.parquet",
        record="<records>/explanations.block{layer}.json",
    log:
        "<logs>/explanations.block{layer}.log",
    benchmark:
        "<benchmarks>/explanations.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime="4h",
    params:
        settings=settings("explanations"),
        code=code("explanations"),
    shell:
        "python -m snapcoder explanations --in codes {input.codes} --in tokens {input.tokens}"
        " --in tokenizer {input.tokenizer} --in timing {input.timing} --in examples {input.examples}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
