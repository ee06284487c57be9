from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.phases.feature_curves import feature_table
from snapcoder.phases.segmentation import best_breaks, effective_metrics, segment, squared_error, standardise
from snapcoder.phases.segments import NGRAM_METRICS, phase_segments
from snapcoder.study.analysis import PhaseSettings
from snapcoder.tables.phases import PHASE_SEGMENTS

STEPS = np.array([0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])


def levels(breaks, values, n=12, p=5, noise=0.1, seed=0):
    """Curves [snapshot, metric] that jump at known places."""
    rng = np.random.default_rng(seed)
    level = np.array(values)[np.searchsorted(breaks, np.arange(n), side="right")]
    return level[:, None] * rng.choice([-1, 1], p) + noise * rng.standard_normal((n, p))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 4))
def test_the_cut_is_the_best_of_all_cuts(seed, k):
    curves = np.random.default_rng(seed).standard_normal((9, 3))
    found = best_breaks(curves, n_segments=k, min_size=2)
    every = [c for c in combinations(range(1, 9), k - 1) if min(np.diff([0, *c, 9])) >= 2]
    assert squared_error(curves, found) == pytest.approx(min(squared_error(curves, c) for c in every))
    oracle = ruptures.Dynp(model="l2", min_size=2, jump=1).fit(curves).predict(n_bkps=k - 1)[:-1]
    assert list(found) == oracle


def test_known_breaks_are_found_and_their_number_too():
    cut, single = segment(standardise(levels([4, 8], [0, 1, 3])), max_segments=4, min_size=2)
    assert cut.breaks == (4, 8)
    assert single - cut.bic > 10


@pytest.mark.parametrize("correlated", [False, True])
def test_pure_noise_has_no_boundary(correlated):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        curves = rng.standard_normal((17, 1 if correlated else 7)) @ np.ones((1, 7) if correlated else (7, 7))
        curves = curves if correlated else rng.standard_normal((17, 7))
        found.append(segment(standardise(curves), max_segments=4, min_size=2)[0].n_segments)
    assert np.mean(np.array(found) == 1) >= (0.8 if correlated else 0.97)


def test_constant_or_too_short_curves_have_no_boundary():
    assert segment(standardise(np.ones((10, 3))), max_segments=4, min_size=2)[0].breaks == ()
    assert segment(standardise(levels([1], [0, 5], n=3)), max_segments=4, min_size=2)[0].breaks == ()


def test_copies_of_a_curve_count_as_one():
    curve = np.random.default_rng(0).standard_normal((50, 1))
    assert effective_metrics(standardise(curve.repeat(6, axis=1))) == pytest.approx(1)
    assert effective_metrics(standardise(np.random.default_rng(0).standard_normal((5000, 6)))) > 5.9


def test_standardised_curves_treat_what_is_undefined_as_the_mean():
    found = standardise(np.array([[np.nan, 1.0], [1.0, 1.0], [3.0, 1.0]]))
    np.testing.assert_allclose(found, [[0, 0], [-1, 0], [1, 0]])


