"""What changes over training: learning rate, sparsity weight, and which rows each step sees."""

from functools import lru_cache

import numpy as np


def learning_rate_factor(step: int, *, steps: int, warmup: int, decay_share: float, final: float) -> float:
    """Return the learning rate of update `step` (from 0) as a share of the peak (CROSSCODER 1.6).

    A linear warm-up, a plateau, and over the last `decay_share` of the steps a linear fall to `final`.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    decay = int(decay_share * steps)
    fall = min(1.0, final + (1 - final) / decay * max(steps - step, 1)) if decay > 0 else 1.0
    return min(rise, fall)


def sparsity_factor(step: int, *, steps: int, warmup_share: float) -> float:
    """Return the sparsity weight of update `step` as a share of λ: a linear rise over the first `warmup_share`."""
    warmup = warmup_share * steps
    return min(1.0, step / warmup) if warmup > 0 else 1.0


def active_features(step: int, *, k: int, start: float, steps: int, share: float) -> float:
    """Return how many features per token update `step` keeps: a linear fall from start · k to k over the first `share`.

    While many are on, every feature gets a gradient and finds its place before the final number is enforced.
    """
    done = min(1.0, step / (share * steps)) if share > 0 else 1.0
    return k * (start + (1 - start) * done)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, n_rows: int) -> np.ndarray:
    """Return the order of all train rows in one epoch: one global permutation, a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(n_rows)


def batch_rows(step: int, *, batch_size: int, n_rows: int, seed: int) -> np.ndarray:
    """Return the row numbers of update `step` [batch]; epochs follow each other without a gap."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // n_rows
    order = [epoch_order(seed, int(epoch), n_rows)[positions[epochs == epoch] % n_rows] for epoch in np.unique(epochs)]
    return np.concatenate(order)
