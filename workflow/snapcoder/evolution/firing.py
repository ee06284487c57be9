"""How often and how strongly features fire at a snapshot, summed block by block over the sparse code."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Firing:
    """What each feature does at one snapshot; all arrays are [feature].

    rate: share of rows on which it fires; rms_f: root mean square of the gated code over all rows; mean_active: mean
    of the gated code where it fires (NaN when never); max_f: largest gated code (NaN when none).
    """

    rate: np.ndarray
    rms_f: np.ndarray
    mean_active: np.ndarray
    max_f: np.ndarray


class FiringSums:
    """Counts and sums over the blocks that have gone by, for one snapshot's norms and thresholds, both [feature].

    A feature fires where z·norm > threshold, z > 0. Its gated code is z where it fires; with a shared gate, z wherever
    the code holds an entry. Memory: [feature] arrays and one block.
    """

    def __init__(self, norm: np.ndarray, threshold: np.ndarray, *, shared_gate: bool) -> None:
        self._norm, self._threshold, self._shared_gate = norm, threshold, shared_gate
        self.n_rows = 0
        self.fires = np.zeros(len(norm), dtype=np.int64)
        self._active, self._square = np.zeros(len(norm)), np.zeros(len(norm))
        self._largest = np.zeros(len(norm), dtype=np.float32)

    def add(self, z: csr_array) -> None:
        """Add one block [row, feature]."""
        feature = z.indices.astype(np.intp)  # once, not at every sum
        fires = (z.data * self._norm[feature] > self._threshold[feature]) & (z.data > 0)
        gated = (z.data > 0) if self._shared_gate else fires
        code = np.where(gated, z.data, np.float32(0))
        self.n_rows += z.shape[0]
        self.fires += self._sums(feature, fires).astype(np.int64)
        self._square += self._sums(feature, code.astype(np.float64) ** 2)
        self._active += self._sums(feature, np.where(fires, z.data, 0) if self._shared_gate else code)
        np.maximum.at(self._largest, feature, code)

    def _sums(self, feature: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(feature, values, minlength=len(self._norm))

    def result(self) -> Firing:
        """Return what the blocks add up to."""
        undefined = np.full(len(self._norm), np.nan)
        n_rows = max(self.n_rows, 1)
        return Firing(
            rate=self.fires / n_rows,
            rms_f=np.sqrt(self._square / n_rows),
            mean_active=np.divide(self._active, self.fires, out=undefined, where=self.fires > 0),
            max_f=np.where(self._largest > 0, self._largest, np.nan),
        )
