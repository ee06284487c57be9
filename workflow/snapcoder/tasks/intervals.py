"""Bootstrap intervals of means over examples."""

import numpy as np

CLEAR = 3  # standard errors that a difference must have before anything is divided by it


def bootstrap_weights(cluster: np.ndarray, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the weight of each example in each bootstrap draw, [example, draw] float64; columns sum to 1.

    cluster [example]: whole clusters are drawn, because examples of one are not independent: templates that repeat one
    question would otherwise make any interval as narrow as one likes.
    """
    _, at = np.unique(cluster, return_inverse=True)
    n = int(at.max()) + 1
    counts = np.zeros((draws, n))
    np.add.at(counts, (np.arange(draws)[:, None], rng.integers(0, n, size=(draws, n))), 1.0)
    weights = counts.T[at]
    return weights / weights.sum(axis=0)


def mean_interval(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5% and 97.5% bounds of the mean over the last axis, given `bootstrap_weights`.

    values [..., example]; the bounds have the leading shape.
    """
    means = values @ weights  # [..., draw]
    low, high = np.quantile(means, [0.025, 0.975], axis=-1)
    return low, high
