"""Phases of training: where sets of metrics change level together, how surely, and what each phase is.

Metric sets: `ngram` (loss, distances to n-gram models, information), `features` (how many, how new, how strong, how
crowded) and `joint` (both). Metrics are standardised over the snapshots, which are laid out in order of log step.

Labels, from medians of the metrics inside a segment:

- `statistical`: gap_h2 ≤ 0 (the loss has not passed below the bigram model's) and mi_beyond_bigram < `statistical_mi`;
- `feature`: gap_h2 > 0, mi_beyond_bigram ≥ `statistical_mi` and larger at the segment's end than at its start, and new
  features appear in the segment;
- `transition`: neither; `unlabelled`: one of these metrics is missing.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from snapcoder.phases.feature_curves import FeatureTable, feature_curves, feature_draws
from snapcoder.phases.segmentation import Segmentation, best_breaks, segment, standardise
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


def phase_segments(
    metrics: pd.DataFrame, draws: pd.DataFrame, features: FeatureTable, *, settings: PhaseSettings
) -> pd.DataFrame:
    """Return the phase_segments table: for every metric set, its segments in order.

    metrics: the phase_metrics table; draws: behaviour draws of all snapshots (step, metric, draw, value). A draw
    resamples documents and features at once; metrics without draws keep their estimates.
    """
    values = metrics.pivot_table(index="step", columns="metric", values="value", sort=True)
    steps = features.steps
    estimates = {name: values[name].reindex(steps).to_numpy() for name in values.columns}
    resampled = _resampled(draws, features, settings)
    tables = []
    for name, wanted in METRIC_SETS.items():
        chosen = [metric for metric in wanted if metric in estimates]
        if not chosen:
            continue
        curves = standardise(np.stack([estimates[metric] for metric in chosen], axis=1))
        cut, bic_single = segment(curves, max_segments=settings.max_segments, min_size=settings.min_size)
        breaks = _draw_breaks(chosen, estimates, resampled, cut, settings)
        table = _table(cut, breaks, steps)
        tables.append(
            table.assign(
                metric_set=name,
                delta_bic_vs_1seg=bic_single - cut.bic,
                label=_labels(cut, estimates, len(steps), settings.statistical_mi),
            )
        )
    return pd.concat(tables, ignore_index=True).assign(layer=int(metrics["layer"].iloc[0]), clock="log_step")


def _resampled(draws: pd.DataFrame, features: FeatureTable, settings: PhaseSettings) -> dict[str, np.ndarray]:
    """Return the curves of all draws, [draw, snapshot] by metric."""
    weights = feature_draws(features.alive.shape[1], draws=settings.bootstrap, seed=settings.seed)
    result = feature_curves(features, weights)
    draws = draws[draws["draw"] < settings.bootstrap]
    for name, part in draws.groupby("metric", sort=True):
        curves = part.pivot(index="draw", columns="step", values="value").reindex(columns=features.steps)
        result[str(name)] = curves.to_numpy()
    return result


def _draw_breaks(
    chosen: list[str],
    estimates: Mapping[str, np.ndarray],
    resampled: Mapping[str, np.ndarray],
    cut: Segmentation,
    settings: PhaseSettings,
) -> np.ndarray:
    """Return the breaks of each draw's best cut into as many segments, [draw, break]."""
    counts = [len(resampled[metric]) for metric in chosen if metric in resampled]
    if not counts or cut.n_segments == 1:
        return np.zeros((0, len(cut.breaks)), dtype=np.int64)
    breaks = []
    for draw in range(min(counts)):
        curves = [resampled[metric][draw] if metric in resampled else estimates[metric] for metric in chosen]
        standard = standardise(np.stack(curves, axis=1))
        breaks.append(best_breaks(standard, n_segments=cut.n_segments, min_size=settings.min_size))
    return np.array(breaks, dtype=np.int64)


def _table(cut: Segmentation, breaks: np.ndarray, steps: np.ndarray) -> pd.DataFrame:
    edges = [0, *cut.breaks, len(steps)]
    rows = []
    for index, (first, stop) in enumerate(pairwise(edges)):
        row = {
            "n_segments": cut.n_segments,
            "segment": index,
            "first_step": int(steps[first]),
            "last_step": int(steps[stop - 1]),
            "break_step": int(steps[first]) if index else None,
            "break_lo": None,
            "break_hi": None,
            "break_support": np.nan,
            "sse": cut.sse,
            "bic": cut.bic,
        }
        if index and len(breaks):
            place = breaks[:, index - 1]
            row["break_lo"] = int(steps[int(np.percentile(place, 2.5, method="lower"))])
            row["break_hi"] = int(steps[int(np.percentile(place, 97.5, method="higher"))])
            row["break_support"] = float((np.abs(breaks - first) <= 1).any(axis=1).mean())
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(("break_step", "break_lo", "break_hi"), "Int64"))


def _labels(
    cut: Segmentation, estimates: Mapping[str, np.ndarray], n_snapshots: int, statistical_mi: float
) -> list[str]:
    needed = [estimates.get(name) for name in ("gap_h2", "mi_beyond_bigram", "n_new")]
    edges = [0, *cut.breaks, n_snapshots]
    return [_label(needed, first, stop, statistical_mi) for first, stop in pairwise(edges)]


def _label(needed: list[np.ndarray | None], first: int, stop: int, statistical_mi: float) -> str:
    gap, information, n_new = (None if curve is None else curve[first:stop] for curve in needed)
    if gap is None or information is None or n_new is None or np.isnan(gap).any() or np.isnan(information).any():
        return "unlabelled"
    level = float(np.median(information))
    if np.median(gap) <= 0 and level < statistical_mi:
        return "statistical"
    rising = information[-1] > information[0]
    if np.median(gap) > 0 and level >= statistical_mi and rising and np.nansum(n_new) > 0:
        return "feature"
    return "transition"
