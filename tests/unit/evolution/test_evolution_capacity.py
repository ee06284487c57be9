import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.evolution.capacity import (
    dimensionality_rate,
    feature_dimensionality,
    participation_ratio,
    random_direction_rates,
)


def random_decoder(seed, n=30, d=8):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * rng.lognormal(size=(n, 1))).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-12, 1e12))
def test_dimensionality_equals_the_capacity_of_scherlis_at_any_scale(seed, scale):
    decoder = random_decoder(seed)
    gram = decoder.astype(np.float64) @ decoder.astype(np.float64).T
    capacity = np.diag(gram) ** 2 / (gram**2).sum(axis=1)
    found = feature_dimensionality((decoder * np.float64(scale)).astype(np.float32))
    np.testing.assert_allclose(found, capacity, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), d=st.integers(1, 12))
def test_dimensionalities_never_add_up_to_more_than_the_rank(seed, n, d):
    decoder = random_decoder(seed, n, d)
    assert feature_dimensionality(decoder).sum() <= min(n, d) * (1 + 1e-4)


def test_orthogonal_features_have_a_dimension_each_and_copies_share_one():
    decoder = np.eye(5, dtype=np.float32)[[0, 1, 2, 2, 2]] * np.array([[1], [3], [2], [2], [2]], dtype=np.float32)
    np.testing.assert_allclose(feature_dimensionality(decoder), [1, 1, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert dimensionality_rate(decoder) == pytest.approx(3 / 5)


def test_a_zero_decoder_has_no_dimensionality_and_adds_nothing():
    decoder = np.eye(3, dtype=np.float32) * np.array([[1.0], [1.0], [0.0]], dtype=np.float32)
    assert np.isnan(feature_dimensionality(decoder)[2])
    assert dimensionality_rate(decoder) == pytest.approx(2 / 3)
    assert dimensionality_rate(np.zeros((4, 3), dtype=np.float32)) == 0.0


@pytest.mark.parametrize("n", [64, 128, 512])
def test_isotropic_directions_of_equal_norm_reach_n_over_n_plus_d(n):
    d = 64
    rates = random_direction_rates(np.ones((1, n)), d, draws=5, seed=0)
    assert rates.mean() == pytest.approx(n / (n + d), abs=0.02)


def test_the_null_does_not_depend_on_the_names_of_features():
    norms = np.random.default_rng(0).lognormal(size=(2, 50))
    shuffled = norms[:, np.random.default_rng(1).permutation(50)]
    np.testing.assert_array_equal(
        random_direction_rates(norms, 8, draws=3, seed=4), random_direction_rates(shuffled, 8, draws=3, seed=4)
    )


def test_participation_ratio_counts_equal_directions():
    assert participation_ratio(np.diag([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert participation_ratio(np.diag([1.0, 0.0])) == pytest.approx(1)
    assert participation_ratio(np.zeros((3, 3))) == 0.0
