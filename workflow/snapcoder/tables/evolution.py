"""Tables about features over training: trajectories, timing, rotation, dimensionality (SCIENCE 6.1–6.3)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, SNAPSHOT, STEP

CLASSES = ("dead", "dense", "initialization", "emergent", "transient", "flat")

FEATURE_TRAJECTORY = TableSchema(
    "feature_trajectory",
    "one feature × one snapshot (base and added)",
    ("feature", "step"),
    (
        LAYER,
        FEATURE,
        SNAPSHOT,
        STEP,
        Column("added", "bool", "–", "the snapshot is shown through an extension"),
        Column("norm", "float32", "normalised units", "‖W_dec,i‖ in snapshot-normalised units", minimum=0),
        Column(
            "norm_raw",
            "float32",
            "activation units",
            "norm in the units of the raw activations: norm / scale of the snapshot",
            minimum=0,
        ),
        Column(
            "norm_rel",
            "float32",
            "–",
            "norm / its maximum over the study's snapshots; missing for a zero decoder",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
        Column("alive", "bool", "–", "firing rate at or above evolution.rate_floor"),
        Column(
            "rate",
            "float32",
            "1/token",
            "share of cached rows on which the feature fires at this snapshot",
            minimum=0,
            maximum=1,
        ),
        Column("rms_f", "float32", "code units", "root mean square of the gated code over all rows", minimum=0),
        Column(
            "mean_active",
            "float32",
            "code units",
            "mean of the gated code over rows where it fires; missing when it never fires",
            nullable=True,
            minimum=0,
        ),
        Column(
            "max_f",
            "float32",
            "code units",
            "largest gated code; missing when it is never on",
            nullable=True,
            minimum=0,
        ),
        Column("contribution", "float32", "normalised units", "norm · rms_f", minimum=0),
        Column(
            "regress_r2",
            "float32",
            "–",
            "share of the activation variance explained by the rank-1 regression of x on the shared code z, minus its expectation 1/(n−1) under permuted rows",
            nullable=True,
        ),
        Column("regress_r2_relative", "float32", "–", "regress_r2 / its maximum over snapshots", nullable=True),
        Column(
            "cos_regression",
            "float32",
            "–",
            "cosine of the decoder with the rank-1 regression direction E[(z−z̄)(x−x̄)]",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
        Column(
            "dimensionality",
            "float32",
            "–",
            "D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)²; missing for a zero decoder",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
    ),
)

_INTERVAL = "interval-censored: (last snapshot absent, first snapshot present]"

FEATURE_TIMING = TableSchema(
    "feature_timing",
    "one feature",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column(
            "class", "string", "–", "what kind of history the feature has (docs/definitions.md)", categories=CLASSES
        ),
        Column(
            "onset_lo",
            "int64",
            "training steps",
            f"onset by norm, {_INTERVAL}; missing when present from the first snapshot",
            nullable=True,
        ),
        Column(
            "onset_hi",
            "int64",
            "training steps",
            "first snapshot of the first run of at least m present snapshots; missing when never",
            nullable=True,
        ),
        Column("onset_alive_lo", "int64", "training steps", f"onset by firing, {_INTERVAL}", nullable=True),
        Column(
            "onset_alive_hi",
            "int64",
            "training steps",
            "first snapshot of lasting firing; missing when never",
            nullable=True,
        ),
        Column(
            "onset_censoring",
            "string",
            "–",
            "left: present at the first snapshot; interval: bracketed; right: never present",
            categories=("left", "interval", "right"),
        ),
        Column(
            "onset_alive_censoring",
            "string",
            "–",
            "the same for the onset by firing",
            categories=("left", "interval", "right"),
        ),
        Column(
            "onset_sigmoid",
            "float64",
            "log10 step",
            "midpoint of a rising 4-parameter sigmoid fitted to norm / maximum over log10 step (step 0 at 0.5); missing where R² is below timing.sigmoid_r2, the midpoint lies outside the snapshots or its error is undefined",
            nullable=True,
        ),
        Column(
            "onset_sigmoid_se",
            "float64",
            "log10 step",
            "its standard error from the fit's covariance; undefined when fewer than two snapshots lie on the rise",
            nullable=True,
            minimum=0,
        ),
        Column(
            "onset_width", "float64", "decades", "distance between 10% and 90% of that rise", nullable=True, minimum=0
        ),
        Column(
            "peak_step",
            "int64",
            "training steps",
            "snapshot of the largest norm; missing for dead features",
            nullable=True,
        ),
        Column("norm_max", "float32", "normalised units", "largest norm", minimum=0),
        Column(
            "lifetime_frac",
            "float32",
            "share",
            "share of snapshots with the feature present by norm",
            minimum=0,
            maximum=1,
        ),
        Column(
            "lifetime_logstep",
            "float32",
            "decades",
            "summed length of the log10-step intervals with the feature present at both ends (step 0 placed at 0.5)",
            minimum=0,
        ),
        Column(
            "offset_lo",
            "int64",
            "training steps",
            "last snapshot present before it fades for good; missing when it survives",
            nullable=True,
        ),
        Column(
            "offset_step",
            "int64",
            "training steps",
            "first snapshot of the final absence; missing when it survives",
            nullable=True,
        ),
        Column(
            "stabilised_step",
            "int64",
            "training steps",
            "earliest snapshot after which 1−cos to the final direction stays < 0.05 and the norm within 20% of its terminal median",
            nullable=True,
        ),
        Column(
            "turn_step",
            "int64",
            "training steps",
            "snapshot that ends the interval of fastest rotation: the larger turn of the two intervals in a row with most degrees per decade, alive throughout",
            nullable=True,
        ),
        Column(
            "cos_first_final",
            "float32",
            "–",
            "cosine of the direction at the first alive snapshot with the final one",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
        Column("rate_mean", "float32", "1/token", "mean firing rate over snapshots", minimum=0, maximum=1),
        Column("rate_final", "float32", "1/token", "firing rate at the last snapshot", minimum=0, maximum=1),
        Column(
            "act_mean",
            "float32",
            "code units",
            "mean gated code where it fires, at the snapshot of its highest rate",
            nullable=True,
        ),
        Column("act_max", "float32", "code units", "largest gated code over snapshots", nullable=True),
        Column("threshold", "float32", "normalised units", "firing threshold on z·norm"),
        Column(
            "participation",
            "float32",
            "snapshots",
            "(Σ norm)² / Σ norm²: in how many snapshots it effectively lives",
            nullable=True,
            minimum=0,
        ),
    ),
)

DIRECTION_ROTATION = TableSchema(
    "direction_rotation",
    "one feature × one pair of snapshots",
    ("feature", "kind", "step_a", "step_b"),
    (
        LAYER,
        FEATURE,
        Column(
            "kind",
            "string",
            "–",
            "adjacent snapshots, or each snapshot against the final one",
            categories=("adjacent", "to_final"),
        ),
        Column("step_a", "int64", "training steps", "earlier snapshot", minimum=0),
        Column("step_b", "int64", "training steps", "later snapshot", minimum=0),
        Column(
            "cos",
            "float32",
            "–",
            "cosine of the two decoder directions; missing for a zero decoder",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
        Column(
            "angle_deg", "float32", "degrees", "angle between the two directions", nullable=True, minimum=0, maximum=180
        ),
        Column(
            "angle_per_decade",
            "float32",
            "degrees/decade",
            "angle / Δlog10 step (step 0 placed at 0.5)",
            nullable=True,
            minimum=0,
        ),
        Column(
            "both_alive",
            "bool",
            "–",
            "the feature fires at both snapshots; directions of silent features are not evidence",
        ),
        Column(
            "procrustes_cos",
            "float32",
            "–",
            "cosine after the best orthogonal map between the two snapshots' decoders, fitted on the other half of the features alive at both: rotation of the feature beyond that of the whole basis; missing unless alive at both and enough features are to fit the map",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
    ),
)

ROTATION_SUMMARY = TableSchema(
    "rotation_summary",
    "one ordered pair of snapshots",
    ("step_a", "step_b"),
    (
        LAYER,
        Column("step_a", "int64", "training steps", "first snapshot", minimum=0),
        Column("step_b", "int64", "training steps", "second snapshot", minimum=0),
        Column("n", "int32", "features", "features alive at both", minimum=0),
        Column("cos_mean", "float32", "–", "mean cosine over features alive at both", nullable=True),
        Column("cos_median", "float32", "–", "median cosine over features alive at both", nullable=True),
        Column("cos_ci_lo", "float32", "–", "2.5% bound of the median, bootstrap over features", nullable=True),
        Column("cos_ci_hi", "float32", "–", "97.5% bound of the median, bootstrap over features", nullable=True),
        Column(
            "procrustes_cos_median",
            "float32",
            "–",
            "median cosine after the best (cross-fitted) orthogonal map",
            nullable=True,
        ),
        Column(
            "cos_null_p95",
            "float32",
            "–",
            "95th percentile of |cos| between different features of the two snapshots",
            nullable=True,
        ),
        Column(
            "cka",
            "float32",
            "–",
            "linear CKA of the two snapshots' activations on the same rows",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
    ),
)

DIMENSIONALITY = TableSchema(
    "dimensionality",
    "one snapshot",
    ("step",),
    (
        LAYER,
        SNAPSHOT,
        STEP,
        Column("added", "bool", "–", "the snapshot is shown through an extension"),
        Column(
            "total_dim_rate",
            "float64",
            "–",
            "Σ_i D_i / d over all features with a non-zero decoder",
            minimum=0,
            maximum=1.0001,
        ),
        Column(
            "total_dim_rate_alive",
            "float64",
            "–",
            "the same over features alive at this snapshot only",
            minimum=0,
            maximum=1.0001,
        ),
        Column(
            "dim_rate_null_norms",
            "float64",
            "–",
            "mean rate of random directions with the same norms",
            minimum=0,
            maximum=1.0001,
        ),
        Column("dim_rate_null_ci_lo", "float64", "–", "2.5% bound of that null", minimum=0),
        Column("dim_rate_null_ci_hi", "float64", "–", "97.5% bound of that null", minimum=0),
        Column(
            "pr_decoder",
            "float64",
            "dimensions",
            "participation ratio (Σλ)²/Σλ² of the decoder's second-moment matrix WᵀW",
            minimum=0,
        ),
        Column(
            "pr_act", "float64", "dimensions", "participation ratio of the covariance of the raw activations", minimum=0
        ),
        Column(
            "pr_act_ci_lo", "float64", "dimensions", "2.5% bound, bootstrap over documents", nullable=True, minimum=0
        ),
        Column(
            "pr_act_ci_hi", "float64", "dimensions", "97.5% bound, bootstrap over documents", nullable=True, minimum=0
        ),
        Column(
            "top1_var_frac",
            "float64",
            "share",
            "variance share of the first principal direction of the activations",
            minimum=0,
            maximum=1.0001,
        ),
        Column("act_mean_norm", "float64", "activation", "mean ‖a‖ of the raw activations, train rows", minimum=0),
        Column("act_max_abs", "float64", "activation", "largest |a_j| of any cached row and dimension", minimum=0),
        Column("d_model", "int32", "dimensions", "d", minimum=1),
    ),
)

ALL = (FEATURE_TRAJECTORY, FEATURE_TIMING, DIRECTION_ROTATION, ROTATION_SUMMARY, DIMENSIONALITY)
