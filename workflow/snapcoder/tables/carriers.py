"""Tables that connect features with abilities: who carries a task, when, and since when (SCIENCE 4, 6.6)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, STEP, TASK
from snapcoder.tables.evolution import CLASSES
from snapcoder.tables.presence import EVIDENCE, VERDICTS

TIMINGS = ("leads", "together", "lags", "undated")
_DECADES = "decades"
_LOG = "log10 steps"


def _share(name: str, definition: str, *, nullable: bool = False) -> Column:
    return Column(name, "float64", "share", definition, nullable=nullable, minimum=0, maximum=1)


def _p(name: str, definition: str) -> Column:
    return Column(name, "float64", "–", definition, nullable=True, minimum=0, maximum=1)


RELIE = TableSchema(
    "relie",
    "one carrier of a task at one snapshot that can do it",
    ("task", "step", "feature"),
    (
        LAYER,
        TASK,
        STEP,
        FEATURE,
        Column("attr", "float32", "logits", "attribution (ig, corrupted); 0 for a feature that has none here"),
        Column("attr_se", "float32", "logits", "its standard error over examples; 0 where attr is", nullable=True),
        Column("relie", "float32", "share", "|attr| / Σ |attr| over the snapshots that can do the task", nullable=True, minimum=0, maximum=1),
        Column("reldec", "float32", "share", "the same of the decoder norm", nullable=True, minimum=0, maximum=1),
    ),
)  # fmt: skip

RELIE_CHECK = TableSchema(
    "relie_check",
    "one task × quantity",
    ("task", "quantity"),
    (
        LAYER,
        TASK,
        Column("quantity", "string", "–", "what is compared with exact effects that are made relative in the same way", categories=("relie", "reldec")),
        Column("spearman", "float64", "–", "Spearman's correlation over carriers and snapshots with an exact effect; missing below three features measured at two snapshots", nullable=True, minimum=-1, maximum=1),
        Column("ci_lo", "float64", "–", "2.5% bound, bootstrap over features", nullable=True, minimum=-1, maximum=1),
        Column("ci_hi", "float64", "–", "97.5% bound", nullable=True, minimum=-1, maximum=1),
        Column("n_pairs", "int32", "pairs", "pairs of feature and snapshot", minimum=0),
        Column("n_features", "int32", "features", "features behind them", minimum=0),
    ),
)  # fmt: skip


def _onset(prefix: str, name: str, by: str) -> tuple[Column, ...]:
    return (
        Column(f"{prefix}_lo", "int64", "training steps", f"onset by {by}: last snapshot without the feature; missing when perhaps there from the start", nullable=True, minimum=0),
        Column(f"{prefix}_hi", "int64", "training steps", "first snapshot with it; missing without lasting onset", nullable=True, minimum=0),
        Column(f"lag_{name}", "float64", _DECADES, "middle of the onset interval (its end when from the start) − acquisition; negative: the feature comes first", nullable=True),
        Column(f"lag_{name}_lo", "float64", _DECADES, "smallest lag that onset and acquisition interval allow; missing when unbounded", nullable=True),
        Column(f"lag_{name}_hi", "float64", _DECADES, "largest lag that they allow", nullable=True),
        Column(f"timing_{name}", "string", "–", "leads, lags: no lag that the intervals allow is above, or below, 0; together: they cannot be told apart; undated: no onset or no acquisition", categories=TIMINGS),
    )  # fmt: skip


ATTRIBUTION_REPORT = TableSchema(
    "attribution_report",
    "one carrier of a task",
    ("task", "feature"),
    (
        LAYER,
        TASK,
        FEATURE,
        Column("attr_final", "float32", "logits", "attribution at the last snapshot that can do the task"),
        _share("share_final", "|attr| / Σ |attr| over all features at that snapshot"),
        _share("share_mean", "mean of this share over all snapshots that can do the task"),
        Column("rank_final", "int32", "–", "rank by |attr| there; missing when it has none", nullable=True, minimum=1),
        Column("rank_best", "int32", "–", "best rank at any snapshot", minimum=1),
        Column("first_step", "int64", "training steps", "first snapshot at which it is a carrier (carriers.top)", minimum=0),
        Column("last_step", "int64", "training steps", "last such snapshot", minimum=0),
        Column("n_snapshots", "int32", "snapshots", "number of such snapshots", minimum=1),
        Column("relie_centroid", "float64", _LOG, "Σ RelIE · log10 step (step 0 at 0.5): when the feature does its work, among the snapshots that can do the task", nullable=True),
        Column("relie_centroid_se", "float64", _DECADES, "its standard error, from attr_se, snapshots taken as independent", nullable=True, minimum=0),
        Column("relie_spread", "float64", _DECADES, "standard deviation of log10 step under RelIE", nullable=True, minimum=0),
        Column("reldec_centroid", "float64", _LOG, "the centroid by decoder norm", nullable=True),
        Column("class", "string", "–", "as in feature_timing", categories=CLASSES),
        Column("verdict", "string", "–", "on the onset by norm, as in feature_onsets", categories=VERDICTS),
        Column("evidence", "string", "–", "what set the combined onset, as in feature_onsets", categories=(*EVIDENCE, "none")),
        Column("acquisition", "float64", _LOG, "when the task was acquired (task_feature_timing)", nullable=True),
        *_onset("onset", "combined", "combined evidence"),
        *_onset("norm", "norm", "the decoder norm"),
    ),
)  # fmt: skip

TASK_FEATURE_TIMING = TableSchema(
    "task_feature_timing",
    "one task × weighting of its carriers × dating of onsets",
    ("task", "weighting", "onset_by"),
    (
        LAYER,
        TASK,
        Column("weighting", "string", "–", "carriers weigh as their share of |attr| at the first snapshot from which the task lasts, at the last one that can do it, or on average over all that can", categories=("all", "first", "last")),
        Column("onset_by", "string", "–", "evidence that dates onsets", categories=("combined", "norm")),
        Column("step_first", "int64", "training steps", "first snapshot from which the task lasts", minimum=0),
        Column("step_last", "int64", "training steps", "last snapshot that can do the task", minimum=0),
        Column("acquisition", "float64", _LOG, "when the task was acquired: aoa_step of task_performance, or else the middle between the last snapshot without and the first one with it for good", nullable=True),
        Column("acquisition_lo", "float64", _LOG, "lower end: of the sigmoid's 95% interval, or that snapshot", nullable=True),
        Column("acquisition_hi", "float64", _LOG, "upper end", nullable=True),
        Column("acquired_by", "string", "–", "which of the two; none: not acquired to the end", categories=("sigmoid", "snapshots", "none")),
        Column("n_carriers", "int32", "features", "carriers", minimum=0),
        _share("carried", "their share of Σ |attr| over all features"),
        _share("share_initial", "of what they carry: by features that may have been there from the start", nullable=True),
        _share("share_before", "by features that emerged clearly before the acquisition", nullable=True),
        _share("share_together", "by features whose emergence cannot be told apart from it in time", nullable=True),
        _share("share_after", "by features that emerged clearly after it", nullable=True),
        _share("share_undated", "by features without lasting onset", nullable=True),
        Column("lag", "float64", _DECADES, "weighted mean lag of the features that emerged (onset between two snapshots)", nullable=True),
        Column("lag_ci_lo", "float64", _DECADES, "2.5% bound: bootstrap over features, place in the onset intervals, error of the acquisition; missing below two features", nullable=True),
        Column("lag_ci_hi", "float64", _DECADES, "97.5% bound", nullable=True),
        Column("n_emerged", "int32", "features", "features behind lag", minimum=0),
        Column("shift", "float64", _DECADES, "weighted mean onset of all carriers − its mean when onsets are permuted among alive features of the same decile of firing rate", nullable=True),
        _p("p_shift", "two-sided, of that permutation"),
        _p("p_shift_holm", "corrected over tasks"),
        Column("distance", "float64", _DECADES, "weighted mean |lag| of all carriers", nullable=True, minimum=0),
        Column("distance_null", "float64", _DECADES, "its mean under the permutation", nullable=True, minimum=0),
        _p("p_distance", "one-sided: carriers appear nearer to the acquisition than features alike"),
        _p("p_distance_holm", "corrected over tasks"),
        Column("n_pool", "int32", "features", "features that were permuted: alive at a snapshot that can do the task", minimum=0),
    ),
)  # fmt: skip

HANDOVER = TableSchema(
    "handover",
    "one task × snapshot that can do it",
    ("task", "step"),
    (
        LAYER,
        TASK,
        STEP,
        Column("leader", "int32", "index", "feature with the largest |attr|", minimum=0),
        Column("attr", "float32", "logits", "its attribution"),
        Column("attr_se", "float32", "logits", "its standard error", nullable=True),
        _p("p_runner_up", "two-sided, of its lead over the second largest; Holm over the snapshots of the task"),
        Column("holder", "int32", "index", "feature that holds the lead: it stays until another one is clearly ahead (docs/definitions.md)", minimum=0),
        Column("told_apart", "bool", "–", "the holder is clearly ahead here: of the runner-up (p_runner_up < 0.05) or of another feature that leads at some snapshot"),
        Column("from_feature", "int32", "index", "where the lead passes on at this snapshot: the feature that had it, and was clearly ahead of the new holder before", nullable=True, minimum=0),
        Column("from_step", "int64", "training steps", "last snapshot at which that feature was clearly ahead", nullable=True, minimum=0),
        Column("cosine", "float32", "–", "cosine of the two decoders at this snapshot; missing where one is silent", nullable=True, minimum=-1.0001, maximum=1.0001),
        Column("cosine_across", "float32", "–", "cosine of the former holder's decoder at from_step and the new one's here", nullable=True, minimum=-1.0001, maximum=1.0001),
        Column("n_candidates", "int32", "features", "features that lead at any snapshot of the task", minimum=1),
        Column("n_tests", "int32", "tests", "comparisons that the correction covers", minimum=0),
    ),
)  # fmt: skip

ALL = (RELIE, RELIE_CHECK, ATTRIBUTION_REPORT, TASK_FEATURE_TIMING, HANDOVER)
