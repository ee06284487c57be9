"""Tables about onsets taken together: their distribution, its tests, and what it depends on (SCIENCE 6.1, 6.11, 6.12)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP
from snapcoder.tables.evolution import CLASSES

_ONSET_BY = Column(
    "onset_by",
    "string",
    "–",
    "what tells onsets: the decoder norm, firing, or combined evidence",
    categories=("norm", "firing", "combined"),
)
_GROUP = Column(
    "group",
    "string",
    "–",
    "features taken together: all that are not dead, or one class",
    categories=("live", "initialization", "emergent"),
)
_NULLS = {
    "log_uniform": "features appear at a constant rate per decade",
    "linear_uniform": "features appear at a constant rate per step",
    "log_hazard": "each feature still to come has a constant chance per decade",
    "linear_hazard": "each feature still to come has a constant chance per step",
}

ONSET_DISTRIBUTION = TableSchema(
    "onset_distribution",
    "one kind of evidence × one group of features × one interval between snapshots, with the open intervals before the first and after the last",
    ("onset_by", "group", "bin"),
    (
        LAYER,
        _ONSET_BY,
        _GROUP,
        Column(
            "bin",
            "int16",
            "index",
            "0: at or before the first snapshot; last: after the last one, or never",
            minimum=0,
        ),
        Column(
            "step_lo",
            "int64",
            "training steps",
            "the interval starts after this snapshot; missing for bin 0",
            nullable=True,
        ),
        Column(
            "step_hi",
            "int64",
            "training steps",
            "the interval ends with this snapshot; missing for the last bin",
            nullable=True,
        ),
        Column(
            "decades",
            "float64",
            "decades",
            "width of the interval in log10 steps (step 0 at 0.5); missing for open intervals",
            nullable=True,
        ),
        Column("n", "int64", "features", "features in the group", minimum=0),
        Column(
            "mass",
            "float64",
            "share",
            "share of onsets in the interval, by nonparametric maximum likelihood from censored onsets (Turnbull 1976)",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
        Column("mass_ci_lo", "float64", "share", "2.5% bound, bootstrap over features", nullable=True, minimum=0),
        Column(
            "mass_ci_hi",
            "float64",
            "share",
            "97.5% bound, bootstrap over features; at least the exact binomial bound for none of n",
            nullable=True,
            minimum=0,
        ),
        Column(
            "resolved",
            "bool",
            "–",
            "the onsets tell this interval from all others; if not, mass is shared between such intervals by decades",
        ),
        Column("rate_per_decade", "float64", "features/decade", "n · mass / decades", nullable=True, minimum=0),
        Column(
            "rate_per_1000_steps", "float64", "features/1000 steps", "n · mass per 1000 steps", nullable=True, minimum=0
        ),
        Column(
            "hazard_per_decade",
            "float64",
            "1/decade",
            "−log(1 − mass / mass from here on) / decades: chance to appear of a feature that has not yet",
            nullable=True,
            minimum=0,
        ),
        Column("hazard_per_1000_steps", "float64", "1/1000 steps", "the same per 1000 steps", nullable=True, minimum=0),
        Column(
            "peak_support",
            "float64",
            "share",
            "bootstrap draws in which this interval has the strongest excess over a constant rate per decade",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        *(
            Column(
                f"expected_{name}", "float64", "features", f"onsets expected here if {text}", nullable=True, minimum=0
            )
            for name, text in _NULLS.items()
        ),
    ),
)

ONSET_TESTS = TableSchema(
    "onset_tests",
    "one kind of evidence × one group of features × one null",
    ("onset_by", "group", "null"),
    (
        LAYER,
        _ONSET_BY,
        _GROUP,
        Column(
            "null",
            "string",
            "–",
            "; ".join(f"{name}: {text}" for name, text in _NULLS.items()),
            categories=tuple(_NULLS),
        ),
        Column(
            "n",
            "int64",
            "features",
            "features tested: uniform nulls, those with an onset between first and last snapshot; hazards, all those absent at the first",
            minimum=0,
        ),
        Column(
            "peak_lo",
            "int64",
            "training steps",
            "the interval of the strongest excess starts after this",
            nullable=True,
        ),
        Column("peak_hi", "int64", "training steps", "and ends with this snapshot", nullable=True),
        Column("observed", "float64", "features", "onsets there", nullable=True, minimum=0),
        Column("expected", "float64", "features", "onsets expected there under the null", nullable=True, minimum=0),
        Column(
            "statistic",
            "float64",
            "nats",
            "largest log-likelihood ratio of an interval with a share of its own against the null (scan statistic, Kulldorff 1997)",
            nullable=True,
            minimum=0,
        ),
        Column(
            "p",
            "float64",
            "–",
            "(1 + draws at least as large) / (1 + draws), Monte-Carlo with the same censoring",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("p_holm", "float64", "–", "p, adjusted over the nulls (Holm)", nullable=True, minimum=0, maximum=1),
        Column("draws", "int32", "draws", "Monte-Carlo draws", minimum=1),
    ),
)

_OUTCOME = (
    *(Column(f"n_{name}", "int64", "features", f"features of class {name}", minimum=0) for name in CLASSES),
    Column(
        "emergent_share",
        "float64",
        "share",
        "emergent features among those not dead",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column("n_dated", "int64", "features", "live features with an onset between two snapshots", minimum=0),
    Column(
        "median_onset",
        "float64",
        "training steps",
        "median over these of the middle of the interval, in log10 steps",
        nullable=True,
    ),
    Column(
        "peak_lo",
        "int64",
        "training steps",
        "the interval with the strongest excess over a constant rate per decade starts after this",
        nullable=True,
    ),
    Column("peak_hi", "int64", "training steps", "and ends with this snapshot", nullable=True),
    Column(
        "peak_share", "float64", "share", "share of the dated onsets in it", nullable=True, minimum=0, maximum=1.0001
    ),
    Column("peak_excess", "float64", "–", "onsets in it / onsets expected", nullable=True, minimum=0),
    Column(
        "p_log_uniform",
        "float64",
        "–",
        "Monte-Carlo p of that excess, as in onset_tests",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
)


def _agreement(reference: str) -> tuple[Column, ...]:
    return (
        Column(
            "class_agreement",
            "float64",
            "share",
            f"features live with {reference} whose class is the same",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "spearman",
            "float64",
            "–",
            f"rank correlation of onsets with those of {reference}, left-censored first and right-censored last, over features live in both",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
        Column("n_both_dated", "int64", "features", "features with an onset between two snapshots in both", minimum=0),
        Column(
            "spearman_dated",
            "float64",
            "–",
            "rank correlation over these",
            nullable=True,
            minimum=-1.0001,
            maximum=1.0001,
        ),
        Column(
            "median_shift",
            "float64",
            "decades",
            "median distance between the middles of their two intervals",
            nullable=True,
            minimum=0,
        ),
        Column(
            "emd_decades",
            "float64",
            "decades",
            "earth mover's distance between the two distributions of dated onsets, at the middles of intervals",
            nullable=True,
            minimum=0,
        ),
    )


THRESHOLD_SENSITIVITY = TableSchema(
    "threshold_sensitivity",
    "one choice of α and m",
    ("alpha", "consecutive"),
    (
        LAYER,
        Column("alpha", "float64", "–", "present by norm: at least this share of the feature's own maximum", minimum=0),
        Column("consecutive", "int32", "snapshots", "m: snapshots in a row that make an onset", minimum=1),
        Column("default", "bool", "–", "the study's own choice"),
        *_OUTCOME,
        *_agreement("the study's choice"),
    ),
)

SNAPSHOT_SENSITIVITY = TableSchema(
    "snapshot_sensitivity",
    "one choice of snapshots: every n-th from a phase on, with the first and the last",
    ("every", "phase"),
    (
        LAYER,
        Column("every", "int32", "snapshots", "n; 1 is the study's own grid", minimum=1),
        Column("phase", "int32", "snapshots", "index of the first of them", minimum=0),
        Column("n_snapshots", "int32", "snapshots", "snapshots kept", minimum=1),
        *_OUTCOME,
        *_agreement("all snapshots"),
        Column(
            "consistent",
            "float64",
            "share",
            "live features whose onset interval from all snapshots lies inside the one from fewer",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "emd_resolution",
            "float64",
            "decades",
            "earth mover's distance if the onsets from all snapshots were merely known up to the wider intervals",
            nullable=True,
            minimum=0,
        ),
        Column(
            "turn_lo",
            "int64",
            "training steps",
            "the interval in which the median direction turns fastest starts here (rule of turn_step)",
            nullable=True,
        ),
        Column("turn_hi", "int64", "training steps", "and ends here", nullable=True),
    ),
)

HELDOUT_SNAPSHOTS = TableSchema(
    "heldout_snapshots",
    "one base snapshot but the first and the last × one way to reconstruct it",
    ("step", "method"),
    (
        LAYER,
        STEP,
        Column(
            "method",
            "string",
            "–",
            "own: the decoder trained for it; interpolated: the line in log step between its neighbours' decoders; nearest: the nearer neighbour's; endpoints: the line between the first and the last snapshot's; blind: interpolated, with center and scale interpolated too (otherwise the snapshot's own); pca: l0 principal components of its own training rows",
            categories=("own", "interpolated", "nearest", "endpoints", "blind", "pca"),
        ),
        Column("step_before", "int64", "training steps", "base snapshot before", minimum=0),
        Column("step_after", "int64", "training steps", "base snapshot after", minimum=0),
        Column(
            "ev",
            "float64",
            "–",
            "explained variance 1 − Σ‖a−â‖²/Σ‖a−ā‖² of raw activations on held-out rows",
            nullable=True,
            maximum=1.0001,
        ),
        Column("ev_ci_lo", "float64", "–", "2.5% bound, bootstrap over documents", nullable=True),
        Column("ev_ci_hi", "float64", "–", "97.5% bound, bootstrap over documents", nullable=True),
        Column("l0", "float64", "features", "mean number of active features, or of components", minimum=0),
        Column("n_rows", "int32", "rows", "held-out rows scored", minimum=0),
    ),
)

SHUFFLED_ORDER = TableSchema(
    "shuffled_order",
    "one quantity read off the histories of all live features",
    ("quantity",),
    (
        LAYER,
        Column(
            "quantity",
            "string",
            "–",
            "switches: changes between present and absent per feature; share_unbroken: features that switch at most once; share_…: classes; onset_peak_share: dated onsets at the commonest snapshot",
        ),
        Column("unit", "string", "–", "unit of value"),
        Column("value", "float64", "see unit", "in the true order of the snapshots", nullable=True),
        Column("shuffled_mean", "float64", "see unit", "mean over shuffled orders", nullable=True),
        Column("shuffled_lo", "float64", "see unit", "2.5% point over shuffled orders", nullable=True),
        Column("shuffled_hi", "float64", "see unit", "97.5% point over shuffled orders", nullable=True),
        Column(
            "p",
            "float64",
            "–",
            "share of shuffled orders that look at least as ordered",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("n_features", "int32", "features", "live features", minimum=0),
        Column("n_shuffles", "int32", "orders", "shuffled orders", minimum=0),
    ),
)

ALL = (SHUFFLED_ORDER, ONSET_DISTRIBUTION, ONSET_TESTS, THRESHOLD_SENSITIVITY, SNAPSHOT_SENSITIVITY, HELDOUT_SNAPSHOTS)
