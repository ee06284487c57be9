"""Bootstrap over features as weights, so that one pass over the features gives the estimate and every draw."""

import numpy as np

CHUNK_VALUES = 8_000_000  # weights held in sorted order at a time


def bootstrap_weights(key: np.ndarray, *, draws: int, seed: int, group: np.ndarray | None = None) -> np.ndarray:
    """Return how often each draw holds each feature, [1 + draws, feature] float32; row 0 is the data itself, all ones.

    key [feature]: a property of the features; weights follow its order, so that the names of features do not matter.
    group [feature]: the dictionary of each feature. With several (seeds), a draw takes dictionaries with replacement
    first and features within them second.
    """
    generator = np.random.default_rng(seed)
    group = np.zeros(len(key), dtype=np.int64) if group is None else group
    names = np.unique(group)
    weights = np.ones((1 + draws, len(key)), dtype=np.float32)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)  # [draw, dictionary]
    for position, name in enumerate(names):
        members = np.flatnonzero(group == name)
        members = members[np.argsort(key[members], kind="stable")]
        share = np.full(len(members), 1 / len(members))
        for draw in range(draws):
            weights[1 + draw, members] = generator.multinomial(times[draw, position] * len(members), share)
    return weights


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values [feature] under each row of weights [draw, feature], leaving NaN values out, [draw]."""
    known = ~np.isnan(values)
    weights = weights if known.all() else weights[:, known]
    total = weights.sum(axis=1, dtype=np.float64)
    moment = (weights @ values[known].astype(np.float32)).astype(np.float64)
    return np.divide(moment, total, out=np.full(len(total), np.nan), where=total > 0)


def weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the median of values [feature] under each row of weights [draw, feature], leaving NaN values out, [draw].

    With equal weights it is the usual median, the mean of the two middle values of an even number.
    """
    known = np.flatnonzero(~np.isnan(values))
    result = np.full(len(weights), np.nan)
    if not len(known):
        return result
    order = known[np.argsort(values[known], kind="stable")]
    ordered = values[order].astype(np.float64)
    rows = max(1, CHUNK_VALUES // len(order))
    for start in range(0, len(weights), rows):
        below = np.cumsum(weights[start : start + rows, order], axis=1, dtype=np.float64)
        half = below[:, -1:] / 2
        middle = (ordered[(below >= half).argmax(axis=1)] + ordered[(below > half).argmax(axis=1)]) / 2
        result[start : start + rows] = np.where(half[:, 0] > 0, middle, np.nan)
    return result
