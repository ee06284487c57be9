import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.evolution.capacity import (
    capacity,
    dimensionality_rate,
    feature_dimensionality,
    participation_ratio,
    random_direction_rates,
    rank_me,
    spectral_participation,
    without_direction,
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
    assert spectral_participation(np.array([0.0, 2.0, 2.0, 2.0])) == pytest.approx(3)
    assert spectral_participation(np.zeros(2)) == 0.0


def test_rank_me_counts_equal_singular_values_and_weighs_unequal_ones():
    assert rank_me(np.array([4.0, 4.0, 4.0, 0.0])) == pytest.approx(3)
    share = np.array([0.75, 0.25])
    assert rank_me(np.array([9.0, 1.0])) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert rank_me(np.zeros(3)) == 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40))
def test_influences_are_the_derivatives_by_the_weights_and_add_up_to_zero(seed, n):
    decoder = random_decoder(seed, n, 6).astype(np.float64)

    def total(weights):
        moment = (decoder * weights[:, None]).T @ decoder
        square = (decoder**2).sum(axis=1)
        return (weights * square**2 / np.einsum("fd,de,fe->f", decoder, moment, decoder)).sum()

    found = capacity(decoder).influence
    assert found.sum() == pytest.approx(0, abs=1e-8)
    step = 1e-6
    expected = [(total(np.ones(n) + step * e) - total(np.ones(n) - step * e)) / (2 * step) for e in np.eye(n)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_shared_direction_lowers_the_rate_and_taking_it_out_restores_it():
    rng = np.random.default_rng(0)
    shared = np.eye(32)[0]
    decoder = rng.standard_normal((256, 32)).astype(np.float32) / np.sqrt(32).astype(np.float32)
    common = (decoder + 3 * shared).astype(np.float32)
    plain, lowered = dimensionality_rate(decoder), dimensionality_rate(common)
    assert plain == pytest.approx(256 / (256 + 32), abs=0.03)
    assert lowered < 0.2
    restored = feature_dimensionality(without_direction(common, shared))
    assert restored.sum() / 31 == pytest.approx(plain, abs=0.02)
    np.testing.assert_array_equal(without_direction(common, np.zeros(32)), common)


@pytest.mark.parametrize(("n", "rate"), [(128, 0.50), (256, 0.67), (1024, 0.89)])
def test_the_null_reaches_n_over_n_plus_d_to_the_second_digit(n, rate):
    assert random_direction_rates(np.ones((1, n)), 128, draws=5, seed=0).mean() == pytest.approx(rate, abs=0.01)


def test_unequal_norms_and_an_uneven_spectrum_lower_the_null():
    unequal = np.random.default_rng(0).lognormal(sigma=1.5, size=512)
    decaying = 1 / np.arange(1, 65.0)
    for norms, variances in ((unequal, np.ones(64)), (np.ones(512), decaying), (unequal, decaying)):
        found = random_direction_rates(norms[None], 64, draws=5, seed=0, variances=variances[None]).mean()
        w = np.random.default_rng(5).standard_normal((5, 512, 64)) * np.sqrt(variances)
        w *= norms[:, None] / np.linalg.norm(w, axis=2, keepdims=True)
        gram = np.einsum("nid,njd->nij", w, w)
        direct = (np.einsum("nii->ni", gram) ** 2 / (gram**2).sum(axis=2)).sum(axis=1).mean() / 64
        assert found == pytest.approx(direct, abs=0.02)
        assert found < 0.45  # equal norms, even spectrum: 0.89
    even = random_direction_rates(np.ones((1, 512)), 64, draws=5, seed=0, variances=np.ones((1, 64))).mean()
    assert even == random_direction_rates(np.ones((1, 512)), 64, draws=5, seed=0).mean()


def test_some_features_stand_for_all_in_a_large_null():
    norms = np.random.default_rng(0).lognormal(sigma=0.5, size=(2, 4000))
    variances = np.stack([1 / np.arange(1, 33.0), np.ones(32)])
    full, sampled = (
        random_direction_rates(norms, 32, draws=4, seed=0, variances=variances, at_most=at_most)
        for at_most in (4000, 500)
    )
    np.testing.assert_allclose(sampled.mean(axis=0), full.mean(axis=0), rtol=0.03)
