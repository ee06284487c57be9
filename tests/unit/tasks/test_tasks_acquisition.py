"""When a task is acquired, on planted curves."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from scipy.special import expit

from snapcoder.tasks.acquisition import Acquisition, age_of_acquisition
from snapcoder.tasks.performance import task_performance

STEPS = np.array([0, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1408, 2000])
LOG = np.log10(np.maximum(STEPS, 0.5))


def planted(middle, slope=0.25, floor=0.5, ceiling=0.95):
    return floor + (ceiling - floor) * expit((LOG - np.log10(middle)) / slope)


def answers(accuracy, *, n_clusters, per_cluster=1, seed=0, task="t"):
    """TASK_EXAMPLES rows: each cluster is right from its own moment on, so that shares follow `accuracy`."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(size=n_clusters), per_cluster)
    rows = []
    for step, share in zip(STEPS, accuracy, strict=True):
        right = np.where(level < share, 1.0, -1.0)
        rows.append(
            pd.DataFrame(
                {
                    "step": step,
                    "task": task,
                    "example": np.arange(len(level)),
                    "cluster": np.repeat(np.arange(n_clusters) * per_cluster, per_cluster),
                    "logit_diff": right + rng.normal(0, 0.1, size=len(level)),
                    "prob_correct": 0.5,
                    "loss_answer": 0.7,
                }
            )
        )
    return pd.concat(rows)


def performance(scored, bootstrap=200):
    tasks = pd.DataFrame({"task": ["t"], "status": ["ready"], "attributable": [True]})
    return task_performance(scored, tasks, bootstrap=bootstrap, seed=0)


@pytest.mark.parametrize("middle", [20, 100, 500])
def test_a_planted_age_is_found_and_lies_in_its_interval(middle):
    rows = performance(answers(planted(middle), n_clusters=400))
    row = rows.iloc[0]
    assert row["aoa_step"] == pytest.approx(middle, rel=0.25)
    assert row["aoa_lo"] < middle < row["aoa_hi"]
    assert 0.005 < row["aoa_se"] < 0.2
    assert rows[["aoa_step", "aoa_lo", "aoa_hi", "aoa_se"]].drop_duplicates().shape == (1, 4), "one age per task"


def test_the_age_is_the_middle_of_the_fit_of_scipy():
    curve = planted(100) + np.random.default_rng(0).normal(0, 0.02, size=len(STEPS))

    def rise(x, middle, slope, floor, height):
        return floor + height * expit((x - middle) / slope)

    best, _ = curve_fit(rise, LOG, curve, p0=(2.0, 0.3, 0.5, 0.4))
    found = age_of_acquisition(np.tile(curve, (3, 1)), STEPS, acquired_at_end=True)
    assert np.log10(found.step) == pytest.approx(best[0], abs=1e-4)


def test_the_standard_error_is_about_the_spread_over_new_examples():
    found = [performance(answers(planted(100), n_clusters=150, seed=seed)).iloc[0] for seed in range(30)]
    spread = np.std([np.log10(row["aoa_step"]) for row in found], ddof=1)
    assert np.median([row["aoa_se"] for row in found]) == pytest.approx(spread, rel=0.5)
    covered = [row["aoa_lo"] <= 100 <= row["aoa_hi"] for row in found]
    assert np.mean(covered) >= 0.8


def test_copies_of_an_example_make_the_age_no_surer():
    once = performance(answers(planted(100), n_clusters=60)).iloc[0]
    copied = performance(answers(planted(100), n_clusters=60, per_cluster=5)).iloc[0]
    assert copied["aoa_se"] == pytest.approx(once["aoa_se"], rel=0.01)


@pytest.mark.parametrize(
    "curve",
    [
        np.full(len(STEPS), 0.5),  # never
        np.where(np.arange(len(STEPS)) == 8, 0.9, 0.5),  # once, and lost
        np.full(len(STEPS), 0.9),  # from the first snapshot on
        np.where(np.arange(len(STEPS)) % 2, 0.95, 0.65),  # above chance, but no rise
        np.where(LOG > 2, 0.95, 0.5),  # between two snapshots, anywhere
    ],
    ids=["never", "lost", "always", "no rise", "a jump"],
)
def test_what_has_no_age_gets_none(curve):
    row = performance(answers(curve, n_clusters=200)).iloc[0]
    assert row[["aoa_step", "aoa_lo", "aoa_hi", "aoa_se"]].isna().all()


def test_draws_that_do_not_agree_that_there_is_a_rise_give_no_age():
    curves = np.tile(planted(100), (11, 1))
    assert age_of_acquisition(curves, STEPS, acquired_at_end=True).step == pytest.approx(100, rel=0.01)
    curves[1:3] = 0.5
    assert np.isnan(age_of_acquisition(curves, STEPS, acquired_at_end=True).step)
    assert np.isnan(age_of_acquisition(planted(100)[None], STEPS, acquired_at_end=True).step)
    assert np.isnan(Acquisition().lo)


def test_a_study_of_few_snapshots_has_no_age():
    scored = answers(planted(100), n_clusters=100)
    row = performance(scored[scored["step"].isin([0, 100, 2000])]).iloc[0]
    assert np.isnan(row["aoa_step"])
