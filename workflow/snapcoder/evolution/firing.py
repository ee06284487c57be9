"""How often and how strongly features fire, for any norm and threshold, from one sort of the sparse code.

Gates are nested: raising a feature's norm only adds rows. So with each feature's codes sorted once, the rows on which
it fires at a snapshot are the first so-many of its list, and sums over them are differences of running sums.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

_ALL_BITS = 0xFFFFFFFF


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


class SortedCodes:
    """The positive entries of a sparse code [row, feature], sorted in descending order within each feature."""

    def __init__(self, z: csr_array) -> None:
        self.n_rows, self.n_features = z.shape
        keep = z.data > 0
        # Bit patterns of positive floats are ordered like the floats, so one integer sort orders by feature and value.
        bits = np.ascontiguousarray(z.data[keep], dtype=np.float32).view(np.uint32)
        key = (z.indices[keep].astype(np.int64) << 32) | (_ALL_BITS - bits.astype(np.int64))
        key.sort()
        self._value = (_ALL_BITS - (key & _ALL_BITS)).astype(np.uint32).view(np.float32)  # [entry]
        self._start = np.searchsorted(key, np.arange(self.n_features + 1, dtype=np.int64) << 32)  # [feature + 1]
        self._sum = np.concatenate([[0.0], np.cumsum(self._value, dtype=np.float64)])
        self._square = np.concatenate([[0.0], np.cumsum(self._value.astype(np.float64) ** 2)])

    def n_firing(self, norm: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """Count for each feature the entries with z·norm > threshold, by bisection over all features at once."""
        low, high = self._start[:-1].copy(), self._start[1:].copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            fires = np.zeros(self.n_features, dtype=bool)
            fires[open_] = self._value[middle[open_]] * norm[open_] > threshold[open_]
            low = np.where(open_ & fires, middle + 1, low)
            high = np.where(open_ & ~fires, middle, high)
        return low - self._start[:-1]

    def measure(self, norm: np.ndarray, threshold: np.ndarray, *, shared_gate: bool) -> Firing:
        """Measure firing at a snapshot with these norms and thresholds, both [feature].

        A feature fires where z·norm > threshold. Its gated code is z where it fires; with a shared gate, z wherever
        the code holds an entry.
        """
        fires = self.n_firing(norm, threshold)
        entries = self._start[1:] - self._start[:-1]
        gated = entries if shared_gate else fires
        first, last = self._start[:-1], self._start[:-1] + gated
        square = self._square[last] - self._square[first]
        active = self._sum[first + fires] - self._sum[first]
        largest = np.full(self.n_features, np.nan)
        largest[gated > 0] = self._value[first[gated > 0]]
        return Firing(
            rate=fires / self.n_rows,
            rms_f=np.sqrt(square / self.n_rows),
            mean_active=np.divide(active, fires, out=np.full(self.n_features, np.nan), where=fires > 0),
            max_f=largest,
        )
