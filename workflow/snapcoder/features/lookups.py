"""How much of a feature a simple lookup explains: cross-fitted R² of tables of means, by sparse sums.

A lookup predicts z by its mean over the rows of another fold with the same key (the current token, say). Rows on
which the feature is silent count as zeros, but are never stored.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array

SHRINKAGE = 1.0  # pseudo-rows that pull a bigram's mean to its token's, so that rare bigrams do not count as noise


def document_folds(doc: np.ndarray) -> np.ndarray:
    """Return two folds of rows, 0 and 1, every other document each, [row] int8."""
    _, rank = np.unique(doc, return_inverse=True)
    return (rank % 2).astype(np.int8)


@dataclass(frozen=True)
class Lookup:
    """Rows grouped by a key, and keys by a coarser one; what every feature's lookup by this key shares.

    group [row] int32: 0 … n_keys − 1; fold [row]: 0 or 1; above [key]: its coarse group; counts [fold, key]: rows.
    """

    group: np.ndarray
    fold: np.ndarray
    above: np.ndarray
    n_above: int
    shrinkage: float
    counts: np.ndarray

    @classmethod
    def of(cls, key: np.ndarray, fold: np.ndarray, *, coarse: np.ndarray | None = None) -> "Lookup":
        """Group rows by `key` [row], any integers; `coarse` [row] must be a function of the key."""
        keys, first, group = np.unique(key, return_index=True, return_inverse=True)
        above, n_above = np.zeros(len(keys), dtype=np.int64), 1
        if coarse is not None:
            coarse_keys, above = np.unique(coarse[first], return_inverse=True)
            n_above = len(coarse_keys)
        counts = [np.bincount(group[fold == side], minlength=len(keys)).astype(np.float64) for side in (0, 1)]
        shrinkage = 0.0 if coarse is None else SHRINKAGE
        return cls(group.astype(np.int32), fold, above, n_above, shrinkage, np.stack(counts))

    @property
    def n_keys(self) -> int:
        """Number of different keys."""
        return len(self.above)


def group_sums(z: csr_array, group: np.ndarray, n_groups: int, chosen: np.ndarray | None = None) -> csr_array:
    """Return Σ z over the rows of each group, [group, feature] sparse; only over the `chosen` rows if given.

    z [row, feature]; group [row]: 0 … n_groups − 1; chosen [row] bool.
    """
    chosen = np.ones(len(group), dtype=bool) if chosen is None else chosen
    member = group[chosen]
    last = np.concatenate([[0], np.cumsum(chosen, dtype=np.int32)])
    membership = csc_array((np.ones(len(member), dtype=z.dtype), member, last), shape=(n_groups, len(group)))
    return membership.tocsr() @ z


def lookup_r2(z: csr_array, lookup: Lookup) -> np.ndarray:
    """Return the cross-fitted R² of predicting z from a lookup's key, [feature] float64.

    z [row, feature] float64. Means are taken on one fold and judged on the other, both ways; the total variance is
    that around the mean of all rows, zeros included. With coarse groups, each mean is shrunk towards its coarse
    group's by `SHRINKAGE` pseudo-rows; a key unseen in the other fold is predicted by the coarse group's mean, or by
    the overall one. NaN where z is constant or a fold is empty.
    """
    n_keys, counts = lookup.n_keys, lookup.counts
    if not (counts[0].any() and counts[1].any()):
        return np.full(z.shape[1], np.nan)
    membership = csr_array((np.ones(n_keys), (lookup.above, np.arange(n_keys))), shape=(lookup.n_above, n_keys))
    sums = [group_sums(z, lookup.group, n_keys, lookup.fold == side) for side in (0, 1)]
    squares = _column_sums(z.power(2))
    error = squares.copy()
    for here, there in ((0, 1), (1, 0)):
        error += _error(sums[here], counts[here], sums[there], counts[there], membership, lookup.shrinkage)
    total = squares - _column_sums(z) ** 2 / z.shape[0]
    spread = total > 1e-9 * np.maximum(squares, 1e-30)
    return np.where(spread, 1 - error / np.where(spread, total, 1), np.nan)


def _error(
    fitted: csr_array,
    n_fitted: np.ndarray,
    judged: csr_array,
    n_judged: np.ndarray,
    membership: csr_array,
    shrinkage: float,
) -> np.ndarray:
    """Return Σ over judged rows of (z − μ)² − z², with μ = own · fitted + up · (mean of the group above), [feature].

    Written out so that only sparse products of sums appear: no row is ever predicted one by one.
    """
    weight = n_fitted + shrinkage
    own = np.where(n_fitted > 0, 1 / np.where(weight > 0, weight, 1), 0.0)  # [key]
    up = np.where(n_fitted > 0, shrinkage * own, 1.0)
    n_above = membership @ n_fitted
    means = _scaled(membership @ fitted, np.where(n_above > 0, 1 / np.where(n_above > 0, n_above, 1), 0.0))
    cross = _column_sums(_scaled(fitted, own).multiply(judged))
    cross += _column_sums(means.multiply(membership @ _scaled(judged, up)))
    square = _column_sums(_scaled(fitted.power(2), n_judged * own**2))
    square += 2 * _column_sums(means.multiply(membership @ _scaled(fitted, n_judged * own * up)))
    square += _column_sums(_scaled(means.power(2), membership @ (n_judged * up**2)))
    return square - 2 * cross


def _scaled(matrix: csr_array, by: np.ndarray) -> csr_array:
    """Multiply each row by a number."""
    return csr_array((matrix.data * np.repeat(by, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), matrix.shape)


def _column_sums(matrix: csr_array) -> np.ndarray:
    matrix = matrix.tocsr()
    return np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1])
