"""Cut curves into segments, each a constant level or a straight line over a clock: exact, and for many draws at once.

Arrays are [draw, snapshot, metric]. A segment's cost is its weighted squared error, summed over metrics; the best of all
cuts into K segments follows by dynamic programming forwards and backwards over snapshots (Bellman 1961), so that the
least error with one boundary held at any place is known too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np

from snapcoder.phases.clocks import Clock

SMALLEST_RESIDUAL = 1e-3  # share of the variance: below it a better fit is no better evidence
PARAMETERS = {"piecewise_const": 1, "piecewise_linear": 2}  # per segment and metric
FEWEST = {"piecewise_const": 1, "piecewise_linear": 3}  # snapshots in a segment: two always lie on a line
COSTS_AT_ONCE = 10_000_000  # numbers: 80 MB


class CutOptions(TypedDict):
    """What may be a cut: model of a segment, most segments, fewest snapshots in one."""

    model: str
    max_segments: int
    min_size: int


@dataclass(frozen=True)
class Cuts:
    """The best cuts of every draw into 1 … `largest` segments.

    forward, backward: least cost of the first i, or of all but the first i, snapshots in k segments
    [segments k − 1, draw, i]; infinite where there is no such cut.
    """

    forward: np.ndarray
    backward: np.ndarray
    costs: np.ndarray  # [draw, first snapshot, snapshot after the last]

    @property
    def errors(self) -> np.ndarray:
        """Squared error of the best cut, [segments − 1, draw]."""
        return self.forward[:, :, -1]

    def profile(self, n_segments: int, boundary: int) -> np.ndarray:
        """Return the least error with boundary 1 … K − 1 held at each place, [draw, place 0 … n]."""
        return self.forward[boundary - 1] + self.backward[n_segments - boundary - 1]

    def breaks(self, n_segments: int) -> np.ndarray:
        """Return the first snapshots of the second, third … segment of the best cut, [draw, K − 1]; ties: the earliest."""
        draws = np.arange(self.costs.shape[0])
        end = np.full(len(draws), self.costs.shape[1] - 1)
        found = np.zeros((len(draws), n_segments - 1), dtype=np.int64)
        for k in range(n_segments - 1, 0, -1):
            end = (self.forward[k - 1] + self.costs[draws, :, end]).argmin(axis=1)
            found[:, k - 1] = end
        return found

    def breaks_through(self, n_segments: int, boundary: int, place: int) -> tuple[int, ...]:
        """Return the best breaks of the first draw among cuts whose boundary 1 … K − 1 lies at `place`."""
        before, after = [place], [place]
        for k in range(boundary - 1, 0, -1):
            before.append(int((self.forward[k - 1][0] + self.costs[0, :, before[-1]]).argmin()))
        for k in range(n_segments - boundary - 1, 0, -1):
            after.append(int((self.costs[0, after[-1]] + self.backward[k - 1][0]).argmin()))
        return (*before[::-1], *after[1:])


def centre_and_spread(curves: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and standard deviation over snapshots of curves [..., snapshot, metric], [..., 1, metric].

    Undefined values do not count; a spread that is nothing but rounding is infinite.
    """
    share = np.where(np.isnan(curves), 0.0, 1.0 if weight is None else weight[:, None])
    known = np.nan_to_num(curves)
    total = np.maximum(share.sum(axis=-2, keepdims=True), np.finfo(float).tiny)
    centre = (share * known).sum(axis=-2, keepdims=True) / total
    spread = np.sqrt((share * (known - centre) ** 2).sum(axis=-2, keepdims=True) / total)
    tiny = 1e-9 * np.abs(known).max(axis=-2, keepdims=True, initial=0.0)
    return centre, np.where(spread > tiny, spread, np.inf)


