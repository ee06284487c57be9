import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_features import ONSETS, STEPS, TURNS, blocks_of, decoders_of, planted, trajectories

from snapcoder.evolution.rotation import rotation
from snapcoder.evolution.snapshot_decoders import alive_matrix
from snapcoder.evolution.timing import (
    CLASSES,
    classify,
    fastest_turn,
    lifetime_decades,
    offset,
    onset,
    presence_by_firing,
    presence_by_norm,
    stabilised,
    timing,
)
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables import evolution as tables

STEPS_5 = np.array([0, 10, 20, 30, 40])


def column(text):
    """'..xx' → bool [snapshot, 1]."""
    return np.array([[mark == "x"] for mark in text])


@pytest.mark.parametrize(
    ("present", "m", "lo", "hi", "censoring"),
    [
        ("xxxxx", 2, None, 0, "left"),
        ("..xxx", 2, 10, 20, "interval"),
        (".x.xx", 2, 20, 30, "interval"),  # a single snapshot is no onset
        (".x.xx", 1, 0, 10, "interval"),
        ("....x", 2, 30, 40, "interval"),  # the last snapshot alone counts
        ("...xx", 3, 20, 30, "interval"),  # so does a run that the end cuts short
        ("x.x.x", 2, 30, 40, "interval"),
        ("x....", 2, 40, None, "right"),
        (".....", 2, 40, None, "right"),
        (".x.x.", 2, 40, None, "right"),
    ],
)
def test_onsets_are_censored_by_hand_computed_rules(present, m, lo, hi, censoring):
    found = onset(column(present), STEPS_5, consecutive=m)
    assert found.censoring[0] == censoring
    assert np.isnan(found.lo[0]) if lo is None else found.lo[0] == lo
    assert np.isnan(found.hi[0]) if hi is None else found.hi[0] == hi


