# Snapshots of the language model: trained here or read from disk, and whether they are what they say.
if PRETRAINED:

    rule pretrain:
        input:
            tokens="<text>/corpus/tokens.h5",
            tokenizer="<text>/corpus/tokenizer.json",
        output:
            weights=expand(
                "<models>/snapshots/step{step}/model.safetensors", step=SAVED
            ),
            configs=expand("<models>/snapshots/step{step}/config.json", step=SAVED),
            facts=facts(SAVED),
            log="<models>/tables/training_log.parquet",
            record="<records>/pretrain.json",
        log:
            "<logs>/pretrain.log",
        benchmark:
            "<benchmarks>/pretrain.jsonl"
        conda:
            "../envs/snapcoder.yaml"
        threads: HEAVY_THREADS
        resources:
            gpu=1,
            mem_mb=4000,
            runtime="12h",
        params:
            settings=settings("pretrain"),
            code=code("pretrain"),
        shell:
            "python -m snapcoder pretrain --in tokens {input.tokens} --in tokenizer {input.tokenizer}"
            " --out weights {output.weights} --out configs {output.configs} --out facts {output.facts}"
            " --out log {output.log}"
            " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
            " --log {log}"

else:

    rule snapshot:
        input:
            tokens="<text>/corpus/tokens.h5",
            files=checkpoint_files,
        output:
            facts="<models>/snapshots/step{step}/snapshot.json",
            record="<records>/snapshot.step{step}.json",
        log:
            "<logs>/snapshot.step{step}.log",
        benchmark:
            "<benchmarks>/snapshot.step{step}.jsonl"
        conda:
            "../envs/snapcoder.yaml"
        threads: 1
        resources:
            mem_mb=16000,
            runtime="1h",
        params:
            settings=settings("snapshot"),
            code=code("snapshot"),
        shell:
            "python -m snapcoder snapshot --in tokens {input.tokens} --in files {input.files}"
            " --out facts {output.facts}"
            " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
            " --log {log}"


rule integrity:
    input:
        facts=facts(SHOWN),
    output:
        table="<models>/tables/snapshots.parquet",
        record="<records>/integrity.json",
    log:
        "<logs>/integrity.log",
    benchmark:
        "<benchmarks>/integrity.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("integrity"),
        code=code("integrity"),
    shell:
        "python -m snapcoder integrity --in facts {input.facts}"
        " --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
