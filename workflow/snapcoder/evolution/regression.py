"""Rank-1 regression of a snapshot's activations on each feature's code: presence without the decoder norm."""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy.sparse import csc_array, csr_array

PRODUCT_FEATURES = 4096  # features of one product: what it adds up in float32 stays small and near


class CodeMoments:
    """First and second moments of the shared code over the blocks that have gone by.

    mean, variance [feature] float64, over rows.
    """

    def __init__(self, n_features: int) -> None:
        self.n_rows = 0
        self._total, self._square = np.zeros(n_features), np.zeros(n_features)

    def add(self, z: csr_array) -> None:
        """Add one block [row, feature]."""
        self.n_rows += z.shape[0]
        feature, value = z.indices.astype(np.intp), z.data.astype(np.float64)
        self._total += np.bincount(feature, value, minlength=len(self._total))
        self._square += np.bincount(feature, value**2, minlength=len(self._total))

    @property
    def mean(self) -> np.ndarray:
        """Mean of each feature's code."""
        return self._total / max(self.n_rows, 1)

    @property
    def variance(self) -> np.ndarray:
        """Variance of each feature's code."""
        return np.maximum(self._square / max(self.n_rows, 1) - self.mean**2, 0.0)


class CodeCovariance:
    """Covariance of the codes of some features with x = (a − center)·scale, over the blocks that have gone by.

    Memory: 8 bytes · [feature of the slice, model], one block, and one product of `PRODUCT_FEATURES` features.
    """

    def __init__(self, features: slice, *, center: np.ndarray, scale: float) -> None:
        self.features = features
        self.n_rows = 0
        self._center, self._scale = center.astype(np.float32), np.float32(scale)
        self._product = np.zeros((features.stop - features.start, len(center)))  # Σ z x, float64 over blocks
        self._total, self._square = np.zeros(len(center)), 0.0

    def add(self, z: csr_array, activations: np.ndarray) -> None:
        """Add a block of codes [row, feature] and the raw activations [row, model] of the same rows."""
        x = (activations - self._center) * self._scale
        by_feature = z.tocsc()
        for columns in slices(self.features, PRODUCT_FEATURES):
            here = slice(columns.start - self.features.start, columns.stop - self.features.start)
            self._product[here] += _columns(by_feature, columns).T @ x
        self._total += x.sum(axis=0, dtype=np.float64)
        self._square += float(np.einsum("bd,bd->", x, x))
        self.n_rows += len(x)

    @property
    def total_variance(self) -> float:
        """Variance of x, summed over its dimensions."""
        mean = self._total / max(self.n_rows, 1)
        return self._square / max(self.n_rows, 1) - float(mean @ mean)

    def finish(self, mean: np.ndarray) -> np.ndarray:
        """Return cov(z_i, x) [feature of the slice, model] from the mean codes [feature]; sums become it in place."""
        mean_x = self._total / max(self.n_rows, 1)
        self._product /= max(self.n_rows, 1)
        for rows in slices(slice(0, len(self._product)), PRODUCT_FEATURES):
            self._product[rows] -= np.outer(mean[self.features][rows], mean_x)
        return self._product


def slices(whole: slice, size: int) -> list[slice]:
    """Cut a slice into slices of at most `size`."""
    return [slice(start, min(start + size, whole.stop)) for start in range(whole.start, whole.stop, size)]


def _columns(matrix: csc_array, columns: slice) -> csc_array:
    """Return neighbouring columns without a copy."""
    first, last = matrix.indptr[columns.start], matrix.indptr[columns.stop]
    indptr = matrix.indptr[columns.start : columns.stop + 1] - first
    shape = (matrix.shape[0], columns.stop - columns.start)
    return csc_array((matrix.data[first:last], matrix.indices[first:last], indptr), shape=shape)


def side_by_side(
    codes: Iterable[csr_array], activations: Iterable[np.ndarray]
) -> Iterator[tuple[csr_array, np.ndarray]]:
    """Yield each block of codes with the raw activations, float32 [row, model], of the same rows.

    Both come in blocks of any sizes, in row order. Raises ValueError when they do not have the same number of rows.
    """
    codes, source = iter(codes), iter(activations)
    held: list[np.ndarray] = []
    n_codes = n_read = 0
    for z in codes:
        n_codes += z.shape[0]
        parts = held
        while n_read < n_codes:
            block = next(source, None)
            if block is None:
                rest = sum(more.shape[0] for more in codes)
                raise ValueError(f"{n_read} activations for {n_codes + rest} rows of the codes; rerun the step codes")
            parts.append(block)
            n_read += len(block)
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        yield z, joined[: z.shape[0]]
        held = [joined[z.shape[0] :]] if len(joined) > z.shape[0] else []
    if n_read > n_codes or next(source, None) is not None:
        raise ValueError(f"more activations than the {n_codes} rows of the codes; rerun the step codes")


def regression_r2(covariance: np.ndarray, variance: np.ndarray, total_variance: float, *, n_rows: int) -> np.ndarray:
    """Return the share of the variance of x that a rank-1 regression on z_i explains, [feature] float64.

    covariance [feature, model]; variance [feature] of z. R²_i = ‖cov(z_i, x)‖² / (var z_i · tr Cov x) − 1/(n − 1):
    under random permutations of the rows the first term has exactly the expectation 1/(n − 1), so unrelated features
    come out at 0 on average. NaN for a constant code.
    """
    explained = np.einsum("fd,fd->f", covariance, covariance)
    bound = variance * total_variance
    ratio = np.divide(explained, bound, out=np.full(len(bound), np.nan), where=bound > 0)
    return ratio - 1.0 / max(n_rows - 1, 1)
