"""Is there more than one phase, or one continuous process that a cut would divide anyway? Two permutation tests.

Any curve that goes somewhere is fitted better by several levels than by one, so a gain in BIC alone proves no boundary. Two
nulls say what one process looks like on a clock, and a boundary needs both rejected (Berger 1982: the larger p-value is
valid for their union):

- *increments*: change per unit of clock comes in any order (SCIENCE 6.5). The rates of the intervals between snapshots are
  permuted, all metrics alike, and added up again. Random walks and steady drifts have this; it knows no noise about a
  level, and one jump between two snapshots is as likely anywhere.
- *smooth*: each metric follows one line, parabola, exponential or S-curve at least half as wide as the clock, and snapshots
  scatter about it in any order. Deviations from the best such fit are permuted (Freedman & Lane 1983). The statistic
  is how much the best cut is better, by BIC, than smooth curves; none where it is worse.
"""

from collections.abc import Callable

import numpy as np

from snapcoder.phases.clocks import Clock
from snapcoder.phases.segmentation import best_cuts, bic, criteria, draw_blocks, effective_metrics, standardise

SMALLEST = 1e-6  # share of the variance: permuted curves may be compared at smaller noise than evidence is counted at
TIE = 1e-9
SMOOTH_PARAMETERS = 3
RATES = (-32.0, -16.0, -8.0, -4.0, -2.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of exponentials, per length of the clock
MIDDLES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of S-curves, as shares of the clock
WIDTHS = (0.5, 0.8)  # of S-curves from 10 to 90%, as shares of the clock


def increment_p(
    curves: np.ndarray,
    clock: Clock,
    *,
    model: str,
    max_segments: int,
    min_size: int,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Return the p-value of the best gain in BIC by two or more segments over one, against permuted rates.

    curves: [snapshot, metric]. Intervals without length keep their change. NaN where two segments do not fit.
    """
    known = filled(curves)
    gaps, change = np.diff(clock.position), np.diff(known, axis=0)
    moving = np.flatnonzero(gaps > 0)
    order = rng.permuted(np.tile(moving, (draws, 1)), axis=1)
    steps = np.tile(change, (draws, 1, 1))
    steps[:, moving] = change[order] * (gaps[moving] / gaps[order])[:, :, None]
    made = np.concatenate([np.zeros((draws, 1, known.shape[1])), steps.cumsum(axis=1)], axis=1)

    def gain(values: np.ndarray) -> np.ndarray:
        single, best = _scores(values, clock, model=model, max_segments=max_segments, min_size=min_size)
        return single - best

    return _p_value(known, made, gain)


def smooth_p(
    curves: np.ndarray,
    clock: Clock,
    *,
    model: str,
    max_segments: int,
    min_size: int,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Return the p-value of how much better a cut is than smooth curves, against permuted deviations from them.

    curves: [snapshot, metric]. NaN where two segments do not fit.
    """
    known = standardise(filled(curves), clock.weight)
    n = len(known)
    fit = smooth_fit(known[None], clock)[0][0]
    deviation = (known - fit) * np.sqrt(n / max(n - SMOOTH_PARAMETERS, 1))  # enlarged for the fitted parameters
    made = fit + deviation[rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)]

    def advantage(values: np.ndarray) -> np.ndarray:
        single, best = _scores(values, clock, model=model, max_segments=max_segments, min_size=min_size)
        return np.maximum(np.minimum(single, _smooth_bic(standardise(values, clock.weight), clock)) - best, 0.0)

    return _p_value(known, made, advantage)


def filled(curves: np.ndarray) -> np.ndarray:
    """Return curves [snapshot, metric] with undefined values replaced by the nearest defined one, earlier before later."""
    result = np.zeros_like(curves)
    places = np.arange(len(curves))
    for metric, curve in enumerate(curves.T):
        known = np.flatnonzero(~np.isnan(curve))
        if known.size:
            nearest = np.abs(places[:, None] - known[None, :]).argmin(axis=1)
            result[:, metric] = curve[known[nearest]]
    return result


def smooth_fit(curves: np.ndarray, clock: Clock) -> tuple[np.ndarray, np.ndarray]:
    """Return the best smooth fit of every curve, [draw, snapshot, metric], and its weighted error summed over metrics, [draw]."""
    root = np.sqrt(clock.weight)[:, None]
    scaled = curves * root
    fit, least = np.zeros_like(scaled), np.full((len(curves), curves.shape[2]), np.inf)
    for basis in _smooth_bases(clock.position):
        q = np.linalg.qr(root * basis)[0]
        candidate = q @ (q.T @ scaled)
        error = ((scaled - candidate) ** 2).sum(axis=1)
        better = error < least - TIE
        fit, least = np.where(better[:, None, :], candidate, fit), np.where(better, error, least)
    return np.where(root > 0, fit / np.where(root > 0, root, 1.0), curves), least.sum(axis=1)


def _smooth_bases(x: np.ndarray) -> list[np.ndarray]:
    """Bases [snapshot, 2 or 3] with the constant first: parabola (a line too), exponentials, S-curves."""
    one = np.ones_like(x)
    shapes = [np.exp(rate * (x - (rate > 0))) for rate in RATES]
    slope = 2 * np.log(9.0)  # of a logistic that rises from 10 to 90% in one unit
    shapes += [1 / (1 + np.exp(-(x - middle) / width * slope)) for middle in MIDDLES for width in WIDTHS]
    return [np.stack([one, x, x**2], axis=1), *(np.stack([one, shape], axis=1) for shape in shapes)]


def _scores(
    values: np.ndarray, clock: Clock, *, model: str, max_segments: int, min_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """BIC of one segment and the least of two or more, [draw] each; NaN where two do not fit."""
    standard = standardise(values, clock.weight)
    cuts = best_cuts(standard, clock, model=model, max_segments=max_segments, min_size=min_size)
    scores = criteria(standard, clock, cuts, model=model, smallest=SMALLEST)
    return scores[0], scores[1:].min(axis=0) if len(scores) > 1 else np.full(len(values), np.nan)


def _smooth_bic(standard: np.ndarray, clock: Clock) -> np.ndarray:
    independent = effective_metrics(standard, clock.weight)
    return bic(
        smooth_fit(standard, clock)[1],
        total=np.full(len(standard), clock.weight.sum() * standard.shape[2]),
        observations=clock.effective_snapshots * independent,
        independent=independent,
        parameters=SMOOTH_PARAMETERS,
        breaks=0,
        smallest=SMALLEST,
    )


def _p_value(observed: np.ndarray, made: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> float:
    """(1 + draws at least as large as what was observed) / (1 + draws)."""
    reference = statistic(observed[None])[0]
    if np.isnan(reference):
        return float("nan")
    drawn = np.concatenate([statistic(made[block]) for block in draw_blocks(len(made), len(observed))])
    return float((1 + (drawn >= reference - TIE).sum()) / (1 + len(drawn)))
