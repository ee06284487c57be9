"""Tables about abilities: what was asked and how well it was answered (SCIENCE 6.8)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import STEP, TASK

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
            categories=("agreement", "template", "induction", "copy", "closing", "file"),
        ),
        Column(
            "attributable",
            "bool",
            "–",
            "a patch prefix makes the other answer right; false: whole sentences are compared, which is only scored",
        ),
        Column(
            "n_examples",
            "int32",
            "examples",
            "examples kept; of a dropped task, those that passed every filter",
            minimum=0,
        ),
        Column("n_clusters", "int32", "clusters", "independent ones among them", minimum=0),
        Column(
            "n_rejected",
            "int32",
            "examples",
            "candidates refused by a filter; the table task_rejections counts them by reason",
            minimum=0,
        ),
        Column("status", "string", "–", "ready, or dropped for too few examples", categories=("ready", "dropped")),
        Column("reason", "string", "–", "why it was dropped; empty when ready"),
    ),
)

TASK_REJECTIONS = TableSchema(
    "task_rejections",
    "one reason for which candidates of a task are no examples",
    ("task", "reason"),
    (
        TASK,
        Column(
            "reason",
            "string",
            "–",
            "answer_not_one_token; lengths_differ (of the prefixes); merged_at_join (a token spans prefix and answer); "
            "context_too_long; same_answer; duplicate; token_unseen (it does not occur in the held-out text); "
            "no_partner (no other text makes a pair with it); no_shared_beginning (a pair differs in its first token)",
            categories=(
                "answer_not_one_token",
                "lengths_differ",
                "merged_at_join",
                "context_too_long",
                "same_answer",
                "duplicate",
                "token_unseen",
                "no_partner",
                "no_shared_beginning",
            ),
        ),
        Column("n", "int32", "examples", "candidates refused for it; each counts under its first fault", minimum=1),
    ),
)

TASK_SPLITS = TableSchema(
    "task_splits",
    "one example",
    ("task", "example"),
    (
        TASK,
        Column("example", "int32", "index", "line of the task file, from 0", minimum=0),
        Column(
            "cluster", "int32", "index", "first line of the examples that are not independent of this one", minimum=0
        ),
        Column(
            "split",
            "string",
            "–",
            "ranking: features are ranked on it; evaluation: ablations are scored on it; unused: neither",
            categories=("ranking", "evaluation", "unused"),
        ),
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
        Column(
            "logit_diff",
            "float32",
            "logits",
            "logit(clean answer) − logit(patch answer) on the clean prefix; of sentences: log p(right) − log p(wrong)",
        ),
        Column(
            "prob_correct", "float32", "–", "probability of the clean answer, or right sentence", minimum=0, maximum=1
        ),
        Column("loss_answer", "float32", "nats", "−log probability of the clean answer, or right sentence", minimum=0),
    ),
)

TASK_PERFORMANCE = TableSchema(
    "task_performance",
    "one task × snapshot",
    ("task", "step"),
    (
        TASK,
        STEP,
        Column("attributable", "bool", "–", "a patch prefix makes the other answer right (table tasks)"),
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
            "age of acquisition: middle of a sigmoid of the accuracy over log10 step, the same on every row of the task; "
            "missing when the task is not acquired at the last snapshot or the fit is poor",
            nullable=True,
            minimum=0,
        ),
        Column("aoa_lo", "float64", "training steps", "2.5% bound, bootstrap over clusters", nullable=True, minimum=0),
        Column("aoa_hi", "float64", "training steps", "97.5% bound", nullable=True, minimum=0),
        Column(
            "aoa_se",
            "float64",
            "decades",
            "standard deviation of its log10 over the draws",
            nullable=True,
            minimum=0,
        ),
        Column("status", "string", "–", "scored, or why not", categories=("scored", "dropped")),
    ),
)

ALL = (TASKS, TASK_REJECTIONS, TASK_SPLITS, TASK_EXAMPLES, TASK_PERFORMANCE)
