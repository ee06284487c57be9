"""Curves over snapshots that summarise features, and the same curves for resampled features."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps

FEATURE_UNITS = {
    "n_alive": "features",
    "n_new": "features",
    "n_lost": "features",
    "n_new_per_decade": "features/decade",
    "norm_rel_mean": "share",
    "dimensionality_mean": "dimensions",
}


@dataclass(frozen=True)
class FeatureTable:
    """A trajectory table as arrays [snapshot, feature]; steps [snapshot] ascending."""

    steps: np.ndarray
    alive: np.ndarray
    norm_rel: np.ndarray
    dimensionality: np.ndarray


def feature_table(trajectory: pd.DataFrame) -> FeatureTable:
    """Arrange the columns feature, step, alive, norm_rel and dimensionality of a trajectory table as arrays."""
    ordered = trajectory.sort_values(["step", "feature"])
    steps = ordered["step"].unique()
    alive, norm_rel, dimensionality = (
        ordered[name].to_numpy().astype(kind).reshape(len(steps), -1)
        for name, kind in (("alive", bool), ("norm_rel", np.float64), ("dimensionality", np.float64))
    )
    return FeatureTable(np.asarray(steps), alive, norm_rel, dimensionality)


def feature_draws(n_features: int, *, draws: int, seed: int) -> np.ndarray:
    """Return how often each bootstrap draw holds each feature, [draw, feature] float64."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_features, np.full(n_features, 1 / n_features), size=draws).astype(np.float64)


def feature_curves(table: FeatureTable, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every curve of `FEATURE_UNITS` under each row of `weights` [draw, feature], as [draw, snapshot].

    n_alive: features alive; n_new, n_lost: alive here but not at the snapshot before, and the reverse (NaN at the
    first snapshot); n_new_per_decade: n_new per log10 step; norm_rel_mean: mean of norm / its maximum over features
    that are alive at some snapshot; dimensionality_mean: mean D_i over features alive at the snapshot.
    """
    alive = table.alive.astype(np.float64)
    new = np.full(alive.shape, np.nan)
    lost = np.full(alive.shape, np.nan)
    new[1:] = table.alive[1:] & ~table.alive[:-1]
    lost[1:] = ~table.alive[1:] & table.alive[:-1]
    n_new, n_alive = weights @ new.T, weights @ alive.T
    decades = np.concatenate([[np.nan], np.diff(log_steps(table.steps))])
    ever = table.alive.any(axis=0) & ~np.isnan(table.norm_rel).any(axis=0)
    with_direction = table.alive & ~np.isnan(table.dimensionality)
    return {
        "n_alive": n_alive,
        "n_new": n_new,
        "n_lost": weights @ lost.T,
        "n_new_per_decade": n_new / decades,
        "norm_rel_mean": _ratio(
            weights @ np.where(ever, table.norm_rel, 0.0).T, (weights @ ever.astype(np.float64))[:, None]
        ),
        "dimensionality_mean": _ratio(
            weights @ np.where(with_direction, table.dimensionality, 0.0).T,
            weights @ with_direction.astype(np.float64).T,
        ),
    }


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    count = np.broadcast_to(count, total.shape)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
