"""Sums of rows by key that grow as rows arrive, with a bound on memory that does not depend on the batches."""

import numpy as np


class GroupedSums:
    """Σ of rows [columns] for each integer key ≥ 0.

    limit: most keys held. When more arrive, the largest keys go, down to the most whole groups (key >> group_bits)
    that fit. Groups are dropped from the top only, so which ones stay depends on the rows, not on their batching.
    """

    def __init__(self, n_columns: int, *, dtype: type[np.floating], limit: int | None = None, group_bits: int = 0):
        self.limit, self.group_bits = limit, group_bits
        self.bound: int | None = None  # first group that did not fit
        self._slot: dict[int, int] = {}
        self._sums = np.zeros((16, n_columns), dtype=dtype)
        self._counts = np.zeros(16, dtype=np.int64)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Add rows [row, column] to the sums of their keys [row]."""
        if self.bound is not None:
            keep = (keys >> self.group_bits) < self.bound
            keys, rows = keys[keep], rows[keep]
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        found, start, count = np.unique(keys[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(rows[order], start, axis=0)
        slots = np.array([self._slot.setdefault(int(key), len(self._slot)) for key in found])
        self._reserve(len(self._slot))
        self._sums[slots] += sums
        self._counts[slots] += count
        if self.limit is not None and len(self._slot) > self.limit:
            self._drop(self.limit)

    def _reserve(self, size: int) -> None:
        if size > len(self._sums):
            more = max(size, 2 * len(self._sums)) - len(self._sums)
            self._sums = np.concatenate([self._sums, np.zeros((more, self._sums.shape[1]), self._sums.dtype)])
            self._counts = np.concatenate([self._counts, np.zeros(more, dtype=np.int64)])

    def _drop(self, limit: int) -> None:
        keys, counts, sums = self.result()
        group = keys >> self.group_bits
        self.bound = int(group[limit])  # the group of the first key too many: it and all after it go
        keep = group < self.bound
        self._slot = {int(key): slot for slot, key in enumerate(keys[keep])}
        self._sums, self._counts = sums[keep], counts[keep]

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return keys [key] ascending, rows per key [key], and their sums [key, column]."""
        keys = np.fromiter(self._slot, dtype=np.int64, count=len(self._slot))
        order = np.argsort(keys, kind="stable")
        return keys[order], self._counts[order], self._sums[order]
