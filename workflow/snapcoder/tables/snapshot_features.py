"""The part of the table feature_trajectory that one snapshot's job writes."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, STEP
from snapcoder.tables.evolution import FEATURE_TRAJECTORY

_SHARED = {column.name: column for column in FEATURE_TRAJECTORY.columns}
_MEASURED = ("rms_f", "mean_active", "max_f", "contribution", "cos_regression", "dimensionality")

SNAPSHOT_FEATURES = TableSchema(
    "snapshot_features",
    "one feature at one snapshot (base or added)",
    ("feature",),
    (
        LAYER,
        FEATURE,
        STEP,
        *(_SHARED[name] for name in ("added", "norm", "norm_raw")),
        # In double precision: compared with evolution.rate_floor and divided by maxima when snapshots are joined.
        Column("rate", "float64", "1/token", _SHARED["rate"].definition, minimum=0, maximum=1),
        *(_SHARED[name] for name in _MEASURED[:4]),
        Column("regress_r2", "float64", "–", _SHARED["regress_r2"].definition, nullable=True),
        *(_SHARED[name] for name in _MEASURED[4:]),
    ),
)

ALL = (SNAPSHOT_FEATURES,)
