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

ALL = (TASKS, TASK_EXAMPLES, TASK_PERFORMANCE)