def study_of(n_draws=40, noise=0.02, doc_noise=0.05, phases=True, seed=0):
    """A training run whose n-gram metrics jump at snapshots 4 and 8, and whose features appear at 8."""
    rng = np.random.default_rng(seed)
    phase = np.searchsorted([4, 8], np.arange(12), side="right") if phases else np.zeros(12, dtype=int)
    rows, draws = [], []
    curves = {name: np.array([0.0, 1.0, 3.0])[phase] for name in NGRAM_METRICS}
    curves["mi_beyond_bigram"] = np.array([0.0, 0.2, 0.6])[phase] + 0.01 * np.arange(12)
    curves["gap_h2"] = np.array([-2.0, -0.5, 0.5])[phase]
    n_new = np.diff(np.where(np.arange(12) >= 8, 150, 50), prepend=50)
    curves["n_new"] = np.where(np.arange(12) == 0, np.nan, n_new + 1.0)
    for name, curve in curves.items():
        values = curve + noise * rng.standard_normal(12) * (name in NGRAM_METRICS)
        rows.append(pd.DataFrame({"layer": 2, "metric": name, "step": STEPS, "value": values}))
        if name in NGRAM_METRICS:
            resampled = values + doc_noise * rng.standard_normal((n_draws, 12))
            draw, snapshot = (axis.ravel() for axis in np.indices(resampled.shape))
            draws.append(
                pd.DataFrame({"metric": name, "step": STEPS[snapshot], "draw": draw, "value": resampled.ravel()})
            )
    alive = np.zeros((12, 200), dtype=bool)
    alive[:, :50] = True
    alive[8:, :150] = True
    snapshot, feature = (axis.ravel() for axis in np.indices(alive.shape))
    trajectory = pd.DataFrame(
        {
            "step": STEPS[snapshot],
            "feature": feature,
            "alive": alive.ravel(),
            "norm_rel": np.where(alive, 1.0, 0.2).ravel(),
            "dimensionality": np.where(alive, np.where(np.arange(12) >= 8, 0.5, 0.2)[:, None], np.nan).ravel(),
        }
    )
    metrics = pd.concat(rows, ignore_index=True)
    for name in ("n_alive", "norm_rel_mean", "dimensionality_mean", "n_new_per_decade"):
        value = {"n_alive": alive.sum(1), "n_new_per_decade": n_new}.get(name, np.where(np.arange(12) >= 8, 1.0, 0.4))
        metrics = pd.concat([metrics, pd.DataFrame({"layer": 2, "metric": name, "step": STEPS, "value": value})])
    return metrics, pd.concat(draws), feature_table(trajectory)


def test_planted_phases_are_found_with_tight_intervals_and_labelled():
    table = phase_segments(*study_of(), settings=PhaseSettings(bootstrap=40))
    ngram = table[table["metric_set"] == "ngram"]
    assert list(ngram["break_step"].dropna()) == [32, 512]
    assert list(ngram["first_step"]) == [0, 32, 512]
    assert list(ngram["last_step"]) == [16, 256, 4096]
    assert list(ngram["label"]) == ["statistical", "transition", "feature"]
    assert list(ngram["break_lo"].dropna()) == [32, 512]
    assert list(ngram["break_hi"].dropna()) == [32, 512]
    assert (ngram["break_support"].dropna() == 1).all()
    features = table[table["metric_set"] == "features"]
    assert list(features["break_step"].dropna()) == [512]
    assert {column.name for column in PHASE_SEGMENTS.columns} == set(table.columns)


def test_noisy_documents_widen_the_interval_of_a_boundary():
    tight, loose = (
        phase_segments(*study_of(doc_noise=noise), settings=PhaseSettings(bootstrap=40)) for noise in (0.01, 1.5)
    )
    width = [(t["break_hi"] - t["break_lo"])[t["metric_set"] == "ngram"].sum() for t in (tight, loose)]
    support = [t.loc[t["metric_set"] == "ngram", "break_support"].min() for t in (tight, loose)]
    assert width[0] == 0
    assert width[1] > 0
    assert support[1] < support[0]


def test_a_run_without_phases_is_one_segment_without_boundary():
    metrics, draws, features = study_of(phases=False, noise=0.5)
    table = phase_segments(metrics, draws, features, settings=PhaseSettings(bootstrap=40))
    ngram = table[table["metric_set"] == "ngram"].iloc[0]
    assert ngram["n_segments"] == 1
    assert ngram["delta_bic_vs_1seg"] == 0
    assert pd.isna(ngram["break_step"])
    assert np.isnan(ngram["break_support"])


def test_without_the_deciding_metrics_segments_stay_unlabelled():
    metrics, draws, features = study_of()
    metrics = metrics[metrics["metric"] != "gap_h2"]
    table = phase_segments(metrics, draws, features, settings=PhaseSettings(bootstrap=40))
    assert set(table["label"]) == {"unlabelled"}
