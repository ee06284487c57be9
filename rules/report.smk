# Tables to pictures and pages.
rule figures:
    input:
        tables=figure_tables(of_tasks=False),
    output:
        figures=figure_files(of_tasks=False),
        record="<records>/figures.block{layer}.json",
    log:
        "<logs>/figures.block{layer}.log",
    benchmark:
        "<benchmarks>/figures.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("figures"),
        code=code("figures"),
    shell:
        "python -m snapcoder figures --in tables {input.tables}"
        " --out figures {output.figures}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule task_figures:
    input:
        tables=figure_tables(of_tasks=True),
    output:
        figures=figure_files(of_tasks=True),
        record="<records>/task_figures.block{layer}.json",
    log:
        "<logs>/task_figures.block{layer}.log",
    benchmark:
        "<benchmarks>/task_figures.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("task_figures"),
        code=code("task_figures"),
    shell:
        "python -m snapcoder task_figures --in tables {input.tables}"
        " --out figures {output.figures}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule report:
    input:
        tables=[*report_tables(), *sweep_tables(), *control_tables()],
        figures=[*figure_files(), *sweep_figure_files(), *control_figure_files()],
    output:
        page="<results>/report/block{layer}/index.html",
        manifest="<results>/report/block{layer}/manifest.json",
        findings="<results>/report/block{layer}/findings.json",
        claims="<results>/tables/block{layer}/claims.parquet",
        record="<records>/report.block{layer}.json",
    log:
        "<logs>/report.block{layer}.log",
    benchmark:
        "<benchmarks>/report.block{layer}.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("report"),
        code=code("report"),
    shell:
        "python -m snapcoder report --in tables {input.tables} --in figures {input.figures}"
        " --out page {output.page} --out manifest {output.manifest} --out findings {output.findings}"
        " --out claims {output.claims}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"


rule landing:
    input:
        pages=expand("<results>/report/block{layer}/index.html", layer=LAYERS),
    output:
        page="<results>/report/index.html",
        record="<records>/landing.json",
    log:
        "<logs>/landing.log",
    benchmark:
        "<benchmarks>/landing.jsonl"
    conda:
        "../envs/snapcoder.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        settings=settings("landing", layers=list(LAYERS)),
        code=code("landing"),
    shell:
        "python -m snapcoder landing --in pages {input.pages}"
        " --out page {output.page}"
        " --record {output.record} --settings {params.settings:q} --code {params.code} --threads {threads}"
        " --log {log}"
