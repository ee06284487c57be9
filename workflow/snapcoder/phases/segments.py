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

from snapcoder.evolution.multiplicity import holm
from snapcoder.phases.boundaries import Boundaries, boundaries
from snapcoder.phases.clocks import Clock, clocks, same_clock
from snapcoder.phases.feature_curves import FeatureTable
from snapcoder.phases.labels import phase_labels
from snapcoder.phases.one_process import increment_p, smooth_p
from snapcoder.phases.resampled_curves import resampled_curves, stacked_draws
from snapcoder.phases.segmentation import CutOptions, best_cuts, criteria, standardise
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

    boundaries: Boundaries
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
        found = {
            (model, clock): phases
            for model in settings.models
            for clock, phases in _on_all_clocks(curves, made, told, model, settings).items()
        }
        corrected = dict(zip(found, holm(np.array([phases.p_perm for phases in found.values()])).tolist(), strict=True))
        for (model, clock), phases in found.items():
            labels = phase_labels(
                phases.boundaries.places.tolist(),
                estimates,
                len(steps),
                p_perm=phases.p_perm,
                statistical_mi=settings.statistical_mi,
            )
            _, preferred = min((found[other, clock].bic, other) for other in settings.models)
            tables.append(
                _table(phases, steps, warmup=warmup, most=settings.max_segments).assign(
                    metric_set=name,
                    clock=clock,
                    model=model,
                    preferred=preferred == model,
                    label=labels,
                    p_holm=corrected[model, clock],
                )
            )
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


def find_phases(curves: np.ndarray, made: np.ndarray, clock: Clock, *, model: str, settings: PhaseSettings) -> Phases:
    """Cut curves [snapshot, metric] on one clock into as many segments as BIC prefers, and say how sure that is.

    made: resampled curves [draw, snapshot, metric].
    """
    options: CutOptions = {"model": model, "max_segments": settings.max_segments, "min_size": settings.min_size}
    standard = standardise(curves, clock.weight)
    cuts = best_cuts(standard[None], clock, **options)
    scores = criteria(standard[None], clock, cuts, model=model)[:, 0]
    n_segments = int(scores.argmin()) + 1
    rng = np.random.default_rng(settings.seed)  # the same permutations on every clock
    draws = settings.permutations
    sure = boundaries(curves, made, clock, n_segments, interval_draws=settings.interval_draws, rng=rng, **options)
    return Phases(
        boundaries=sure,
        sse=float(cuts.errors[n_segments - 1, 0]),
        bic=float(scores[n_segments - 1]),
        gain=float(scores[0] - scores[n_segments - 1]),
        p_increments=increment_p(curves, clock, draws=draws, rng=rng, **options),
        p_smooth=smooth_p(curves, clock, draws=draws, rng=rng, **options),
        effective_snapshots=clock.effective_snapshots,
    )


def _table(phases: Phases, steps: np.ndarray, *, warmup: float, most: int) -> pd.DataFrame:
    rows, sure = [], phases.boundaries
    for index, (first, stop) in enumerate(pairwise([0, *sure.places, len(steps)])):
        low, high = sure.intervals[index - 1] if index else (0, 0)
        rows.append(
            {
                "n_segments": len(sure.places) + 1,
                "most_segments": most,
                "segment": index,
                "first_step": int(steps[first]),
                "last_step": int(steps[stop - 1]),
                "break_step": int(steps[first]) if index else None,
                "break_lo": int(steps[low - 1]) if index else None,
                "break_hi": int(steps[high]) if index else None,
                "break_support": sure.support[index - 1] if index else np.nan,
                "break_over_warmup": steps[first] / warmup if index else np.nan,
                "k_support": sure.k_support,
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
