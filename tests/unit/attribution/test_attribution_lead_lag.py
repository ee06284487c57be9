"""Lead and lag against planted ones: coverage of the interval, categories, and the control of features alike."""

import numpy as np
import pandas as pd
import pytest

from snapcoder.attribution.lead_lag import (
    Acquisition,
    acquisition_time,
    against_alike,
    alike,
    feature_lags,
    mean_lag,
    onset_places,
    rate_deciles,
    weighted_mean,
)
from snapcoder.evolution.log_steps import log_steps

GRID = log_steps([0, *2 ** np.arange(2, 12)])


def censored(onset):
    """The interval between two snapshots of the grid that holds each onset."""
    place = np.clip(np.searchsorted(GRID, onset), 1, len(GRID) - 1)
    return GRID[place - 1], GRID[place]


def test_a_planted_lead_of_half_a_decade_is_recovered_and_its_interval_covers_it():
    rng, covered, values = np.random.default_rng(0), [], []
    for _ in range(300):
        truth = rng.uniform(2.2, 2.8)
        onset = truth - 0.5 + 0.3 * rng.standard_normal(40)
        when = Acquisition(truth + 0.05 * rng.standard_normal(), np.nan, np.nan, 0.05)
        found = mean_lag(*censored(onset), rng.uniform(0.5, 1.5, 40), when, bootstrap=200, generator=rng)
        covered.append(found.low <= -0.5 <= found.high)
        values.append(found.value)
    assert np.mean(values) == pytest.approx(-0.5, abs=0.03)
    assert 0.93 <= np.mean(covered) <= 1.0


def test_wide_intervals_do_not_average_out():
    """All onsets in one gap between snapshots: more features do not make it narrower."""
    rng, when = np.random.default_rng(1), Acquisition(2.0, 2.0, 2.0, 0.0)
    for n in (10, 1000):
        lo, hi = np.full(n, 1.0), np.full(n, 2.0)
        found = mean_lag(lo, hi, np.ones(n), when, bootstrap=400, generator=rng)
        assert found.value == -0.5
        assert found.high - found.low == pytest.approx(0.95, abs=0.05)


def test_features_from_the_start_and_without_onset_do_not_count_as_emerged():
    lo, hi = np.array([-np.inf, 1.0, 1.2, np.nan]), np.array([-0.3, 1.2, 1.4, np.nan])
    found = mean_lag(
        lo, hi, np.ones(4), Acquisition(1.3, 1.3, 1.3, 0.0), bootstrap=100, generator=np.random.default_rng(0)
    )
    assert found.n == 2
    assert found.value == pytest.approx(-0.1)


def test_one_feature_has_a_lag_but_no_interval():
    found = mean_lag(
        np.array([1.0]), np.array([1.2]), np.ones(1), Acquisition(1.0, 1.0, 1.0, 0.0), bootstrap=100,
        generator=np.random.default_rng(0),
    )  # fmt: skip
    assert found.value == pytest.approx(0.1)
    assert np.isnan([found.low, found.high]).all()


def test_a_feature_leads_or_lags_only_when_both_intervals_agree():
    when = Acquisition(2.0, 1.9, 2.1, 0.05)
    lo = np.array([1.0, 1.5, 2.0, 2.1, 2.5, -np.inf, -np.inf, np.nan])
    hi = np.array([1.5, 2.0, 2.4, 2.4, 3.0, -0.3, 2.5, np.nan])
    lags = feature_lags(lo, hi, when)
    assert lags.category.tolist() == [
        "leads", "together", "together", "lags", "lags", "leads", "together", "undated"
    ]  # fmt: skip
    np.testing.assert_allclose(lags.lag, [-0.75, -0.25, 0.2, 0.25, 0.75, -2.3, 0.5, np.nan])
    assert np.isneginf(lags.low[5])


def test_a_feature_present_at_a_snapshot_without_the_task_leads():
    lags = feature_lags(np.array([1.0]), np.array([2.0]), Acquisition(2.15, 2.0, 2.3, np.nan))
    assert lags.category.tolist() == ["leads"]


