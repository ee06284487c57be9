"""Whether the features that carry a task come before it, with it, or after it.

Times are log10 steps. An onset is known up to an interval between two snapshots, (lo, hi]; lo is −inf for a feature that
may have been there from the start, hi is NaN for one without lasting onset. An acquisition is known with a standard error
(sigmoid), or up to an interval. Lag = onset − acquisition, in decades: negative where the feature leads.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps

CATEGORIES = ("leads", "together", "lags", "undated")
_NORMAL = 1.959963984540054  # 97.5% point of the standard normal distribution
_CHUNK_ENTRIES = 4_000_000  # permuted at a time
_TIE = 1e-12  # sums in another order are still ties


@dataclass(frozen=True)
class Acquisition:
    """When a task was acquired, in log10 steps: `at` with its 95% interval; se is NaN when only an interval is known.

    since: the first snapshot from which the task lasts; NaN when it is not acquired at the end.
    """

    at: float
    low: float
    high: float
    se: float
    since: float = np.nan

    @property
    def known(self) -> bool:
        """Whether there is a date."""
        return bool(np.isfinite(self.at))

    def draws(self, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Return draws of the time: normal around the sigmoid's midpoint, or anywhere in the interval."""
        if np.isnan(self.se):
            return self.low + uniform * (self.high - self.low)
        return self.at + normal * self.se


def acquisition_time(
    *, aoa: float, se: float, low: float, high: float, last_without: float, first_with: float
) -> Acquisition:
    """Return the acquisition from the sigmoid (aoa, se, its bounds), or else from the snapshots around it.

    All in log10 steps, NaN for what is not known. Without the sigmoid: (last snapshot without the task, first snapshot
    from which it lasts]; NaN throughout when there is no such snapshot.
    """
    if np.isfinite(aoa) and np.isfinite(se):
        ends = (low if np.isfinite(low) else aoa - _NORMAL * se, high if np.isfinite(high) else aoa + _NORMAL * se)
        return Acquisition(aoa, *ends, se, first_with)
    start = last_without if np.isfinite(last_without) else first_with
    return Acquisition((start + first_with) / 2, start, first_with, np.nan, first_with)


@dataclass(frozen=True)
class Lags:
    """Per feature: lag at the middle of its onset interval (the upper end when it has no lower), the widest interval that
    onset and acquisition allow, and a category; all [feature].

    low is −inf for a feature that may have been there from the start; NaN throughout for one without onset.
    """

    lag: np.ndarray
    low: np.ndarray
    high: np.ndarray
    category: np.ndarray


