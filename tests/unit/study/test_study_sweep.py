"""The points of a sweep, the settings that each trains with, and what cannot be swept."""

import dataclasses
import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.study.load import StudyError, load_study
from snapcoder.study.settings import step_settings
from snapcoder.study.study import Study
from snapcoder.study.sweep import (
    ARMS,
    SPARSITY_KEY,
    SweepArms,
    SweepPoint,
    SweepSettings,
    baseline_steps,
    settings_at,
    sweep_points,
)

SWEPT = {
    "n_features": [512, 64],
    "arms": {"batchtopk": [20, 10], "jumprelu": [0.3, 1e-05, 2]},
    "seeds": [1, 0],
    "steps": 50,
}


def test_the_default_study_has_no_sweep():
    assert list(sweep_points(Study().sweep)) == []


def test_every_arm_of_the_crosscoder_can_be_swept_by_a_key_that_it_has():
    known = {field.name: field for field in dataclasses.fields(CrosscoderSettings)}
    assert set(known["arm"].metadata["choices"]) == set(ARMS) == {field.name for field in dataclasses.fields(SweepArms)}
    assert set(SPARSITY_KEY.values()) <= set(known)


def test_a_sweep_is_the_product_of_its_lists_in_a_fixed_order():
    points = list(sweep_points(load_study({"sweep": SWEPT}).sweep))
    expected = [
        *(SweepPoint("batchtopk", *rest) for rest in product((64, 512), (10.0, 20.0), (0, 1))),
        *(SweepPoint("jumprelu", *rest) for rest in product((64, 512), (1e-05, 0.3, 2.0), (0, 1))),
    ]
    assert points == expected


def test_a_point_trains_with_the_study_s_settings_but_its_own_arm_size_sparsity_seed_and_steps():
    study = load_study({"sweep": SWEPT, "crosscoder": {"lr": 0.001, "sparsity_weight": 0.7}})
    settings = settings_at(study.crosscoder, SweepPoint("batchtopk", 64, 10.0, 1), steps=study.sweep.steps)
    assert (settings.arm, settings.n_features, settings.k, settings.seed) == ("batchtopk", 64, 10, 1)
    assert (settings.steps, settings.lr) == (50, 0.001)
    assert isinstance(settings.k, int)
    assert settings.sparsity_weight == CrosscoderSettings().sparsity_weight  # batchtopk does not read it
    assert settings_at(study.crosscoder, SweepPoint("topk", 64, 10.0, 1), steps=None).steps == study.crosscoder.steps
    assert SweepPoint.of(dataclasses.asdict(settings)) == SweepPoint("batchtopk", 64, 10.0, 1)


def test_a_job_gets_its_point_and_nothing_that_would_rerun_it_for_nothing():
    point = SweepPoint("jumprelu", 64, 0.3, 0)
    one, other = (
        step_settings(load_study({"sweep": SWEPT, **more}), "sweep_sae", layer=2, snapshot=64, point=point)
        for more in ({}, {"crosscoder": {"k": 5, "n_features": 8, "seed": 3, "extension": {"level": "frozen"}}})
    )
    assert one == other
    given_settings = json.loads(one)
    assert SweepPoint.of(given_settings["crosscoder"]) == point
    assert (given_settings["layer"], given_settings["step"]) == (2, 64)


@given(st.floats(0, 1e6) | st.integers(1, 10**6).map(float))
def test_file_names_hold_the_exact_sparsity(value):
    text = SweepPoint("jumprelu", 64, value, 0).sparsity_text
    assert float(text) == value
    assert set(text) <= set("0123456789.e+-")


@pytest.mark.parametrize(
    "baselines, n_baselines, expected",
    [
        ((), 0, ()),
        ((), 1, (90,)),
        ((), 2, (0, 90)),
        ((), 3, (0, 50, 90)),
        ((), 4, (0, 30, 60, 90)),
        ((), 99, tuple(range(0, 100, 10))),
        ((40, 10), 3, (10, 40)),
    ],
)
def test_baselines_spread_from_the_first_to_the_last_snapshot(baselines, n_baselines, expected):
    sweep = SweepSettings(baselines=baselines, n_baselines=n_baselines)
    assert baseline_steps(sweep, tuple(range(90, -1, -10))) == expected


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40, unique=True), st.integers(2, 50))
def test_evenly_spaced_baselines_are_distinct_snapshots_with_both_ends(steps, n_baselines):
    chosen = baseline_steps(SweepSettings(n_baselines=n_baselines), tuple(steps))
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == min(n_baselines, len(steps))
    assert (chosen[0], chosen[-1]) == (min(steps), max(steps))
    assert set(chosen) <= set(steps)


@pytest.mark.parametrize(
    "sweep, key, fix",
    [
        ({"n_features": [64]}, "sweep.arms", "no arm has a sparsity value"),
        ({"arms": {"batchtopk": [10]}}, "sweep.n_features", "add sizes"),
        ({"n_features": [64], "arms": {"batchtopk": [10]}, "seeds": []}, "sweep.seeds", "at least one"),
        (
            {"n_features": [512, 64], "arms": {"batchtopk": [10, 65]}},
            "sweep.arms.batchtopk",
            "65 active features of 64",
        ),
        ({"n_features": [64], "arms": {"jumprelu": [-1.0]}}, "sweep.arms.jumprelu", "at least 0"),
        ({"n_features": [64], "arms": {"batchtopk": [1.5]}}, "sweep.arms.batchtopk", "expected integer"),
        ({"n_features": [64], "arms": {"jumprelo": [0.1]}}, "sweep.arms.jumprelo", "did you mean jumprelu?"),
        ({"n_features": [64, 64], "arms": {"batchtopk": [10]}}, "sweep.n_features", "64 is listed twice"),
        ({**SWEPT, "baselines": [0, 5]}, "sweep.baselines", "step 5 is no base snapshot"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_line(sweep, key, fix):
    with pytest.raises(StudyError) as caught:
        load_study({"sweep": sweep})
    message = str(caught.value)
    assert message.startswith(f"{key}:")
    assert fix in message
    assert "\n" not in message


def test_a_weight_may_exceed_the_number_of_features():
    study = load_study({"sweep": {"n_features": [64], "arms": {"jumprelu": [100.0]}}})
    assert study.sweep.arms.jumprelu == (100.0,)
