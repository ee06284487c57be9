from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from snapcoder.evolution.bca import bca_interval
from snapcoder.evolution.multiplicity import benjamini_hochberg, holm
from snapcoder.evolution.rank_correlation import correlations, partial_correlation, rank_covariance


def codes_of(*columns):
    return [np.unique(column, return_inverse=True)[1] for column in columns]


def by_residuals(x, y, controls):
    """The textbook partial Spearman correlation: correlate what a regression of ranks on ranks leaves."""
    ranks = stats.rankdata(np.column_stack([x, y, controls]), axis=0)
    design = np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    rest = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
    return np.corrcoef(rest.T)[0, 1]


def sample(seed=0, n=60):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(n)
    x = np.round(common + rng.standard_normal(n))
    y = np.round(2 * common + rng.standard_normal(n))
    return x, y, np.column_stack([common, rng.standard_normal(n)])


def run(x, y, controls=None, **options):
    controls = np.empty((len(x), 0)) if controls is None else controls
    return correlations(x, y, controls, **{"bootstrap": 400, "permutations": 400, "seed": 0, **options})


def test_plain_and_partial_correlations_are_the_textbook_ones():
    x, y, controls = sample()
    plain, partial = run(x, y, controls)
    assert plain.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert partial.value == pytest.approx(by_residuals(x, y, controls))
    assert plain.n == partial.n == 60


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 3)), min_size=4, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_partial_correlation_agrees_with_the_inverse_of_the_correlation_matrix(rows):
    columns = np.array(rows, dtype=float).T
    found = partial_correlation(rank_covariance(codes_of(*columns), np.ones((1, len(rows)))))[0]
    ranks = stats.rankdata(columns, axis=1)
    if (np.ptp(ranks, axis=1) > 0).all() and np.linalg.cond(np.corrcoef(ranks)) < 1e6:
        precision = np.linalg.inv(np.corrcoef(ranks))
        assert found == pytest.approx(-precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1]), abs=1e-6)
    else:
        assert np.isnan(found) or -1.000001 <= found <= 1.000001


def test_weights_are_the_same_as_repeating_observations():
    x, y, controls = sample(1)
    weights = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60), size=5)
    covariance = rank_covariance(codes_of(x, y, *controls.T), weights)
    for draw, row in zip(covariance, weights, strict=True):
        rows = np.repeat(np.arange(60), row)
        assert partial_correlation(draw[None])[0] == pytest.approx(by_residuals(x[rows], y[rows], controls[rows]))


def test_a_common_cause_correlates_until_it_is_held_fixed():
    rng = np.random.default_rng(3)
    cause = rng.standard_normal(400)
    x, y = (cause + 0.3 * rng.standard_normal(400) for _ in range(2))
    plain, partial = run(x, y, cause[:, None])
    assert plain.p < 0.01 < 0.2 < plain.ci_lo
    assert partial.ci_lo < 0 < partial.ci_hi
    assert partial.p > 0.05


def test_without_relation_p_is_uniform_and_intervals_cover_zero():
    rng = np.random.default_rng(4)
    found = []
    for _ in range(150):
        x, y, control = rng.standard_normal((3, 25))
        found.append(run(x + control, np.round(y + control), control[:, None], bootstrap=200, permutations=100)[1])
    p = np.array([result.p for result in found])
    assert 0.02 < (p < 0.1).mean() < 0.2
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean([result.ci_lo < 0 < result.ci_hi for result in found]) > 0.88


def test_p_is_that_of_all_permutations():
    x, y, _ = sample(5, n=7)
    ranks = stats.rankdata(x), stats.rankdata(y[::-1])
    observed = abs(np.corrcoef(*ranks)[0, 1])
    every = ranks[0][np.array(list(permutations(range(7))))]
    rho = (every - 4) @ (ranks[1] - 4) / np.sqrt(((ranks[0] - 4) ** 2).sum() * ((ranks[1] - 4) ** 2).sum())
    exact = (np.abs(rho) >= observed - 1e-9).mean()
    assert run(x, y[::-1], permutations=10_000)[0].p == pytest.approx(exact, abs=0.015)


