"""A planted truth: features with known onsets and turns, and the activations that they make."""

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from snapcoder.evolution.snapshot_decoders import SnapshotDecoders, merge_decoders
from snapcoder.evolution.snapshot_features import snapshot_features
from snapcoder.evolution.trajectories import trajectories as join_parts
from snapcoder.storage.dictionaries import Dictionary, SnapshotWeights

STEPS = (0, 4, 16, 64, 256, 1024)
ONSETS = (0, 0, 2, 3, 4, 5)  # snapshot from which feature i fires
TURNS = {1: 3}  # feature: snapshot at which its direction turns by 90°


def planted(seed=0, n_rows=4000, d=16, scale=1.0, order=None):
    """Return decoders, codes z and raw activations [snapshot, row, model]; `scale` multiplies the activations."""
    rng = np.random.default_rng(seed)
    n_features = len(ONSETS)
    z = rng.uniform(1, 2, (n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.1)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    directions = np.repeat(basis[None, :n_features], len(STEPS), axis=0)  # [snapshot, feature, model]
    for feature, turn in TURNS.items():
        directions[turn:, feature] = basis[n_features + feature]
    norms = np.array([[1.0 if s >= onset else 0.01 for onset in ONSETS] for s in range(len(STEPS))])
    decoder = directions * norms[:, :, None]
    center = rng.standard_normal((len(STEPS), d))
    own_scale = np.linspace(0.5, 2.0, len(STEPS))
    x = np.einsum("rf,sfd->srd", z, decoder) + 0.01 * rng.standard_normal((len(STEPS), n_rows, d))
    raw = (x / own_scale[:, None, None] + center[:, None]) * scale
    order = np.arange(n_features) if order is None else order
    dictionary = Dictionary(
        encoder=np.zeros((len(STEPS), d, n_features), "f4"),
        decoder=decoder[:, order].astype(np.float32),
        encoder_bias=np.zeros(n_features, "f4"),
        decoder_bias=np.zeros((len(STEPS), d), "f4"),
        threshold=np.full(n_features, 0.5, "f4"),
        scale=(own_scale / scale).astype(np.float32),
        center=(center * scale).astype(np.float32),
        steps=STEPS,
        gate="per_snapshot",
        arm="batchtopk",
        layer=2,
    )
    return dictionary, csr_array(z[:, order].astype(np.float32)), raw.astype(np.float32)


def decoders_of(dictionary) -> SnapshotDecoders:
    return merge_decoders(dictionary)


def blocks_of(raw, size=512):
    return lambda step: (raw[STEPS.index(step)][i : i + size] for i in range(0, raw.shape[1], size))


def weights_of(decoders: SnapshotDecoders, s: int) -> SnapshotWeights:
    """The decoder side of one snapshot."""
    return SnapshotWeights(
        decoder=decoders.decoders[s],
        threshold=decoders.threshold[s],
        scale=decoders.scale[s],
        center=decoders.center[s],
        step=decoders.steps[s],
        gate=decoders.gate,
        layer=decoders.layer,
        added=decoders.added[s],
    )


def trajectories(decoders, z, *, blocks, added_codes, rate_floor):
    """The feature_trajectory table of codes in memory: every snapshot's part, then their join."""
    parts = [
        snapshot_features(
            weights_of(decoders, s),
            codes=lambda: iter([z]),
            activations=lambda step=step: blocks(step),
            own_codes=[added_codes[step]()] if decoders.added[s] else None,
            passes=[slice(0, decoders.n_features)],
        )
        for s, step in enumerate(decoders.steps)
    ]
    return pd.concat(join_parts(parts, rate_floor=rate_floor), ignore_index=True)