@settings(max_examples=60, deadline=None)
@given(data=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8), m=st.integers(1, 4))
def test_every_interval_onset_lies_between_an_absent_and_a_present_snapshot(data, m):
    present = np.array(data).T
    steps = np.arange(6) * 10
    found = onset(present, steps, consecutive=m)
    for i in range(present.shape[1]):
        if found.censoring[i] == "interval":
            assert found.hi[i] - found.lo[i] == 10
            assert not present[int(found.lo[i]) // 10, i]
            assert present[int(found.hi[i]) // 10 : int(found.hi[i]) // 10 + m, i].all()
        else:
            assert np.isnan(found.lo[i]) == (found.censoring[i] == "left")
            assert np.isnan(found.hi[i]) == (found.censoring[i] == "right")


def test_presence_by_norm_is_relative_to_each_feature_and_false_for_a_zero_decoder():
    norms = np.array([[1.0, 40.0, 0.0], [2.0, 100.0, 0.0], [4.0, 50.0, 0.0]])
    np.testing.assert_array_equal(
        presence_by_norm(norms, alpha=0.5), [[False, False, False], [True, True, False], [True, True, False]]
    )


def test_offsets_bracket_the_final_absence():
    present = np.concatenate([column(text) for text in ("xx...", "x.x..", "..xxx", ".....")], axis=1)
    lo, hi = offset(present, STEPS_5)
    np.testing.assert_array_equal(lo, [10, 20, np.nan, np.nan])
    np.testing.assert_array_equal(hi, [20, 30, np.nan, np.nan])


def test_lifetimes_add_up_the_decades_between_snapshots_present():
    present = np.concatenate([column(text) for text in ("xxxx", ".xx.", "x..x", "xx.x")], axis=1)
    found = lifetime_decades(present, np.array([0, 5, 50, 500]))
    np.testing.assert_allclose(found, [3, 1, 0, 1])  # step 0 stands at 0.5


def test_firing_onsets_need_a_rise_above_the_baseline_or_firing_from_the_start():
    steps = np.array([0, 8, 32, 64, 128])
    rates = np.array(
        [
            [0.0, 0.010, 0.010, 0.00],
            [0.0, 0.012, 0.010, 0.00],
            [0.0, 0.008, 0.010, 0.00],
            [0.2, 0.011, 0.100, 0.00],
            [0.2, 0.012, 0.100, 0.02],
        ]
    )
    present = presence_by_firing(rates, steps, baseline_step=32, rate_floor=1e-3, consecutive=2)
    found = onset(present, steps, consecutive=2)
    np.testing.assert_array_equal(found.hi, [64, 0, 64, 128])
    np.testing.assert_array_equal(found.censoring, ["interval", "left", "interval", "interval"])


def test_without_snapshots_up_to_the_baseline_step_the_floor_decides():
    present = presence_by_firing(
        np.array([[0.0], [0.1]]), np.array([100, 200]), baseline_step=32, rate_floor=0.05, consecutive=1
    )
    np.testing.assert_array_equal(present, [[False], [True]])


def test_stabilisation_needs_direction_and_norm_near_the_end_from_then_on():
    cos = np.array([[0.1, 0.99, 0.97], [0.96, 0.99, 0.2], [0.99, 0.99, 0.99], [1.0, 1.0, 1.0]])
    norms = np.array([[1.0, 0.5, 1.0], [1.0, 1.0, 1.0], [1.1, 1.0, 1.0], [1.0, 1.0, 1.0]])
    alive = np.ones((4, 3), dtype=bool)
    steps = np.array([1, 10, 100, 1000])
    np.testing.assert_array_equal(stabilised(norms, cos, alive, steps), [10, 10, 100])
    alive[-1] = False
    assert np.isnan(stabilised(norms, cos, alive, steps)).all()


def test_the_fastest_turn_is_looked_for_only_while_alive():
    angle = np.array([[90.0, 90.0, 5.0, 5.0], [30.0, 10.0, 5.0, 5.0], [40.0, 20.0, 5.0, np.nan]])
    both = np.array([[False, True, False, True], [True, True, False, False], [True, True, True, True]])
    steps = np.array([1, 10, 100, 1000])
    np.testing.assert_array_equal(fastest_turn(angle, both, steps), [1000, 10, np.nan, np.nan])
    np.testing.assert_array_equal(fastest_turn(angle[:1], both[:1], steps[:2]), [np.nan, 10, np.nan, 10])


def test_a_short_interval_with_the_same_noise_does_not_win_over_a_real_turn():
    # 40° of noise everywhere, 70° at 192 → 256; 96 → 128 and 384 → 512 are shorter than their neighbours
    steps = np.array([64, 96, 128, 192, 256, 384, 512])
    angle = np.array([40.0, 40, 40, 70, 40, 40])[:, None]
    assert fastest_turn(angle, np.ones((6, 1), dtype=bool), steps)[0] == 256


def test_each_class_is_reached_in_the_documented_order():
    #        dead     dense  flat   transient init   emergent young  flicker
    norms = np.array(
        [
            [1, 1, 1.00, 0.1, 1.0, 0.1, 0.1, 0.1],
            [1, 1, 1.02, 1.0, 1.0, 0.1, 0.1, 1.0],
            [1, 1, 1.00, 0.1, 0.2, 0.1, 0.1, 0.1],
            [1, 1, 1.00, 0.1, 1.0, 1.0, 0.1, 1.0],
            [1, 1, 1.00, 0.1, 1.0, 1.0, 0.1, 0.1],
            [1, 1, 1.00, 0.1, 1.0, 1.0, 1.0, 0.1],
        ]
    )
    rates = np.full(norms.shape, 0.01)
    rates[:, 0], rates[:, 1] = 0.0, 0.5
    options = EvolutionSettings()
    alive = rates > options.rate_floor
    present = presence_by_norm(norms, alpha=options.alpha) & alive.any(axis=0)
    found = classify(norms, rates, alive, present, options)
    expected = ["dead", "dense", "flat", "transient", "initialization", "emergent", "emergent", "transient"]
    assert list(found) == expected
    assert set(CLASSES) == set(tables.CLASSES)


@pytest.fixture(scope="module")
def planted_timing():
    dictionary, z, raw = planted()
    decoders = decoders_of(dictionary)
    trajectory = trajectories(decoders, z, blocks=blocks_of(raw), added_codes={}, rate_floor=1e-4)
    turns, _ = rotation(decoders, alive=alive_matrix(trajectory, STEPS), cka=np.eye(len(STEPS)))
    return timing(
        trajectory, turns, threshold=dictionary.threshold, settings=EvolutionSettings(baseline_step=4), sigmoid_r2=0.8
    )


def test_planted_onsets_are_recovered_by_norm_and_by_firing(planted_timing):
    for feature, onset_snapshot in enumerate(ONSETS):
        row = planted_timing.iloc[feature]
        for lo, hi in (("onset_lo", "onset_hi"), ("onset_alive_lo", "onset_alive_hi")):
            assert row[hi] == STEPS[onset_snapshot]
            assert pd.isna(row[lo]) if onset_snapshot == 0 else row[lo] == STEPS[onset_snapshot - 1]
        assert row["onset_censoring"] == ("left" if onset_snapshot == 0 else "interval")


def test_planted_turns_are_recovered(planted_timing):
    for feature, turn in TURNS.items():
        assert planted_timing.iloc[feature]["turn_step"] == STEPS[turn]
        assert planted_timing.iloc[feature]["cos_first_final"] == pytest.approx(0, abs=1e-5)
        assert planted_timing.iloc[feature]["stabilised_step"] == STEPS[turn]
    assert planted_timing.iloc[0]["cos_first_final"] == pytest.approx(1)


def test_the_timing_table_fits_its_schema(planted_timing):
    assert list(planted_timing.columns) == [column.name for column in tables.FEATURE_TIMING.columns]
    assert planted_timing["participation"].between(0.99, len(STEPS) + 0.01).all()
    assert planted_timing.loc[0, "participation"] == pytest.approx(len(STEPS))
    assert planted_timing.loc[5, "participation"] == pytest.approx(1.05**2 / 1.0005, rel=1e-3)


def test_dead_features_have_no_onset_and_no_peak():
    dictionary, z, raw = planted()
    silent = dictionary.__class__(**{**dictionary.__dict__, "threshold": np.full(6, 1e6, "f4")})
    decoders = decoders_of(silent)
    trajectory = trajectories(decoders, z, blocks=blocks_of(raw), added_codes={}, rate_floor=1e-4)
    turns, summary = rotation(decoders, alive=alive_matrix(trajectory, STEPS), cka=np.eye(len(STEPS)))
    table = timing(trajectory, turns, threshold=silent.threshold, settings=EvolutionSettings(), sigmoid_r2=0.8)
    assert (table["class"] == "dead").all()
    assert table[["onset_hi", "onset_alive_hi", "peak_step", "turn_step", "act_max"]].isna().all().all()
    assert table[["onset_sigmoid", "onset_sigmoid_se", "onset_width"]].isna().all().all()
    assert (table["onset_censoring"] == "right").all()
    assert (table["lifetime_frac"] == 0).all()
    assert summary["cos_median"].isna().all()
