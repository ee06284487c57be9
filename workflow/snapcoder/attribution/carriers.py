"""Which features carry one task at which snapshots: attributions of all snapshots side by side."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class TaskAttribution:
    """One task's attributions; a feature without a row at a snapshot has none: 0.

    steps [snapshot] at which the task is acquired; features [feature] with any attribution; attr, se, exact (NaN
    unless measured) [snapshot, feature].
    """

    task: str
    steps: np.ndarray
    features: np.ndarray
    attr: np.ndarray
    se: np.ndarray
    exact: np.ndarray

    @classmethod
    def of(cls, task: str, rows: pd.DataFrame) -> "TaskAttribution":
        """Put the ATTRIBUTION rows of one task, method and baseline into matrices."""
        rows = rows[rows["feature"] >= 0]
        steps, features = np.unique(rows["step"].to_numpy()), np.unique(rows["feature"].to_numpy())
        at = np.searchsorted(steps, rows["step"]), np.searchsorted(features, rows["feature"])

        def matrix(name: str, default: float) -> np.ndarray:
            filled = np.full((len(steps), len(features)), default)
            if name in rows:
                filled[at] = rows[name].to_numpy(dtype=np.float64)
            return filled

        attr, se, exact = matrix("attr", 0.0), matrix("attr_se", 0.0), matrix("exact_effect", np.nan)
        return cls(task, steps, features, attr, se, exact)

    def shares(self) -> np.ndarray:
        """Return |attr| as a share of its sum over all features, [snapshot, feature]."""
        size = np.abs(self.attr)
        total = size.sum(axis=1, keepdims=True)
        return np.divide(size, total, out=np.zeros_like(size), where=total > 0)

    def ranks(self) -> np.ndarray:
        """Return ranks by |attr| from 1, ties by index, [snapshot, feature]."""
        order = np.argsort(-np.abs(self.attr), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
        return rank

    def strongest(self, top: int) -> "TaskAttribution":
        """Return the same for the carriers alone: the features among the `top` largest |attr| at some snapshot."""
        kept = ((self.ranks() <= top) & (self.attr != 0)).any(axis=0)
        return TaskAttribution(
            self.task, self.steps, self.features[kept], self.attr[:, kept], self.se[:, kept], self.exact[:, kept]
        )


@dataclass(frozen=True)
class FeatureHistory:
    """What is known of all features: steps [snapshot]; norm, rate, alive [snapshot, feature]; onsets by feature.

    onsets: FEATURE_ONSETS rows in order of feature.
    """

    steps: np.ndarray
    norm: np.ndarray
    rate: np.ndarray
    alive: np.ndarray
    onsets: pd.DataFrame

    @classmethod
    def of(cls, trajectory: pd.DataFrame, onsets: pd.DataFrame) -> "FeatureHistory":
        """Put FEATURE_TRAJECTORY rows into matrices; raises ValueError when a feature lacks an onset row."""
        rows = trajectory.sort_values(["step", "feature"])
        steps = np.unique(rows["step"].to_numpy())
        norm, rate, alive = (rows[name].to_numpy().reshape(len(steps), -1) for name in ("norm", "rate", "alive"))
        onsets = onsets.sort_values("feature", ignore_index=True)
        if not np.array_equal(onsets["feature"].to_numpy(), np.arange(norm.shape[1])):
            raise ValueError("feature_onsets and feature_trajectory are of different features; rerun feature_onsets")
        return cls(steps, norm, rate, alive.astype(bool), onsets)

    def places(self, steps: np.ndarray) -> np.ndarray:
        """Return the positions of snapshots by step; raises ValueError when one is not in the history."""
        at = np.searchsorted(self.steps, steps)
        if (at == len(self.steps)).any() or not np.array_equal(self.steps[at], steps):
            raise ValueError("the attributions hold a snapshot that feature_trajectory lacks; rerun trajectories")
        return at

    def norms(self, carried: TaskAttribution) -> np.ndarray:
        """Return the decoder norms of a task's features at its snapshots, [snapshot, feature]."""
        return self.norm[self.places(carried.steps)][:, carried.features].astype(np.float64)
