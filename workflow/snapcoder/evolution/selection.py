"""What choosing alone does: formation of the rows that lie furthest along random directions of the same activations.

Rows chosen as the strongest along any direction are more alike than random ones, in activations of any structure. A
feature that is more than a way of choosing rows should exceed this.
"""

import numpy as np

from snapcoder.evolution.formation_rows import Partners
from snapcoder.evolution.row_sums import RowSums


class StrongestAlong:
    """The `top` rows of each half of the documents along random directions, found block by block."""

    def __init__(self, controls: Partners, d_model: int, *, directions: int, top: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._direction = generator.standard_normal((d_model, directions)).astype(np.float32)
        self._controls, self._top = controls, top
        self._value = np.full((2, directions, top), -np.inf, dtype=np.float32)
        self._row = np.full((2, directions, top), -1, dtype=np.int64)

    def look(self, start: int, x: np.ndarray) -> None:
        """Take the rows of one block into account, centred activations x [n, model] that begin at row `start`."""
        score = np.ascontiguousarray((x @ self._direction).T)  # [direction, row]
        half = self._controls.half[start : start + len(x)]
        for h in (0, 1):
            weakest = self._value[h].min(axis=1, keepdims=True)
            inside = np.flatnonzero((half == h) & (score > weakest).any(axis=0))  # after some blocks, only a few rows
            if not len(inside):
                continue
            value = np.concatenate([self._value[h], score[:, inside]], axis=1)
            row = np.concatenate([self._row[h], np.broadcast_to(start + inside, (len(score), len(inside)))], axis=1)
            best = np.argpartition(-value, self._top - 1, axis=1)[:, : self._top]
            self._value[h], self._row[h] = np.take_along_axis(value, best, 1), np.take_along_axis(row, best, 1)

    def sums(self) -> tuple[RowSums, RowSums]:
        """Return empty sums over the rows found and over their controls with the same tokens."""
        half, direction, _ = np.indices(self._row.shape)
        found = self._row.ravel() >= 0
        row = self._row.ravel()[found]
        group = (direction * 2 + half).ravel()[found]
        self._size = np.bincount(group, minlength=2 * self._row.shape[1]).reshape(-1, 1)
        n_rows = len(self._controls.half)
        shape = {"n_groups": len(self._size), "n_rows": n_rows, "d_model": len(self._direction)}
        return RowSums(row, group, **shape), RowSums(self._controls.same_token[row], group, **shape)

    def formation(self, active: RowSums, matched: RowSums) -> np.ndarray:
        """Return the formation of each direction, [direction], from the filled sums; NaN without rows in a half."""
        known = (self._size.reshape(-1, 2) > 0).all(axis=1)
        a, m = (total.sum / np.maximum(self._size, 1) for total in (active, matched))
        formed = np.einsum("fd,fd->f", a[0::2], a[1::2]) - np.einsum("fd,fd->f", m[0::2], m[1::2])
        return np.where(known, formed, np.nan)
