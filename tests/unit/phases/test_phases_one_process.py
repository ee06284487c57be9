import numpy as np
import pytest

from snapcoder.phases.clocks import clock_at, clocks
from snapcoder.phases.one_process import filled, increment_p, smooth_fit, smooth_p
from snapcoder.phases.segmentation import standardise

STEPS = np.array([0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000])
LOG = clocks(STEPS, tokens=None, loss=None)["log_step"]


def p_values(curve, *, model="piecewise_const", noise=0.05, n=25, metrics=5):
    """p_increments and p_smooth of curves with noise, [study, 2]."""
    result = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        base = curve(LOG.position, np.random.default_rng((seed, 1)))
        y = base[:, None] * rng.uniform(0.5, 1.5, metrics) + noise * rng.standard_normal((len(STEPS), metrics))
        options = {"model": model, "max_segments": 4, "min_size": 2, "draws": 59, "rng": rng}
        result.append((increment_p(y, LOG, **options), smooth_p(y, LOG, **options)))
    return np.array(result)


@pytest.mark.parametrize("model", ["piecewise_const", "piecewise_linear"])
def test_one_smooth_process_is_not_taken_for_phases(model):
    for curve in (lambda x, _: np.exp(-5 * x), lambda x, _: x, lambda x, _: 1 / (1 + np.exp(-6 * (x - 0.5)))):
        assert (p_values(curve, model=model, n=12).max(axis=1) < 0.05).mean() <= 0.08


def test_steady_drift_with_random_increments_is_not_taken_for_phases():
    walks = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        walk = rng.standard_normal((len(STEPS), 3)).cumsum(axis=0)
        walks.append(
            increment_p(
                walk, clock_at(np.arange(17)), model="piecewise_const", max_segments=4, min_size=2, draws=59, rng=rng
            )
        )
    assert np.mean(np.array(walks) < 0.05) <= 0.1  # exact at 5%
    assert 0.3 < np.mean(walks) < 0.7


def test_a_transition_over_a_sixth_of_the_clock_is_found_more_often_than_not():
    both = p_values(lambda x, rng: 1 / (1 + np.exp(-(x - rng.uniform(0.4, 0.6)) / 0.04)))
    assert (both.max(axis=1) < 0.05).mean() > 0.5


def test_curves_of_the_smooth_family_are_fitted_exactly():
    x = LOG.position
    curves = standardise(np.stack([3 - x, (x - 0.3) ** 2, 2 * np.exp(-8 * x) + 1], axis=1), LOG.weight)
    fit, error = smooth_fit(curves[None], LOG)
    np.testing.assert_allclose(fit[0], curves, atol=1e-6)
    assert error[0] == pytest.approx(0, abs=1e-10)


def test_snapshots_that_share_a_place_keep_their_change_and_do_not_break_the_test():
    clock = clock_at(np.array([0, 1, 2, 2, 2, 3, 4, 5.0]))
    y = np.random.default_rng(0).standard_normal((8, 2))
    options = {"model": "piecewise_const", "max_segments": 3, "min_size": 2, "draws": 19}
    for test in (increment_p, smooth_p):
        assert 0 < test(y, clock, rng=np.random.default_rng(0), **options) <= 1


def test_too_few_snapshots_leave_the_p_values_undefined():
    options = {"model": "piecewise_const", "max_segments": 4, "min_size": 2, "draws": 19}
    for test in (increment_p, smooth_p):
        assert np.isnan(test(np.eye(3), clock_at(np.arange(3)), rng=np.random.default_rng(0), **options))


def test_what_is_undefined_is_filled_with_the_nearest_value():
    curves = np.array([[np.nan, np.nan], [1.0, np.nan], [np.nan, np.nan], [4.0, np.nan]])
    np.testing.assert_array_equal(filled(curves), [[1, 0], [1, 0], [1, 0], [4, 0]])
