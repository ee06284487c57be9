"""Features over all shown snapshots: the parts of single snapshots side by side, and shares of their maxima."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

CHUNK_FEATURES = 4096


def trajectories(parts: Sequence[pd.DataFrame], *, rate_floor: float) -> Iterator[pd.DataFrame]:
    """Yield the feature_trajectory table, rows by feature and step, `CHUNK_FEATURES` features at a time.

    parts: the snapshot_features tables of all shown snapshots, each sorted by feature. Memory: the parts, and one
    chunk. Raises ValueError when two parts are of the same snapshot or of different dictionaries.
    """
    ordered = sorted(parts, key=_step)
    steps = [_step(part) for part in ordered]
    if len(set(steps)) < len(steps):
        raise ValueError(f"the snapshots {steps} hold a step twice; remove it from snapshots.added")
    n_features = len(ordered[0])
    for step, part in zip(steps, ordered, strict=True):
        if len(part) != n_features:
            raise ValueError(f"snapshot {step} has {len(part)} features, snapshot {steps[0]} has {n_features}")
    for start in range(0, n_features, CHUNK_FEATURES):
        chunk = [part.iloc[start : start + CHUNK_FEATURES].assign(snapshot=s) for s, part in enumerate(ordered)]
        frame = pd.concat(chunk, ignore_index=True).sort_values(["feature", "step"], ignore_index=True)
        frame["alive"] = (frame["rate"] >= rate_floor) & (frame["rate"] > 0)
        yield _relative(frame, len(ordered))


def _step(part: pd.DataFrame) -> int:
    return int(part["step"].iloc[0])


def _relative(frame: pd.DataFrame, n_snapshots: int) -> pd.DataFrame:
    """Add norm and regression R² as shares of their maxima over snapshots; rows must be sorted by feature."""
    for name, result in (("norm", "norm_rel"), ("regress_r2", "regress_r2_relative")):
        curve = frame[name].to_numpy().reshape(-1, n_snapshots)  # [feature, snapshot]
        largest = np.where(np.isnan(curve), -np.inf, curve).max(axis=1, keepdims=True)
        relative = np.full(curve.shape, np.nan)
        np.divide(curve, largest, out=relative, where=largest > 0)
        frame[result] = relative.ravel()
    return frame
