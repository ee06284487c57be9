"""Whether onsets crowd at one time: the strongest interval against processes for which no time is special.

Four nulls, all with the study's own intervals between snapshots:

- `log_uniform`, `linear_uniform`: features keep appearing at a constant rate per decade, or per step. Tested on the
  onsets between the first and the last snapshot, whose number is taken as given.
- `log_hazard`, `linear_hazard`: every feature still to come appears with the same chance per decade, or per step, so
  that the pool runs dry. Tested on all features absent at the first snapshot; the chance is fitted by maximum
  likelihood.

The statistic is the largest log-likelihood ratio of one interval with more onsets than expected (the scan statistic of
Kulldorff 1997 over single intervals): unlike a largest rate, it is not decided by one onset in a narrow interval. Its
p-value counts Monte-Carlo draws, each censored as the data are: an observation that named several bins loses the
snapshots between them in the draws too.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from snapcoder.evolution.censored import CensoredOnsets, bin_widths, turnbull
from snapcoder.evolution.log_steps import log_steps

NULLS = ("log_uniform", "linear_uniform", "log_hazard", "linear_hazard")
_DRAW_TOLERANCE = 1e-3  # log-likelihood that the estimate of a draw may miss


@dataclass(frozen=True)
class Crowding:
    """One test: `peak` is the bin of the strongest excess, with its onsets observed (Turnbull) and expected.

    expected_by_bin [bin]; n onsets in all. statistic, p and peak are NaN / −1 when nothing can be tested.
    """

    n: int
    statistic: float
    peak: int
    observed: float
    expected: float
    p: float
    expected_by_bin: np.ndarray


def excess(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio of every bin having a share of its own, 0 where there are fewer than expected.

    observed [..., bin] sums to n over the last axis, as does expected [bin].
    """
    n = expected.sum()
    rest, rest_expected = np.maximum(n - observed, 0.0), n - expected
    ratio = _times_log(observed, expected) + _times_log(rest, rest_expected)
    return np.where(observed > expected, ratio, 0.0)


def _times_log(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return o·log(o/e), 0 where o is 0."""
    usable = (observed > 0) & (expected > 0)
    ratio = np.divide(observed, expected, out=np.ones(np.broadcast(observed, expected).shape), where=usable)
    return np.where(usable, observed * np.log(ratio), 0.0)


def null_shares(onsets: CensoredOnsets, null: str) -> np.ndarray:
    """Return the chance of every bin under a null, [bin]; NaN when there is nothing to fit it to."""
    decades, linear = bin_widths(onsets.steps)
    clock, kind = null.split("_")
    width = np.nan_to_num(decades if clock == "log" else linear)
    if kind == "uniform":
        return width / width.sum() if width.sum() else np.full(len(width), np.nan)
    place = log_steps(onsets.steps) if clock == "log" else onsets.steps.astype(np.float64)
    return _constant_hazard(onsets.at_risk(), place - place[0], span=width.sum())


def _constant_hazard(onsets: CensoredOnsets, time: np.ndarray, *, span: float) -> np.ndarray:
    """Return the bins' chances under the exponential distribution that fits best; time [snapshot] starts at 0."""

    def shares(log_rate: float) -> np.ndarray:
        survival = np.exp(-np.exp(log_rate) * time / span)
        return np.concatenate([[0.0], -np.diff(survival), survival[-1:]])

    def loss(log_rate: float) -> float:
        probability = onsets.covers @ shares(log_rate)
        return -float(onsets.count @ np.log(np.maximum(probability, 1e-300)))

    if not onsets.n or not span:
        return np.full(len(time) + 1, np.nan)
    return shares(float(minimize_scalar(loss, bounds=(-15.0, 10.0), method="bounded", options={"xatol": 1e-6}).x))


def crowding(onsets: CensoredOnsets, null: str, *, draws: int, generator: np.random.Generator) -> Crowding:
    """Test whether onsets crowd in one interval more than `null` would have them."""
    tested = onsets.dated() if null.endswith("uniform") else onsets.at_risk()
    share, n = null_shares(onsets, null), tested.n
    expected = n * share
    inside = slice(1, len(onsets.steps))
    if not n or len(onsets.steps) < 3 or np.isnan(share).any():
        return Crowding(n, np.nan, -1, np.nan, np.nan, np.nan, expected)
    observed = n * turnbull(tested.covers, tested.count[None].astype(np.float64), onsets.steps)[0]
    found = excess(observed, expected)[inside]
    covers, counts = _censored_draws(tested, share, draws, generator)
    drawn = n * turnbull(covers, counts, onsets.steps, tolerance=_DRAW_TOLERANCE)
    null_statistic = excess(drawn, expected)[:, inside].max(axis=1)
    statistic = float(found.max())
    p = (1 + int((null_statistic >= statistic - 1e-9).sum())) / (1 + draws)
    peak = int(found.argmax()) + 1
    return Crowding(n, statistic, peak, float(observed[peak]), float(expected[peak]), p, expected)


def _censored_draws(
    onsets: CensoredOnsets, share: np.ndarray, draws: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw onsets from `share` [bin] and censor them as those observed; return patterns and counts [draw, pattern].

    What an observation over several bins says of its feature is that the snapshots between them do not count: a drawn
    onset of that feature is known up to the same bins when it falls there, and up to its own bin elsewhere.
    """
    n_bins = len(share)
    wide = onsets.covers.sum(axis=1) > 1
    single = int(onsets.count[~wide].sum())
    counts = [generator.multinomial(single, share, size=draws).astype(np.float64)]
    for covered, count in zip(onsets.covers[wide], onsets.count[wide], strict=True):
        drawn = generator.multinomial(int(count), share, size=draws)
        counts[0] += np.where(covered, 0, drawn)
        counts.append(drawn[:, covered].sum(axis=1, keepdims=True).astype(np.float64))
    return np.concatenate([np.eye(n_bins, dtype=bool), onsets.covers[wide]]), np.concatenate(counts, axis=1)
