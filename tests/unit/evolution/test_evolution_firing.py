from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snapcoder.evolution.firing import FiringSums


def sparse_code(seed, n_rows=60, n_features=7, density=0.3):
    rng = np.random.default_rng(seed)
    dense = rng.exponential(size=(n_rows, n_features)) * (rng.random((n_rows, n_features)) < density)
    dense[:, 3] = 0  # a dead feature
    return dense.astype(np.float32)


def measure(dense, norm, threshold, *, shared_gate=False, cuts=()):
    sums = FiringSums(norm, threshold, shared_gate=shared_gate)
    edges = [0, *sorted(cuts), len(dense)]
    for first, last in pairwise(edges):
        sums.add(csr_array(dense[first:last]))
    return sums.result()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shared=st.booleans(), cuts=st.sets(st.integers(0, 60), max_size=5))
def test_firing_statistics_equal_a_dense_computation_however_rows_are_cut(seed, shared, cuts):
    dense = sparse_code(seed)
    rng = np.random.default_rng(seed + 1)
    norm = rng.uniform(0, 2, 7).astype(np.float32)
    threshold = rng.uniform(0, 1, 7).astype(np.float32)
    found = measure(dense, norm, threshold, shared_gate=shared, cuts=cuts)
    fires = (dense * norm > threshold) & (dense > 0)
    gated = dense if shared else dense * fires
    np.testing.assert_array_equal(found.rate, fires.mean(axis=0))
    np.testing.assert_allclose(found.rms_f, np.sqrt((gated.astype(np.float64) ** 2).mean(axis=0)), rtol=1e-6)
    for i in range(7):
        if fires[:, i].any():
            assert found.mean_active[i] == pytest.approx(dense[fires[:, i], i].mean(), rel=1e-5)
        else:
            assert np.isnan(found.mean_active[i])
        largest = gated[:, i].max()
        assert np.isnan(found.max_f[i]) if largest == 0 else found.max_f[i] == largest


def test_a_feature_that_never_fires_has_rate_zero_and_undefined_means():
    found = measure(sparse_code(0), np.ones(7, "f4"), np.zeros(7, "f4"))
    assert found.rate[3] == 0
    assert found.rms_f[3] == 0
    assert np.isnan(found.mean_active[3])
    assert np.isnan(found.max_f[3])


def test_an_entry_exactly_at_the_threshold_does_not_fire():
    code = np.array([[0.5], [1.0], [2.0]], dtype=np.float32)
    assert measure(code, np.array([2.0], "f4"), np.array([2.0], "f4")).rate[0] == 1 / 3
