"""Onsets that are known up to intervals, and the maximum-likelihood distribution of where they lie (Turnbull 1976).

With S snapshots there are S + 1 bins: bin 0 is at or before the first snapshot, bin k the interval (k − 1, k] between
snapshots, bin S after the last. An onset in (lo, hi] is an observation "one of these neighbouring bins"; left-censored
ones start at bin 0, right-censored ones end at bin S. Where every observation names a single bin the estimate is the
share of each; where intervals overlap, EM shares them out.
"""

from dataclasses import dataclass

import numpy as np

from snapcoder.evolution.log_steps import log_steps

_ITERATIONS = 20_000


@dataclass(frozen=True)
class CensoredOnsets:
    """Onsets counted by the bins that may hold them.

    covers [pattern, bin] bool: the bins of each kind of observation; count [pattern]: how often it was made;
    steps [snapshot]: ascending. Patterns are in the order of their first and last bin.
    """

    covers: np.ndarray
    count: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, lo: np.ndarray, hi: np.ndarray, steps: np.ndarray) -> "CensoredOnsets":
        """Count onsets in (lo, hi], [feature] each; lo is NaN for left-censored, hi for right-censored ones."""
        n_bins = len(steps) + 1
        first = np.where(np.isnan(lo), 0, np.searchsorted(steps, lo, side="right"))
        last = np.where(np.isnan(hi), n_bins - 1, np.searchsorted(steps, hi, side="left"))
        ends, count = np.unique(np.stack([first, last], axis=1).reshape(-1, 2), axis=0, return_counts=True)
        place = np.arange(n_bins)
        return cls((place >= ends[:, :1]) & (place <= ends[:, 1:]), count, np.asarray(steps))

    @property
    def n(self) -> int:
        """Number of observations."""
        return int(self.count.sum())

    def where(self, keep: np.ndarray) -> "CensoredOnsets":
        """Return the observations of some patterns only."""
        return CensoredOnsets(self.covers[keep], self.count[keep], self.steps)

    def dated(self) -> "CensoredOnsets":
        """Return the observations that lie between the first and the last snapshot."""
        return self.where(~self.covers[:, 0] & ~self.covers[:, -1])

    def at_risk(self) -> "CensoredOnsets":
        """Return the observations that lie after the first snapshot."""
        return self.where(~self.covers[:, 0])


def bin_widths(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the width of every bin in decades (step 0 at 0.5) and in steps; NaN for the two open ones."""
    open_ = np.array([np.nan])
    decades, linear = np.diff(log_steps(steps)), np.diff(np.asarray(steps, dtype=np.float64))
    return np.concatenate([open_, decades, open_]), np.concatenate([open_, linear, open_])


def log_likelihood(mass: np.ndarray, covers: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return Σ count · log P(pattern), [draw], for mass [draw, bin] and count [draw, pattern]."""
    probability = mass @ covers.T.astype(np.float64)
    return (count * np.log(np.where(count > 0, probability, 1.0))).sum(axis=-1)


def em_step(mass: np.ndarray, covers: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the next mass [draw, bin] and a bound on the log-likelihood that is still to gain, [draw].

    The bound is max_bin Σ count/P(pattern) − n, by concavity (Gentleman & Geyer 1994).
    """
    cells = covers.astype(np.float64)
    probability = mass @ cells.T
    weight = np.divide(count, probability, out=np.zeros_like(probability), where=count > 0) @ cells
    n = count.sum(axis=1, keepdims=True)
    return mass * weight / n, (weight - n).max(axis=1)


def turnbull(covers: np.ndarray, count: np.ndarray, steps: np.ndarray, *, tolerance: float = 1e-6) -> np.ndarray:
    """Return the maximum-likelihood mass of every bin, [draw, bin], for counts of patterns [draw, pattern].

    covers: [pattern, bin]. Mass lies only where no other bin is covered by more patterns. Bins that no pattern tells
    apart share their mass in proportion to decades (open bins count as the widest). NaN for a draw without observations.
    tolerance: log-likelihood that may remain to be gained.
    """
    support, decades = _support(covers), bin_widths(steps)[0]
    widest = np.nanmax(decades) if len(steps) > 1 else 1.0
    start = np.where(support, np.where(np.isnan(decades), widest, decades), 0.0)
    mass = np.where(count.sum(axis=1, keepdims=True) > 0, start / start.sum(), np.nan)
    active = np.flatnonzero(count.sum(axis=1) > 0)
    for _ in range(_ITERATIONS):
        if not len(active):
            break
        mass[active], gap = em_step(mass[active], covers, count[active])
        # The bound is that of the mass before this step, which never lowers the likelihood.
        active = active[gap > tolerance]
    return mass


def resolved(covers: np.ndarray) -> np.ndarray:
    """Return which bins the observations tell apart from all others, [bin]; the mass of the rest is shared out."""
    support = _support(covers)
    _, number, size = np.unique(covers.T, axis=0, return_inverse=True, return_counts=True)
    return ~support | (size[number.ravel()] == 1)


def _support(covers: np.ndarray) -> np.ndarray:
    """Return the bins [bin] that no other bin beats: covered by the same patterns and more."""
    if not len(covers):
        return np.ones(covers.shape[1], dtype=bool)
    columns = covers.T.astype(np.int64)  # [bin, pattern]
    both, own = columns @ columns.T, columns.sum(axis=1)
    beaten = (both == own[:, None]) & (own[None, :] > own[:, None])
    return ~beaten.any(axis=1)
