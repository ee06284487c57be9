import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import mannwhitneyu

from snapcoder.evolution.probe import ProbeScores, delong, discriminants


def padded(rows, width):
    out = np.full((len(rows), width), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_the_auroc_is_that_of_mann_and_whitney(seed, ties):
    rng = np.random.default_rng(seed)
    positive = [rng.normal(shift, 1, rng.integers(2, 30)) for shift in (0, 1, 3)]
    negative = [rng.normal(0, 1, rng.integers(2, 40)) for _ in range(3)]
    if ties:
        positive, negative = ([np.round(row) for row in rows] for rows in (positive, negative))
    value, lo, hi = delong(padded(positive, 30), padded(negative, 40))
    for i in range(3):
        a, b = (np.float32(rows[i]) for rows in (positive, negative))
        assert value[i] == pytest.approx(mannwhitneyu(a, b).statistic / len(a) / len(b), abs=1e-6)
    assert (lo <= value + 1e-9).all()
    assert (value <= hi + 1e-9).all()


def test_the_interval_is_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 80), rng.normal(0, 1, 150)
    value, lo, hi = delong(positive[None].astype("f4"), negative[None].astype("f4"))
    draws = delong(rng.choice(positive, (1000, 80)).astype("f4"), rng.choice(negative, (1000, 150)).astype("f4"))[0]
    np.testing.assert_allclose([lo[0], hi[0]], np.percentile(draws, [2.5, 97.5]), atol=0.015)
    assert value[0] == pytest.approx(np.mean(draws), abs=0.01)


def test_the_variance_is_delongs_on_an_example_by_hand():
    # Pairs ordered right: 2/2, 1/2 for the positives; 2/2, 1/2 for the negatives; each with variance 1/8.
    value, lo, hi = delong(np.array([[3.0, 1.0]], "f4"), np.array([[0.0, 2.0]], "f4"))
    assert value[0] == 0.75
    half = 1.959963984540054 * np.sqrt(0.125 / 2 + 0.125 / 2)
    assert (lo[0], hi[0]) == (pytest.approx(0.75 - half), 1.0)


def test_perfect_separation_by_few_tokens_is_not_certain():
    value, lo, hi = delong(np.full((2, 20), 2, "f4") + np.array([[0], [1]], "f4"), np.ones((2, 300), "f4"))
    np.testing.assert_array_equal(value, 1)
    np.testing.assert_allclose(lo, 0.025 ** (1 / 20))
    np.testing.assert_array_equal(hi, 1)
    value, lo, hi = delong(np.zeros((1, 20), "f4"), np.ones((1, 300), "f4"))
    assert (value[0], lo[0], hi[0]) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_fewer_than_two_tokens_of_a_kind_give_nothing():
    value, lo, hi = delong(padded([[1.0], []], 4), np.ones((2, 5), "f4"))
    assert np.isnan([value, lo, hi]).all()


def test_the_direction_is_fishers():
    rng = np.random.default_rng(0)
    active = rng.random(4000) < 0.1
    x = rng.standard_normal((4000, 6)) @ rng.standard_normal((6, 6)) + active[:, None] * rng.standard_normal(6)
    found = discriminants((x[active].mean(axis=0) - x.mean(axis=0))[None], np.cov(x.T, bias=True), ridge=0.0)[0]
    within = active.mean() * np.cov(x[active].T, bias=True) + (~active).mean() * np.cov(x[~active].T, bias=True)
    fisher = np.linalg.solve(within, x[active].mean(axis=0) - x[~active].mean(axis=0))
    assert found @ fisher / np.linalg.norm(found) / np.linalg.norm(fisher) == pytest.approx(1, abs=1e-4)


def test_a_constant_activation_has_a_direction_of_zero_and_no_warning():
    found = discriminants(np.zeros((2, 3), "f4"), np.zeros((3, 3)), ridge=0.1)
    np.testing.assert_array_equal(found, 0)


def scored(z, x, direction, *, size, n_positives=10, pool=30):
    count = np.asarray((z.toarray() > 0).sum(axis=0))
    rows = np.unique(np.linspace(0, len(x) - 1, pool).astype(int))
    scores = ProbeScores(direction, count, rows, n_positives=n_positives)
    for start in range(0, len(x), size):
        scores.add(z[start : start + size], x[start : start + size], start)
    return scores


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_blocks_of_any_size_score_the_same_spread_tokens(size):
    rng = np.random.default_rng(0)
    code = rng.exponential(size=(400, 5)) * (rng.random((400, 5)) < [0.3, 0.1, 0.02, 0.005, 0.0])
    z, x = csr_array(code.astype(np.float32)), rng.standard_normal((400, 4)).astype(np.float32)
    direction = rng.standard_normal((5, 4)).astype(np.float32)
    found = scored(z, x, direction, size=size)
    whole = scored(z, x, direction, size=400)
    np.testing.assert_allclose(found.positive, whole.positive, rtol=1e-5)
    for i in range(5):
        rows = np.flatnonzero(code[:, i])
        n = min(len(rows), 10)
        chosen = (
            rows
            if len(rows) <= 10
            else rows[[r for r in range(len(rows)) if (r + 1) * 10 // len(rows) > r * 10 // len(rows)]]
        )
        assert (~np.isnan(found.positive[i])).sum() == n == len(chosen)
        np.testing.assert_allclose(found.positive[i, :n], x[chosen] @ direction[i], rtol=1e-4, atol=1e-5)
    defined = np.array([True, True, True, True, False])
    np.testing.assert_allclose(found.auroc(defined=defined).value, whole.auroc(defined=defined).value)


def test_active_tokens_are_taken_out_of_the_pool():
    z = csr_array(np.array([[1.0], [1.0], [0.0], [0.0], [1.0]], dtype=np.float32))
    x = np.array([[5.0], [4.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    found = scored(z, x, np.ones((1, 1), "f4"), size=2, pool=5).auroc(defined=np.array([True]))
    assert found.value[0] == 1.0
    assert found.n[0] == 3


def test_without_held_out_rows_nothing_is_defined():
    empty = ProbeScores(np.ones((3, 2), "f4"), np.zeros(3, int), np.zeros(0, int), n_positives=4)
    found = empty.auroc(defined=np.ones(3, bool))
    assert np.isnan(found.value).all()
    np.testing.assert_array_equal(found.n, 0)
