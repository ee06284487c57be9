"""Activations with known features: when each appears or fades, how it turns, on top of noise and unequal scales."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planted:
    """x [row, snapshot, model] raw activations; strength [snapshot, feature] of each feature's direction;
    amount [row, feature] how strongly each row contains it; onset [feature] first snapshot with strength;
    scale [snapshot] unit of the snapshot's activations.
    """

    activations: np.ndarray
    strength: np.ndarray
    amount: np.ndarray
    onset: np.ndarray
    scale: np.ndarray


def plant(
    *, n_rows: int, n_snapshots: int, d_model: int, n_features: int, l0: float, seed: int, noise: float = 0.05
) -> Planted:
    """Draw planted activations.

    A third of the features is there from the start, the others appear at a random later snapshot; a tenth fades again
    four snapshots later. Directions turn a little from snapshot to snapshot. Features fire at unequal rates, in
    correlated pairs, and snapshots have norms that differ up to tenfold and means that are not zero.
    """
    rng = np.random.default_rng(seed)
    onset = np.where(rng.random(n_features) < 1 / 3, 0, rng.integers(1, n_snapshots - 1, n_features))
    fade = np.where(rng.random(n_features) < 0.1, onset + 4, n_snapshots)
    when = np.arange(n_snapshots)[:, None]
    strength = ((when >= onset) & (when < fade)).astype(np.float64)  # [snapshot, feature]
    strength *= np.where(when == onset, 0.7, 1.0)
    direction = rng.standard_normal((n_features, d_model))
    directions = []
    for _ in range(n_snapshots):
        direction = direction + 0.25 * rng.standard_normal(direction.shape)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        directions.append(direction)
    rate = rng.lognormal(0.0, 0.5, n_features)
    rate *= l0 / rate.sum()
    on = rng.random((n_rows, n_features)) < rate
    partner = np.roll(np.arange(n_features), 1)
    on |= on[:, partner] & (rng.random(on.shape) < 0.15)  # correlated pairs
    amount = np.where(on, rng.uniform(0.6, 1.8, on.shape), 0.0)
    scale = 10 ** rng.uniform(0, 1, n_snapshots)
    x = np.stack(
        [
            scale[s]
            * (
                amount * strength[s] @ directions[s]
                + noise * rng.standard_normal((n_rows, d_model))
                + rng.standard_normal(d_model) * 0.3
            )
            for s in range(n_snapshots)
        ],
        axis=1,
    )
    return Planted(x.astype(np.float32), strength, amount, onset, scale)


def match_by_activation(amount: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each planted feature the learnt one whose activations correlate most, and that correlation.

    Matching on decoder profiles instead would be circular, since onsets are read from them.
    """
    a = amount - amount.mean(axis=0)
    c = code - code.mean(axis=0)
    a /= np.linalg.norm(a, axis=0).clip(1e-12)
    c /= np.linalg.norm(c, axis=0).clip(1e-12)
    correlation = a.T @ c  # [planted, learnt]
    best = correlation.argmax(axis=1)
    return best, correlation[np.arange(len(best)), best]


def onset_by_norm(norms: np.ndarray, share: float = 0.3) -> np.ndarray:
    """Return the first snapshot where a norm [snapshot, feature] exceeds a share of its largest value."""
    return (norms > share * norms.max(axis=0)).argmax(axis=0)
