"""Tables about what the dictionary costs the model: losses and task scores through the reconstruction."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP, TASK

_LO, _HI = "2.5% bound, bootstrap over documents", "97.5% bound"

RECONSTRUCTION_LOSS = TableSchema(
    "reconstruction_loss",
    "one snapshot × what takes the place of the activation after the block",
    ("step", "activation"),
    (
        LAYER,
        STEP,
        Column(
            "activation",
            "string",
            "–",
            "clean: the model as it is; reconstructed: â of the dictionary, error dropped; mean: mean activation of the "
            "train rows; zero",
            categories=("clean", "reconstructed", "mean", "zero"),
        ),
        Column("loss", "float64", "nats/token", "mean −log probability of the next token, held-out text"),
        Column("loss_ci_lo", "float64", "nats/token", _LO, nullable=True),
        Column("loss_ci_hi", "float64", "nats/token", _HI, nullable=True),
        Column("kl", "float64", "nats/token", "mean KL(clean prediction ‖ prediction), held-out text", minimum=0),
        Column("kl_ci_lo", "float64", "nats/token", _LO, nullable=True),
        Column("kl_ci_hi", "float64", "nats/token", _HI, nullable=True),
        Column(
            "recovered",
            "float64",
            "share",
            "on rows of an ablation (mean, zero): (its loss − loss with â) / (its loss − clean loss), what the dictionary "
            "keeps of what the ablation destroys; missing where the denominator is not above 0 by 3 of its standard errors",
            nullable=True,
        ),
        Column("recovered_ci_lo", "float64", "share", _LO, nullable=True),
        Column("recovered_ci_hi", "float64", "share", _HI, nullable=True),
        Column("n_tokens", "int64", "tokens", "predictions scored, all after replaced positions", minimum=1),
        Column("n_documents", "int32", "documents", "documents that they lie in", minimum=1),
    ),
)

TASK_RECONSTRUCTION = TableSchema(
    "task_reconstruction",
    "one task × snapshot",
    ("task", "step"),
    (
        LAYER,
        TASK,
        STEP,
        Column("n", "int32", "examples", "examples scored: those that ablations are scored on", minimum=1),
        Column("accuracy_clean", "float64", "share", "accuracy with the activations themselves", minimum=0, maximum=1),
        Column("accuracy", "float64", "share", "accuracy with â at every position of the prefix", minimum=0, maximum=1),
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
        Column("logit_diff_clean", "float64", "logits", "m(M): mean logit difference with the activations themselves"),
        Column("logit_diff_patch", "float64", "logits", "m(∅): the same with the patch prefix's activations"),
        Column("logit_diff", "float64", "logits", "m(â): the same with â on the clean prefix"),
        Column("logit_diff_ci_lo", "float64", "logits", "2.5% bound", nullable=True),
        Column("logit_diff_ci_hi", "float64", "logits", "97.5% bound", nullable=True),
        Column(
            "recovered",
            "float64",
            "share",
            "(m(â) − m(∅)) / (m(M) − m(∅)); missing where the denominator is below 3 of its standard errors",
            nullable=True,
        ),
        Column("recovered_ci_lo", "float64", "share", "2.5% bound", nullable=True),
        Column("recovered_ci_hi", "float64", "share", "97.5% bound", nullable=True),
    ),
)

HARNESS_PERFORMANCE = TableSchema(
    "harness_performance",
    "one snapshot × task of lm-evaluation-harness × metric",
    ("step", "task", "metric"),
    (
        STEP,
        TASK,
        Column("metric", "string", "–", "as the harness names it; a filter other than none follows a comma"),
        Column("value", "float64", "–", "as the harness reports it", nullable=True),
        Column("se", "float64", "–", "the harness's standard error", nullable=True, minimum=0),
        Column("n", "int32", "questions", "questions asked", minimum=0),
        Column("task_version", "string", "–", "the harness's version of the task"),
        Column("harness_version", "string", "–", "version of the package lm-eval"),
    ),
)

DOWNSTREAM_PERFORMANCE = TableSchema(
    "downstream_performance",
    "one snapshot × source × task × metric: every score of what a snapshot can do, side by side",
    ("step", "source", "task", "metric"),
    (
        LAYER,
        STEP,
        Column(
            "source",
            "string",
            "–",
            "model: the snapshot itself; reconstruction: with â after the block; lm-eval: the snapshot itself, by the "
            "external harness",
            categories=("model", "reconstruction", "lm-eval"),
        ),
        Column("task", "string", "–", "name of the task; text: next tokens of held-out text"),
        Column(
            "metric",
            "string",
            "–",
            "accuracy, logit_diff, loss, kl, recovered (of a task), recovered_mean and recovered_zero (of the loss, "
            "against that ablation), or as the harness names it",
        ),
        Column("value", "float64", "–", "the score", nullable=True),
        Column("ci_lo", "float64", "–", "2.5% bound; of the harness: value − 1.96 standard errors", nullable=True),
        Column("ci_hi", "float64", "–", "97.5% bound; of the harness: value + 1.96 standard errors", nullable=True),
        Column("n", "int64", "examples", "examples, questions or tokens scored", minimum=0),
    ),
)

ALL = (RECONSTRUCTION_LOSS, TASK_RECONSTRUCTION, HARNESS_PERFORMANCE, DOWNSTREAM_PERFORMANCE)
