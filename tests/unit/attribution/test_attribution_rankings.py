import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.attribution.rankings import (
    ablation_sizes,
    by_order,
    decile_cells,
    matched_rankings,
    norm_order,
    random_rankings,
)


def test_sizes_are_those_of_both_grids_that_are_possible_and_all():
    assert ablation_sizes((50, 0, 5, 24, 1), (), 24) == (0, 1, 5, 24)
    assert ablation_sizes((5,), (), 3) == (0, 3)
    assert ablation_sizes((), (0.001, 0.1, 0.5, 1.0), 1000) == (0, 1, 100, 500, 1000)
    assert ablation_sizes((), (0.001, 0.1), 10) == (0, 1, 10)  # a share of less than one unit is one


def test_a_share_within_a_tenth_of_a_given_size_is_left_out():
    assert ablation_sizes((1, 50, 100), (0.001, 0.05, 0.1, 0.12), 1024) == (0, 1, 50, 100, 123, 1024)


def test_sets_are_the_beginnings_of_an_order():
    ranking = by_order("attr_here", np.array([4, 2, 0, 1, 3]), (0, 2, 5))
    assert [chosen.tolist() for chosen in ranking.sets] == [[], [4, 2], [4, 2, 0, 1, 3]]


def test_norm_and_random_start_with_features_that_change():
    norm = np.array([1.0, 5.0, 3.0, 4.0, 2.0])
    changing = np.array([False, True, True, False, True])
    assert norm_order(norm, changing).tolist() == [1, 2, 4, 3, 0]
    ranked = random_rankings(changing, (3, 4), draws=3, rng=np.random.default_rng(0))
    assert [(ranking.name, ranking.draw, ranking.ks) for ranking in ranked] == [("random", d, (3, 4)) for d in range(3)]
    for ranking in ranked:
        assert set(ranking.sets[0].tolist()) == {1, 2, 4}
        assert set(ranking.sets[1].tolist()) > {1, 2, 4}
    assert len({tuple(ranking.sets[1].tolist()) for ranking in ranked}) > 1


def test_deciles_hold_equally_many_features_and_leave_out_those_that_never_fire():
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(240) < 40, 0.0, rng.random(240))
    cells = decile_cells(rng.random(240), rate)
    assert (cells[:40] == -1).all()
    for column in cells[40:].T:
        assert np.bincount(column).tolist() == [20] * 10


def test_equal_values_share_a_decile():
    cells = decile_cells(np.ones(30), np.repeat([1.0, 2.0], 15))
    assert set(cells[:, 0]) == {5}
    assert len(set(cells[:15, 1])) == len(set(cells[15:, 1])) == 1


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_matched_features_are_none_of_the_top_all_different_and_as_near_as_can_be(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    cells = decile_cells(rng.random(60), rng.random(60).round(1) + 0.01)
    ranked, exact = matched_rankings(order, cells, (2, 7), draws=5, seed=(seed,))
    for ranking in ranked:
        for k, chosen in zip(ranking.ks, ranking.sets, strict=True):
            assert len(set(chosen.tolist())) == k
            assert not set(chosen.tolist()) & set(order[:k].tolist())
            # partners stand in the order of the top features; whoever has none of its own cell had none left
            apart = np.abs(cells[chosen] - cells[order[:k]]).sum(axis=1)
            left = np.setdiff1d(np.arange(60), np.concatenate([order[:k], chosen]))
            for top, distance in zip(order[:k], apart, strict=True):
                assert np.abs(cells[left] - cells[top]).sum(axis=1).min() >= distance or distance == 0
    assert ranked[0].ks == (2, 7)
    assert all(0 <= share <= 1 for share in exact.values())


def test_matched_features_keep_the_deciles_of_the_top_ones_when_there_are_enough():
    cells = np.repeat([[0, 0], [3, 5], [9, 9]], 30, axis=0).astype(np.int16)
    order = np.concatenate([[0, 1, 30, 60, 61, 62], np.setdiff1d(np.arange(90), [0, 1, 30, 60, 61, 62])])
    ranked, exact = matched_rankings(order, cells, (6,), draws=20, seed=(0,))
    for ranking in ranked:
        counts = [int((cells[ranking.sets[0]] == cell).all(axis=1).sum()) for cell in ([0, 0], [3, 5], [9, 9])]
        assert counts == [2, 1, 3]
    assert exact == {6: 1.0}
    assert len({tuple(sorted(ranking.sets[0].tolist())) for ranking in ranked}) == 20


def test_a_cell_that_runs_out_is_filled_from_the_nearest():
    cells = np.array([[9, 9]] * 3 + [[9, 8]] * 2 + [[0, 0]] * 10, dtype=np.int16)
    ranked, exact = matched_rankings(np.arange(15), cells, (2,), draws=4, seed=(1,))
    assert [2 in ranking.sets[0] for ranking in ranked] == [True] * 4  # the only other one of the cell
    assert all(set(ranking.sets[0].tolist()) - {2} <= {3, 4} for ranking in ranked)
    assert exact == {2: 0.5}


def test_a_size_without_enough_others_that_fire_is_left_out():
    cells = decile_cells(np.arange(10.0), np.array([1.0] * 6 + [0.0] * 4))
    ranked, exact = matched_rankings(np.arange(10), cells, (2, 3, 4, 7), draws=2, seed=(0,))
    assert ranked[0].ks == (2, 3)
    assert set(exact) == {2, 3}
    silent, _ = matched_rankings(np.arange(10)[::-1], cells, (1,), draws=2, seed=(0,))
    assert silent[0].ks == ()


def test_adding_a_size_changes_no_draw_of_another():
    rng = np.random.default_rng(3)
    cells = decile_cells(rng.random(80), rng.random(80))
    few, _ = matched_rankings(np.arange(80), cells, (5,), draws=3, seed=(7,))
    more, _ = matched_rankings(np.arange(80), cells, (2, 5), draws=3, seed=(7,))
    for one, two in zip(few, more, strict=True):
        assert one.sets[0].tolist() == two.sets[1].tolist()
        assert pytest.approx(one.ks) == (5,)
