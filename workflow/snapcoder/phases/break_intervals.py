"""Where a boundary may lie, given how far snapshots scatter about their segments: an inverted likelihood-ratio test.

Resampling documents and features says how well a curve is measured, not how far single snapshots stray from their phase;
an interval from that alone is too short (benchmarks/segment_coverage.md). So every place i is tested as the true one. Its
ratio is (S(i) − S)/S: S the least squared error of K segments, S(i) the least with the boundary held at i. It is
compared with the ratios of data made under that hypothesis, from the segments fitted with the boundary at i and
their residuals, resampled in blocks. The interval spans all places that are not rejected at 5%.
"""

import numpy as np

from snapcoder.phases.clocks import Clock
from snapcoder.phases.segmentation import PARAMETERS, Cuts, best_cuts, fitted

LEVEL = 0.95
BLOCK = 2  # snapshots: neighbours stray together


def break_intervals(
    curves: np.ndarray,
    clock: Clock,
    n_segments: int,
    *,
    model: str,
    min_size: int,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the first and last place of every boundary's 95% interval, [boundary, 2], for K = `n_segments`.

    curves: standardised, [snapshot, metric]. A place is the first snapshot after a boundary.
    """
    options = {"model": model, "max_segments": n_segments, "min_size": min_size}
    observed = best_cuts(curves[None], clock, **options)
    error = observed.errors[n_segments - 1, 0]
    rows = _resampled_rows(len(curves), draws, rng)
    found = np.zeros((n_segments - 1, 2), dtype=np.int64)
    for boundary, best in enumerate(observed.breaks(n_segments)[0], 1):
        profile = observed.profile(n_segments, boundary)[0]
        places = np.flatnonzero(np.isfinite(profile))
        inside = [
            place
            for place in places
            if place == best
            or profile[place] - error
            <= error * _bound(curves, clock, observed, n_segments, boundary, int(place), rows, options)
        ]
        found[boundary - 1] = inside[0], inside[-1]
    return found


def _resampled_rows(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return which snapshot's residual each snapshot gets, [draw, snapshot]: circular blocks of neighbours."""
    starts = rng.integers(n, size=(draws, -(-n // BLOCK)))
    return ((starts[:, :, None] + np.arange(BLOCK)).reshape(draws, -1)[:, :n]) % n


def _bound(curves, clock, observed: Cuts, n_segments, boundary, place, rows, options) -> float:
    """Return the ratio at the true place that 95% of draws do not exceed, were that place `place`."""
    n = len(curves)
    fit = fitted(curves, observed.breaks_through(n_segments, boundary, place), clock, model=options["model"])
    free = max(n - n_segments * PARAMETERS[options["model"]], 1)
    residual = np.nan_to_num(curves - fit) * np.sqrt(n / free)  # enlarged for the fitted parameters
    made = fit + residual[rows] + 0.0 * curves  # undefined values stay undefined
    simulated = best_cuts(made, clock, **options)
    least = simulated.errors[n_segments - 1]
    excess = simulated.profile(n_segments, boundary)[:, place] - least
    ratio = np.divide(excess, least, out=np.zeros(len(rows)), where=least > 0)
    return float(np.quantile(np.maximum(ratio, 0.0), LEVEL, method="inverted_cdf"))
