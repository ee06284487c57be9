import numpy as np
import pytest

from snapcoder.evolution.censored_times import Times, crossing, densest_of_counts, quantile_of_counts, settling

CLOCK = np.array([-0.3, 1.0, 2.0, 3.0])
INF = np.inf


def pairs(times):
    return [(float(lo), float(hi)) for lo, hi in zip(times.lo, times.hi, strict=True)]


def test_a_curve_settles_where_it_has_made_nearly_all_of_its_fall():
    curves = np.array([[10.0, 5.0, 1.4, 1.0], [10.0, 1.0, 5.0, 9.0], [10.0, 9.0, 8.0, 0.0]])
    assert pairs(settling(curves, CLOCK, tolerance=0.05)) == [(1.0, 2.0), (-0.3, 1.0), (2.0, 3.0)]


def test_a_tighter_tolerance_is_never_earlier():
    curves = np.sort(np.random.default_rng(0).random((50, 4)))[:, ::-1]
    loose, tight = (settling(curves, CLOCK, tolerance=t) for t in (0.3, 0.0))
    assert (loose.hi <= tight.hi).all()


def test_a_curve_that_never_falls_or_is_not_known_does_not_settle():
    curves = np.array([[1.0, 2.0, 3.0, 4.0], [np.nan, 2.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    assert np.isnan(settling(curves, CLOCK, tolerance=0.05).lo).all()


def test_crossings_are_bracketed_and_may_be_before_or_after_all_snapshots():
    curves = np.array([[-1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, 0.0]])
    assert pairs(crossing(curves, CLOCK)) == [(1.0, 2.0), (-INF, -0.3), (3.0, INF)]


def test_differences_hold_everything_that_the_intervals_allow():
    later, earlier = (
        Times(np.array([2.0, 1.0, -INF]), np.array([3.0, 2.0, 1.0])),
        Times(np.array([1.0] * 3), np.array([2.0] * 3)),
    )
    difference = later.minus(earlier)
    assert pairs(difference) == [(0.0, 2.0), (-1.0, 1.0), (-INF, 0.0)]
    assert difference.middle()[:2].tolist() == [1.0, 0.0]
    assert np.isnan(difference.middle()[2])


def test_quantiles_of_counts_are_those_of_the_repeated_times():
    rng = np.random.default_rng(1)
    times = Times(np.array([-INF, 0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    counts = rng.integers(0, 5, (30, 4)) + np.eye(4, dtype=int)[rng.integers(0, 4, 30)]
    for q in (0.25, 0.5):
        found = quantile_of_counts(times, counts, q)
        for draw, row in enumerate(counts):
            repeated = np.repeat(times.hi, row)
            assert found.hi[draw] == np.quantile(repeated, q, method="inverted_cdf")
            assert found.hi[draw] - 1 == max(found.lo[draw], -1)


def test_the_median_of_overlapping_intervals_lies_between_the_medians_of_their_ends():
    times = Times(np.array([0.0, 0.0, 2.0]), np.array([1.0, 3.0, 3.0]))
    assert pairs(quantile_of_counts(times, np.array([[1, 1, 1]]), 0.5)) == [(0.0, 3.0)]


def test_the_densest_interval_counts_per_decade():
    times = Times(np.array([-INF, 0.0, 1.0]), np.array([0.0, 1.0, 1.5]))
    assert pairs(densest_of_counts(times, np.array([[90, 10, 6], [0, 10, 4]]))) == [(1.0, 1.5), (0.0, 1.0)]
    nothing = densest_of_counts(Times(np.array([-INF]), np.array([0.0])), np.array([[5]]))
    assert np.isnan(nothing.lo[0])
    assert nothing.hi == pytest.approx(np.nan, nan_ok=True)
