"""Tables about how few features carry an ability, beside controls and baselines (SCIENCE 6.7)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP, TASK

_ABLATED = (
    Column(
        "mode",
        "string",
        "–",
        "disrupt: the top-k units are ablated; restore: all but the top-k are",
        categories=("disrupt", "restore"),
    ),
    Column(
        "ranking",
        "string",
        "–",
        "which units come first: attr_here, by absolute attribution at this snapshot; attr_final, at the last base snapshot "
        "that was attributed on the task; norm, by decoder norm; random; matched, in the deciles of norm and firing rate of "
        "the top-k of attr_here, none of them",
        categories=("attr_here", "attr_final", "norm", "random", "matched"),
    ),
    Column(
        "ablation",
        "string",
        "–",
        "what an ablated unit takes: zero, its mean over cached rows, or its value on the patch prompt (resample)",
        categories=("zero", "mean", "resample"),
    ),
    Column(
        "unit",
        "string",
        "–",
        "feature; neuron: coordinate of the residual stream; pca: principal direction of the snapshot's cached activations",
        categories=("feature", "neuron", "pca"),
    ),
)
_SCORED = Column(
    "n_examples", "int32", "examples", "evaluation examples (disjoint from those that ranked the features)", minimum=1
)

ABLATION_CURVES = TableSchema(
    "ablation_curves",
    "one task × snapshot × mode × ranking × ablation × unit × k × draw",
    ("task", "step", "mode", "ranking", "ablation", "unit", "k", "draw"),
    (
        LAYER,
        TASK,
        STEP,
        *_ABLATED,
        Column("k", "int32", "units", "number of units; the number of all stands for all", minimum=0),
        Column("draw", "int16", "index", "repetition of a random or matched ranking; 0 otherwise", minimum=0),
        Column("metric", "float64", "logits", "mean logit difference on the evaluation examples"),
        Column("metric_ci_lo", "float64", "logits", "2.5% bound, bootstrap over clusters of examples", nullable=True),
        Column("metric_ci_hi", "float64", "logits", "97.5% bound", nullable=True),
        Column("accuracy", "float64", "share", "examples with a positive logit difference", minimum=0, maximum=1),
        Column(
            "faithfulness",
            "float64",
            "–",
            "(m − m_patch)/(m_clean − m_patch); missing when |m_clean − m_patch| < 3 SE",
            nullable=True,
        ),
        Column(
            "percentile_vs_matched",
            "float64",
            "share",
            "matched draws of this size with a weaker effect; only attr_here, resample, features, where there are draws",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_matched",
            "float64",
            "–",
            "(1 + matched draws with at least this effect) / (1 + draws)",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_matched_holm",
            "float64",
            "–",
            "p_matched, adjusted over the sizes of one mode (Holm)",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        _SCORED,
    ),
)


def _with_interval(name: str, unit: str, definition: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", unit, definition, nullable=True),
        Column(f"{name}_ci_lo", "float64", unit, "2.5% bound, bootstrap over clusters of examples", nullable=True),
        Column(f"{name}_ci_hi", "float64", unit, "97.5% bound", nullable=True),
    )


ABLATION_SUMMARY = TableSchema(
    "ablation_summary",
    "one task × snapshot × mode × ranking × ablation × unit (no controls)",
    ("task", "step", "mode", "ranking", "ablation", "unit"),
    (
        LAYER,
        TASK,
        STEP,
        *_ABLATED,
        Column("n_units", "int32", "units", "number of all units", minimum=1),
        Column("effect", "float64", "logits", "by how much all units together move the mean metric away from clean"),
        Column(
            "effect_share",
            "float64",
            "–",
            "effect / (m_clean − m_patch); missing when that is < 3 SE. What is left of resampled features is the error term",
            nullable=True,
        ),
        *_with_interval(
            "k50",
            "units",
            "smallest k at which s(k) = (m(k) − m(0))/(m(all) − m(0)) reaches ½, linear in k between the sizes run; missing "
            "when the effect is below 3 SE or of the wrong sign",
        ),
        *_with_interval("cpr", "–", "∫ s d(k/n), trapezoids over the sizes run"),
        *_with_interval("cmd", "–", "∫ |1 − s| d(k/n)"),
        Column(
            "matched_k",
            "float64",
            "features",
            "size at which the top features differ most from matched ones; only attr_here, resample, features",
            nullable=True,
        ),
        Column(
            "matched_exact",
            "float64",
            "share",
            "matched features of this size from the very decile of norm and rate; the rest come from the nearest",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "percentile_vs_matched",
            "float64",
            "share",
            "matched draws of this size with a weaker effect",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_matched_holm",
            "float64",
            "–",
            "smallest p against matched draws over the sizes, after Holm's correction for them",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "nonadditivity_k",
            "float64",
            "features",
            "top features that were also ablated one by one; only disrupt, attr_here, resample, features",
            nullable=True,
        ),
        Column("single_sum", "float64", "logits", "sum of the effects of each alone, m_clean − m", nullable=True),
        *_with_interval("nonadditivity", "logits", "effect of them together − single_sum"),
        _SCORED,
    ),
)

ALL = (ABLATION_CURVES, ABLATION_SUMMARY)
