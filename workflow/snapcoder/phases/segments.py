"""Phases of training: where sets of metrics change together, on four clocks, how surely, and what each phase is.

Metric sets: `ngram` (loss, distances to n-gram models, information), `features` (how many, how new, how strong, how
crowded) and `joint` (both). Each set is cut on each clock, into levels and into straight lines, after its metrics were
standardised with the clock's weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from snapcoder.phases.break_intervals import break_intervals
from snapcoder.phases.clocks import Clock, clocks, same_clock
from snapcoder.phases.feature_curves import FeatureTable
from snapcoder.phases.labels import phase_labels
from snapcoder.phases.one_process import holm, increment_p, smooth_p
from snapcoder.phases.resampled_curves import resampled_curves, stacked_draws
from snapcoder.phases.segmentation import best_cuts, criteria, draw_blocks, standardise
from snapcoder.study.analysis import PhaseSettings

NGRAM_METRICS = (
    "loss",
    "kl_uni_context",
    "kl_bi_context",
    "kl_uni_marginal",
    "kl_bi_marginal",
    "mi_ctx",
    "mi_beyond_bigram",
)
FEATURE_METRICS = ("n_alive", "n_new_per_decade", "norm_rel_mean", "dimensionality_mean")
METRIC_SETS = {
    "ngram": NGRAM_METRICS,
    "features": FEATURE_METRICS,
    "joint": NGRAM_METRICS + FEATURE_METRICS,
}


@dataclass(frozen=True)
class Phases:
    """The segmentation of one metric set on one clock: everything but labels, which depend on no clock."""

    breaks: np.ndarray  # first snapshots of the second, third … segment
    intervals: np.ndarray  # [break, first and last place]
    support: np.ndarray  # [break] share of draws with a boundary within one snapshot; NaN without draws
    k_support: float
    sse: float
    bic: float
    gain: float
    p_increments: float
    p_smooth: float
    effective_snapshots: float

    @property
    def p_perm(self) -> float:
        """Evidence against one process of either kind."""
        return max(self.p_increments, self.p_smooth)


def phase_segments(
    metrics: pd.DataFrame,
    draws: pd.DataFrame,
    seeds: Sequence[FeatureTable],
    *,
    warmup: float,
    settings: PhaseSettings,
) -> pd.DataFrame:
    """Return the phase_segments table: for every metric set, clock and model, its segments in order.

    metrics: the phase_metrics table; draws: behaviour draws of all snapshots (step, metric, draw, value); seeds: the
    dictionary's features, then those of further seeds. warmup: length of the learning-rate warm-up, NaN if unknown.
    """
    steps = seeds[0].steps
    values = metrics.pivot_table(index="step", columns="metric", values="value", sort=True).reindex(steps)
    estimates = {str(name): values[name].to_numpy() for name in values.columns}
    tokens = metrics.groupby("step")["tokens"].first().reindex(steps).to_numpy(dtype=np.float64, na_value=np.nan)
    resampled = resampled_curves(draws, seeds, draws=settings.bootstrap, seed=settings.seed)
    told = clocks(steps, tokens=tokens, loss=estimates.get("loss"))
    tables = []
    for name, wanted in METRIC_SETS.items():
        chosen = [metric for metric in wanted if metric in estimates]
        if not chosen:
            continue
        curves, made = np.stack([estimates[m] for m in chosen], axis=1), stacked_draws(chosen, estimates, resampled)
        for model in settings.models:
            found = _on_all_clocks(curves, made, told, model, settings)
            corrected = holm([phases.p_perm for phases in found.values()])
            for (clock, phases), p_holm in zip(found.items(), corrected, strict=True):
                labels = phase_labels(
                    phases.breaks, estimates, len(steps), p_perm=phases.p_perm, statistical_mi=settings.statistical_mi
                )
                table = _table(phases, steps, warmup).assign(label=labels, p_holm=p_holm)
                tables.append(table.assign(metric_set=name, clock=clock, model=model))
    return pd.concat(tables, ignore_index=True).assign(layer=int(metrics["layer"].iloc[0]))


def _on_all_clocks(
    curves: np.ndarray, made: np.ndarray, told: Mapping[str, Clock], model: str, settings: PhaseSettings
) -> dict[str, Phases]:
    """Cut on every clock; clocks that differ in their unit only share one result."""
    found: dict[str, Phases] = {}
    for name, clock in told.items():
        twin = next((other for other in found if same_clock(told[other], clock)), None)
        found[name] = found[twin] if twin else find_phases(curves, made, clock, model=model, settings=settings)
    return found


def find_phases(
    curves: np.ndarray, made: np.ndarray, clock: Clock, *, model: str, settings: PhaseSettings
) -> Phases:
    """Cut curves [snapshot, metric] on one clock into as many segments as BIC prefers, and say how sure that is.

    made: resampled curves [draw, snapshot, metric]. An interval spans what the scatter of snapshots allows
    (`break_intervals`) and the middle 95% of boundaries of the resampled curves, cut into the same number of segments.
    """
    options = {"model": model, "max_segments": settings.max_segments, "min_size": settings.min_size}
    standard = standardise(curves, clock.weight)
    cuts = best_cuts(standard[None], clock, **options)
    scores = criteria(standard[None], clock, cuts, model=model)[:, 0]
    n_segments = int(scores.argmin()) + 1
    breaks = cuts.breaks(n_segments)[0]
    rng = np.random.default_rng(settings.seed)  # the same permutations on every clock
    tested = {"draws": settings.permutations, "rng": rng, **options}
    drawn, k_support = _resampled_breaks(made, clock, n_segments, options)
    intervals = break_intervals(
        standard, clock, n_segments, model=model, min_size=settings.min_size, draws=settings.interval_draws, rng=rng
    )
    support = np.full(len(breaks), np.nan)
    for index, place in enumerate(breaks if len(drawn) else ()):
        low, high = (
            np.percentile(drawn[:, index], q, method=method) for q, method in ((2.5, "lower"), (97.5, "higher"))
        )
        intervals[index] = min(intervals[index, 0], int(low)), max(intervals[index, 1], int(high))
        support[index] = (np.abs(drawn - place) <= 1).any(axis=1).mean()
    return Phases(
        breaks=breaks,
        intervals=intervals,
        support=support,
        k_support=k_support,
        sse=float(cuts.errors[n_segments - 1, 0]),
        bic=float(scores[n_segments - 1]),
        gain=float(scores[0] - scores[n_segments - 1]),
        p_increments=increment_p(curves, clock, **tested),
        p_smooth=smooth_p(curves, clock, **tested),
        effective_snapshots=clock.effective_snapshots,
    )


def _resampled_breaks(
    made: np.ndarray, clock: Clock, n_segments: int, options: dict
) -> tuple[np.ndarray, float]:
    """Breaks of each draw's best cut into `n_segments`, [draw, break], and the share of draws whose BIC prefers that number."""
    breaks, preferred = [np.zeros((0, n_segments - 1), dtype=np.int64)], []
    for block in draw_blocks(len(made), made.shape[1]):
        standard = standardise(made[block], clock.weight)
        cuts = best_cuts(standard, clock, **options)
        breaks.append(cuts.breaks(n_segments))
        preferred.append(criteria(standard, clock, cuts, model=options["model"]).argmin(axis=0) + 1 == n_segments)
    return np.concatenate(breaks), float(np.concatenate(preferred).mean()) if preferred else float("nan")


def _table(phases: Phases, steps: np.ndarray, warmup: float) -> pd.DataFrame:
    rows = []
    for index, (first, stop) in enumerate(pairwise([0, *phases.breaks, len(steps)])):
        low, high = phases.intervals[index - 1] if index else (0, 0)
        rows.append(
            {
                "n_segments": len(phases.breaks) + 1,
                "segment": index,
                "first_step": int(steps[first]),
                "last_step": int(steps[stop - 1]),
                "break_step": int(steps[first]) if index else None,
                "break_lo": int(steps[low]) if index else None,
                "break_hi": int(steps[high]) if index else None,
                "break_support": phases.support[index - 1] if index else np.nan,
                "break_over_warmup": steps[first] / warmup if index else np.nan,
                "k_support": phases.k_support,
                "effective_snapshots": phases.effective_snapshots,
                "sse": phases.sse,
                "bic": phases.bic,
                "delta_bic_vs_1seg": phases.gain,
                "p_increments": phases.p_increments,
                "p_smooth": phases.p_smooth,
                "p_perm": phases.p_perm,
            }
        )
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(("break_step", "break_lo", "break_hi"), "Int64"))
