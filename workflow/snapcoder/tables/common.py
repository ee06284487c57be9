"""Columns that many tables share."""

from snapcoder.storage.tables import Column

LAYER = Column(
    "layer", "int32", "block index", "block after which the residual stream is read, counted from 0", minimum=0
)
STEP = Column("step", "int64", "training steps", "pre-training step of the snapshot", minimum=0)
SNAPSHOT = Column(
    "snapshot", "int16", "index", "position of the snapshot among the study's snapshots, by step", minimum=0
)
FEATURE = Column("feature", "int32", "index", "feature of the dictionary", minimum=0)
TASK = Column("task", "string", "–", "name of the task")
