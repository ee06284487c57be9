import numpy as np
import pytest
from scipy import stats

from snapcoder.attribution import significance
from snapcoder.attribution.significance import bootstrap_error, sign_flip_p


def each(n):
    return np.arange(n)


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_with_few_examples_p_is_scipys_exact_sign_flip_test(n):
    values = np.random.default_rng(n).normal(0.5, 1.0, size=(n, 6))
    p, smallest = sign_flip_p(values, each(n), draws=5000, rng=np.random.default_rng(0))
    for item in range(6):
        expected = 1.0 if n == 1 else stats.permutation_test(
            (values[:, item],), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue  # fmt: skip
        assert p[item] == pytest.approx(min(expected, 1.0))
    assert (smallest == 2.0 ** (1 - n)).all()


def test_examples_of_a_cluster_share_their_flip():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(7), 3)
    values = rng.normal(0.4, 1.0, size=(21, 4))
    p, smallest = sign_flip_p(values, cluster, draws=1000, rng=rng)
    sums = values.reshape(7, 3, 4).sum(axis=1)
    for item in range(4):
        expected = stats.permutation_test(
            (sums[:, item],), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue  # fmt: skip
        assert p[item] == pytest.approx(min(expected, 1.0))
    assert (smallest == 2.0**-6).all()


def test_examples_without_a_value_do_not_make_a_p_smaller_than_it_can_be():
    values = np.zeros((30, 3))
    values[[4, 9, 17], 0] = 5.0  # three of the same sign: 2 of 8 patterns reach them
    values[2, 1] = 1.0
    p, smallest = sign_flip_p(values, each(30), draws=1000, rng=np.random.default_rng(0))
    assert p.tolist() == [0.25, 1.0, 1.0]
    assert smallest.tolist() == [0.25, 1.0, 1.0]


def test_random_flips_agree_with_the_normal_limit_and_never_reach_zero(monkeypatch):
    values = np.random.default_rng(3).normal(0.12, 1.0, size=(200, 40))
    values[:, 0] = 3.0
    p, smallest = sign_flip_p(values, each(200), draws=4000, rng=np.random.default_rng(0))
    z = values.sum(axis=0) / np.sqrt((values**2).sum(axis=0))
    np.testing.assert_allclose(p[1:], 2 * stats.norm.sf(np.abs(z[1:])), atol=0.03)
    assert p[0] == smallest[0] == 1 / 4001
    monkeypatch.setattr(significance, "_HELD", 100)
    chunked, _ = sign_flip_p(values, each(200), draws=4000, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(chunked, p)


def test_p_values_of_symmetric_noise_are_uniform_whatever_the_sparsity():
    rng = np.random.default_rng(4)
    values = rng.standard_t(2, size=(40, 3000)) * (rng.random((40, 3000)) < 0.6)
    p, _ = sign_flip_p(values, each(40), draws=2000, rng=rng)
    for level in (0.01, 0.05, 0.2):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 3000) + 1 / 2001


def test_the_bootstrap_error_of_independent_examples_is_the_textbook_one_and_clusters_widen_it():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(60, 5))
    error = bootstrap_error(values, each(60), draws=4000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(error, values.std(axis=0) / np.sqrt(60), rtol=0.06)
    repeated = np.repeat(values[:20], 3, axis=0)
    clustered = bootstrap_error(repeated, np.repeat(np.arange(20), 3), draws=4000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(clustered, values[:20].std(axis=0) / np.sqrt(20), rtol=0.06)
    assert np.isnan(bootstrap_error(values, np.zeros(60), draws=10, rng=rng)).all()