def standardise(curves: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return curves [..., snapshot, metric] with weighted mean 0 and standard deviation 1 over snapshots.

    Undefined values stay undefined and do not count; constant curves become 0.
    """
    curves = np.asarray(curves, dtype=np.float64)
    centre, spread = centre_and_spread(curves, weight)
    return (curves - centre) / spread


def segment_costs(curves: np.ndarray, clock: Clock, *, model: str) -> np.ndarray:
    """Return Σ w (y − fit)² of every run of snapshots, [draw, first, after the last]; infinite for empty runs.

    curves: [draw, snapshot, metric]; undefined values have no weight.
    """
    draws, n, _ = curves.shape
    known = ~np.isnan(curves)
    weight, y = known * clock.weight[:, None], np.where(known, curves, 0.0)
    costs = np.full((draws, n + 1, n + 1), np.inf)
    for first in range(n):
        w, v = weight[:, first:], y[:, first:]
        sum_w, sum_y, sum_yy = (np.cumsum(term, axis=1) for term in (w, w * v, w * v * v))
        scale = np.divide(1.0, sum_w, out=np.zeros_like(sum_w), where=sum_w > 0)
        error = sum_yy - sum_y**2 * scale
        if model == "piecewise_linear":
            x = (clock.position[first:] - clock.position[first])[:, None]
            sum_x, sum_xx, sum_xy = (np.cumsum(term, axis=1) for term in (w * x, w * x * x, w * x * v))
            spread = sum_xx - sum_x**2 * scale
            slope = np.divide((sum_xy - sum_x * sum_y * scale) ** 2, spread, out=np.zeros_like(spread),
                              where=spread > 1e-12 * sum_xx)  # fmt: skip
            error = error - slope
        costs[:, first, first + 1 :] = np.maximum(error, 0.0).sum(axis=2)
    return costs


def best_cuts(curves: np.ndarray, clock: Clock, *, model: str, max_segments: int, min_size: int) -> Cuts:
    """Return the best cuts of curves [draw, snapshot, metric] into at most `max_segments`, by dynamic programming.

    Segments hold at least `min_size` snapshots, and at least three where a line is fitted; curves too short for that
    are one segment.
    """
    n = curves.shape[1]
    min_size = max(min_size, FEWEST[model])
    costs = segment_costs(curves, clock, model=model)
    places = np.arange(n + 1)
    short = places[None, :] - places[:, None] < min(min_size, n)
    costs[:, short] = np.inf
    forward, backward = [costs[:, 0, :]], [costs[:, :, n]]
    for _ in range(1, max(min(max_segments, n // min_size), 1)):
        forward.append((forward[-1][:, :, None] + costs).min(axis=1))
        backward.append((costs + backward[-1][:, None, :]).min(axis=2))
    return Cuts(np.stack(forward), np.stack(backward), costs)


def squared_error(curves: np.ndarray, breaks: Sequence[int], clock: Clock, *, model: str) -> float:
    """Return Σ w (y − fit)² of one cut of curves [snapshot, metric], fitted segment by segment."""
    residual = curves - fitted(curves, breaks, clock, model=model)
    return float((clock.weight[:, None] * np.nan_to_num(residual) ** 2).sum())


def fitted(curves: np.ndarray, breaks: Sequence[int], clock: Clock, *, model: str) -> np.ndarray:
    """Return the levels or lines of one cut of curves [snapshot, metric], of the same shape."""
    fit = np.zeros_like(curves)
    for first, stop in pairwise([0, *breaks, len(curves)]):
        x, part = clock.position[first:stop, None] - clock.position[first], curves[first:stop]
        w = clock.weight[first:stop, None] * ~np.isnan(part)
        total = np.maximum(w.sum(axis=0), np.finfo(float).tiny)
        y, centre = np.nan_to_num(part), (w * x).sum(axis=0) / total
        level = (w * y).sum(axis=0) / total
        slope = np.zeros(curves.shape[1])
        if model == "piecewise_linear":
            spread = (w * (x - centre) ** 2).sum(axis=0)
            np.divide(
                (w * (x - centre) * y).sum(axis=0), spread, out=slope, where=spread > 1e-12 * (w * x**2).sum(axis=0)
            )
        fit[first:stop] = level + slope * (x - centre)
    return fit


def effective_metrics(curves: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return how many independent curves there are: the participation ratio of their correlations, at least 1, [draw].

    curves: standardised, [draw, snapshot, metric].
    """
    y = np.nan_to_num(curves) * (1.0 if weight is None else np.sqrt(weight)[:, None])
    moment = np.einsum("dsm,dsn->dmn", y, y)
    square = (moment**2).sum(axis=(1, 2))
    trace = np.trace(moment, axis1=1, axis2=2)
    return np.maximum(np.divide(trace**2, square, out=np.ones_like(square), where=square > 0), 1.0)


def bic(
    error: np.ndarray,
    *,
    total: np.ndarray,
    observations: np.ndarray,
    independent: np.ndarray,
    parameters: int,
    breaks: int,
    smallest: float = SMALLEST_RESIDUAL,
) -> np.ndarray:
    """Return the Bayesian information criterion of a fit with one variance for all curves, of the shape of `error`.

    N log(error / total) + (q·p + 2b) log N: N = effective snapshots × independent curves p, q parameters per curve, b
    boundaries, `total` the sum of weights; a residual share below `smallest` counts as that. A boundary pays for two
    parameters, because its place is searched for (cf. Zhang & Siegmund 2007).
    """
    residual = np.maximum(error / np.maximum(total, np.finfo(float).tiny), smallest)
    return observations * np.log(residual) + (parameters * independent + 2 * breaks) * np.log(observations)


def criteria(
    curves: np.ndarray, clock: Clock, cuts: Cuts, *, model: str, smallest: float = SMALLEST_RESIDUAL
) -> np.ndarray:
    """Return the BIC of the best cut of standardised curves [draw, snapshot, metric] into 1, 2 … segments, [segments − 1, draw]."""
    independent = effective_metrics(curves, clock.weight)
    total = (~np.isnan(curves) * clock.weight[:, None]).sum(axis=(1, 2))
    return np.stack(
        [
            bic(
                error,
                total=total,
                observations=clock.effective_snapshots * independent,
                independent=independent,
                parameters=PARAMETERS[model] * n_segments,
                breaks=n_segments - 1,
                smallest=smallest,
            )
            for n_segments, error in enumerate(cuts.errors, 1)
        ]
    )


def draw_blocks(draws: int, n_snapshots: int) -> Iterator[slice]:
    """Cut draws into blocks whose cost tensors [draw, place, place] fit `COSTS_AT_ONCE`."""
    size = max(COSTS_AT_ONCE // (n_snapshots + 1) ** 2, 1)
    return (slice(first, first + size) for first in range(0, draws, size))
