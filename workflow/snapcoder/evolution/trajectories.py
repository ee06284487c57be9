"""What each feature is at each snapshot: norm, firing, contribution, and evidence that does not use the norm."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from snapcoder.evolution.capacity import feature_dimensionality
from snapcoder.evolution.firing import Firing, SortedCodes
from snapcoder.evolution.regression import CodeMoments, code_covariance, regression_r2
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders

logger = logging.getLogger(__name__)

Blocks = Callable[[int], Iterable[np.ndarray]]


def trajectories(
    decoders: SnapshotDecoders,
    z: csr_array,
    *,
    blocks: Blocks,
    added_codes: Mapping[int, Callable[[], csr_array]],
    rate_floor: float,
) -> pd.DataFrame:
    """Return the feature_trajectory table, one row per feature × snapshot.

    z [row, feature]: shared code of all cached rows; blocks(step): that snapshot's raw activations, float32 [n, model]
    in row order; added_codes[step]: reads the gated code of an added snapshot. Memory: one snapshot at a time.
    """
    moments, sorted_z = CodeMoments(z), SortedCodes(z)
    norms = decoders.norms()
    parts, started = [], time.monotonic()
    for s, step in enumerate(decoders.steps):
        codes = SortedCodes(added_codes[step]()) if decoders.added[s] else sorted_z
        firing = codes.measure(norms[s], decoders.threshold[s], shared_gate=decoders.gate == "shared")
        covariance, variance = code_covariance(
            moments, blocks(step), center=decoders.center[s], scale=float(decoders.scale[s])
        )
        part = _snapshot(decoders, s, norms[s], firing, rate_floor)
        part["regress_r2"] = regression_r2(covariance, moments, variance)
        part["cos_regression"] = _cosine(decoders.decoders[s], covariance)
        parts.append(part)
        elapsed = time.monotonic() - started
        logger.info(
            "trajectories: %d/%d snapshots, %.0f s left", s + 1, len(norms), elapsed / (s + 1) * (len(norms) - s - 1)
        )
    frame = pd.concat(parts, ignore_index=True).sort_values(["feature", "step"], ignore_index=True)
    return _relative(frame, len(norms))


def _snapshot(decoders: SnapshotDecoders, s: int, norm: np.ndarray, firing: Firing, rate_floor: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": decoders.layer,
            "feature": np.arange(decoders.n_features),
            "snapshot": s,
            "step": decoders.steps[s],
            "added": decoders.added[s],
            "norm": norm,
            "norm_raw": norm / decoders.scale[s],
            "alive": (firing.rate >= rate_floor) & (firing.rate > 0),
            "rate": firing.rate,
            "rms_f": firing.rms_f,
            "mean_active": firing.mean_active,
            "max_f": firing.max_f,
            "contribution": norm * firing.rms_f,
            "dimensionality": feature_dimensionality(decoders.decoders[s]),
        }
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of a and b, [feature]; NaN where either is zero."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide(np.einsum("fd,fd->f", a, b), length, out=np.full(len(a), np.nan), where=length > 0)


def _relative(frame: pd.DataFrame, n_snapshots: int) -> pd.DataFrame:
    """Add norm and regression R² as shares of their maxima over snapshots; rows must be sorted by feature."""
    for name, result in (("norm", "norm_rel"), ("regress_r2", "regress_r2_relative")):
        curve = frame[name].to_numpy().reshape(-1, n_snapshots)  # [feature, snapshot]
        largest = np.where(np.isnan(curve), -np.inf, curve).max(axis=1, keepdims=True)
        relative = np.full(curve.shape, np.nan)
        np.divide(curve, largest, out=relative, where=largest > 0)
        frame[result] = relative.ravel()
    return frame
