"""The innermost loops of the sparse path: sums of a few rows, and products with them."""

import numpy as np
import pytest

from snapcoder.crosscoder.sparse_kernels import LARGEST_BLOCK, add_rows, block_width, multiply_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", range(10))
def test_rows_are_added_and_multiplied_as_numpy_does(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    matrix = rng.standard_normal((7, 2, 33)).astype(dtype)
    weight, out, vector = (rng.standard_normal(size).astype(dtype) for size in (10, 33, 33))
    row = rng.integers(0, 7, 10).astype(np.int32)
    expected = out + weight[:n] @ matrix[row[:n], 1]
    add_rows(out, weight, row, n, matrix, 1)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    product = np.full(10, -1, dtype)
    multiply_rows(product, vector, row, n, matrix, 1)
    np.testing.assert_allclose(product[:n], matrix[row[:n], 1] @ vector, rtol=1e-4, atol=1e-5)
    assert (product[n:] == -1).all()


def test_infinite_and_missing_values_keep_their_meaning() -> None:
    matrix, row = np.zeros((2, 1, 40), np.float32), np.array([0, 1], np.int32)
    matrix[0, 0, 3], matrix[1, 0, 5] = np.inf, np.nan
    out = np.zeros(40, np.float32)
    add_rows(out, np.ones(2, np.float32), row, 2, matrix, 0)
    assert np.isinf(out[3])
    assert np.isnan(out[5])
    assert np.isfinite(np.delete(out, [3, 5])).all()


def test_blocks_divide_a_gate() -> None:
    for width in (1, 96, 192, 193, 512, 768, 1152, 10007):
        assert width % block_width(width) == 0
    assert block_width(1152) == 144
    assert block_width(96) == 96
    assert block_width(LARGEST_BLOCK + 1) == LARGEST_BLOCK + 1  # an odd number has no half
