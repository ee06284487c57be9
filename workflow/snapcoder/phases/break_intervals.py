"""Where a boundary may lie: an inverted likelihood-ratio test on curves simulated from every level of the study.

Every place i is tested as the true one. Its ratio is (S(i) − S)/S: S the least squared error of K segments, S(i) the least
with the boundary held at i. It is compared with the ratios of curves made under that hypothesis: the segments fitted with
the boundary at i, plus what one draw of seed, features and documents changes, plus the residuals of snapshots, resampled in
blocks. The interval spans all places that are not rejected at 5%.

Resampling seeds, features and documents alone says how well a curve is measured, not how far single snapshots stray from
their phase; adding residuals to it in full would count measurement twice, since they hold it too. So residuals
are shrunk to the variance that resampling leaves unexplained. How often such intervals hold the true place:
benchmarks/segment_coverage.md.
"""

from collections.abc import Sequence
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
    deviations: np.ndarray  # what resampling changes in them, [draw, snapshot, metric]
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
        residual = self.curves - fit
        free = max(n - self.n_segments * PARAMETERS[self.model], 1)
        left = unexplained(residual, self.deviations, self.clock, breaks, model=self.model)
        residual = np.nan_to_num(residual) * left * np.sqrt(n / free)  # enlarged for the fitted parameters
        ratios = []
        for block in draw_blocks(len(self.rows), n):
            made = fit + self.deviations[block] + residual[self.rows[block]]
            simulated = self.cut(made + 0.0 * self.curves)  # undefined values stay undefined
            least = simulated.errors[self.n_segments - 1]
            excess = np.maximum(simulated.profile(self.n_segments, boundary)[:, place] - least, 0.0)
            ratios.append(np.divide(excess, least, out=np.zeros(len(least)), where=least > 0))
        return float(np.quantile(np.concatenate(ratios), LEVEL, method="inverted_cdf"))


def unexplained(
    residual: np.ndarray, deviations: np.ndarray, clock: Clock, breaks: Sequence[int], *, model: str
) -> np.ndarray:
    """Return by what residuals [snapshot, metric] shrink to leave the variance that resampling does not explain, [metric].

    deviations: of resampled curves, [draw, snapshot, metric]; what they change in levels or lines themselves is no scatter.
    """
    n, metrics = residual.shape
    wide = deviations.transpose(1, 0, 2).reshape(n, -1)  # draws beside each other: one fit for all
    own = (wide - fitted(wide, breaks, clock, model=model)).reshape(n, -1, metrics)
    measured = (clock.weight[:, None, None] * own**2).sum(axis=0).mean(axis=0)
    scatter = (clock.weight[:, None] * np.nan_to_num(residual) ** 2).sum(axis=0)
    share = np.divide(measured, scatter, out=np.zeros(metrics), where=scatter > 0)
    return np.sqrt(1.0 - np.minimum(share, 1.0))


def break_intervals(
    curves: np.ndarray,
    deviations: np.ndarray,
    clock: Clock,
    n_segments: int,
    *,
    model: str,
    min_size: int,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the first and last place of every boundary's 95% interval, [boundary, 2], for K = `n_segments`.

    curves: standardised, [snapshot, metric]; deviations: of resampled curves from them, in the same units, [draw, snapshot,
    metric], used again from the first when there are fewer than `draws`. A place is the first snapshot after a
    boundary. Places are tested from the outside inwards until one is not rejected; the best place never is.
    """
    used = np.zeros((draws, *curves.shape))
    if len(deviations):
        used += np.nan_to_num(deviations[np.arange(draws) % len(deviations)])
    test = _Test(curves, used, clock, n_segments, model, min_size, _resampled_rows(len(curves), draws, rng))
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
