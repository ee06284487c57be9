# One activation cache per snapshot and layer.
rule activations:
    input:
        facts="<models>/snapshots/step{step}/snapshot.json",
        weights=checkpoint_files,
        tokens="<text>/corpus/tokens.h5",
    output:
        cache="<caches>/block{layer}/step{step}.h5",
        record="<records>/activations.block{layer}.step{step}.json",
    log:
        "<logs>/activations.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/activations.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        settings=settings("activations"),
        code=code("activations"),
    shell:
        "python -m snapcoder activations --in facts {input.facts} --in weights {input.weights}"
        " --in tokens {input.tokens}"
        " --out cache {output.cache}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
