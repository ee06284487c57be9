"""Where a boundary may lie, given how far snapshots scatter about their segments: an inverted likelihood-ratio test.

Resampling documents and features says how well a curve is measured, not how far single snapshots stray from their phase;
an interval from that alone is too short (benchmarks/segment_coverage.md). So every place i is tested as the true one. Its
ratio is (S(i) − S)/S: S the least squared error of K segments, S(i) the least with the boundary held at i. It is
compared with the ratios of data made under that hypothesis, from the segments fitted with the boundary at i and
their residuals, resampled in blocks. The interval spans all places that are not rejected at 5%.
"""

from dataclasses import dataclass

import numpy as np

from snapcoder.phases.clocks import Clock
from snapcoder.phases.segmentation import PARAMETERS, Cuts, best_cuts, draw_blocks, fitted

LEVEL = 0.95
BLOCK = 2  # snapshots: neighbours stray together
HOPELESS = 2.0  # times the ratio that curves without this boundary reach: places beyond are not simulated


@dataclass(frozen=True)
class _Test:
    """The curves under test and what is drawn for every place alike."""

    curves: np.ndarray  # standardised, [snapshot, metric]
    clock: Clock
    n_segments: int
    model: str
    min_size: int
    rows: np.ndarray  # [draw, snapshot] whose residual each snapshot gets

    def cut(self, curves: np.ndarray) -> Cuts:
        """Return the best cuts of curves [draw, snapshot, metric] under the test's settings."""
        return best_cuts(curves, self.clock, model=self.model, max_segments=self.n_segments, min_size=self.min_size)

    def bound(self, breaks: tuple[int, ...], boundary: int, place: int) -> float:
        """Return the ratio at `place` that 95% of curves with these breaks do not exceed."""
        n = len(self.curves)
        fit = fitted(self.curves, breaks, self.clock, model=self.model)
        free = max(n - self.n_segments * PARAMETERS[self.model], 1)
        residual = np.nan_to_num(self.curves - fit) * np.sqrt(n / free)  # enlarged for the fitted parameters
        ratios = []
        for block in draw_blocks(len(self.rows), n):
            simulated = self.cut(fit + residual[self.rows[block]] + 0.0 * self.curves)  # undefined stays undefined
            least = simulated.errors[self.n_segments - 1]
            excess = np.maximum(simulated.profile(self.n_segments, boundary)[:, place] - least, 0.0)
            ratios.append(np.divide(excess, least, out=np.zeros(len(least)), where=least > 0))
        return float(np.quantile(np.concatenate(ratios), LEVEL, method="inverted_cdf"))


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

    curves: standardised, [snapshot, metric]. A place is the first snapshot after a boundary. Places are tested from the
    outside inwards until one is not rejected; the best place never is.
    """
    test = _Test(curves, clock, n_segments, model, min_size, _resampled_rows(len(curves), draws, rng))
    observed = test.cut(curves[None])
    error = observed.errors[n_segments - 1, 0]
    best = [int(place) for place in observed.breaks(n_segments)[0]]
    found = np.zeros((n_segments - 1, 2), dtype=np.int64)
    for boundary, middle in enumerate(best, 1):
        excess = observed.profile(n_segments, boundary)[0] - error
        without = tuple(place for place in best if place != middle)
        hopeful = np.flatnonzero(excess <= error * HOPELESS * test.bound(without, boundary, middle))

        def kept(place: int, boundary: int = boundary, middle: int = middle, excess: np.ndarray = excess) -> bool:
            breaks = observed.breaks_through(n_segments, boundary, place)
            return place == middle or excess[place] <= error * test.bound(breaks, boundary, place)

        found[boundary - 1] = (
            next(place for place in (*hopeful[hopeful < middle].tolist(), middle) if kept(place)),
            next(place for place in (*hopeful[hopeful > middle][::-1].tolist(), middle) if kept(place)),
        )
    return found


def _resampled_rows(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return which snapshot's residual each snapshot gets, [draw, snapshot]: circular blocks of neighbours."""
    starts = rng.integers(n, size=(draws, -(-n // BLOCK)))
    return ((starts[:, :, None] + np.arange(BLOCK)).reshape(draws, -1)[:, :n]) % n
