"""Tables about the dictionary: how training went, how well it reconstructs, and its extensions."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER, STEP

CROSSCODER_TRAINING = TableSchema(
    "crosscoder_training",
    "one moment of crosscoder training × one snapshot (held-out rows)",
    ("train_step", "step"),
    (
        LAYER,
        Column("train_step", "int64", "optimiser steps", "crosscoder updates done", minimum=0),
        STEP,
        Column("ev", "float64", "–", "explained variance: 1 − Σ‖x−x̂‖² / Σ‖x−x̄‖², pooled over held-out rows", maximum=1),
        Column("l0", "float64", "features/token", "mean number of active features", minimum=0),
        Column("loss", "float64", "–", "training loss at this moment (all snapshots)"),
        Column("threshold", "float64", "–", "mean inference threshold (per-snapshot units)"),
        Column(
            "dead",
            "float64",
            "share",
            "features that fired on no row since the last row of this table",
            minimum=0,
            maximum=1,
        ),
        Column(
            "onsets", "int64", "features", "live features whose norm first reaches half its maximum here", minimum=0
        ),
        Column(
            "moved",
            "float64",
            "share",
            "of these, the share with another onset, or none, at the previous moment",
            minimum=0,
            maximum=1,
        ),
    ),
)

RECON_METRICS = TableSchema(
    "recon_metrics",
    "one snapshot; snapshot −1 pools all base snapshots",
    ("snapshot",),
    (
        LAYER,
        Column("snapshot", "int16", "index", "position among base snapshots; −1: pooled", minimum=-1),
        Column("step", "int64", "training steps", "pre-training step; missing when pooled", nullable=True),
        Column(
            "ev",
            "float64",
            "–",
            "explained variance 1 − Σ‖x−x̂‖²/Σ‖x−x̄‖² on held-out rows, normalised activations",
            maximum=1,
        ),
        Column(
            "ev_legacy",
            "float64",
            "–",
            "mean over held-out rows of 1 − ‖x−x̂‖²/‖x−x̄‖² (the flavour logged for the paper)",
            maximum=1,
        ),
        Column("ev_raw", "float64", "–", "explained variance in the units of the raw activations", maximum=1),
        Column("l0", "float64", "features/token", "mean number of active features on held-out rows", minimum=0),
        Column("nrmse", "float64", "–", "mean ‖x−x̂‖ / mean ‖x‖ on held-out rows", minimum=0),
        Column(
            "dead",
            "float64",
            "share",
            "features that never fire at this snapshot on held-out rows",
            minimum=0,
            maximum=1,
        ),
        Column(
            "dense", "float64", "share", "features that fire on more than 10% of held-out rows", minimum=0, maximum=1
        ),
        Column("n_rows", "int64", "tokens", "held-out rows scored", minimum=1),
        Column("dict_size", "int32", "features", "F", minimum=1),
    ),
)

EXTENSION_METRICS = TableSchema(
    "extension_metrics",
    "one added snapshot × level of extension",
    ("step", "level"),
    (
        LAYER,
        STEP,
        Column(
            "level",
            "string",
            "–",
            "frozen: exact ridge decoder on the frozen code; adapted: plus its own encoder term",
            categories=("frozen", "adapted"),
        ),
        Column("ev", "float64", "–", "explained variance on held-out rows, normalised activations", maximum=1),
        Column("ev_legacy", "float64", "–", "per-row flavour of explained variance", maximum=1),
        Column(
            "ev_neighbours",
            "float64",
            "–",
            "mean held-out explained variance of the nearest base snapshots on either side",
            maximum=1,
        ),
        Column("l0", "float64", "features/token", "mean number of active features on held-out rows", minimum=0),
        Column("nrmse", "float64", "–", "mean ‖x−x̂‖ / mean ‖x‖", minimum=0),
        Column(
            "code_correlation",
            "float64",
            "–",
            "Pearson correlation of the code used here with the frozen code, over held-out active pairs",
            minimum=-1,
            maximum=1,
        ),
        Column("extrapolated", "bool", "–", "the step lies outside the range of the base snapshots: trust less"),
        Column("used", "bool", "–", "this level's decoder is the one that later stages read"),
    ),
)

ALL = (CROSSCODER_TRAINING, RECON_METRICS, EXTENSION_METRICS)
