from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.phases.clocks import clock_at
from snapcoder.phases.feature_curves import feature_table
from snapcoder.phases.segmentation import PARAMETERS, best_cuts, criteria, effective_metrics, squared_error, standardise
from snapcoder.phases.segments import NGRAM_METRICS, phase_segments
from snapcoder.study.analysis import PhaseSettings
from snapcoder.tables.phases import PHASE_SEGMENTS

STEPS = np.array([0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])
QUICK = PhaseSettings(bootstrap=40, permutations=39, interval_draws=20)


def even(n):
    return clock_at(np.arange(n))


def levels(breaks, values, n=12, p=5, noise=0.1, seed=0):
    """Curves [snapshot, metric] that jump at known places."""
    rng = np.random.default_rng(seed)
    level = np.array(values)[np.searchsorted(breaks, np.arange(n), side="right")]
    return level[:, None] * rng.choice([-1, 1], p) + noise * rng.standard_normal((n, p))


def cut(curves, clock=None, model="piecewise_const"):
    """Breaks that BIC prefers, and the gain over one segment."""
    clock = clock or even(len(curves))
    standard = standardise(curves, clock.weight)[None]
    cuts = best_cuts(standard, clock, model=model, max_segments=4, min_size=2)
    scores = criteria(standard, clock, cuts, model=model)[:, 0]
    n_segments = int(scores.argmin()) + 1
    return tuple(cuts.breaks(n_segments)[0]), scores[0] - scores[n_segments - 1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), model=st.sampled_from(sorted(PARAMETERS)), k=st.integers(1, 3))
def test_the_cut_is_the_best_of_all_cuts_on_any_clock_and_so_is_every_cut_through_a_place(seed, model, k):
    rng = np.random.default_rng(seed)
    curves = rng.standard_normal((9, 3))
    curves[rng.random((9, 3)) < 0.1] = np.nan
    clock = clock_at(np.cumsum(rng.exponential(size=9) * (rng.random(9) < 0.8)))  # some snapshots share a place
    fewest = 3 if model == "piecewise_linear" else 2
    cuts = best_cuts(curves[None], clock, model=model, max_segments=3, min_size=2)
    every = [c for c in combinations(range(1, 9), k - 1) if min(np.diff([0, *c, 9])) >= fewest]
    errors = [squared_error(curves, c, clock, model=model) for c in every]
    assert cuts.errors[k - 1, 0] == pytest.approx(min(errors), abs=1e-9)
    assert squared_error(curves, cuts.breaks(k)[0], clock, model=model) == pytest.approx(min(errors), abs=1e-9)
    for boundary in range(1, k):
        profile = cuts.profile(k, boundary)[0]
        for place in range(9):
            through = [e for c, e in zip(every, errors, strict=True) if c[boundary - 1] == place]
            assert profile[place] == (pytest.approx(min(through), abs=1e-9) if through else np.inf)
            if through:
                chosen = cuts.breaks_through(k, boundary, place)
                assert chosen[boundary - 1] == place
                assert squared_error(curves, chosen, clock, model=model) == pytest.approx(min(through), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 4))
def test_with_equal_weights_the_cut_is_that_of_ruptures(seed, k):
    curves = np.random.default_rng(seed).standard_normal((10, 3))
    clock = clock_at(np.zeros(10))
    cuts = best_cuts(curves[None], clock, model="piecewise_const", max_segments=4, min_size=2)
    oracle = ruptures.Dynp(model="l2", min_size=2, jump=1).fit(curves).predict(n_bkps=k - 1)[:-1]
    assert list(cuts.breaks(k)[0]) == oracle


def test_draws_are_cut_as_if_each_were_alone():
    curves = np.random.default_rng(1).standard_normal((5, 12, 4))
    options = {"model": "piecewise_linear", "max_segments": 3, "min_size": 2}
    together = best_cuts(curves, even(12), **options)
    for draw in range(5):
        alone = best_cuts(curves[draw : draw + 1], even(12), **options)
        np.testing.assert_allclose(together.errors[:, draw], alone.errors[:, 0])
        np.testing.assert_array_equal(together.breaks(3)[draw], alone.breaks(3)[0])


