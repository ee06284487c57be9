"""The innermost loops of the sparse path on a CPU: sums of a few rows, and products with them, one block of columns.

Four rows at a time share one pass over the block, so that what they have in common is loaded and stored once for four
multiplications. Arrays of rows are [row, block, column]: a view of one block has no offset that a compiler would have
to prove positive, and a block of all rows fits the second-level cache, where a matrix of whole rows would not.
"""

from typing import Any

import numba

FAST: Any = {
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},  # sums may be reordered; inf and nan keep their meaning
}
PARALLEL: Any = FAST | {"parallel": True}
LARGEST_BLOCK = 192
"""Columns of a block at most: 3072 rows of 4-byte numbers are then about as large as the second-level cache."""


def block_width(width: int) -> int:
    """Return into what blocks of columns a gate's `width` columns are cut: halves of halves, down to LARGEST_BLOCK."""
    while width > LARGEST_BLOCK and width % 2 == 0:
        width //= 2
    return width


@numba.njit(**FAST)
def add_rows(out, weight, row, n, matrix, block):  # type: ignore[no-untyped-def]
    """Add Σ_j weight[j] · matrix[row[j], block] to out [column], j < n."""
    j = 0
    while j + 4 <= n:
        w0, w1, w2, w3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        m0, m1 = matrix[row[j], block], matrix[row[j + 1], block]
        m2, m3 = matrix[row[j + 2], block], matrix[row[j + 3], block]
        for c in range(out.shape[0]):
            out[c] += w0 * m0[c] + w1 * m1[c] + w2 * m2[c] + w3 * m3[c]
        j += 4
    while j < n:
        w0, m0 = weight[j], matrix[row[j], block]
        for c in range(out.shape[0]):
            out[c] += w0 * m0[c]
        j += 1


@numba.njit(**FAST)
def multiply_rows(out, vector, row, n, matrix, block):  # type: ignore[no-untyped-def]
    """Write Σ_c vector[c] · matrix[row[j], block, c] to out[j], j < n."""
    zero = vector.dtype.type(0)
    j = 0
    while j + 4 <= n:
        m0, m1 = matrix[row[j], block], matrix[row[j + 1], block]
        m2, m3 = matrix[row[j + 2], block], matrix[row[j + 3], block]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for c in range(vector.shape[0]):
            s0 += vector[c] * m0[c]
            s1 += vector[c] * m1[c]
            s2 += vector[c] * m2[c]
            s3 += vector[c] * m3[c]
        out[j], out[j + 1], out[j + 2], out[j + 3] = s0, s1, s2, s3
        j += 4
    while j < n:
        m0, s0 = matrix[row[j], block], zero
        for c in range(vector.shape[0]):
            s0 += vector[c] * m0[c]
        out[j] = s0
        j += 1
