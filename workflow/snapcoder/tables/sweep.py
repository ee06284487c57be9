"""The table of a sweep: how well dictionaries of other sizes, sparsities, arms and seeds reconstruct."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.study.sweep import ARMS
from snapcoder.tables.common import LAYER
from snapcoder.tables.crosscoder import RECON_METRICS

_SCORES = tuple(
    column for column in RECON_METRICS.columns if column.name not in ("layer", "snapshot", "step", "dict_size")
)  # the definitions of recon_metrics; n_features says the size

SWEEP_METRICS = TableSchema(
    "sweep_metrics",
    "one dictionary of the sweep × one snapshot that it was trained on; snapshot −1 pools these",
    ("kind", "arm", "n_features", "sparsity", "seed", "step", "snapshot"),
    (
        LAYER,
        Column(
            "kind",
            "string",
            "–",
            "crosscoder: trained on all base snapshots; sae: the same training on one snapshot alone",
            categories=("crosscoder", "sae"),
        ),
        Column("arm", "string", "–", "activation function and sparsity, as crosscoder.arm", categories=ARMS),
        Column("n_features", "int32", "features", "F, the size of the dictionary", minimum=1),
        Column(
            "sparsity",
            "float64",
            "–",
            "sparsity setting: crosscoder.k of batchtopk and topk, crosscoder.sparsity_weight of jumprelu and relu_l1",
            minimum=0,
        ),
        Column("seed", "int64", "–", "seed of initialisation and row order", minimum=0),
        Column(
            "snapshot",
            "int16",
            "index",
            "position among the snapshots that this dictionary was trained on; −1: pooled over them (crosscoder only)",
            minimum=-1,
        ),
        Column("step", "int64", "training steps", "pre-training step; missing when pooled", nullable=True),
        *_SCORES,
    ),
)

ALL = (SWEEP_METRICS,)
