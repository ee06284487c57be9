import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.sigmoid import WIDTH_PER_SLOPE, fit_rises

PLACE = log_steps([0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000])


def model(x, midpoint, slope, base, height):
    return base + height * expit((x - midpoint) / slope)


def rises(n, *, noise, seed=0):
    """Return the parameters [parameter, curve] of sigmoids whose rise the points resolve, and their noisy curves."""
    rng = np.random.default_rng(seed)
    truth = np.stack(
        [rng.uniform(0.8, 2.6, n), np.exp(rng.uniform(np.log(0.08), np.log(0.4), n)), rng.uniform(0, 0.4, n),
         rng.uniform(0.3, 1, n)]
    )  # fmt: skip
    midpoint, slope, base, height = truth[..., None]
    return truth, model(PLACE, midpoint, slope, base, height) + noise * rng.standard_normal((n, len(PLACE)))


def from_scipy(curve, start):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        return curve_fit(model, PLACE, curve, p0=start, maxfev=10_000)


def test_exact_sigmoids_are_recovered():
    truth, curves = rises(200, noise=0.0)
    found = fit_rises(PLACE, curves)
    for values, expected in zip((found.midpoint, found.slope, found.base, found.height), truth, strict=True):
        np.testing.assert_allclose(values, expected, atol=2e-5)
    np.testing.assert_allclose(found.r2, 1.0, atol=1e-9)
    low, high = (model(found.midpoint + side * found.width / 2, found.midpoint, found.slope, 0, 1) for side in (-1, 1))
    np.testing.assert_allclose(low, 0.1)
    np.testing.assert_allclose(high, 0.9)
    assert pytest.approx(4.394, abs=1e-3) == WIDTH_PER_SLOPE


def test_fits_and_errors_are_those_of_curve_fit():
    truth, curves = rises(60, noise=0.02, seed=1)
    found = fit_rises(PLACE, curves)
    compared = 0
    for i, curve in enumerate(curves):
        best, covariance = from_scipy(curve, truth[:, i])
        if not np.isfinite(covariance[0, 0]) or np.isnan(found.midpoint_se[i]):
            continue  # a rise between two points: undefined, see the test below
        compared += 1
        assert found.midpoint[i] == pytest.approx(best[0], abs=1e-4)
        assert found.slope[i] == pytest.approx(best[1], rel=1e-2)
        assert found.midpoint_se[i] == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-2)
        error = curve - model(PLACE, found.midpoint[i], found.slope[i], found.base[i], found.height[i])
        assert (error**2).sum() <= ((curve - model(PLACE, *best)) ** 2).sum() * (1 + 1e-6)
    assert compared >= 55


def test_the_standard_error_covers_the_truth():
    truth, curves = rises(1500, noise=0.03, seed=2)
    found = fit_rises(PLACE, curves)
    inside = np.abs(found.midpoint - truth[0]) < 2.16 * found.midpoint_se  # 95% of t with 13 degrees of freedom
    known = ~np.isnan(found.midpoint_se)
    assert known.mean() > 0.97
    assert 0.92 < inside[known].mean() < 0.98


def test_a_step_between_two_snapshots_has_no_standard_error_as_curve_fit_says():
    curve = np.where(PLACE > 1.9, 1.0, 0.1)
    _, covariance = from_scipy(curve, (1.9, 0.02, 0.1, 0.9))
    assert not np.isfinite(covariance[0, 0]) or np.sqrt(covariance[0, 0]) > 1
    found = fit_rises(PLACE, curve[None])
    assert found.r2[0] == pytest.approx(1, abs=1e-3)
    assert np.isnan(found.midpoint_se[0])
    before, after = PLACE[PLACE <= 1.9].max(), PLACE[PLACE > 1.9].min()
    assert before <= found.midpoint[0] <= after


def test_curves_that_fall_or_stand_still_have_no_rise():
    falling, constant = expit(-(PLACE - 1.5) / 0.3), np.full_like(PLACE, 0.7)
    found = fit_rises(PLACE, np.stack([falling, constant, np.zeros_like(PLACE)]))
    assert np.isnan(found.midpoint[1:]).all()
    assert np.isnan(found.r2[0]) or found.r2[0] < 0.8


def test_too_few_points_leave_everything_undefined():
    found = fit_rises(PLACE[:4], np.ones((3, 4)) * PLACE[:4])
    assert np.isnan([found.midpoint, found.midpoint_se, found.r2, found.width]).all()
    assert len(fit_rises(PLACE, np.empty((0, len(PLACE)))).midpoint) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 10), shift=st.floats(-2, 2))
def test_neither_units_of_the_curve_nor_the_origin_of_time_nor_neighbours_matter(seed, factor, shift):
    _, curves = rises(6, noise=0.01, seed=seed)
    plain = fit_rises(PLACE, curves)
    scaled = fit_rises(PLACE + shift, factor * curves[::-1])
    np.testing.assert_allclose(scaled.midpoint[::-1] - shift, plain.midpoint, atol=1e-4)
    np.testing.assert_allclose(scaled.r2[::-1], plain.r2, atol=1e-7)


def test_chunks_of_curves_give_the_same_as_one_curve_at_a_time():
    _, curves = rises(4100, noise=0.02, seed=3)
    found = fit_rises(PLACE, curves)
    for i in (0, 4095, 4096, 4099):
        assert found.midpoint[i] == pytest.approx(fit_rises(PLACE, curves[i : i + 1]).midpoint[0], abs=1e-5)
