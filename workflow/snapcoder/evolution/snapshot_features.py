"""What each feature is at one snapshot: norm, firing, contribution, and evidence that does not use the norm."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from snapcoder.evolution.capacity import feature_dimensionality
from snapcoder.evolution.firing import Firing, FiringSums
from snapcoder.evolution.regression import (
    PRODUCT_FEATURES,
    CodeCovariance,
    CodeMoments,
    regression_r2,
    side_by_side,
    slices,
)
from snapcoder.storage.dictionaries import SnapshotWeights

logger = logging.getLogger(__name__)


def snapshot_features(
    weights: SnapshotWeights,
    *,
    codes: Callable[[], Iterable[csr_array]],
    activations: Callable[[], Iterable[np.ndarray]],
    own_codes: Iterable[csr_array] | None = None,
    passes: Sequence[slice],
) -> pd.DataFrame:
    """Return the snapshot_features table of one snapshot, one row per feature.

    codes(): the shared code of all cached rows in blocks [row, feature]; activations(): the snapshot's raw
    activations, float32 [row, model], in blocks of any sizes in the same row order; own_codes: the gated code of an
    added snapshot, which says when it fires. passes: the features whose covariance is held at a time; everything is
    read once for each. Memory: `evolution.memory.needed_bytes`.
    """
    dimensionality = feature_dimensionality(weights.decoder)
    norms, n_features = weights.norms(), len(weights.decoder)
    firing = FiringSums(norms, weights.threshold, shared_gate=weights.gate == "shared")
    moments = CodeMoments(n_features)
    explained, cosine = np.zeros(n_features), np.zeros(n_features)
    for number, features in enumerate(passes):
        started = time.monotonic()
        covariance = CodeCovariance(features, center=weights.center, scale=weights.scale)
        for z, block in side_by_side(codes(), activations()):
            covariance.add(z, block)
            if number == 0:
                moments.add(z)
                if own_codes is None:
                    firing.add(z)
        explained[features], cosine[features] = _evidence(weights, covariance, moments)
        logger.info(
            "snapshot %d: pass %d/%d over %d rows in %.0f s",
            weights.step, number + 1, len(passes), moments.n_rows, time.monotonic() - started,
        )  # fmt: skip
    for z in own_codes or ():
        firing.add(z)
    return _table(weights, norms, firing.result()).assign(
        regress_r2=explained, cos_regression=cosine, dimensionality=dimensionality
    )


def _evidence(weights: SnapshotWeights, sums: CodeCovariance, moments: CodeMoments) -> tuple[np.ndarray, np.ndarray]:
    """Return regression R² and the cosine of decoder and regression direction, of the features of a pass."""
    covariance = sums.finish(moments.mean)
    r2 = regression_r2(covariance, moments.variance[sums.features], sums.total_variance, n_rows=sums.n_rows)
    cosines = np.zeros(len(covariance))
    for here in slices(slice(0, len(covariance)), PRODUCT_FEATURES):
        cosines[here] = _cosine(weights.decoder[sums.features][here], covariance[here])
    return r2, cosines


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of a and b, [feature]; NaN where either is zero."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide(np.einsum("fd,fd->f", a, b), length, out=np.full(len(a), np.nan), where=length > 0)


def _table(weights: SnapshotWeights, norms: np.ndarray, firing: Firing) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": weights.layer,
            "feature": np.arange(len(norms)),
            "step": weights.step,
            "added": weights.added,
            "norm": norms,
            "norm_raw": norms / np.float64(weights.scale),
            "rate": firing.rate,
            "rms_f": firing.rms_f,
            "mean_active": firing.mean_active,
            "max_f": firing.max_f,
            "contribution": norms * firing.rms_f,
        }
    )
