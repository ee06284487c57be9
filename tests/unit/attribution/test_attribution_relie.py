"""When a feature does its work for a task: shares over snapshots against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from snapcoder.attribution.relie import agreement_with_exact, log_step_moments, relative_over_snapshots

TIMES = np.array([0.0, 1.0, 2.0, 3.0])
EVERYWHERE = np.ones(4, dtype=bool)


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(np.float64, (4, 5), elements=st.floats(-5, 5).map(lambda value: round(value, 3))),
    npst.arrays(bool, 4),
    st.floats(0.1, 100),
)
def test_shares_sum_to_one_over_known_snapshots_and_know_no_unit_and_no_sign(size, known, factor):
    share = relative_over_snapshots(size, known)
    works = np.abs(size[known]).sum(axis=0) > 0
    assert np.isnan(share[~known]).all()
    assert np.isnan(share[:, ~works]).all()
    np.testing.assert_allclose(np.nansum(share[:, works], axis=0), 1.0)
    np.testing.assert_allclose(relative_over_snapshots(-factor * size, known), share, rtol=1e-9)


def test_a_snapshot_without_the_task_takes_no_share():
    size = np.array([[9.0], [1.0], [-3.0], [0.0]])
    share = relative_over_snapshots(size, np.array([False, True, True, True]))
    np.testing.assert_allclose(share[:, 0], [np.nan, 0.25, 0.75, 0.0])


def test_centroid_and_spread_are_those_of_the_distribution():
    size = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-1.0, 2.0]])
    moments = log_step_moments(size, np.zeros_like(size), EVERYWHERE, TIMES)
    np.testing.assert_allclose(moments.centroid, [1.5, 3.0])
    np.testing.assert_allclose(moments.spread, [1.5, 0.0])


def test_a_feature_that_does_nothing_has_no_centroid():
    moments = log_step_moments(np.zeros((4, 1)), np.zeros((4, 1)), EVERYWHERE, TIMES)
    assert np.isnan([moments.centroid[0], moments.se[0]]).all()


def test_the_centroids_error_is_that_of_repeated_noise():
    rng = np.random.default_rng(0)
    size, se = np.array([[1.0], [2.0], [4.0], [2.5]]), np.full((4, 1), 0.05)
    drawn = [
        log_step_moments(size + se * rng.standard_normal(size.shape), se, EVERYWHERE, TIMES).centroid[0]
        for _ in range(4000)
    ]
    assert log_step_moments(size, se, EVERYWHERE, TIMES).se[0] == pytest.approx(np.std(drawn), rel=0.05)


def test_agreement_is_the_rank_correlation_of_both_made_relative_alike():
    rng = np.random.default_rng(1)
    size = rng.uniform(0.1, 1, (4, 6))
    exact = size * rng.uniform(0.7, 1.3, size.shape)
    exact[0] = np.nan  # not measured there
    exact[1:, 5] = np.nan  # nor at all for one feature
    found = agreement_with_exact(size, exact, bootstrap=100, generator=rng)
    a, b = (values[1:, :5] / values[1:, :5].sum(axis=0) for values in (size, exact))
    assert found.rho == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic)
    assert (found.n, found.n_features) == (15, 5)
    assert found.low <= found.rho <= found.high


def test_without_exact_effects_there_is_no_agreement():
    found = agreement_with_exact(
        np.ones((4, 5)), np.full((4, 5), np.nan), bootstrap=100, generator=np.random.default_rng(0)
    )
    assert np.isnan([found.rho, found.low, found.high]).all()
    assert (found.n, found.n_features) == (0, 0)
