# The same pipeline with one thing changed: other seeds, warm-ups, untrained models, autoencoders of single snapshots.
# A control is the workflow itself on a derived configuration; files that the change does not reach are the study's.
for control in CONTROLS:
    control_name = f"control_{control.name}"
    control_rules = f"control_{control.name}_"

    module:
        name: control_name
        pathvars:
            text=ROOT,
            models=control_folder(control, control.has_own_models),
            caches=f"{control_folder(control, control.has_own_caches)}/activations",
            results=control_folder(control, True),
            records=f"{ROOT}/provenance/controls/{control.name}",
            logs=f"{ROOT}/logs/controls/{control.name}",
            benchmarks=f"{ROOT}/benchmarks/controls/{control.name}",
        snakefile:
            "../Snakefile"
        config:
            derived_config(control)

    # What a control shares with the study is the study's to make; a rule for it here would be a second maker of one file.
    if control.kind in MODEL_KINDS:

        use rule * from control_name exclude fetch_text, corpus, ngrams, ngram_text, tasks as control_rules*

    elif control.has_own_models:

        use rule * from control_name exclude fetch_text, corpus, ngrams, ngram_text, tasks, pretrain as control_rules*

    else:

        use rule * from control_name exclude fetch_text, corpus, ngrams, ngram_text, tasks, pretrain, snapshot, integrity, cloze, behaviour, task_performance, prompts, harness, activations as control_rules*


rule untrained:
    input:
        config=architecture,
        tokens="<text>/corpus/tokens.h5",
    output:
        weights="<results>/controls/untrained/snapshots/step{step}/model.safetensors",
        config="<results>/controls/untrained/snapshots/step{step}/config.json",
        facts="<results>/controls/untrained/snapshots/step{step}/snapshot.json",
        record="<records>/controls/untrained/untrained.step{step}.json",
    log:
        "<logs>/controls/untrained/untrained.step{step}.log",
    benchmark:
        "<benchmarks>/controls/untrained/untrained.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("untrained"),
        code=code("untrained"),
    shell:
        "python -m snapcoder untrained --in config {input.config} --in tokens {input.tokens}"
        " --out weights {output.weights} --out config {output.config} --out facts {output.facts}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule token_centred:
    input:
        cache="<caches>/block{layer}/step{step}.h5",
    output:
        cache="<results>/controls/token_centred/activations/block{layer}/step{step}.h5",
        record="<records>/controls/token_centred/token_centred.block{layer}.step{step}.json",
    log:
        "<logs>/controls/token_centred/token_centred.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/controls/token_centred/token_centred.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("token_centred"),
        code=code("token_centred"),
    shell:
        "python -m snapcoder token_centred --in cache {input.cache}"
        " --out cache {output.cache}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule seed_stability:
    input:
        dictionaries=of_study_and_controls(
            "crosscoder/block{layer}/dictionary.safetensors", ("crosscoder_seed",)
        ),
        codes=of_study_and_controls("codes/block{layer}.h5", ("crosscoder_seed",)),
        timings=of_study_and_controls(
            "tables/block{layer}/feature_timing.parquet", ("crosscoder_seed",)
        ),
    output:
        pairs="<results>/tables/block{layer}/seed_stability.parquet",
        features="<results>/tables/block{layer}/feature_stability.parquet",
        record="<records>/seed_stability.block{layer}.json",
    log:
        "<logs>/seed_stability.block{layer}.log",
    benchmark:
        "<benchmarks>/seed_stability.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        settings=settings("seed_stability"),
        code=code("seed_stability"),
    shell:
        "python -m snapcoder seed_stability --in dictionaries {input.dictionaries} --in codes {input.codes}"
        " --in timings {input.timings}"
        " --out pairs {output.pairs} --out features {output.features}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule control_statistics:
    input:
        timings=of_study_and_controls("tables/block{layer}/feature_timing.parquet"),
        rotations=of_study_and_controls("tables/block{layer}/rotation_summary.parquet"),
        reconstructions=of_study_and_controls(
            "tables/block{layer}/recon_metrics.parquet"
        ),
        metrics=of_study_and_controls(
            "tables/block{layer}/phase_metrics.parquet", MODEL_KINDS
        ),
        segments=of_study_and_controls(
            "tables/block{layer}/phase_segments.parquet", MODEL_KINDS
        ),
    output:
        statistics="<results>/tables/block{layer}/control_statistics.parquet",
        warmups="<results>/tables/block{layer}/warmup_control.parquet",
        record="<records>/control_statistics.block{layer}.json",
    log:
        "<logs>/control_statistics.block{layer}.log",
    benchmark:
        "<benchmarks>/control_statistics.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("control_statistics"),
        code=code("control_statistics"),
    shell:
        "python -m snapcoder control_statistics --in timings {input.timings} --in rotations {input.rotations}"
        " --in reconstructions {input.reconstructions} --in metrics {input.metrics} --in segments {input.segments}"
        " --out statistics {output.statistics} --out warmups {output.warmups}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule sae_series:
    input:
        caches="<caches>/block{layer}/step{step}.h5",
    output:
        dictionary="<results>/controls/sae_series/block{layer}/step{step}/dictionary.safetensors",
        metrics="<results>/controls/sae_series/block{layer}/step{step}/metrics.parquet",
        record="<records>/controls/sae_series/sae_series.block{layer}.step{step}.json",
    log:
        "<logs>/controls/sae_series/sae_series.block{layer}.step{step}.log",
    benchmark:
        "<benchmarks>/controls/sae_series/sae_series.block{layer}.step{step}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2000,
        runtime="4h",
    params:
        settings=settings("sae_series"),
        code=code("sae_series"),
    shell:
        "python -m snapcoder sae_series --in caches {input.caches}"
        " --out dictionary {output.dictionary} --out metrics {output.metrics}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule sae_series_check:
    input:
        dictionary="<results>/crosscoder/block{layer}/dictionary.safetensors",
        saes=sae_series(),
        trajectory="<results>/tables/block{layer}/feature_trajectory.parquet",
    output:
        match="<results>/tables/block{layer}/sae_series_match.parquet",
        check="<results>/tables/block{layer}/sae_series_check.parquet",
        record="<records>/sae_series_check.block{layer}.json",
    log:
        "<logs>/sae_series_check.block{layer}.log",
    benchmark:
        "<benchmarks>/sae_series_check.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("sae_series_check"),
        code=code("sae_series_check"),
    shell:
        "python -m snapcoder sae_series_check --in dictionary {input.dictionary} --in saes {input.saes} --in trajectory {input.trajectory}"
        " --out match {output.match} --out check {output.check}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule controls_figure:
    input:
        tables=control_tables(),
    output:
        figures=[
            f"<results>/figures/block{{layer}}/{figure.name}.{kind}"
            for figure in figures_of("controls")
            for kind in ("svg", "png")
        ],
        record="<records>/controls_figure.block{layer}.json",
    log:
        "<logs>/controls_figure.block{layer}.log",
    benchmark:
        "<benchmarks>/controls_figure.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("controls_figure"),
        code=code("controls_figure"),
    shell:
        "python -m snapcoder controls_figure --in tables {input.tables}"
        " --out figures {output.figures}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