def test_a_task_without_acquisition_dates_nothing():
    when = acquisition_time(aoa=np.nan, se=np.nan, low=np.nan, high=np.nan, last_without=np.nan, first_with=np.nan)
    assert set(feature_lags(np.array([1.0]), np.array([2.0]), when).category) == {"undated"}


def test_the_sigmoid_dates_the_acquisition_and_else_the_snapshots_around_it():
    both = acquisition_time(aoa=2.0, se=0.1, low=np.nan, high=np.nan, last_without=1.0, first_with=3.0)
    assert (both.at, both.low, both.high) == pytest.approx((2.0, 1.804, 2.196), abs=1e-3)
    snapshots = acquisition_time(aoa=np.nan, se=np.nan, low=np.nan, high=np.nan, last_without=1.0, first_with=3.0)
    assert (snapshots.at, snapshots.low, snapshots.high) == (2.0, 1.0, 3.0)
    drawn = snapshots.draws(np.array([0.0, 0.25, 1.0]), np.zeros(3))
    assert drawn.tolist() == [1.0, 1.5, 3.0]


def test_onset_columns_become_places_with_step_zero_at_one_half():
    lo, hi = onset_places(pd.Series([np.nan, 0, 64, 2000]), pd.Series([0, 8, 128, np.nan]))
    np.testing.assert_allclose(lo, [-np.inf, np.log10(0.5), np.log10(64), np.nan])
    np.testing.assert_allclose(hi, [np.log10(0.5), np.log10(8), np.log10(128), np.nan])


def test_weights_scale_out_and_missing_values_weigh_nothing():
    values, weight = np.array([1.0, np.nan, 3.0]), np.array([1.0, 5.0, 3.0])
    assert weighted_mean(values, weight) == weighted_mean(values, 7 * weight) == 2.5
    assert np.isnan(weighted_mean(values, np.array([0.0, 1.0, 0.0])))


def test_features_alike_come_from_the_same_decile_and_none_twice():
    rng = np.random.default_rng(2)
    rate, pool = rng.random(300), rng.random(300) < 0.7
    carriers = np.flatnonzero(pool)[::9]
    drawn = alike(carriers, rate, pool, permutations=50, generator=rng)
    decile = rate_deciles(rate, pool)
    assert pool[drawn].all()
    assert (decile[drawn] == decile[carriers]).all()
    assert all(len(set(row)) == len(carriers) for row in drawn.tolist())
    counts = np.bincount(decile[pool])
    assert counts.max() - counts.min() <= 1


def carriers_against_others(rng, shift, when):
    rate = rng.random(400)
    onset = 1.0 + 1.5 * rate + 0.3 * rng.standard_normal(400)  # rare features come early: why deciles matter
    carriers = rng.choice(400, 20, replace=False)
    onset[carriers] += shift
    drawn = alike(carriers, rate, np.ones(400, dtype=bool), permutations=199, generator=rng)
    return against_alike(onset, carriers, drawn, np.ones(20), when)


def test_carriers_that_are_like_the_others_are_not_told_from_them():
    rng, when = np.random.default_rng(3), Acquisition(2.0, 1.9, 2.1, 0.05)
    found = [carriers_against_others(rng, 0.0, when) for _ in range(200)]
    assert np.mean([one.p_shift <= 0.05 for one in found]) <= 0.09
    assert np.mean([one.p_distance <= 0.05 for one in found]) <= 0.09


def test_carriers_that_come_earlier_or_nearer_are():
    rng = np.random.default_rng(4)
    earlier = carriers_against_others(rng, -0.5, Acquisition(0.9, 0.8, 1.0, 0.05))
    assert earlier.shift == pytest.approx(-0.5, abs=0.15)
    assert earlier.p_shift < 0.02
    assert earlier.distance < earlier.distance_null
    assert earlier.p_distance < 0.02
