"""When in training a feature does its work for a task: relative indirect effects over the snapshots that can do it.

RelIE_i(θ) = |IE_i^θ| / Σ_θ' |IE_i^θ'| (Bayazit et al. 2509.05291, there for two or three snapshots), here a distribution
over all snapshots at which the task is acquired; IE is the attribution. RelDec is the same of decoder norms: what one
would say without looking at the task.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


def relative_over_snapshots(size: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return |size| as shares of its sum over known snapshots, [snapshot, feature].

    size [snapshot, feature]; known [snapshot]: where it is defined. NaN elsewhere, and for a feature that is 0 throughout.
    """
    kept = np.where(known[:, None], np.abs(size), np.nan)
    total = np.nansum(kept, axis=0)
    return np.divide(kept, total, out=np.full(kept.shape, np.nan), where=np.broadcast_to(total > 0, kept.shape))


@dataclass(frozen=True)
class Moments:
    """Where on the log10-step axis a distribution over snapshots lies; all [feature], decades.

    centroid Σ r·t, spread √(Σ r·(t − centroid)²); se: standard error of the centroid.
    """

    centroid: np.ndarray
    spread: np.ndarray
    se: np.ndarray


def log_step_moments(size: np.ndarray, se: np.ndarray, known: np.ndarray, log_steps: np.ndarray) -> Moments:
    """Return centroid and spread of `relative_over_snapshots(size, known)` over log_steps [snapshot].

    se [snapshot, feature]: standard error of size. The centroid's own is its first-order propagation,
    √(Σ ((t − centroid)·se)²) / Σ|size|, which takes snapshots as independent.
    """
    share = relative_over_snapshots(size, known)
    defined = ~np.isnan(share).all(axis=0)
    weight, time = np.nan_to_num(share), log_steps[:, None]
    centroid = np.where(defined, (weight * time).sum(axis=0), np.nan)
    offset = time - centroid
    spread = np.sqrt((weight * offset**2).sum(axis=0))
    total = np.abs(size[known]).sum(axis=0)
    noise = np.sqrt((np.where(known[:, None], offset * np.nan_to_num(se), 0.0) ** 2).sum(axis=0))
    error = np.divide(noise, total, out=np.full(len(total), np.nan), where=total > 0)
    return Moments(centroid, spread, error)


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of relative sizes with relative exact effects, its 95% interval, pairs and features behind it."""

    rho: float
    low: float
    high: float
    n: int
    n_features: int


def agreement_with_exact(
    size: np.ndarray, exact: np.ndarray, *, bootstrap: int, generator: np.random.Generator
) -> Agreement:
    """Correlate what `size` says of a feature's history with what exact effects say, both [snapshot, feature].

    exact is NaN where no effect was measured. Both are made relative over the snapshots where it was, per feature,
    for features measured at two snapshots or more. The interval resamples features: snapshots of one are not independent.
    """
    known = ~(np.isnan(exact) | np.isnan(size))
    usable = known.sum(axis=0) >= 2
    pairs = []
    for feature in np.flatnonzero(usable):
        at = known[:, feature]
        both = np.stack([np.abs(size[at, feature]), np.abs(exact[at, feature])])
        if (both.sum(axis=1) > 0).all():
            pairs.append(both / both.sum(axis=1, keepdims=True))
    if len(pairs) < 3:
        return Agreement(np.nan, np.nan, np.nan, sum(pair.shape[1] for pair in pairs), len(pairs))
    whole = np.concatenate(pairs, axis=1)
    n, rho = whole.shape[1], _spearman(whole)
    if np.isnan(rho):
        return Agreement(np.nan, np.nan, np.nan, n, len(pairs))
    drawn = [
        _spearman(np.concatenate([pairs[i] for i in generator.integers(len(pairs), size=len(pairs))], axis=1))
        for _ in range(bootstrap)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Agreement(rho, float(low), float(high), n, len(pairs))


def _spearman(pair: np.ndarray) -> float:
    ranks = stats.rankdata(pair, axis=1)
    if np.ptp(ranks, axis=1).min() == 0:
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])
