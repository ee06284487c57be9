"""Bootstrap intervals of means over examples."""

import numpy as np


def bootstrap_weights(n: int, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the weight of each of `n` examples in each bootstrap draw, [example, draw] float64; columns sum to 1."""
    drawn = rng.integers(0, n, size=(draws, n))
    counts = np.zeros((draws, n))
    np.add.at(counts, (np.arange(draws)[:, None], drawn), 1.0)
    return counts.T / n


def mean_interval(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5% and 97.5% bounds of the mean over the last axis, given `bootstrap_weights`.

    values [..., example]; the bounds have the leading shape.
    """
    means = values @ weights  # [..., draw]
    low, high = np.quantile(means, [0.025, 0.975], axis=-1)
    return low, high
