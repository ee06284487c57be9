"""How fast directions turn between neighbouring snapshots, freed from what decoders differ by estimation alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from snapcoder.evolution.resampling import weighted_means, weighted_medians

LAWS = ("steady", "wandering")
MIN_FEATURES = 8  # alive at three snapshots in a row, below which no noise is estimated
Summary = Callable[[np.ndarray, np.ndarray], np.ndarray]
SUMMARIES: dict[str, Summary] = {"median": weighted_medians, "mean": weighted_means}


@dataclass(frozen=True)
class Turns:
    """Cosines of decoder directions, NaN where the feature is not alive at both snapshots or the cosine is undefined.

    adjacent [interval, feature]: neighbouring snapshots; skipping [interval − 1, feature]: snapshots two apart;
    matrices [draw, snapshot, snapshot]: mean cosine of all pairs under bootstrap weights.
    """

    adjacent: np.ndarray
    skipping: np.ndarray
    matrices: np.ndarray


def estimation_noise(turns: Turns, weights: np.ndarray, *, summary: str, chance: float) -> np.ndarray:
    """Return −ln of how well each snapshot's estimated directions align with the true ones, [draw, snapshot], ≥ 0.

    Independent errors multiply every cosine of snapshot s by one factor r_s. Where movement has no memory, cosines of
    true directions multiply along the path, so r_s² = cos(s−1, s)·cos(s, s+1) / cos(s−1, s+1) (Heise 1969). Movement
    that keeps its direction makes that larger than 1: then no noise is taken off. Snapshots without two neighbours, with
    fewer than `MIN_FEATURES` features or with cosines at or below `chance` take the noise of the nearest snapshot that has one.
    """
    of = SUMMARIES[summary]
    n_snapshots = len(turns.adjacent) + 1
    noise = np.full((len(weights), n_snapshots), np.nan)
    for s in range(1, n_snapshots - 1):
        three = np.stack([turns.adjacent[s - 1], turns.adjacent[s], turns.skipping[s - 1]])
        known = ~np.isnan(three).any(axis=0)
        if known.sum() < MIN_FEATURES:
            continue
        before, after, across = (of(cosine[known], weights[:, known]) for cosine in three)
        usable = np.minimum(np.minimum(before, after), across) > chance
        ratio = np.divide(before * after, across, out=np.ones_like(across), where=usable)
        noise[usable, s] = np.maximum(-np.log(ratio[usable]) / 2, 0.0)
    return _filled(noise)


def _filled(noise: np.ndarray) -> np.ndarray:
    """Fill undefined snapshots from the nearest defined one of the data (row 0), undefined draws from the data."""
    defined = np.flatnonzero(~np.isnan(noise[0]))
    if not len(defined):
        return np.zeros_like(noise)
    noise = np.where(np.isnan(noise), noise[0], noise)
    nearest = defined[np.abs(np.arange(noise.shape[1])[:, None] - defined).argmin(axis=1)]
    return noise[:, nearest]


def interval_cosines(turns: Turns, weights: np.ndarray, *, summary: str) -> np.ndarray:
    """Return the median or mean cosine between neighbouring snapshots under each draw, [draw, interval]."""
    if not len(turns.adjacent):
        return np.empty((len(weights), 0))
    return np.stack([SUMMARIES[summary](cosine, weights) for cosine in turns.adjacent], axis=1)


def without_noise(cosines: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return cosines [draw, interval] as they were without estimation noise [draw, snapshot]; at most 1.

    For small angles this is subtraction in quadrature: angle² − noise², with noise² = 2(n_a + n_b).
    """
    return np.minimum(cosines * np.exp(noise[:, :-1] + noise[:, 1:]), 1.0)


def true_cosines(turns: Turns, weights: np.ndarray, *, summary: str, chance: float) -> np.ndarray:
    """Return the median or mean cosine of neighbouring snapshots without estimation noise, [draw, interval]."""
    noise = estimation_noise(turns, weights, summary=summary, chance=chance)
    return without_noise(interval_cosines(turns, weights, summary=summary), noise)


def amount_turned(cosines: np.ndarray, *, law: str, chance: float) -> np.ndarray:
    """Return what adds up over intervals while directions turn.

    steady: the angle (degrees), which adds up while a direction keeps turning the same way. wandering: −2 ln cos, in
    degrees² so that it is the squared angle when small, which adds up over independent small turns. Cosines at or below
    `chance` count as `chance`: beyond it directions are unrelated, and turning is not seen.
    """
    seen = np.maximum(cosines, chance)
    if law == "steady":
        return np.degrees(np.arccos(np.minimum(seen, 1.0)))
    return -2 * np.log(np.minimum(seen, 1.0)) * np.degrees(1.0) ** 2
