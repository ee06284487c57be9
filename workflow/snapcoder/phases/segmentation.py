"""Cut a set of curves into segments of constant level: exact, with the number of segments chosen by BIC."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import ruptures

SMALLEST_RESIDUAL = 1e-3  # share of the variance: below it a better fit is no better evidence


@dataclass(frozen=True)
class Segmentation:
    """A cut of n snapshots: breaks are the first snapshots of the second, third … segment."""

    breaks: tuple[int, ...]
    sse: float
    bic: float

    @property
    def n_segments(self) -> int:
        """K."""
        return len(self.breaks) + 1


def standardise(curves: np.ndarray) -> np.ndarray:
    """Return curves [snapshot, metric] with mean 0 and standard deviation 1; undefined values count as the mean.

    Constant curves become 0.
    """
    known = ~np.isnan(curves)
    n = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, curves - np.where(known, curves, 0.0).sum(axis=0) / n, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    tiny = 1e-9 * np.abs(np.where(known, curves, 0.0)).max(axis=0, initial=0.0)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > tiny)


def best_breaks(curves: np.ndarray, *, n_segments: int, min_size: int) -> tuple[int, ...]:
    """Return the cut into `n_segments` with the least squared error, by dynamic programming over all cuts."""
    if n_segments == 1:
        return ()
    search = ruptures.KernelCPD(kernel="linear", min_size=min_size).fit(np.ascontiguousarray(curves, dtype=np.float64))
    return tuple(int(end) for end in search.predict(n_bkps=n_segments - 1)[:-1])


def squared_error(curves: np.ndarray, breaks: Sequence[int]) -> float:
    """Return Σ (y − mean of its segment)² over snapshots and metrics."""
    edges = [0, *breaks, len(curves)]
    parts = [curves[a:b] for a, b in pairwise(edges)]
    return float(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts))


def effective_metrics(curves: np.ndarray) -> float:
    """Return how many independent curves there are: the participation ratio of their correlations, at least 1."""
    moment = curves.T @ curves
    square = float((moment**2).sum())
    return max(float(np.trace(moment)) ** 2 / square, 1.0) if square > 0 else 1.0


def bic(sse: float, *, n_snapshots: int, n_metrics: int, independent: float, n_segments: int) -> float:
    """Return the Bayesian information criterion of a piecewise-constant fit with one variance for all curves.

    n_eff log(SSE/N) + (K·p_eff + 2(K − 1)) log n_eff: N = snapshots × metrics, p_eff independent curves, n_eff = snapshots × p_eff.
    A boundary pays for two parameters, because its place is searched for (cf. Zhang & Siegmund 2007).
    """
    observations = n_snapshots * independent
    residual = max(sse / (n_snapshots * n_metrics), SMALLEST_RESIDUAL)
    parameters = n_segments * independent + 2 * (n_segments - 1)
    return float(observations * np.log(residual) + parameters * np.log(observations))


def segment(curves: np.ndarray, *, max_segments: int, min_size: int) -> tuple[Segmentation, float]:
    """Return the best segmentation of standardised curves [snapshot, metric], and the BIC of a single segment.

    Ties and curves too short for two segments give one segment: no boundary.
    """
    n, p = curves.shape
    independent = effective_metrics(curves)
    found = []
    for n_segments in range(1, max(min(max_segments, n // min_size), 1) + 1):
        breaks = best_breaks(curves, n_segments=n_segments, min_size=min_size)
        sse = squared_error(curves, breaks)
        score = bic(sse, n_snapshots=n, n_metrics=p, independent=independent, n_segments=n_segments)
        found.append(Segmentation(breaks, sse, score))
    return min(found, key=lambda candidate: candidate.bic), found[0].bic
