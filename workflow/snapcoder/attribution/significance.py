"""How sure a mean attribution is: sign flips and bootstrap over clusters of examples that are not independent."""

import numpy as np

from snapcoder.tasks.intervals import bootstrap_weights

_HELD = 1 << 22  # sums held at once


def sign_flip_p(
    values: np.ndarray, cluster: np.ndarray, *, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two-sided p-value of each mean under random signs, and the smallest it could have been, both [item].

    values [example, item]: under the null of no effect, attributions are as likely negative. cluster [example]: examples
    of one cluster share their sign. With no more than `draws` different outcomes all are gone through and p is exact,
    at least 2^(1 − clusters with a value); else p = (1 + #) / (1 + draws), the same signs for all items. The smallest
    possible p depends on which values are zero, not on their signs: what cannot be significant may be left untested.
    """
    _, at = np.unique(cluster, return_inverse=True)
    n_clusters = int(at.max()) + 1
    sums = np.zeros((n_clusters, values.shape[1]))
    np.add.at(sums, at, values)
    n_used = (sums != 0).sum(axis=0)  # a cluster without a value does not change under its sign
    p = np.ones(values.shape[1])
    sampled = 2.0 ** (n_used - 1) > draws
    signs = rng.choice(np.array([-1.0, 1.0]), size=(draws, n_clusters))
    p[sampled] = (1 + _reached(signs, sums[:, sampled])) / (1 + draws)
    for n in np.unique(n_used[~sampled]):
        items = np.flatnonzero(~sampled & (n_used == n))
        used = np.argsort(sums[:, items] == 0, axis=0, kind="stable")[:n]
        patterns = 1.0 - 2.0 * ((np.arange(2 ** max(n - 1, 0))[:, None] >> np.arange(n)) & 1)  # last sign stays +
        p[items] = _reached(patterns, np.take_along_axis(sums[:, items], used, axis=0)) / len(patterns)
    return p, np.where(sampled, 1 / (1 + draws), 2.0 ** (1 - np.maximum(n_used, 1)))


def _reached(signs: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return in how many rows of signs [draw, cluster] the sum is at least as far from 0 as without flips, [item]."""
    observed = np.abs(sums.sum(axis=0)) * (1 - 1e-9)  # ties are ties whatever the order of summing
    counts = np.zeros(sums.shape[1], dtype=np.int64)
    size = max(1, _HELD // max(sums.shape[1], 1))
    for start in range(0, len(signs), size):
        counts += (np.abs(signs[start : start + size] @ sums) >= observed).sum(axis=0)
    return counts


def bootstrap_error(values: np.ndarray, cluster: np.ndarray, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the standard error of each mean over examples [item]; NaN when there is one cluster only.

    values [example, item]; whole clusters are drawn (see `bootstrap_weights`).
    """
    if len(np.unique(cluster)) < 2:
        return np.full(values.shape[1], np.nan)
    weights = bootstrap_weights(cluster, draws=draws, rng=rng)
    return (weights.T @ values).std(axis=0, ddof=1)
