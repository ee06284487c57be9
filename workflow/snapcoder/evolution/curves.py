"""The trajectory table as arrays over snapshots and features, and what a choice of snapshots leaves of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

COLUMNS = ("feature", "step", "norm", "rate", "alive")
"""Columns of feature_trajectory that `FeatureCurves` is made of."""


@dataclass(frozen=True)
class FeatureCurves:
    """Norm (normalised units), firing rate (per token) and alive (bool) of all features, [snapshot, feature] each.

    steps [snapshot] ascending; features [feature] ascending.
    """

    steps: np.ndarray
    features: np.ndarray
    norm: np.ndarray
    rate: np.ndarray
    alive: np.ndarray

    @classmethod
    def of(cls, trajectory: pd.DataFrame) -> "FeatureCurves":
        """Arrange the columns `COLUMNS` of a trajectory table."""
        steps, features, (norm, rate, alive) = arrange(trajectory, ("norm", "rate", "alive"))
        return cls(steps, features, norm.astype(np.float64), rate.astype(np.float64), alive.astype(bool))

    def at(self, snapshots: Sequence[int] | np.ndarray) -> "FeatureCurves":
        """Return the curves at some snapshots only, given as indices in ascending order."""
        rows = np.asarray(snapshots, dtype=np.intp)
        return FeatureCurves(self.steps[rows], self.features, self.norm[rows], self.rate[rows], self.alive[rows])


def arrange(
    table: pd.DataFrame, columns: Sequence[str], *, step: str = "step"
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the steps, the features, and `columns` of a table as arrays [step, feature].

    Raises ValueError when the table does not hold every feature at every step exactly once.
    """
    moment, feature = table[step].to_numpy(), table["feature"].to_numpy()
    steps, features = np.unique(moment), np.unique(feature)
    shape = (len(features), len(steps))
    if len(table) == len(features) * len(steps) and _is_grid(moment, feature, steps, features):
        return steps, features, [table[name].to_numpy().reshape(shape).T for name in columns]
    place = np.searchsorted(features, feature) * len(steps) + np.searchsorted(steps, moment)
    order = np.argsort(place, kind="stable")
    if not np.array_equal(place[order], np.arange(len(features) * len(steps))):
        raise ValueError(f"{len(table)} rows are not {len(features)} features × {len(steps)} {step}s; rerun the step")
    return steps, features, [table[name].to_numpy()[order].reshape(shape).T for name in columns]


def _is_grid(moment: np.ndarray, feature: np.ndarray, steps: np.ndarray, features: np.ndarray) -> bool:
    """Tell whether rows come feature by feature and step by step, as tables are written: then nothing is sorted."""
    shape = (len(features), len(steps))
    return bool((moment.reshape(shape) == steps).all() and (feature.reshape(shape) == features[:, None]).all())