def test_known_breaks_are_found_and_their_number_too():
    breaks, gain = cut(levels([4, 8], [0, 1, 3], n=16))
    assert breaks == (4, 8)
    assert gain > 10


def test_a_bend_is_found_by_lines():
    x = np.arange(20)
    bend = np.maximum(x - 9.5, 0)[:, None] * [[1.0, -0.5, 2.0]]
    noise = 0.2 * np.random.default_rng(0).standard_normal((20, 3))
    assert cut(bend + noise, model="piecewise_linear")[0] == (10,)


def test_late_snapshots_that_stand_for_much_training_decide_the_cut():
    curve = np.repeat([0.0, 3.0, 3.0, 4.0], 4)[:, None]  # a large early jump, a small late one
    place = np.cumsum([1.0] * 8 + [100.0] * 8)
    options = {"model": "piecewise_const", "max_segments": 2, "min_size": 2}
    assert best_cuts(curve[None], clock_at(np.arange(16)), **options).breaks(2)[0] == [4]
    assert best_cuts(curve[None], clock_at(place), **options).breaks(2)[0] == [12]


@pytest.mark.parametrize("correlated", [False, True])
def test_pure_noise_has_no_boundary(correlated):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        curves = rng.standard_normal((17, 1)).repeat(7, axis=1) if correlated else rng.standard_normal((17, 7))
        found.append(cut(curves)[0] == ())
    assert np.mean(found) >= (0.8 if correlated else 0.97)


def test_constant_or_too_short_curves_have_no_boundary():
    assert cut(np.ones((10, 3)))[0] == ()
    assert cut(levels([1], [0, 5], n=3))[0] == ()
    assert cut(levels([1], [0, 5], n=2))[0] == ()
    assert cut(np.ones((1, 3)), model="piecewise_linear")[0] == ()


def test_copies_of_a_curve_count_as_one():
    curve = np.random.default_rng(0).standard_normal((50, 1))
    assert effective_metrics(standardise(curve.repeat(6, axis=1))[None])[0] == pytest.approx(1)
    assert effective_metrics(standardise(np.random.default_rng(0).standard_normal((5000, 6)))[None])[0] > 5.9


