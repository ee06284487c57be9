# What the figures and the report of a layer are made of.
def harness_tables():
    """The harness's scores of every snapshot; none when the study names no task for it."""
    steps = SHOWN if STUDY.evaluation.harness.tasks else []
    return expand("<models>/harness/step{step}.parquet", step=steps)


def explanation_tables():
    """What a language model says of the features; none unless explain.endpoint names a service."""
    if not STUDY.explain.endpoint:
        return []
    return ["<results>/tables/block{layer}/feature_explanations.parquet"]


def extension_tables():
    return ["<results>/tables/block{layer}/extension_metrics.parquet"] if ADDED else []


def training_log():
    return ["<models>/tables/training_log.parquet"] if PRETRAINED else []


def report_tables():
    """Every table that a layer's figures and report read; a study without a part lacks that part's table."""
    common = [
        "documents",
        "ngram_entropy",
        "snapshots",
        "tasks",
        "task_performance",
        "token_class_loss",
        "token_classes",
        "token_class_contrasts",
    ]
    layer = [
        "crosscoder_training",
        "recon_metrics",
        "feature_trajectory",
        "feature_timing",
        "onset_distribution",
        "onset_tests",
        "threshold_sensitivity",
        "snapshot_sensitivity",
        "shuffled_order",
        "heldout_snapshots",
        "feature_onsets",
        "feature_presence",
        "direction_rotation",
        "rotation_summary",
        "rotation_intervals",
        "turning_points",
        "dimensionality",
        "dimensionality_tests",
        "phase_metrics",
        "phase_segments",
        "feature_formation",
        "formation_onset",
        "order_tests",
        "attribution",
        "attribution_quality",
        "attribution_positions",
        "ablation_curves",
        "ablation_summary",
        "reconstruction_loss",
        "task_reconstruction",
        "downstream_performance",
        "relie",
        "relie_check",
        "attribution_report",
        "task_feature_timing",
        "handover",
        "feature_examples",
        "complexity",
        "context_length",
        "feature_logits",
    ]
    return [
        *expand("<results>/tables/{table}.parquet", table=common),
        *training_log(),
        *expand("<results>/tables/block{{layer}}/{table}.parquet", table=layer),
        *extension_tables(),
        *explanation_tables(),
    ]


def figure_tables(of_tasks):
    """The tables that the figures about tasks are drawn from, or all others."""
    needed = tables_of(figures_of(of_tasks=of_tasks))
    return [path for path in report_tables() if Path(path).stem in needed]


def figure_files(of_tasks=None):
    return expand(
        "<results>/figures/block{{layer}}/{name}.{kind}",
        name=[figure.name for figure in figures_of(of_tasks=of_tasks)],
        kind=("svg", "png"),
    )


def sweep_figure_files():
    """The figures of a sweep; none when no sweep is configured."""
    return expand(
        "<results>/figures/block{{layer}}/{name}.{kind}",
        name=[figure.name for figure in figures_of("sweep")] if SWEEP else [],
        kind=("svg", "png"),
    )


def sweep_tables():
    return ["<results>/tables/block{layer}/sweep_metrics.parquet"] if SWEEP else []


def control_tables():
    """Every table about controls that the study asks for."""
    names = []
    if STUDY.controls.crosscoder_seeds:
        names += ["seed_stability", "feature_stability"]
    if CONTROLS:
        names += ["control_statistics", "warmup_control"]
    if STUDY.controls.sae_series:
        names += ["sae_series_match", "sae_series_check"]
    return expand("<results>/tables/block{{layer}}/{name}.parquet", name=names)


def control_figure_files():
    """The figures of the controls; none when no control is configured."""
    figures = figures_of("controls") if control_tables() else []
    return expand(
        "<results>/figures/block{{layer}}/{name}.{kind}",
        name=[figure.name for figure in figures],
        kind=("svg", "png"),
    )