def onset_places(lo: pd.Series, hi: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return onset columns in steps as places on the log axis: lo −inf where it is missing, hi NaN; both NaN without onset."""
    start, end = (side.astype("float64").to_numpy() for side in (lo, hi))
    places = log_steps(np.nan_to_num(start)), log_steps(np.nan_to_num(end))
    high = np.where(np.isnan(end), np.nan, places[1])
    return np.where(np.isnan(end), np.nan, np.where(np.isnan(start), -np.inf, places[0])), high


def feature_lags(lo: np.ndarray, hi: np.ndarray, when: Acquisition) -> Lags:
    """Return lags of onsets (lo, hi] [feature]; leads or lags only where no place in both intervals says otherwise.

    A feature present at a snapshot that cannot do the task yet leads: the acquisition lies after that snapshot.
    """
    lag = _middle(lo, hi) - when.at
    low, high = lo - when.high, hi - when.low
    category = np.select([np.isnan(lag), high <= 0, low >= 0], ["undated", "leads", "lags"], "together")
    return Lags(lag, np.where(np.isnan(lag), np.nan, low), np.where(np.isnan(lag), np.nan, high), category)


def _middle(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(lo), (lo + hi) / 2, hi)


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return Σ w·v / Σ w over the last axis, of defined values only; NaN where they weigh nothing."""
    known = ~np.isnan(values)
    weight = np.where(known, weight, 0.0)
    total = weight.sum(axis=-1)
    top = (weight * np.where(known, values, 0.0)).sum(axis=-1)
    return np.divide(top, total, out=np.full(np.shape(total), np.nan), where=total > 0)


@dataclass(frozen=True)
class MeanLag:
    """Attribution-weighted mean lag of the features that emerged (onset with both ends), with a 95% interval."""

    value: float
    low: float
    high: float
    n: int


def mean_lag(
    lo: np.ndarray,
    hi: np.ndarray,
    weight: np.ndarray,
    when: Acquisition,
    *,
    bootstrap: int,
    generator: np.random.Generator,
) -> MeanLag:
    """Return the weighted mean lag of emerged features [feature] and its interval.

    A draw resamples features, places every onset at the same share of its interval, and draws the acquisition. One
    share for all: that intervals are wide is one error common to all features, which more features do not average out.
    """
    emerged = np.isfinite(lo) & np.isfinite(hi) & (weight > 0)
    lo, hi, weight = lo[emerged], hi[emerged], weight[emerged]
    value = float(weighted_mean((lo + hi) / 2 - when.at, weight)) if len(lo) else np.nan
    if len(lo) < 2 or np.isnan(value):
        return MeanLag(value, np.nan, np.nan, len(lo))
    row = generator.integers(len(lo), size=(bootstrap, len(lo)))  # [draw, feature]
    share = generator.random((bootstrap, 1))
    onset = lo[row] + share * (hi - lo)[row]
    time = when.draws(generator.random((bootstrap, 1)), generator.standard_normal((bootstrap, 1)))
    low, high = np.quantile(weighted_mean(onset - time, weight[row]), [0.025, 0.975])
    return MeanLag(value, float(low), float(high), len(lo))


@dataclass(frozen=True)
class AgainstAlike:
    """Carriers against features like them that took their places at random; decades.

    shift: weighted mean onset minus that of the permutations (negative: carriers come earlier), with two-sided p.
    distance: weighted mean |lag|, and its mean under permutation, with one-sided p (carriers are nearer to the acquisition).
    """

    shift: float
    p_shift: float
    distance: float
    distance_null: float
    p_distance: float


def alike(
    carriers: np.ndarray, rate: np.ndarray, pool: np.ndarray, *, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    """Return features that stand for the carriers, [draw, carrier]: permuted within deciles of firing rate.

    carriers [carrier]: features, all of them in the pool; rate [feature]; pool [feature]: which features take part.
    """
    decile = rate_deciles(rate, pool)
    drawn = np.empty((permutations, len(carriers)), dtype=np.int64)
    for one in np.unique(decile[carriers]):
        features, own = np.flatnonzero(decile == one), np.flatnonzero(decile[carriers] == one)
        rows = max(1, _CHUNK_ENTRIES // len(features))
        for start in range(0, permutations, rows):
            part = slice(start, min(start + rows, permutations))
            copies = np.broadcast_to(features, (part.stop - start, len(features)))
            drawn[part, own] = generator.permuted(copies, axis=1)[:, : len(own)]
    return drawn


def against_alike(
    onset: np.ndarray, carriers: np.ndarray, drawn: np.ndarray, weight: np.ndarray, when: Acquisition
) -> AgainstAlike:
    """Compare the carriers' onsets with those of the features that `alike` drew in their places.

    onset [feature]: place on the log axis, NaN for a feature without one; those there from the start stand at the first
    snapshot. weight [carrier].
    """
    own, others = onset[carriers], onset[drawn]
    observed, null = float(weighted_mean(own, weight)), weighted_mean(others, weight)
    if np.isnan(observed) or not when.known or np.isnan(null).any():
        return AgainstAlike(np.nan, np.nan, np.nan, np.nan, np.nan)
    near = float(weighted_mean(np.abs(own - when.at), weight))
    far = weighted_mean(np.abs(others - when.at), weight)
    centre = float(null.mean())
    return AgainstAlike(
        shift=observed - centre,
        p_shift=_p(np.abs(null - centre) >= abs(observed - centre) - _TIE),
        distance=near,
        distance_null=float(far.mean()),
        p_distance=_p(far <= near + _TIE),
    )


def _p(as_extreme: np.ndarray) -> float:
    return (1 + int(as_extreme.sum())) / (1 + len(as_extreme))


def rate_deciles(rate: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return the decile (0–9) of firing rate among the features of the pool, [feature]; −1 for the others."""
    decile = np.full(len(rate), -1)
    order = np.argsort(rate[pool], kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    decile[pool] = place * 10 // max(len(order), 1)
    return decile
