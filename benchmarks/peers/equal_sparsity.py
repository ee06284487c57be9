"""Explained variance of any arm's dictionary at one and the same sparsity, by one scorer that belongs to no arm.

A feature is on at a snapshot when z · gate norm passes a threshold. The threshold is set on train rows such that k
features are on per token, averaged over snapshots; the scores are of held-out rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_ROWS = 1024
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Scored:
    """ev: pooled over snapshots; l0: features on per token and snapshot; l0_any: per token, at any snapshot."""

    ev: float
    l0: float
    l0_any: float


def gate_norms(decoder: NDArray[np.float32], gate: str) -> NDArray[np.float32]:
    """Return what z is multiplied with before it is held against the threshold, [snapshot, feature]."""
    norms = np.linalg.norm(decoder, axis=2)
    if gate == "per_snapshot":
        return norms
    shared = {"rms": np.sqrt(np.square(norms).mean(axis=0)), "sum": norms.sum(axis=0)}
    if gate not in shared:
        raise ValueError(f"gate is {gate!r}; give per_snapshot, rms or sum")
    return np.broadcast_to(shared[gate], norms.shape)


def threshold_of(dictionary: Mapping[str, np.ndarray], x: NDArray[np.float32], k: int) -> float:
    """Return the threshold that leaves k features on per token of x [token, snapshot, model], over snapshots averaged."""
    largest: NDArray[np.float32] | None = None
    wanted = k * len(x) * x.shape[1]
    for _, z in _encoded(dictionary, x):
        for norms in gate_norms(dictionary["decoder"], str(dictionary["gate"])):
            score = (z * norms).ravel()
            score = score[score > (0 if largest is None else largest.min() if len(largest) == wanted else 0)]
            largest = score if largest is None else np.concatenate([largest, score])
            if len(largest) > wanted:
                largest = np.partition(largest, len(largest) - wanted)[len(largest) - wanted :]
    return float(largest.min()) if largest is not None and len(largest) == wanted else 0.0


def scored(dictionary: Mapping[str, np.ndarray], x: NDArray[np.float32], threshold: float | np.ndarray) -> Scored:
    """Score a dictionary on rows x [token, snapshot, model]."""
    gating = gate_norms(dictionary["decoder"], str(dictionary["gate"]))
    mean = x.mean(axis=0, dtype=np.float64)
    squared = deviation = active = active_any = 0.0
    for part, z in _encoded(dictionary, x):
        ever = np.zeros(z.shape, dtype=bool)
        for s, norms in enumerate(gating):
            on = (z > 0) & (z * norms >= threshold)
            reconstruction = np.where(on, z, 0) @ dictionary["decoder"][s] + dictionary["decoder_bias"][s]
            squared += float(np.square(part[:, s] - reconstruction, dtype=np.float64).sum())
            deviation += float(np.square(part[:, s] - mean[s]).sum())
            active += float(on.sum())
            ever |= on
        active_any += float(ever.sum())
    return Scored(1 - squared / deviation, active / (len(x) * x.shape[1]), active_any / len(x))


def at_equal_sparsity(dictionary: Mapping[str, np.ndarray], x: NDArray[np.float32], n_train: int, k: int) -> Scored:
    """Set the threshold on train rows and score the held-out rows, which follow the first n_train."""
    threshold = threshold_of(dictionary, x[: min(CALIBRATION_ROWS, n_train)], k)
    return scored(dictionary, x[n_train:], threshold)


def _encoded(
    dictionary: Mapping[str, np.ndarray], x: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    encoder = np.ascontiguousarray(dictionary["encoder"]).reshape(-1, dictionary["encoder"].shape[2])
    for start in range(0, len(x), CHUNK_ROWS):
        part = x[start : start + CHUNK_ROWS]
        yield part, part.reshape(len(part), -1) @ encoder + dictionary["encoder_bias"]
