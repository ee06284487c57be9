"""Tables about the features that carry an ability: attribution, how good it is, and where (SCIENCE 6.6)."""

import pandas as pd

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP, TASK

PRIMARY = ("ig", "corrupted")
"""Method and baseline that other steps, figures and findings rank features by."""

_METHOD = Column(
    "method",
    "string",
    "–",
    "atp: gradient at the clean prompt (attribution patching); ig: its mean over a path to it (integrated gradients)",
    categories=("atp", "ig"),
)
_BASELINE = Column(
    "baseline",
    "string",
    "–",
    "other end of the path: codes of the patch prefix (the error moves, too), mean codes, or zero (the error stays)",
    categories=("corrupted", "mean", "zero"),
)
_IG_STEPS = Column("ig_steps", "int16", "points", "points where the gradient was taken; atp: 1", minimum=0)

ATTRIBUTION = TableSchema(
    "attribution",
    "one task × snapshot × method × baseline × feature (strongest and verified ones; feature −1: reconstruction error)",
    ("task", "step", "method", "baseline", "feature"),
    (
        LAYER,
        TASK,
        STEP,
        Column(
            "feature",
            "int32",
            "index",
            "feature; −1: the part of the activation that the dictionary does not explain",
            minimum=-1,
        ),
        _METHOD,
        _IG_STEPS,
        _BASELINE,
        Column("attr", "float32", "logits", "mean over examples of the attribution, summed over positions"),
        Column(
            "attr_se", "float32", "logits", "its standard error, bootstrap over clusters of examples", nullable=True
        ),
        Column("attr_abs_mean", "float32", "logits", "mean over examples of |attribution|", minimum=0),
        Column("attr_share", "float32", "–", "attr / mean change of the metric along the path", nullable=True),
        Column("rank", "int32", "–", "1 is the largest |attr|; 0 for the error row", minimum=0),
        Column(
            "position_max",
            "int16",
            "positions",
            "where |attribution summed over examples| is largest, counted back from the last position (0)",
            maximum=0,
        ),
        Column(
            "delta_f",
            "float32",
            "code units",
            "f − r summed over positions, mean over examples (r: code at the path's other end)",
            nullable=True,
        ),
        Column(
            "grad_mean",
            "float32",
            "logits per code unit",
            "mean of ∂m/∂f over all positions where f ≠ r",
            nullable=True,
        ),
        Column(
            "p_signflip",
            "float64",
            "–",
            "two-sided p of the mean under random signs of clusters of examples",
            minimum=0,
            maximum=1,
        ),
        Column(
            "q_bh",
            "float64",
            "–",
            "p_signflip adjusted over the features of task × snapshot × method × baseline (Benjamini–Hochberg); missing where "
            "too few clusters have a value for p ≤ 0.05",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "exact_effect",
            "float32",
            "logits",
            "mean change of the metric when this feature alone goes from r to f; missing unless verified",
            nullable=True,
        ),
        Column(
            "exact_effect_heldout",
            "float32",
            "logits",
            "the same on the examples that ranked nothing",
            nullable=True,
        ),
        Column("n_examples", "int32", "examples", "examples averaged", minimum=1),
    ),
)

ATTRIBUTION_QUALITY = TableSchema(
    "attribution_quality",
    "one task × snapshot × method × baseline; one row where the task is not acquired",
    ("task", "step", "method", "baseline"),
    (
        LAYER,
        TASK,
        STEP,
        _METHOD,
        _BASELINE,
        Column(
            "status",
            "string",
            "–",
            "attributed; not_acquired: the snapshot cannot do the task; not_attributable: it has no patch prefix",
            categories=("attributed", "not_acquired", "not_attributable"),
        ),
        Column("reason", "string", "–", "why nothing was attributed, or why linear is not yes; else empty"),
        Column("metric_clean", "float64", "logits", "mean logit difference on the clean prefix", nullable=True),
        Column(
            "metric_base", "float64", "logits", "the same (same answers) at the other end of the path", nullable=True
        ),
        Column("completeness_gap", "float64", "–", "mean |Σ attr + error − Δm| / mean |Δm|", nullable=True, minimum=0),
        _IG_STEPS,
        Column("tried_steps", "list<int32>", "points", "numbers of points tried; the last was used"),
        Column("tried_gaps", "list<float32>", "–", "completeness gap with each of them"),
        Column(
            "error_share",
            "float64",
            "–",
            "share of the summed attribution that falls to the reconstruction error; 0 where it stays",
            nullable=True,
        ),
        Column("n_tested", "int32", "features", "features with a q_bh", minimum=0),
        Column("n_significant", "int32", "features", "those with q_bh < 0.05", minimum=0),
        Column("n_exact_top", "int32", "features", "verified features among the strongest", minimum=0),
        Column("n_exact_random", "int32", "features", "verified features that were drawn", minimum=0),
        Column(
            "exact_slope", "float64", "–", "least-squares slope of attr on exact_effect, all verified", nullable=True
        ),
        Column("exact_r", "float64", "–", "Pearson correlation of attr and exact_effect, all verified", nullable=True),
        Column("exact_r2", "float64", "–", "1 − Σ(exact − attr)² / Σ(exact − mean exact)²", nullable=True, maximum=1),
        Column(
            "exact_sign",
            "float64",
            "share",
            "verified features with an effect whose attr has its sign",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("exact_r_top", "float64", "–", "exact_r of the strongest", nullable=True),
        Column("exact_sign_top", "float64", "share", "exact_sign of the strongest", nullable=True),
        Column("exact_r_random", "float64", "–", "exact_r of the drawn ones", nullable=True),
        Column("exact_sign_random", "float64", "share", "exact_sign of the drawn ones", nullable=True),
        Column("exact_r_heldout", "float64", "–", "correlation of attr with exact_effect_heldout", nullable=True),
        Column(
            "linear",
            "string",
            "–",
            "yes: exact_r ≥ 0.95, exact_slope from 0.8 to 1.25, completeness_gap ≤ tasks.ig_tolerance; no: see reason",
            categories=("yes", "no", "unknown"),
        ),
        Column("n_examples", "int32", "examples", "examples used", minimum=0),
        Column("n_clusters", "int32", "clusters", "independent ones among them", minimum=0),
    ),
)

ATTRIBUTION_POSITIONS = TableSchema(
    "attribution_positions",
    "one task × snapshot × ranking example × feature × position (a few examples, the strongest features)",
    ("task", "step", "example", "feature", "position"),
    (
        LAYER,
        TASK,
        STEP,
        Column("example", "int32", "index", "line of the task file", minimum=0),
        Column(
            "feature",
            "int32",
            "index",
            "feature; −1: reconstruction error; −2: everything together (all features and the error)",
            minimum=-2,
        ),
        Column("position", "int16", "index", "position in the clean prefix", minimum=0),
        Column("token", "string", "–", "its token in the clean prefix"),
        Column("attr", "float32", "logits", "attribution at this position, method ig, baseline corrupted"),
    ),
)

ALL = (ATTRIBUTION, ATTRIBUTION_QUALITY, ATTRIBUTION_POSITIONS)


def primary_attribution(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of attribution or attribution_quality that are of the primary method and baseline."""
    if rows.empty:
        return rows
    return rows[(rows["method"] == PRIMARY[0]) & (rows["baseline"] == PRIMARY[1])]
