from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from snapcoder.evolution.ordered_groups import interval_scores, ordered_groups_test, ordered_sum, shuffled_counts

GRID = np.array([-np.inf, 0.0, 1.0, 2.0, 3.0])
LO, HI = GRID, np.array([0.0, 1.0, 2.0, 3.0, 4.0])
SCORES = interval_scores(LO, HI)


def counted(groups):
    return np.stack([np.bincount(group, minlength=len(LO)) for group in groups])


def run(groups, scores=SCORES, **options):
    return ordered_groups_test(counted(groups), scores, **{"permutations": 500, "bootstrap": 200, "seed": 0, **options})


def test_intervals_compare_only_when_they_do_not_overlap():
    scores = interval_scores(np.array([0.0, 1.0, 0.0]), np.array([1.0, 2.0, 2.0]))
    assert scores.tolist() == [[0, 1, 0], [-1, 0, 0], [0, 0, 0]]


def test_j_is_counted_pair_by_pair():
    groups = [[0, 1, 1], [1, 3], [2, 4, 4]]
    expected = sum(SCORES[a, b] for g in range(3) for h in range(g + 1, 3) for a in groups[g] for b in groups[h])
    found = run(groups)
    assert found.statistic == expected
    assert found.effect == pytest.approx(expected / (3 * 2 + 3 * 3 + 2 * 3))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_two_groups_are_the_mann_whitney_test(first, second):
    found = run([first, second], permutations=100, bootstrap=100)
    u = stats.mannwhitneyu(second, first).statistic
    assert found.statistic == pytest.approx(2 * u - len(first) * len(second))
    assert found.ci_lo <= found.effect <= found.ci_hi


def test_p_is_that_of_all_permutations_of_the_labels():
    values, sizes = [0, 2, 1, 1, 3, 2], (2, 2, 2)

    def split(order):
        return [order[:2], order[2:4], order[4:]]

    observed = run(split(values)).statistic
    exact = np.mean([run(split(list(order)), permutations=1, bootstrap=1).statistic >= observed
                     for order in set(permutations(values))])  # fmt: skip
    # every distinct order is as likely, because equal values are exchangeable
    assert sum(sizes) == len(values)
    assert run(split(values), permutations=20_000).p == pytest.approx(exact, abs=0.015)


def test_the_null_has_the_known_variance_without_ties():
    n, sizes = 30, (8, 10, 12)
    counts = np.zeros((3, n), dtype=int)
    counts[np.repeat([0, 1, 2], sizes), np.arange(n)] = 1
    null = ordered_sum(
        shuffled_counts(counts, 20_000, np.random.default_rng(0)),
        interval_scores(np.arange(n, dtype=float), np.arange(1.0, n + 1)),
    )
    known = (n**2 * (2 * n + 3) - sum(s**2 * (2 * s + 3) for s in sizes)) / 72  # of J as the sum of Mann–Whitney counts
    assert null.mean() == pytest.approx(0, abs=3 * np.sqrt(4 * known / 20_000))
    assert null.var() == pytest.approx(4 * known, rel=0.03)


def test_shuffled_counts_keep_sizes_and_times():
    counts = np.array([[3, 0, 2], [1, 4, 0], [0, 1, 1]])
    drawn = shuffled_counts(counts, 50, np.random.default_rng(1))
    assert (drawn.sum(axis=2) == counts.sum(axis=1)).all()
    assert (drawn.sum(axis=1) == counts.sum(axis=0)).all()
    assert (drawn >= 0).all()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    many = shuffled_counts(counts, 20_000, np.random.default_rng(2)).mean(axis=0)
    assert many == pytest.approx(expected, abs=0.03)


def test_groups_in_order_are_found_and_reversed_ones_are_not():
    rng = np.random.default_rng(3)
    groups = [rng.integers(0, 3, 20), rng.integers(1, 4, 20), rng.integers(2, 5, 20)]
    assert run(groups).p < 0.01
    assert run(groups).ci_lo > 0
    backwards = run(groups[::-1])
    assert backwards.p > 0.9
    assert backwards.ci_hi < 0


def test_an_empty_group_leaves_the_test_undefined():
    found = run([[1, 2], [], [3]])
    assert np.isnan([found.statistic, found.effect, found.p, found.ci_lo]).all()


def test_merging_intervals_that_overlap_makes_ties_not_order():
    whole = interval_scores(np.array([-np.inf, 0.0]), np.array([4.0, 4.0]))
    assert (
        ordered_groups_test(np.array([[5, 5], [0, 10]]), whole, permutations=100, bootstrap=100, seed=0).statistic == 0
    )
