"""Sums of activations over many sets of rows at once, in one pass over blocks of rows."""

import numpy as np
from scipy.sparse import csr_array


class RowSums:
    """Sums of vectors per group of rows: sum [group, model] float32. A row may be in many groups."""

    def __init__(self, row: np.ndarray, group: np.ndarray, *, n_groups: int, n_rows: int, d_model: int) -> None:
        self._member = csr_array((np.ones(len(row), np.float32), (row, group)), shape=(n_rows, n_groups))
        self.sum = np.zeros((n_groups, d_model), dtype=np.float32)

    def add(self, start: int, vectors: np.ndarray) -> None:
        """Add the rows of one block, vectors [n, model], that begins at row `start`."""
        here = self._member[start : start + len(vectors)]
        if here.nnz:
            touched, column = np.unique(here.indices, return_inverse=True)
            local = csr_array((here.data, column, here.indptr), shape=(len(vectors), len(touched)))
            self.sum[touched] += local.T @ vectors
