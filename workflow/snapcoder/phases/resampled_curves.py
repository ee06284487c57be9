"""Hierarchical bootstrap of the metric curves: over dictionary seeds, the features of each, and held-out documents."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from snapcoder.phases.feature_curves import FeatureTable, feature_curves, feature_draws


def resampled_curves(
    behaviour: pd.DataFrame, seeds: Sequence[FeatureTable], *, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the curves of all draws, [draw, snapshot] by metric.

    behaviour: draws over documents (step, metric, draw, value), the same documents at every snapshot. seeds: the
    dictionary's features, then those of further seeds; each draw takes one dictionary, then resamples its features.
    Raises ValueError when the dictionaries show different snapshots.
    """
    steps = seeds[0].steps
    for other in seeds[1:]:
        if not np.array_equal(other.steps, steps):
            raise ValueError(
                f"seed_trajectories: a trajectory shows snapshots {list(map(int, other.steps))}, the study shows "
                f"{list(map(int, steps))}; give trajectories of the same snapshots"
            )
    rng = np.random.default_rng((seed, 1))
    chosen = rng.integers(len(seeds), size=draws) if len(seeds) > 1 else np.zeros(draws, dtype=np.int64)
    result: dict[str, np.ndarray] = {}
    for index, table in enumerate(seeds):
        mine = np.flatnonzero(chosen == index)
        if not mine.size:
            continue
        weights = feature_draws(table.alive.shape[1], draws=len(mine), seed=seed + index)
        for name, curves in feature_curves(table, weights).items():
            result.setdefault(name, np.full((draws, len(steps)), np.nan))[mine] = curves
    behaviour = behaviour[behaviour["draw"] < draws]
    for metric, part in behaviour.groupby("metric", sort=True):
        values = part.pivot(index="draw", columns="step", values="value").reindex(columns=steps)
        result[str(metric)] = values.to_numpy()
    return result


def stacked_draws(
    metrics: Sequence[str], estimates: dict[str, np.ndarray], resampled: dict[str, np.ndarray]
) -> np.ndarray:
    """Return draws of several metrics together, [draw, snapshot, metric]; metrics without draws keep their estimates.

    As many draws as all metrics have; none when no metric has any.
    """
    counts = [len(resampled[metric]) for metric in metrics if metric in resampled]
    n_snapshots = len(estimates[metrics[0]])
    if not counts:
        return np.zeros((0, n_snapshots, len(metrics)))
    n = min(counts)
    curves = [
        resampled[metric][:n] if metric in resampled else np.tile(estimates[metric], (n, 1)) for metric in metrics
    ]
    return np.stack(curves, axis=2)
