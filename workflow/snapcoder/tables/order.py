"""Tables of the tests of order, and of formation in the activations (SCIENCE 6.10, 6.12; PEERS D2)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, STEP

ORDER_TESTS = TableSchema(
    "order_tests",
    "one test of what comes before what",
    ("question", "x", "y", "group", "onset_by", "statistic_name", "tolerance"),
    (
        LAYER,
        Column(
            "question", "string", "–", "the claim that is tested (docs/definitions.md)",
            categories=("ngram_before_features", "unigram_before_bigram", "type_order", "type_pair", "later_more_complex", "formation_agrees"),
        ),
        Column("x", "string", "–", "what should come first, or the time that is correlated; all_metrics: the claim for every metric at once"),
        Column("y", "string", "–", "what should come later, or what it is correlated with"),
        Column("group", "string", "–", "features tested: all with a lasting onset and not dead, or emergent ones with an onset between two snapshots", categories=("all", "emergent", "none")),
        Column("onset_by", "string", "–", "evidence that dates the onset", categories=("norm", "combined", "none")),
        Column(
            "statistic_name", "string", "–", "difference_of_times: y − x; jonckheere_terpstra: J; (partial) Spearman's ρ; share whose two onsets lie within one snapshot",
            categories=("difference_of_times", "jonckheere_terpstra", "spearman", "partial_spearman", "share_within_one_snapshot"),
        ),
        Column("tolerance", "float64", "share", "of its fall that a distance may still have to make when it counts as settled; missing where nothing settles", nullable=True, minimum=0),
        Column("statistic", "float64", "see definition", "difference of interval midpoints in decades of steps; J; ρ; share", nullable=True),
        Column("effect", "float64", "see definition", "the same in interpretable units: decades; P(as stated) − P(reversed) over pairs of features; ρ; share", nullable=True),
        Column("ci_lo", "float64", "unit of effect", "2.5% bound of the effect; of a difference of times: of the smallest value that the snapshots allow, exclusive; missing when unbounded", nullable=True),
        Column("ci_hi", "float64", "unit of effect", "97.5% bound of the effect; of a difference of times: of the largest value that the snapshots allow", nullable=True),
        Column("p", "float64", "–", "under the null; one-sided for orders, two-sided for correlations", nullable=True, minimum=0, maximum=1),
        Column("p_adjusted", "float64", "–", "p after the correction", nullable=True, minimum=0, maximum=1),
        Column("correction", "string", "–", "how p was corrected, and over how many tests"),
        Column("n", "int64", "features", "features behind the test; for unigram_before_bigram: predictions scored", minimum=0),
        Column("null", "string", "–", "what is resampled or permuted"),
        Column("verdict", "string", "–", "by rule (docs/definitions.md)", categories=("supported", "not_supported", "undecidable")),
        Column("note", "string", "–", "counts, dates, or why nothing can be said"),
    ),
)  # fmt: skip

FORMATION_ROWS = TableSchema(
    "formation_rows",
    "one strong row of one feature in one half of the documents",
    ("feature", "half", "rank"),
    (
        LAYER,
        FEATURE,
        Column("half", "int8", "index", "half of the documents that the row lies in", minimum=0, maximum=1),
        Column("rank", "int16", "–", "order by code within feature and half, from 0", minimum=0),
        Column("row", "int64", "index", "row of the activation caches", minimum=0),
        Column("doc", "int32", "index", "its document", minimum=0),
        Column("token", "int32", "token id", "its token", minimum=0),
    ),
)

_FORMATION = (
    LAYER,
    FEATURE,
    STEP,
    Column("similarity", "float32", "cosine", "mean cosine between the feature's strongest rows in one half of the documents and in the other, activations centred; missing with fewer than five rows in a half", nullable=True, minimum=-1.0001, maximum=1.0001),
    Column("random", "float32", "cosine", "the same for random rows of the same halves", nullable=True, minimum=-1.0001, maximum=1.0001),
    Column("matched", "float32", "cosine", "the same for random rows with the same tokens", nullable=True, minimum=-1.0001, maximum=1.0001),
    Column("formation", "float32", "cosine", "similarity − matched", nullable=True),
    Column("ci_lo", "float32", "cosine", "2.5% bound of formation, clustered by document", nullable=True),
    Column("ci_hi", "float32", "cosine", "97.5% bound of formation", nullable=True),
    Column("p", "float64", "–", "one-sided: formation when rows and their controls with the same tokens are exchanged at random, by document", nullable=True, minimum=0, maximum=1),
    Column("q", "float64", "–", "p by Benjamini and Hochberg over the features of the snapshot", nullable=True, minimum=0, maximum=1),
    Column("selection_median", "float32", "cosine", "median formation of rows chosen along random directions of the same activations", nullable=True),
    Column("selection_p95", "float32", "cosine", "its 95% quantile", nullable=True),
    Column("n_rows", "int32", "rows", "rows in both halves", minimum=0),
    Column("n_docs", "int32", "documents", "documents that these rows lie in", minimum=0),
)  # fmt: skip

FORMATION = TableSchema("formation", "one feature at this snapshot", ("feature", "step"), _FORMATION)

FEATURE_FORMATION = TableSchema(
    "feature_formation",
    "one feature × snapshot",
    ("feature", "step"),
    (
        *_FORMATION,
        Column("formation_rel", "float32", "share", "formation / its largest value over snapshots; missing when that is not positive", nullable=True),
    ),
)  # fmt: skip

FORMATION_ONSET = TableSchema(
    "formation_onset",
    "one feature",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column("formation_max", "float32", "cosine", "largest formation over snapshots", nullable=True),
        Column("peak_step", "int64", "training steps", "snapshot of the largest formation", nullable=True),
        Column("onset_lo", "int64", "training steps", "onset by formation, interval-censored: (last snapshot not formed, first snapshot formed]; missing when formed from the first snapshot", nullable=True),
        Column("onset_hi", "int64", "training steps", "first of m snapshots in a row with formation at least α of its maximum and q < 0.05; missing when never", nullable=True),
        Column("onset_censoring", "string", "–", "left: formed at the first snapshot; interval: bracketed; right: never formed", categories=("left", "interval", "right")),
        Column("above_selection", "bool", "–", "whether the largest formation exceeds selection_p95 of its snapshot"),
    ),
)  # fmt: skip

ALL = (ORDER_TESTS, FORMATION_ROWS, FORMATION, FEATURE_FORMATION, FORMATION_ONSET)
