import numpy as np
import pandas as pd
import pytest

from snapcoder.phases.boundaries import boundaries
from snapcoder.phases.clocks import clocks
from snapcoder.phases.feature_curves import FeatureTable
from snapcoder.phases.resampled_curves import resampled_curves
from snapcoder.phases.segmentation import standardise

STEPS = np.array([0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024])
OPTIONS = {"model": "piecewise_const", "max_segments": 4, "min_size": 2, "interval_draws": 60}


def simulated(seed, *, jump, metrics=4):
    """Curves [snapshot, metric] with one known break and correlated scatter, the break, and the noise's generator."""
    rng = np.random.default_rng(seed)
    place = rng.integers(4, len(STEPS) - 3)
    noise = (rng.standard_normal((len(STEPS), metrics)) + rng.standard_normal((len(STEPS), 1))) / np.sqrt(2)
    return (np.arange(len(STEPS)) >= place)[:, None] * jump * rng.choice([-1, 1], metrics) + noise, place, rng


def interval(curves, made, rng, clock="log_step"):
    told = clocks(STEPS, tokens=None, loss=None)[clock]
    return boundaries(curves, made, told, 2, rng=rng, **OPTIONS)


@pytest.mark.parametrize("jump", [1.5, 2.5])
def test_intervals_hold_the_true_break_between_90_and_99_percent_of_the_time(jump):
    inside, width = [], []
    for seed in range(100):
        curves, place, rng = simulated(seed, jump=jump)
        low, high = interval(curves, curves[None][:0], rng).intervals[0]
        inside.append(low <= place <= high)
        width.append(high - low)
    assert 0.90 <= np.mean(inside) <= 0.99
    assert 0 < np.mean(width) < 10


def test_resampled_curves_that_disagree_widen_the_interval_and_lower_the_support():
    curves, place, rng = simulated(3, jump=20)
    moved = (np.arange(len(STEPS)) >= place - 3)[:, None] * np.ones(4)
    agreeing, split = curves[None].repeat(20, axis=0), np.concatenate([curves[None].repeat(10, axis=0), [moved] * 10])
    sure, unsure = interval(curves, agreeing, rng), interval(curves, split, rng)
    assert list(sure.intervals[0]) == [place, place]
    assert list(unsure.intervals[0]) == [place - 3, place]
    assert (sure.support[0], unsure.support[0]) == (1.0, 0.5)
    assert sure.k_support == 1.0


def test_the_order_of_metrics_and_their_units_do_not_matter():
    curves, _, _ = simulated(5, jump=3)
    same = [interval(y, curves[None][:0], np.random.default_rng(0)).intervals.tolist()
            for y in (curves, curves[:, ::-1], curves * [1.0, 10.0, 0.1, 5.0] + 7)]  # fmt: skip
    assert same[0] == same[1] == same[2]


def test_undefined_values_leave_an_interval():
    curves, place, rng = simulated(7, jump=20)
    curves[0, 1] = curves[place, 2] = np.nan
    assert list(interval(curves, curves[None][:0], rng).intervals[0]) == [place, place]
    assert np.isnan(standardise(curves)[0, 1])


def table(alive):
    alive = np.asarray(alive, dtype=bool)
    return FeatureTable(np.array([0, 4, 8]), alive, np.ones(alive.shape), np.where(alive, 0.5, np.nan))


def no_documents():
    return pd.DataFrame({"step": [0], "metric": ["loss"], "draw": [0], "value": [1.0]}).iloc[:0]


def test_seeds_are_drawn_before_their_features():
    few, many = table(np.ones((3, 10))), table(np.ones((3, 40)))
    n_alive = resampled_curves(no_documents(), [few, many], draws=200, seed=0)["n_alive"]
    counts = [int((n_alive[:, 0] == n).sum()) for n in (10, 40)]
    assert sum(counts) == 200
    assert 70 < counts[0] < 130
    alone = resampled_curves(no_documents(), [few], draws=200, seed=0)["n_alive"]
    assert (alone == 10).all()


def test_seeds_of_other_snapshots_are_refused():
    odd = FeatureTable(np.array([0, 4, 16]), *(np.ones((3, 5)) for _ in range(3)))
    with pytest.raises(ValueError, match=r"seed_trajectories: .*\[0, 4, 16\]"):
        resampled_curves(no_documents(), [table(np.ones((3, 5))), odd], draws=20, seed=0)
