"""Tables about the snapshots and the training that made them."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import STEP

TRAINING_LOG = TableSchema(
    "training_log",
    "one optimiser step of the language model",
    ("step",),
    (
        Column("step", "int64", "training steps", "steps done when the row was written", minimum=1),
        Column("tokens", "int64", "tokens", "tokens seen so far", minimum=1),
        Column("loss", "float64", "nats/token", "training loss of this batch, before the update"),
        Column("lr", "float64", "–", "learning rate of this update", minimum=0),
        Column("grad_norm", "float64", "–", "L2 norm of the gradient before clipping"),
        Column("param_step_norm", "float64", "–", "L2 norm of the change of all parameters in this update"),
    ),
)

SNAPSHOTS = TableSchema(
    "snapshots",
    "one snapshot of the study",
    ("step",),
    (
        STEP,
        Column("tokens", "int64", "tokens", "tokens seen in training before this snapshot", nullable=True),
        Column("added", "bool", "–", "shown through an extension, not part of the base dictionary"),
        Column("source", "string", "–", "where the weights come from"),
        Column("sha256", "string", "–", "hash over the weight files"),
        Column(
            "fingerprint",
            "string",
            "–",
            "hash over names, shapes and values of all tensors, independent of file layout",
        ),
        Column("n_parameters", "int64", "–", "number of parameters", minimum=1),
        Column("loss_fixed_batch", "float64", "nats/token", "loss on the study's fixed held-out batch"),
        Column(
            "duplicate_of",
            "int64",
            "training steps",
            "earliest snapshot with the very same weights; missing when unique",
            nullable=True,
        ),
    ),
)

ALL = (TRAINING_LOG, SNAPSHOTS)
