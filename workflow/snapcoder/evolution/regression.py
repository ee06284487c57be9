"""Rank-1 regression of a snapshot's activations on each feature's code: presence without the decoder norm."""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_array


class CodeMoments:
    """First and second moments of the shared code, which do not change from snapshot to snapshot.

    mean, variance [feature] float64, over rows.
    """

    def __init__(self, z: csr_array) -> None:
        self.z = z
        self.n_rows = int(z.shape[0])
        self.mean = np.bincount(z.indices, z.data, minlength=z.shape[1]) / self.n_rows
        square = np.bincount(z.indices, z.data.astype(np.float64) ** 2, minlength=z.shape[1]) / self.n_rows
        self.variance = np.maximum(square - self.mean**2, 0.0)


def code_covariance(
    moments: CodeMoments, blocks: Iterable[np.ndarray], *, center: np.ndarray, scale: float
) -> tuple[np.ndarray, float]:
    """Return cov(z_i, x) [feature, model] and the total variance of x = (a − center)·scale, in one pass over `blocks`.

    blocks: raw activations a, float32 [n, model] each, in the row order of the code. Raises ValueError when they do
    not add up to the code's rows.
    """
    n_features, d_model = moments.z.shape[1], len(center)
    product = np.zeros((n_features, d_model))  # Σ z x, float64 over blocks
    total, square, start = np.zeros(d_model), 0.0, 0
    for block in blocks:
        stop = start + len(block)
        if stop > moments.n_rows:
            raise ValueError(f"more activations than the {moments.n_rows} rows of the codes; rerun the step codes")
        x = (block - center.astype(np.float32)) * np.float32(scale)
        product += moments.z[start:stop].T @ x
        total += x.sum(axis=0, dtype=np.float64)
        square += float(np.einsum("bd,bd->", x, x))
        start = stop
    if start != moments.n_rows:
        raise ValueError(f"{start} activations for {moments.n_rows} rows of the codes; rerun the step codes")
    mean = total / start
    return product / start - np.outer(moments.mean, mean), square / start - float(mean @ mean)


def regression_r2(covariance: np.ndarray, moments: CodeMoments, total_variance: float) -> np.ndarray:
    """Return the share of the variance of x that a rank-1 regression on z_i explains, [feature] float64.

    R²_i = ‖cov(z_i, x)‖² / (var z_i · tr Cov x) − 1/(n − 1): under random permutations of the rows the first term has
    exactly the expectation 1/(n − 1), so unrelated features come out at 0 on average. NaN for a constant code.
    """
    explained = np.einsum("fd,fd->f", covariance, covariance)
    bound = moments.variance * total_variance
    ratio = np.divide(explained, bound, out=np.full(len(bound), np.nan), where=bound > 0)
    return ratio - 1.0 / max(moments.n_rows - 1, 1)
