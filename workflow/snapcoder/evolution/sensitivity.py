"""Whether onsets and classes depend on a threshold or on which snapshots there are: everything computed again.

Only the rule by norm is varied: α and m are its settings. A thinned grid keeps the first and the last snapshot, so that
"present from the start" and "never" keep their meaning; maxima, presence, onsets and classes are computed from the
snapshots that remain.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr, wasserstein_distance

from snapcoder.evolution.censored import CensoredOnsets
from snapcoder.evolution.curves import FeatureCurves
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.onset_tests import crowding
from snapcoder.evolution.timing import CLASSES, NormHistory, Onset, fastest_turn, norm_history
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.timing import TimingSettings


@dataclass(frozen=True)
class Outcome:
    """Onsets and classes under one choice of thresholds and snapshots."""

    steps: np.ndarray
    history: NormHistory

    @property
    def onset(self) -> Onset:
        """Onset of every feature by norm."""
        return self.history.onset

    @property
    def live(self) -> np.ndarray:
        """Which features are alive at some of these snapshots, [feature]."""
        return self.history.classes != "dead"

    @property
    def dated(self) -> np.ndarray:
        """Which live features have an onset between two snapshots, [feature]."""
        return self.live & (self.onset.censoring == "interval")

    def middles(self) -> np.ndarray:
        """Return the middle of every onset interval in log10 steps, [feature]; NaN unless dated."""
        middle = (log_steps(self.onset.lo) + log_steps(self.onset.hi)) / 2
        return np.where(self.dated, middle, np.nan)

    def ranks(self) -> np.ndarray:
        """Return where each onset lies in time, [feature]: left-censored first, right-censored last."""
        never = self.onset.censoring == "right"
        return np.where(never, np.inf, np.where(self.onset.censoring == "left", -np.inf, self.onset.hi))


def threshold_sensitivity(
    curves: FeatureCurves, *, evolution: EvolutionSettings, settings: TimingSettings, layer: int
) -> pd.DataFrame:
    """Return the table threshold_sensitivity: onsets and classes at each α and m, against those of the study."""
    default = Outcome(curves.steps, norm_history(curves, evolution))
    grid = {(alpha, m) for alpha in settings.alpha_grid for m in settings.consecutive_grid}
    rows = []
    for alpha, m in sorted(grid | {(evolution.alpha, evolution.consecutive)}):
        moved = dataclasses.replace(evolution, alpha=alpha, consecutive=m)
        outcome = Outcome(curves.steps, norm_history(curves, moved))
        key = {"layer": layer, "alpha": alpha, "consecutive": m, "default": moved == evolution}
        rows.append({**key, **summarise(outcome, settings), **compare(outcome, default)})
    return pd.DataFrame(rows)


def snapshot_sensitivity(
    curves: FeatureCurves,
    rotation: pd.DataFrame,
    *,
    evolution: EvolutionSettings,
    settings: TimingSettings,
    layer: int,
) -> pd.DataFrame:
    """Return the table snapshot_sensitivity: onsets, classes and the turning point from fewer snapshots.

    rotation: the columns step_a, step_b, cos_median of rotation_summary. The first row is the full grid.
    """
    full = Outcome(curves.steps, norm_history(curves, evolution))
    rows = []
    for every, phase in _grids(settings.thinning):
        kept = thinned(len(curves.steps), every=every, phase=phase)
        outcome = Outcome(curves.steps[kept], norm_history(curves.at(kept), evolution))
        turn_lo, turn_hi = turning_point(rotation, outcome.steps)
        rows.append(
            {
                "layer": layer,
                "every": every,
                "phase": phase,
                "n_snapshots": len(kept),
                **summarise(outcome, settings),
                **compare(outcome, full),
                **within_resolution(outcome, full),
                "turn_lo": turn_lo,
                "turn_hi": turn_hi,
            }
        )
    return pd.DataFrame(rows)


def _grids(thinning: Sequence[int]) -> list[tuple[int, int]]:
    return [(every, phase) for every in sorted({1, *thinning}) for phase in range(every)]


def thinned(n: int, *, every: int, phase: int) -> np.ndarray:
    """Return the snapshots kept of n: each `every`-th from `phase` on, and the first and the last."""
    return np.unique([0, *range(phase, n, every), n - 1])


def summarise(outcome: Outcome, settings: TimingSettings) -> dict[str, float]:
    """Return the numbers of each class, and where the dated onsets lie; NaN where nothing is dated.

    The peak is the interval with the strongest excess over a constant rate per decade, with its test.
    """
    classes, live, dated = outcome.history.classes, int(outcome.live.sum()), outcome.dated
    row: dict[str, float] = {f"n_{name}": int((classes == name).sum()) for name in CLASSES}
    row["emergent_share"] = row["n_emergent"] / live if live else float("nan")
    row["n_dated"] = int(dated.sum())
    row["median_onset"] = 10 ** float(np.median(outcome.middles()[dated])) if dated.any() else float("nan")
    onsets = CensoredOnsets.of(outcome.onset.lo[dated], outcome.onset.hi[dated], outcome.steps)
    generator = np.random.default_rng(settings.seed)
    test = crowding(onsets, "log_uniform", draws=settings.null_draws, generator=generator)
    found = test.peak >= 0 and test.statistic > 0
    row["peak_lo"] = float(outcome.steps[test.peak - 1]) if found else float("nan")
    row["peak_hi"] = float(outcome.steps[test.peak]) if found else float("nan")
    row["peak_share"] = test.observed / test.n if found else float("nan")
    row["peak_excess"] = test.observed / test.expected if found else float("nan")
    row["p_log_uniform"] = test.p
    return row


def compare(outcome: Outcome, reference: Outcome) -> dict[str, float]:
    """Return how far onsets and classes agree with those of a reference, feature by feature and as distributions.

    spearman: over features live in both, onsets ordered with left-censored first and right-censored last.
    """
    both, dated = outcome.live & reference.live, outcome.dated & reference.dated
    moved = np.abs(outcome.middles()[dated] - reference.middles()[dated])
    return {
        "class_agreement": _mean(outcome.history.classes[reference.live] == reference.history.classes[reference.live]),
        "spearman": _spearman(outcome.ranks()[both], reference.ranks()[both]),
        "n_both_dated": int(dated.sum()),
        "spearman_dated": _spearman(outcome.ranks()[dated], reference.ranks()[dated]),
        "median_shift": float(np.median(moved)) if len(moved) else float("nan"),
        "emd_decades": _distance(outcome.middles()[outcome.dated], reference.middles()[reference.dated]),
    }


def within_resolution(outcome: Outcome, full: Outcome) -> dict[str, float]:
    """Return what fewer snapshots change beyond widening intervals.

    consistent: share of features live in the full grid whose full-grid interval lies inside the coarser one.
    emd_resolution: distance that the onsets of the full grid would move if their intervals were merely widened.
    """
    lo, hi = _ends(outcome.onset)
    fine_lo, fine_hi = _ends(full.onset)
    inside = (lo <= fine_lo) & (fine_hi <= hi)
    onset, place = full.onset, log_steps(outcome.steps)
    widened = np.full(len(onset.hi), np.nan)
    if len(place) > 1:
        after = np.searchsorted(outcome.steps, onset.hi[full.dated])
        widened[full.dated] = (place[after - 1] + place[after]) / 2
    return {
        "consistent": _mean(inside[full.live]),
        "emd_resolution": _distance(widened[full.dated], full.middles()[full.dated]),
    }


def turning_point(rotation: pd.DataFrame, steps: np.ndarray) -> tuple[float, float]:
    """Return the interval between these snapshots in which the median direction turns fastest; NaN when undefined.

    rotation: median cosines of all pairs of snapshots. The rule is that of `fastest_turn`.
    """
    pairs = rotation.set_index(["step_a", "step_b"])["cos_median"]
    wanted = pd.MultiIndex.from_arrays([steps[:-1], steps[1:]])
    cos = pairs.reindex(wanted).to_numpy(dtype=np.float64)
    angle = np.degrees(np.arccos(np.clip(cos, -1.0, 1.0)))[:, None]
    found = fastest_turn(angle, ~np.isnan(angle), steps)[0]
    if np.isnan(found):
        return float("nan"), float("nan")
    return float(steps[np.searchsorted(steps, found) - 1]), float(found)


def _ends(onset: Onset) -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.isnan(onset.lo), -np.inf, onset.lo), np.where(np.isnan(onset.hi), np.inf, onset.hi)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(wasserstein_distance(a, b)) if len(a) and len(b) else float("nan")


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation; NaN below three pairs or when one side is constant."""
    if len(a) < 3 or len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return float("nan")
    return float(spearmanr(a, b).statistic)
