"""Can a line tell the tokens on which a feature is active from the others: AUROC of linear probes, with DeLong's interval.

A feature is active where its reference gate says so (the snapshot of its largest norm), so that its labels are the same at
every snapshot. The direction is that of linear discriminant analysis, (C + λI)⁻¹(mean of active tokens − mean of all), with
one ridge covariance C for all features, fitted on one half of the documents; the AUROC is measured on the other half.
(With the covariance of all tokens in place of that within the two groups the direction is the same: Sherman–Morrison.)
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from scipy.sparse import vstack as stack

_Z95 = 1.959963984540054
_PAIRS_AT_A_TIME = 1 << 23


@dataclass(frozen=True)
class Auroc:
    """AUROC with its 95% interval; all arrays are [feature], NaN where undefined. n: active tokens scored."""

    value: np.ndarray
    ci_lo: np.ndarray
    ci_hi: np.ndarray
    n: np.ndarray


def discriminants(difference: np.ndarray, covariance: np.ndarray, *, ridge: float) -> np.ndarray:
    """Return the LDA directions [feature, model] of mean differences [feature, model], by one solve for all features.

    The ridge is a share of the mean variance, the trace of `covariance` / d.
    """
    d = len(covariance)
    strength: float = max(ridge, 1e-8) * float(np.trace(covariance)) / d
    loaded = covariance + np.eye(d) * max(strength, float(np.finfo(np.float32).tiny))
    return np.asarray(cho_solve(cho_factor(loaded), difference.T.astype(np.float64)).T.astype(np.float32))


class ProbeScores:
    """Scores of held-out tokens: up to `n_positives` active ones per feature, evenly spaced, and one pool for all.

    direction [feature, model]; count [feature]: active held-out tokens that will come; pool_rows: numbers of the
    rows, ascending, that inactive tokens are taken from.
    """

    def __init__(self, direction: np.ndarray, count: np.ndarray, pool_rows: np.ndarray, *, n_positives: int) -> None:
        self._direction, self._count, self._pool_rows = direction, count, pool_rows
        self._seen = np.zeros(len(count), dtype=np.int64)
        self.positive = np.full((len(count), n_positives), np.nan, dtype=np.float32)
        self._pool: list[tuple[np.ndarray, csr_array]] = []

    def add(self, z: csr_array, x: np.ndarray, start: int) -> None:
        """Add held-out rows start, start + 1, …: code z [row, feature] and activations x [row, model]."""
        row, feature, rank = self._ranked(z)
        wanted = self.positive.shape[1]
        count = self._count[feature]
        # Of more active tokens than are wanted, those at which rank · wanted / count reaches a new whole number.
        place = np.where(count > wanted, rank * wanted // np.maximum(count, 1), rank)
        last = np.where(count > wanted, (rank + 1) * wanted // np.maximum(count, 1), rank + 1)
        chosen = np.flatnonzero(last > place)
        for part in np.array_split(chosen, max(1, len(chosen) * x.shape[1] // _PAIRS_AT_A_TIME)):
            score = np.einsum("nd,nd->n", x[row[part]], self._direction[feature[part]])
            self.positive[feature[part], place[part]] = score
        first, stop = np.searchsorted(self._pool_rows, [start, start + len(x)])
        inside = self._pool_rows[first:stop] - start
        if len(inside):
            self._pool.append((x[inside], z[inside]))

    def _ranked(self, z: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, feature and how manieth active held-out row of its feature it is, for every entry."""
        feature = z.indices
        order = np.argsort(feature, kind="stable")
        by_feature = np.bincount(feature, minlength=len(self._seen))
        first = np.cumsum(by_feature) - by_feature
        sorted_feature = feature[order]
        rank = np.arange(len(order)) - first[sorted_feature] + self._seen[sorted_feature]
        self._seen += by_feature
        row = np.repeat(np.arange(z.shape[0]), np.diff(z.indptr))
        return row[order], sorted_feature, rank

    def auroc(self, *, defined: np.ndarray) -> Auroc:
        """Return the AUROC of the features where `defined` [feature]; NaN elsewhere or without inactive tokens."""
        n_features = len(self._count)
        value, lo, hi = (np.full(n_features, np.nan) for _ in range(3))
        result = Auroc(value, lo, hi, n=(~np.isnan(self.positive)).sum(axis=1))
        if not self._pool:
            return result
        x = np.concatenate([part for part, _ in self._pool])
        active = stack([code for _, code in self._pool], format="csc")  # [token, feature]
        size = max(1, _PAIRS_AT_A_TIME // max(1, self.positive.shape[1] * len(x)))
        features = np.flatnonzero(defined)
        for chunk in np.array_split(features, max(1, -(-len(features) // size))):
            negative = self._direction[chunk] @ x.T  # [feature, token]
            negative[active[:, chunk].toarray().T != 0] = np.nan
            value[chunk], lo[chunk], hi[chunk] = delong(self.positive[chunk], negative)
        return result


def delong(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return AUROC and its 95% interval by DeLong et al. (1988), [feature] each.

    positive [feature, p], negative [feature, n]: scores, NaN for none; ties count half. NaN with fewer than two of
    either. When all pairs are ordered the same way DeLong's variance is 0: then the bound is that of a share of m out of m
    (0.025^(1/m) and 1), m the smaller of both numbers.
    """
    above = (positive[:, :, None] > negative[:, None, :]).astype(np.uint8)
    above += positive[:, :, None] >= negative[:, None, :]  # 2 above, 1 tie, 0 below or missing
    n_pos, n_neg = (~np.isnan(positive)).sum(axis=1), (~np.isnan(negative)).sum(axis=1)
    known = (n_pos >= 2) & (n_neg >= 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_pos = above.sum(axis=2) / (2.0 * n_neg[:, None])  # [feature, p]: share of negatives below
        of_neg = above.sum(axis=1) / (2.0 * n_pos[:, None])
        value = np.where(known, of_pos.sum(axis=1) / n_pos, np.nan)
        variance = _variance(of_pos, ~np.isnan(positive), n_pos) / n_pos
        variance += _variance(of_neg, ~np.isnan(negative), n_neg) / n_neg
        half = _Z95 * np.sqrt(variance)
        exact = 0.025 ** (1.0 / np.maximum(np.minimum(n_pos, n_neg), 1))
    lo, hi = np.clip(value - half, 0, 1), np.clip(value + half, 0, 1)
    degenerate = half == 0
    lo = np.where(degenerate & (value > 0.5), exact, lo)
    hi = np.where(degenerate & (value < 0.5), 1 - exact, hi)
    return value, np.where(known, lo, np.nan), np.where(known, hi, np.nan)


def _variance(values: np.ndarray, there: np.ndarray, n: np.ndarray) -> np.ndarray:
    mean = (values * there).sum(axis=1) / n
    return np.asarray((((values - mean[:, None]) ** 2) * there).sum(axis=1) / (n - 1))
