"""Tables about phases of training: metrics per snapshot and the segments they fall into (SCIENCE 6.4, 6.5)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP

BEHAVIOUR = TableSchema(
    "behaviour",
    "one snapshot × metric of its next-token predictions on held-out text",
    ("step", "metric"),
    (
        STEP,
        Column(
            "metric",
            "string",
            "–",
            "loss, distances to n-gram models, information measures, losses on sampled text (docs/definitions.md)",
        ),
        Column(
            "value",
            "float64",
            "see unit",
            "estimate over all scored tokens; missing where it is undefined",
            nullable=True,
        ),
        Column(
            "ci_lo",
            "float64",
            "see unit",
            "2.5% bound, bootstrap over documents (sampled text: over sequences); missing where no interval is defined",
            nullable=True,
        ),
        Column("ci_hi", "float64", "see unit", "97.5% bound", nullable=True),
        Column("n", "int64", "tokens", "tokens scored", minimum=1),
        Column("unit", "string", "–", "unit of value"),
    ),
)

BEHAVIOUR_DRAWS = TableSchema(
    "behaviour_draws",
    "one snapshot × metric × bootstrap draw",
    ("step", "metric", "draw"),
    (
        STEP,
        Column("metric", "string", "–", "metric of the behaviour table"),
        Column(
            "draw",
            "int32",
            "index",
            "bootstrap replicate; the same number resamples the same documents at every snapshot",
            minimum=0,
        ),
        Column("value", "float64", "see unit of the metric", "the metric on the resampled documents", nullable=True),
    ),
)

PHASE_METRICS = TableSchema(
    "phase_metrics",
    "one snapshot × metric",
    ("metric", "step"),
    (
        LAYER,
        STEP,
        Column("tokens", "int64", "tokens", "tokens seen in training", nullable=True),
        Column("metric", "string", "–", "name of the metric (docs/definitions.md)"),
        Column(
            "group",
            "string",
            "–",
            "family of the metric",
            categories=("ngram", "features", "optimiser", "reconstruction", "activations"),
        ),
        Column(
            "split",
            "string",
            "–",
            "text behind the value: held-out documents, those of training, the cached rows of both, or text sampled from "
            "the n-gram models",
            categories=("heldout", "train", "cached", "sampled"),
        ),
        Column("value", "float64", "see unit", "estimate", nullable=True),
        Column("ci_lo", "float64", "see unit", "2.5% bound where an interval is defined", nullable=True),
        Column("ci_hi", "float64", "see unit", "97.5% bound where an interval is defined", nullable=True),
        Column("n", "int64", "see definition", "tokens or features behind the value", nullable=True),
        Column("unit", "string", "–", "unit of value"),
    ),
)

PHASE_SEGMENTS = TableSchema(
    "phase_segments",
    "one segment of one segmentation",
    ("metric_set", "clock", "model", "segment"),
    (
        LAYER,
        Column(
            "metric_set",
            "string",
            "–",
            "which metrics were segmented together",
            categories=("ngram", "features", "joint"),
        ),
        Column(
            "clock",
            "string",
            "–",
            "what a snapshot's weight is measured in: log10 step, step, tokens (steps in another unit at a constant "
            "batch size), or decrease of the lowest loss so far",
            categories=("log_step", "step", "tokens", "loss"),
        ),
        Column(
            "model",
            "string",
            "–",
            "a segment is a constant level, or a straight line over the clock",
            categories=("piecewise_const", "piecewise_linear"),
        ),
        Column("preferred", "bool", "–", "the model with the lower BIC for this metric set and clock"),
        Column("n_segments", "int8", "segments", "K chosen by BIC; 1 means that no boundary was found", minimum=1),
        Column(
            "most_segments",
            "int8",
            "segments",
            "K that BIC could choose at most; K at this limit is a lower bound",
            minimum=1,
        ),
        Column("segment", "int8", "index", "position of the segment, from 0", minimum=0),
        Column("first_step", "int64", "training steps", "first snapshot in the segment", minimum=0),
        Column("last_step", "int64", "training steps", "last snapshot in the segment", minimum=0),
        Column(
            "break_step",
            "int64",
            "training steps",
            "first snapshot after the boundary that starts this segment; missing for the first",
            nullable=True,
        ),
        Column(
            "break_lo",
            "int64",
            "training steps",
            "last snapshot before the boundary's 95% interval, which is (break_lo, break_hi]: scatter about segments allowed for, "
            "and documents, features and seeds resampled",
            nullable=True,
        ),
        Column(
            "break_hi",
            "int64",
            "training steps",
            "last snapshot of that interval: the first one after the boundary at the latest",
            nullable=True,
        ),
        Column(
            "break_support",
            "float64",
            "share",
            "bootstrap draws with a boundary within one snapshot of this one",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "break_over_warmup",
            "float64",
            "–",
            "break_step / length of the learning-rate warm-up; missing when that is unknown",
            nullable=True,
            minimum=0,
        ),
        Column(
            "k_support",
            "float64",
            "share",
            "bootstrap draws whose BIC prefers the same number of segments",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "effective_snapshots",
            "float64",
            "snapshots",
            "(Σ weight)² / Σ weight² on this clock: how many snapshots the evidence amounts to",
            minimum=1,
        ),
        Column("sse", "float64", "–", "weighted squared error of the segmentation on z-scored metrics", minimum=0),
        Column("bic", "float64", "–", "Bayesian information criterion of the chosen segmentation"),
        Column(
            "delta_bic_vs_1seg",
            "float64",
            "–",
            "BIC with one segment − BIC chosen; larger: a better fit than one segment, which one process can give too",
        ),
        Column(
            "p_increments",
            "float64",
            "–",
            "share of permutations of the change per unit of clock that two or more segments fit as well",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_smooth",
            "float64",
            "–",
            "share of permutations about one smooth curve per metric that segments beat as clearly",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_perm",
            "float64",
            "–",
            "the larger of p_increments and p_smooth: against one continuous process of either kind",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_holm",
            "float64",
            "–",
            "p_perm corrected for all clocks and models of the metric set (Holm)",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "label",
            "string",
            "–",
            "by rule, from the values inside the segment (docs/definitions.md); unsupported: p_perm is not below 0.05",
            categories=("statistical", "transition", "feature", "unlabelled", "unsupported"),
        ),
    ),
)

ALL = (BEHAVIOUR, BEHAVIOUR_DRAWS, PHASE_METRICS, PHASE_SEGMENTS)
