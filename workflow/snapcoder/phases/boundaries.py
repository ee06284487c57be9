"""The boundaries of one cut with everything that says how sure they are: intervals, support, support for their number."""

from dataclasses import dataclass

import numpy as np

from snapcoder.phases.break_intervals import break_intervals, unexplained
from snapcoder.phases.clocks import Clock
from snapcoder.phases.segmentation import (
    CutOptions,
    best_cuts,
    centre_and_spread,
    criteria,
    draw_blocks,
    fitted,
    standardise,
)


@dataclass(frozen=True)
class Boundaries:
    """Boundaries of a cut into K segments; a place is the first snapshot after a boundary."""

    places: np.ndarray  # [boundary]
    intervals: np.ndarray  # [boundary, first and last place]
    support: np.ndarray  # [boundary] share of draws with a boundary within one snapshot; NaN without draws
    k_support: float  # share of draws whose BIC prefers K segments; NaN without draws


def boundaries(
    curves: np.ndarray,
    made: np.ndarray,
    clock: Clock,
    n_segments: int,
    *,
    model: str,
    max_segments: int,
    min_size: int,
    interval_draws: int,
    rng: np.random.Generator,
) -> Boundaries:
    """Return the best cut of curves [snapshot, metric] into `n_segments`, given their number.

    made: resampled curves [draw, snapshot, metric]. The 95% interval of a boundary spans what `break_intervals` does not reject,
    and the middle 95% of its places in the resampled curves, whose snapshots stray no more than the curves' own do.
    """
    options: CutOptions = {"model": model, "max_segments": max_segments, "min_size": min_size}
    standard = standardise(curves, clock.weight)
    places = best_cuts(standard[None], clock, **options).breaks(n_segments)[0]
    deviations = np.nan_to_num((made - curves) / centre_and_spread(curves, clock.weight)[1])
    intervals = break_intervals(
        standard, deviations, clock, n_segments, model=model, min_size=min_size, draws=interval_draws, rng=rng
    )
    drawn, k_support = resampled_places(made, clock, n_segments, **options)
    support = np.full(len(places), np.nan)
    if len(drawn) and len(places):
        near = np.abs(drawn[:, :, None] - places) <= 1  # [draw, boundary of the draw, boundary]
        support = near.any(axis=1).mean(axis=0)
        residual = standard - fitted(standard, places, clock, model=model)
        left = unexplained(residual, deviations, clock, places, model=model)
        alike, _ = resampled_places(standard + deviations - (1.0 - left) * residual, clock, n_segments, **options)
        low = np.percentile(alike, 2.5, axis=0, method="lower")
        high = np.percentile(alike, 97.5, axis=0, method="higher")
        intervals = np.stack([np.minimum(intervals[:, 0], low), np.maximum(intervals[:, 1], high)], axis=1)
    return Boundaries(places, intervals, support, k_support)


def resampled_places(
    made: np.ndarray, clock: Clock, n_segments: int, *, model: str, max_segments: int, min_size: int
) -> tuple[np.ndarray, float]:
    """Return each draw's best places for `n_segments`, [draw, boundary], and the share of draws whose BIC prefers that number."""
    found, preferred = [np.zeros((0, n_segments - 1), dtype=np.int64)], []
    for block in draw_blocks(len(made), made.shape[1]):
        standard = standardise(made[block], clock.weight)
        cuts = best_cuts(standard, clock, model=model, max_segments=max_segments, min_size=min_size)
        found.append(cuts.breaks(n_segments))
        preferred.append(criteria(standard, clock, cuts, model=model).argmin(axis=0) + 1 == n_segments)
    return np.concatenate(found), float(np.concatenate(preferred).mean()) if preferred else float("nan")