def test_bca_is_scipys_given_scipys_draws():
    data = np.random.default_rng(6).exponential(size=40)
    found = stats.bootstrap((data,), np.mean, n_resamples=500, method="BCa", rng=np.random.default_rng(7))
    jackknife = (data.sum() - data) / (len(data) - 1)
    low, high = bca_interval(float(data.mean()), found.bootstrap_distribution, jackknife)
    assert (low, high) == pytest.approx(tuple(found.confidence_interval), rel=1e-9)


def test_intervals_of_spearman_are_close_to_scipys():
    x, y, _ = sample(8, n=80)
    wanted = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False, n_resamples=600,
        method="BCa", rng=np.random.default_rng(9),
    ).confidence_interval  # fmt: skip
    found = run(x, y, bootstrap=3000)[0]
    assert (found.ci_lo, found.ci_hi) == pytest.approx((wanted.low, wanted.high), abs=0.05)


def test_groups_left_out_give_nearly_the_interval_of_single_ones(monkeypatch):
    x, y, controls = sample(10, n=300)
    single = run(x, y, controls)[1]
    monkeypatch.setattr("snapcoder.evolution.rank_correlation.JACKKNIFE_GROUPS", 60)
    grouped = run(x, y, controls)[1]
    assert (grouped.ci_lo, grouped.ci_hi) == pytest.approx((single.ci_lo, single.ci_hi), abs=0.02)


def test_relabelling_observations_and_other_block_sizes_change_nothing(monkeypatch):
    x, y, controls = sample(11)
    order = np.random.default_rng(12).permutation(len(x))
    assert run(x, y, controls) == run(x[order], y[order], controls[order])
    whole = run(x, y, controls)
    monkeypatch.setattr("snapcoder.evolution.rank_correlation.CHUNK_VALUES", 100)
    assert [result.p for result in run(x, y, controls)] == [result.p for result in whole]


@pytest.mark.parametrize("n", [0, 1, 2, 8])
def test_a_constant_or_too_few_observations_leave_everything_undefined(n):
    for result in run(np.zeros(n), np.arange(n), np.ones((n, 1))):
        assert np.isnan([result.value, result.ci_lo, result.ci_hi, result.p]).all()
        assert result.n == n


def test_a_control_that_says_it_all_leaves_nothing():
    x = np.arange(20.0)
    plain, partial = run(x, np.roll(x, 3), x[:, None])
    assert np.isfinite(plain.value)
    assert np.isnan(partial.value)
    assert np.isnan(partial.p)


def test_a_constant_control_changes_nothing():
    x, y, _ = sample(13)
    plain, partial = run(x, y, np.ones((60, 1)))
    assert partial.value == pytest.approx(plain.value)


def test_bca_is_undefined_where_all_draws_lie_on_one_side():
    assert np.isnan(bca_interval(5.0, np.arange(4.0), np.arange(4.0))).all()
    assert np.isnan(bca_interval(np.nan, np.arange(4.0), np.arange(4.0))).all()


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=12))
@settings(max_examples=100, deadline=None)
def test_corrections_follow_their_definitions_and_pass_undefined_values_on(values):
    p = np.array(values, dtype=float)
    known = p[~np.isnan(p)]
    found = holm(p), benjamini_hochberg(p)
    assert all((np.isnan(adjusted) == np.isnan(p)).all() for adjusted in found)
    if len(known):
        order = np.sort(known)
        by_definition = [
            max(min(1, (len(order) - j) * order[j]) for j in range(len(order)) if order[j] <= v) for v in known
        ]
        assert found[0][~np.isnan(p)] == pytest.approx(by_definition)
        assert found[1][~np.isnan(p)] == pytest.approx(stats.false_discovery_control(known))
