"""Tables about abilities: task performance, attribution, ablation (SCIENCE 6.6–6.8)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP, TASK

TASKS = TableSchema(
    "tasks",
    "one task",
    ("task",),
    (
        TASK,
        Column(
            "kind",
            "string",
            "–",
            "how its examples were made",
            categories=("agreement", "template", "induction", "file"),
        ),
        Column("n_examples", "int32", "examples", "examples that passed every filter", minimum=0),
        Column(
            "n_rejected",
            "int32",
            "examples",
            "candidates refused by a filter (answer not one token, lengths differ, tokens merge at the join)",
            minimum=0,
        ),
        Column("status", "string", "–", "ready, or dropped for too few examples", categories=("ready", "dropped")),
        Column("reason", "string", "–", "why it was dropped; empty when ready"),
    ),
)

TASK_EXAMPLES = TableSchema(
    "task_examples",
    "one example at one snapshot",
    ("step", "task", "example"),
    (
        STEP,
        TASK,
        Column("example", "int32", "index", "line of the task file", minimum=0),
        Column(
            "cluster", "int32", "index", "first line of the examples that are not independent of this one", minimum=0
        ),
        Column("logit_diff", "float32", "logits", "logit(clean answer) − logit(patch answer) on the clean prefix"),
        Column("prob_correct", "float32", "–", "probability of the clean answer", minimum=0, maximum=1),
        Column("loss_answer", "float32", "nats", "−log probability of the clean answer", minimum=0),
    ),
)

TASK_PERFORMANCE = TableSchema(
    "task_performance",
    "one task × snapshot",
    ("task", "step"),
    (
        TASK,
        STEP,
        Column("n", "int32", "examples", "examples scored", minimum=0),
        Column(
            "accuracy",
            "float64",
            "share",
            "examples with a positive logit difference",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "accuracy_ci_lo",
            "float64",
            "share",
            "2.5% bound, bootstrap over clusters of examples",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("accuracy_ci_hi", "float64", "share", "97.5% bound", nullable=True, minimum=0, maximum=1),
        Column("logit_diff", "float64", "logits", "mean logit difference", nullable=True),
        Column("logit_diff_ci_lo", "float64", "logits", "2.5% bound", nullable=True),
        Column("logit_diff_ci_hi", "float64", "logits", "97.5% bound", nullable=True),
        Column(
            "prob_correct", "float64", "–", "mean probability of the right answer", nullable=True, minimum=0, maximum=1
        ),
        Column("loss_answer", "float64", "nats", "mean −log probability of the right answer", nullable=True),
        Column("chance", "float64", "share", "accuracy of guessing between the two answers", minimum=0, maximum=1),
        Column(
            "acquired",
            "bool",
            "–",
            "the whole interval of the accuracy lies above chance and of the logit difference above 0",
        ),
        Column(
            "aoa_step",
            "float64",
            "training steps",
            "step at which the fitted sigmoid of accuracy crosses half-way; missing when the task is not acquired or not fitted",
            nullable=True,
            minimum=0,
        ),
        Column("aoa_se", "float64", "decades", "standard error of log10 of that step", nullable=True, minimum=0),
        Column("aoa_lo", "float64", "training steps", "2.5% bound", nullable=True, minimum=0),
        Column("aoa_hi", "float64", "training steps", "97.5% bound", nullable=True, minimum=0),
        Column("status", "string", "–", "scored, or why not", categories=("scored", "dropped")),
    ),
)

ATTRIBUTION = TableSchema(
    "attribution",
    "one task × snapshot × feature (strongest features; feature −1 is the reconstruction error)",
    ("task", "step", "feature"),
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
        Column(
            "method",
            "string",
            "–",
            "ig: integrated gradients, midpoint rule, from patch to clean activation",
            categories=("ig",),
        ),
        Column("ig_steps", "int16", "steps", "points of the midpoint rule", minimum=1),
        Column("baseline", "string", "–", "corrupted: the patch prefix's own activations", categories=("corrupted",)),
        Column("attr", "float32", "logits", "mean over examples of the attribution, summed over positions"),
        Column("attr_se", "float32", "logits", "standard error over examples", nullable=True),
        Column("attr_abs_mean", "float32", "logits", "mean over examples of |attribution|", minimum=0),
        Column("attr_share", "float32", "–", "attr / mean change of the metric from patch to clean", nullable=True),
        Column("rank", "int32", "–", "1 is the largest |attr|; 0 for the error row", minimum=0),
        Column("n_examples", "int32", "examples", "examples averaged", minimum=1),
    ),
)

ATTRIBUTION_QUALITY = TableSchema(
    "attribution_quality",
    "one task × snapshot",
    ("task", "step"),
    (
        LAYER,
        TASK,
        STEP,
        Column(
            "status",
            "string",
            "–",
            "attributed, or not_acquired: the snapshot cannot do the task",
            categories=("attributed", "not_acquired"),
        ),
        Column("reason", "string", "–", "why nothing was attributed; empty when attributed"),
        Column("metric_clean", "float64", "logits", "mean logit difference on the clean prefix", nullable=True),
        Column(
            "metric_patch",
            "float64",
            "logits",
            "mean logit difference (same answers) with the patch prefix's activations",
            nullable=True,
        ),
        Column("completeness_gap", "float64", "–", "mean |Σ attr + error − Δm| / mean |Δm|", nullable=True, minimum=0),
        Column(
            "error_share",
            "float64",
            "–",
            "share of the summed attribution that falls to the reconstruction error",
            nullable=True,
        ),
        Column("n_examples", "int32", "examples", "examples used", minimum=0),
    ),
)

ABLATION_CURVES = TableSchema(
    "ablation_curves",
    "one task × snapshot × mode × ranking × k × draw",
    ("task", "step", "mode", "ranking", "k", "draw"),
    (
        LAYER,
        TASK,
        STEP,
        Column(
            "mode",
            "string",
            "–",
            "disrupt: top-k features take their patch value; restore: all do but the top-k",
            categories=("disrupt", "restore"),
        ),
        Column("ranking", "string", "–", "which features come first", categories=("attr_here", "norm", "random")),
        Column("ablation", "string", "–", "value that an ablated feature takes", categories=("resample",)),
        Column("k", "int32", "features", "number of features; the dictionary's size stands for all", minimum=0),
        Column("draw", "int16", "index", "repetition of the random ranking; 0 otherwise", minimum=0),
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
            "n_examples",
            "int32",
            "examples",
            "evaluation examples (disjoint from those that ranked the features)",
            minimum=1,
        ),
    ),
)

ALL = (TASKS, TASK_EXAMPLES, TASK_PERFORMANCE, ATTRIBUTION, ATTRIBUTION_QUALITY, ABLATION_CURVES)
