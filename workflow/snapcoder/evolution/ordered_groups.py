"""Whether groups of interval-censored times come in a stated order (Jonckheere–Terpstra).

Times are counted by the interval that they lie in, so that cost depends on the number of intervals, not of features.
Two times compare when their intervals do not overlap: then the later one is known; else the pair counts as a tie.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OrderedGroups:
    """J = Σ over pairs from an earlier and a later group of (+1 as stated, −1 reversed, 0 not known to differ).

    effect: J divided by the number of pairs, P(as stated) − P(reversed), with its 95% bootstrap interval; p: one-sided,
    under random assignment to groups.
    """

    statistic: float
    effect: float
    ci_lo: float
    ci_hi: float
    p: float


def interval_scores(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Return for intervals (lo, hi] [interval] whether b comes after a: +1, −1 or 0 when they overlap, [a, b]."""
    after = lo[None, :] >= hi[:, None]
    return after.astype(np.float64) - after.T


def ordered_groups_test(
    counts: np.ndarray, scores: np.ndarray, *, permutations: int, bootstrap: int, seed: int
) -> OrderedGroups:
    """Test whether the groups come in the order of the rows of `counts` [group, interval]; NaN when a group is empty.

    The null draws the groups' counts as random permutations of all labels would (multivariate hypergeometric); the
    bootstrap resamples within each group.
    """
    sizes = counts.sum(axis=1)
    pairs = float((sizes.sum() ** 2 - (sizes**2).sum()) / 2)
    if not (sizes > 0).all():
        return OrderedGroups(*(np.nan,) * 5)
    observed = float(ordered_sum(counts[None], scores)[0])
    generator = np.random.default_rng(seed)
    null = ordered_sum(shuffled_counts(counts, permutations, generator), scores)
    drawn = np.stack(
        [generator.multinomial(n, row / n, size=bootstrap) for n, row in zip(sizes, counts, strict=True)], 1
    )
    low, high = np.quantile(ordered_sum(drawn, scores) / pairs, [0.025, 0.975])
    p = (1 + int((null >= observed).sum())) / (1 + permutations)
    return OrderedGroups(observed, observed / pairs, float(low), float(high), p)


def ordered_sum(counts: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return J of each draw, [draw]; counts [draw, group, interval], scores [interval, interval]."""
    earlier = np.cumsum(counts, axis=1)[:, :-1].astype(np.float64)
    return np.einsum("dgi,ij,dgj->d", earlier, scores, counts[:, 1:].astype(np.float64), optimize=True)


def shuffled_counts(counts: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return counts [draw, group, interval] as random assignments of the same times to groups of the same sizes."""
    left = np.broadcast_to(counts.sum(axis=0), (draws, counts.shape[1])).copy()  # times not yet assigned
    result = np.empty((draws, *counts.shape), dtype=np.int64)
    for group, size in enumerate(counts.sum(axis=1)):
        wanted, rest = np.full(draws, size), left.sum(axis=1)
        for interval in range(counts.shape[1]):
            rest = rest - left[:, interval]
            # The last interval takes what is still wanted: there nothing else is left to draw from.
            taken = generator.hypergeometric(left[:, interval], rest, wanted)
            result[:, group, interval] = taken
            wanted = wanted - taken
        left -= result[:, group]
    return result
