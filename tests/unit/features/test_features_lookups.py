"""Cross-fitted lookup R² against a dense, row-by-row computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snapcoder.features.lookups import SHRINKAGE, Lookup, document_folds, group_sums, lookup_r2


def dense_r2(z, key, fold, coarse=None):
    """Predict every row of each fold, one by one, from the other fold."""
    prediction = np.zeros_like(z)
    for here, there in ((0, 1), (1, 0)):
        fitted = fold == here
        for row in np.flatnonzero(fold == there):
            if coarse is None:
                above = z[fitted].mean(axis=0)
                weight = 0.0
            else:
                group = fitted & (coarse == coarse[row])
                above = z[group].mean(axis=0) if group.any() else np.zeros(z.shape[1])
                weight = SHRINKAGE
            same = fitted & (key == key[row])
            n = same.sum()
            prediction[row] = (z[same].sum(axis=0) + weight * above) / (n + weight) if n else above
    total = ((z - z.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - ((z - prediction) ** 2).sum(axis=0) / total


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.booleans())
def test_r2_agrees_with_predicting_every_row(seed, n_keys, with_coarse):
    rng = np.random.default_rng(seed)
    z = rng.random((60, 4)) * (rng.random((60, 4)) < 0.4)
    z[0] = 1.0
    key = rng.integers(0, n_keys**2, 60)
    fold = document_folds(rng.integers(0, 6, 60))
    if len(set(fold)) < 2:
        return
    coarse = key // n_keys if with_coarse else None
    got = lookup_r2(csr_array(z), Lookup.of(key, fold, coarse=coarse))
    np.testing.assert_allclose(got, dense_r2(z, key, fold, coarse), atol=1e-9)


def test_a_feature_that_is_a_function_of_the_key_has_r2_of_one():
    rng = np.random.default_rng(0)
    key = rng.integers(0, 5, 400)
    z = csr_array(np.array([0.0, 0, 2, 1, 0])[key][:, None])
    assert lookup_r2(z, Lookup.of(key, document_folds(np.arange(400) // 10)))[0] == pytest.approx(1, abs=1e-12)


def test_noise_is_not_explained_by_a_key_with_many_values():
    rng = np.random.default_rng(1)
    z = csr_array((rng.random((4000, 1)) < 0.1).astype(float))
    key = rng.integers(0, 1000, 4000)
    fold = document_folds(np.arange(4000) // 20)
    assert lookup_r2(z, Lookup.of(key, fold))[0] < 0.02  # in sample it would be about 0.25
    assert lookup_r2(z, Lookup.of(key, fold, coarse=key // 100))[0] < 0.02


def test_constant_features_and_a_single_document_are_undefined():
    z = csr_array(np.stack([np.ones(10), np.zeros(10), np.arange(10.0)], axis=1))
    key = np.arange(10) % 2
    assert np.isnan(lookup_r2(z, Lookup.of(key, document_folds(np.arange(10) // 2)))).tolist() == [True, True, False]
    assert np.isnan(lookup_r2(z, Lookup.of(key, document_folds(np.zeros(10))))).all()


def test_folds_split_documents_and_nothing_else():
    doc = np.repeat([7, 3, 9, 20], 5)
    fold = document_folds(doc)
    assert fold[::5].tolist() == [1, 0, 0, 1]
    assert (fold == np.repeat(fold[::5], 5)).all()


def test_group_sums_are_those_of_a_loop():
    rng = np.random.default_rng(2)
    z = rng.random((30, 3)) * (rng.random((30, 3)) < 0.5)
    group, chosen = rng.integers(0, 4, 30), rng.random(30) < 0.5
    expected = np.stack([z[chosen & (group == g)].sum(axis=0) for g in range(4)])
    np.testing.assert_allclose(group_sums(csr_array(z), group, 4, chosen).toarray(), expected)