def test_standardised_curves_leave_out_what_is_undefined():
    found = standardise(np.array([[np.nan, 1.0], [1.0, 1.0], [3.0, 1.0]]), np.array([5.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [[np.nan, 0], [-1, 0], [1, 0]])


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
        rows.append(pd.DataFrame({"layer": 2, "tokens": STEPS * 8.0, "metric": name, "step": STEPS, "value": values}))
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
        metrics = pd.concat(
            [metrics, pd.DataFrame({"layer": 2, "tokens": STEPS * 8.0, "metric": name, "step": STEPS, "value": value})]
        )
    return metrics, pd.concat(draws), feature_table(trajectory)


def phases(n_draws=40, warmup=np.nan, settings=QUICK, drop=(), **options):
    metrics, draws, features = study_of(n_draws, **options)
    metrics = metrics[~metrics["metric"].isin(drop)]
    return phase_segments(metrics, draws, [features], warmup=warmup, settings=settings)


def of(table, metric_set="ngram", clock="log_step", model="piecewise_const"):
    return table.query("metric_set == @metric_set and clock == @clock and model == @model")


def test_planted_phases_are_found_with_tight_intervals_and_labelled():
    table = phases(warmup=64.0)
    ngram = of(table)
    assert list(ngram["break_step"].dropna()) == [32, 512]
    assert list(ngram["first_step"]) == [0, 32, 512]
    assert list(ngram["last_step"]) == [16, 256, 4096]
    assert list(ngram["label"]) == ["statistical", "transition", "feature"]
    assert list(ngram["break_lo"].dropna()) == [16, 256]
    assert list(ngram["break_hi"].dropna()) == [32, 512]
    assert list(ngram["break_over_warmup"].dropna()) == [0.5, 8.0]
    assert (ngram["break_support"].dropna() == 1).all()
    assert (ngram["k_support"] > 0.9).all()
    assert list(of(table, "features")["break_step"].dropna()) == [512]
    assert {column.name for column in PHASE_SEGMENTS.columns} == set(table.columns)


def test_noisy_documents_widen_the_interval_of_a_boundary():
    tight, loose = (of(phases(doc_noise=noise)) for noise in (0.01, 1.5))
    width = [np.log2(t["break_hi"].dropna() / t["break_lo"].dropna()).sum() for t in (tight, loose)]
    assert width[0] == 2  # one interval between snapshots for each of two boundaries
    assert width[1] > width[0]
    assert loose["break_support"].min() < tight["break_support"].min()
    assert loose["k_support"].iloc[0] < tight["k_support"].iloc[0]


def test_a_run_without_phases_is_one_segment_without_boundary():
    ngram = of(phases(phases=False, noise=0.5)).iloc[0]
    assert ngram["n_segments"] == 1
    assert ngram["delta_bic_vs_1seg"] == 0
    assert ngram["p_perm"] > 0.05
    assert pd.isna(ngram["break_step"])
    assert np.isnan(ngram["break_support"])


def test_without_the_deciding_metrics_segments_stay_unlabelled():
    assert set(of(phases(drop=("gap_h2",)))["label"]) == {"unlabelled"}


def test_tokens_are_steps_in_another_unit():
    table = phases()
    steps, tokens = (
        table[table["clock"] == name].drop(columns="clock").reset_index(drop=True) for name in ("step", "tokens")
    )
    pd.testing.assert_frame_equal(steps, tokens)


def test_clocks_that_cannot_be_told_are_left_out():
    metrics, draws, features = study_of()
    table = phase_segments(
        metrics[metrics["metric"] != "loss"].assign(tokens=pd.NA), draws, [features], warmup=np.nan, settings=QUICK
    )
    assert set(table["clock"]) == {"log_step", "step"}
    assert table["break_over_warmup"].isna().all()


def test_one_model_is_preferred_per_set_and_clock_and_p_values_are_corrected_over_all_of_a_set():
    table = phases()
    heads = table[table["segment"] == 0]
    assert (heads.groupby(["metric_set", "clock"])["preferred"].sum() == 1).all()
    best = heads.loc[heads.groupby(["metric_set", "clock"])["bic"].idxmin(), "preferred"]
    assert best.all()
    assert (heads["p_perm"] == heads[["p_increments", "p_smooth"]].max(axis=1)).all()
    smallest = heads[heads["metric_set"] == "ngram"].nsmallest(1, "p_perm").iloc[0]
    assert smallest["p_holm"] == pytest.approx(min(8 * smallest["p_perm"], 1.0))
    unsure = heads[(heads["n_segments"] > 1) & (heads["p_perm"] >= 0.05)]
    assert len(unsure)
    assert (unsure["label"] == "unsupported").all()


def test_the_same_study_gives_the_same_table():
    pd.testing.assert_frame_equal(phases(), phases())


def test_two_snapshots_are_one_segment():
    metrics, draws, _ = study_of()
    few = feature_table(
        pd.DataFrame(
            {"step": [0, 0, 4, 4], "feature": [0, 1, 0, 1], "alive": False, "norm_rel": 1.0, "dimensionality": np.nan}
        )
    )
    metrics, draws = (frame[frame["step"] <= 4] for frame in (metrics, draws))
    table = phase_segments(metrics, draws, [few], warmup=np.nan, settings=QUICK)
    assert (table["n_segments"] == 1).all()
    assert table["p_perm"].isna().all()
