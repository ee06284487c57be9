"""Times that are known up to an interval (lo, hi] on the log-step clock, and differences between two of them.

An unknown end is −∞ or ∞: at or before the first snapshot, or after the last. NaN: not defined.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Times:
    """Interval-censored times in log10 steps; lo, hi of one shape. Combinations of them keep the whole uncertainty."""

    lo: np.ndarray
    hi: np.ndarray

    def minus(self, other: "Times") -> "Times":
        """Return all that self − other can be; strictly inside the interval, because each lo is exclusive."""
        return Times(self.lo - other.hi, self.hi - other.lo)

    def middle(self) -> np.ndarray:
        """Return the midpoints; NaN for an interval with an open end."""
        known = np.isfinite(self.lo) & np.isfinite(self.hi)
        return np.add(self.lo / 2, self.hi / 2, out=np.full(np.shape(self.lo), np.nan), where=known)


def settling(curves: np.ndarray, clock: np.ndarray, *, tolerance: float) -> Times:
    """Return when each curve [draw, snapshot] has made all but `tolerance` of its fall from its first to its lowest value.

    clock [snapshot]: log10 steps. Undefined for a curve that is lowest at the first snapshot, or not known throughout.
    """
    lowest = curves.min(axis=1, keepdims=True)
    fall = curves[:, :1] - lowest
    reached = curves - lowest <= tolerance * fall
    return _first(reached, clock, undefined=~(fall[:, 0] > 0))


def crossing(curves: np.ndarray, clock: np.ndarray) -> Times:
    """Return when each curve [draw, snapshot] first lies above 0; after the last snapshot when it never does."""
    return _first(curves > 0, clock, undefined=np.isnan(curves).any(axis=1))


def _first(reached: np.ndarray, clock: np.ndarray, *, undefined: np.ndarray) -> Times:
    bounds = np.concatenate([[-np.inf], clock, [np.inf]])
    at = np.where(reached.any(axis=1), reached.argmax(axis=1), len(clock))
    return Times(np.where(undefined, np.nan, bounds[at]), np.where(undefined, np.nan, bounds[at + 1]))


def quantile_of_counts(times: Times, counts: np.ndarray, q: float) -> Times:
    """Return the q-quantile of times [interval] that occur `counts` [draw, interval] times, per draw.

    It lies between the quantiles of the lower and of the upper ends.
    """
    wanted = q * counts.sum(axis=1)
    ends = []
    for end in (times.lo, times.hi):
        order = np.argsort(end, kind="stable")
        total = np.cumsum(counts[:, order], axis=1)
        ends.append(end[order][(total >= wanted[:, None]).argmax(axis=1)])
    return Times(*ends)


def densest_of_counts(times: Times, counts: np.ndarray) -> Times:
    """Return the interval with most times per decade, per draw; NaN when no interval has two ends."""
    width = times.hi - times.lo
    usable = np.isfinite(width) & (width > 0)
    if not usable.any():
        return Times(*(np.full(len(counts), np.nan) for _ in range(2)))
    rate = np.where(usable, counts / np.where(usable, width, 1.0), -1.0)
    best = rate.argmax(axis=1)
    return Times(times.lo[best], times.hi[best])
