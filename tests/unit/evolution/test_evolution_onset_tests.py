import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from snapcoder.evolution.censored import CensoredOnsets
from snapcoder.evolution.multiplicity import holm
from snapcoder.evolution.onset_distribution import GROUPS, OnsetEvidence, onset_distribution
from snapcoder.evolution.onset_tests import NULLS, crowding, excess, null_shares
from snapcoder.study.timing import TimingSettings
from snapcoder.tables import timing as tables

STEPS = np.array([0, 2, 8, 32, 128, 512, 2048])
NAN = float("nan")
QUICK = TimingSettings(null_draws=200, bootstrap=60)


def onsets_at(moments, steps=STEPS):
    """Censor exact onsets (in steps) by the snapshots."""
    moments = np.asarray(moments, dtype=float)
    place = np.searchsorted(steps, moments)
    edges = np.array([NAN, *steps, NAN])
    return edges[place], edges[place + 1]


def censored_at(moments, steps=STEPS):
    return CensoredOnsets.of(*onsets_at(moments, steps), steps)


def test_shares_of_the_nulls_are_those_computed_by_hand():
    steps = np.array([0, 5, 50])
    onsets = CensoredOnsets.of(np.array([0.0, 5.0, 50.0]), np.array([5.0, 50.0, NAN]), steps)
    np.testing.assert_allclose(null_shares(onsets, "log_uniform"), [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(null_shares(onsets, "linear_uniform"), [0, 0.1, 0.9, 0])
    # one onset in each interval, one after: the exponential with survival s per decade maximises (1−s)·s(1−s)·s²
    survival = 3 / 5
    np.testing.assert_allclose(
        null_shares(onsets, "log_hazard"), [0, 1 - survival, survival * (1 - survival), survival**2], rtol=1e-4
    )


def test_the_excess_is_the_binomial_log_likelihood_ratio_above_expectation_only():
    expected = np.array([2.0, 3.0, 5.0])
    found = excess(np.array([4.0, 1.0, 5.0]), expected)
    np.testing.assert_allclose(found, [4 * np.log(2) + 6 * np.log(6 / 8), 0, 0])
    np.testing.assert_allclose(excess(np.array([10.0, 0, 0]), expected), [10 * np.log(5), 0, 0])


@pytest.mark.parametrize("null", ["log_uniform", "linear_uniform"])
def test_p_values_are_uniform_under_their_own_null(null):
    rng = np.random.default_rng(0)
    low, high = (np.log(0.5), np.log(2048)) if null == "log_uniform" else (0, 2048)
    p = []
    for _ in range(120):
        moments = rng.uniform(low, high, 60)
        onsets = censored_at(np.exp(moments) if null == "log_uniform" else moments)
        p.append(crowding(onsets, null, draws=99, generator=rng).p)
    assert 0.01 <= np.mean(np.array(p) <= 0.1) <= 0.19
    assert 0.4 <= np.mean(p) <= 0.65


def test_a_pool_that_runs_dry_is_no_crowd_though_its_histogram_is_uneven():
    rng = np.random.default_rng(1)
    decades = rng.exponential(0.8, 300)
    onsets = censored_at(0.5 * 10**decades)
    assert crowding(onsets, "log_uniform", draws=200, generator=rng).p < 0.02
    assert crowding(onsets, "log_hazard", draws=200, generator=rng).p > 0.05


def test_a_planted_crowd_is_found_where_it_is_under_every_null():
    rng = np.random.default_rng(2)
    moments = np.concatenate([0.6 * 10 ** rng.exponential(1.5, 60), rng.uniform(33, 127, 60)])
    for null in NULLS:
        found = crowding(censored_at(moments), null, draws=200, generator=rng)
        assert found.p < 0.01, null
        if null.startswith("log"):  # per step, everything early is a crowd
            assert (STEPS[found.peak - 1], STEPS[found.peak]) == (32, 128), null


def test_wider_intervals_of_some_features_cost_power_but_not_validity():
    rng = np.random.default_rng(3)
    p = []
    for _ in range(80):
        lo, hi = onsets_at(np.exp(rng.uniform(np.log(0.6), np.log(2048), 50)))
        blurred = (rng.random(50) < 0.3) & (hi <= 512)  # the snapshot that ends the interval did not count
        hi = np.where(blurred, STEPS[np.minimum(np.searchsorted(STEPS, hi) + 1, len(STEPS) - 1)], hi)
        p.append(crowding(CensoredOnsets.of(lo, hi, STEPS), "log_uniform", draws=99, generator=rng).p)
    assert np.mean(np.array(p) <= 0.1) <= 0.2


def test_holm_is_the_step_down_rule_and_leaves_undefined_tests_out():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, NAN])), [0.03, 0.06, 0.06, NAN])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert np.isnan(holm(np.array([NAN, NAN]))).all()


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_at_least_as_strict_as_false_discovery_control_and_keeps_the_order(p):
    adjusted = holm(np.array(p))
    assert (adjusted >= false_discovery_control(p) - 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def evidence(n=80, seed=0):
    rng = np.random.default_rng(seed)
    lo, hi = onsets_at(np.exp(rng.normal(np.log(60), 1.0, n)))
    classes = np.where(rng.random(n) < 0.5, "emergent", "initialization")
    classes[:5] = "dead"
    return OnsetEvidence(lo, hi, classes)


def distribute(onsets, steps=STEPS):
    return onset_distribution({"norm": onsets, "firing": onsets}, steps, settings=QUICK, layer=2)


def test_tables_are_complete_and_add_up():
    bins, tests = distribute(evidence())
    assert set(bins.columns) == {column.name for column in tables.ONSET_DISTRIBUTION.columns}
    assert set(tests.columns) == {column.name for column in tables.ONSET_TESTS.columns}
    assert len(bins) == 2 * len(GROUPS) * (len(STEPS) + 1)
    assert len(tests) == 2 * len(GROUPS) * len(NULLS)
    live = bins[(bins["onset_by"] == "norm") & (bins["group"] == "live")]
    assert live["n"].eq(75).all()
    assert live["mass"].sum() == pytest.approx(1)
    assert (live["mass_ci_lo"] <= live["mass"]).all()
    assert (live["mass"] <= live["mass_ci_hi"]).all()
    assert (live["mass_ci_hi"] > 0).all()  # also where no onset was seen
    inside = live[live["decades"].notna()]
    dated = (inside["n"] * inside["mass"]).sum()
    np.testing.assert_allclose((inside["rate_per_decade"] * inside["decades"]).sum(), dated)
    for null in ("log_uniform", "linear_uniform"):
        assert live[f"expected_{null}"].sum() == pytest.approx(dated)
    assert inside["peak_support"].sum() == pytest.approx(1)


def test_hazards_divide_by_what_is_still_to_come():
    lo, hi = onsets_at([1, 1, 5, 5000], np.array([0, 2, 20]))
    bins, _ = distribute(OnsetEvidence(lo, hi, np.full(4, "emergent")), np.array([0, 2, 20]))
    rows = bins[(bins["onset_by"] == "norm") & (bins["group"] == "live")].set_index("bin")
    assert rows.loc[1, "hazard_per_decade"] == pytest.approx(np.log(2) / np.log10(4))
    assert rows.loc[2, "hazard_per_1000_steps"] == pytest.approx(1000 * np.log(2) / 18)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_features_does_not_matter(seed):
    onsets = evidence()
    order = np.random.default_rng(seed).permutation(len(onsets.lo))
    shuffled = OnsetEvidence(onsets.lo[order], onsets.hi[order], onsets.classes[order])
    for table, again in zip(distribute(onsets), distribute(shuffled), strict=True):
        pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize("steps", [[0], [0, 4], [0, 4, 40]])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_tiny_studies_run_through(steps, n):
    steps = np.array(steps)
    lo, hi = onsets_at(np.linspace(0, steps[-1] + 1, n), steps)
    bins, tests = distribute(OnsetEvidence(lo, hi, np.full(n, "emergent")), steps)
    live = bins[(bins["onset_by"] == "norm") & (bins["group"] == "live")]
    assert live["mass"].isna().all() if n == 0 else live["mass"].sum() == pytest.approx(1)
    if n == 0 or len(steps) < 3:
        assert tests["p"].isna().all()
