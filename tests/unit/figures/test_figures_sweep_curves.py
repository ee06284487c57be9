"""Pareto fronts against brute force, spreads and equal-L0 comparisons against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapcoder.figures.catalogue import figures_of
from snapcoder.figures.drawing import draw
from snapcoder.figures.sweep_curves import (
    ev_at_l0,
    middle_sparsity,
    pareto_front,
    pooled_points,
    sae_at_equal_l0,
    seed_spread,
    shared_points,
)

COARSE = st.integers(0, 5).map(float)  # ties are frequent


@given(st.lists(st.tuples(COARSE, COARSE), max_size=30))
def test_the_front_is_what_no_other_point_dominates(points):
    l0, ev = (np.array([point[i] for point in points], dtype=float) for i in (0, 1))

    def dominated(i):
        return any(l0[j] <= l0[i] and ev[j] >= ev[i] and (l0[j] < l0[i] or ev[j] > ev[i]) for j in range(len(points)))

    assert pareto_front(l0, ev).tolist() == [not dominated(i) for i in range(len(points))]


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(-1, 1)), min_size=1, max_size=20), st.integers(0, 9))
def test_the_front_does_not_depend_on_units_or_order(points, power):
    l0, ev = np.array(points).T
    front = pareto_front(l0, ev)
    assert front.any()
    assert pareto_front(l0 * 2.0**power, ev * 2.0).tolist() == front.tolist()  # exact in binary
    order = np.argsort(ev, kind="stable")
    assert pareto_front(l0[order], ev[order]).tolist() == front[order].tolist()


def rows(kind, values, *, arm="batchtopk", size=8):
    """Rows of the table from (sparsity, seed, snapshot, step, ev, l0)."""
    names = ["sparsity", "seed", "snapshot", "step", "ev", "l0"]
    return pd.DataFrame(values, columns=names).assign(kind=kind, arm=arm, n_features=size)


def test_seeds_are_summed_up_by_mean_lowest_and_highest():
    scores = rows("sae", [(4, 0, 0, 10, 0.7, 3.0), (4, 1, 0, 10, 0.9, 5.0), (4, 2, 0, 10, 0.8, 4.6)])
    (row,) = seed_spread(scores, ["arm", "sparsity"]).to_dict("records")
    assert (row["ev"], row["ev_lo"], row["ev_hi"]) == pytest.approx((0.8, 0.7, 0.9))
    assert (row["l0"], row["l0_lo"], row["l0_hi"]) == pytest.approx((4.2, 3.0, 5.0))
    assert row["n_seeds"] == 3


def test_the_pooled_panel_takes_pooled_rows_and_ranks_each_arm_and_size_by_itself():
    nan = np.nan
    first = rows("crosscoder", [(4, 0, -1, nan, 0.7, 4.0), (8, 0, -1, nan, 0.6, 8.0), (8, 0, 0, 10, 0.99, 1.0)])
    other = rows("crosscoder", [(0.1, 0, -1, nan, 0.5, 9.0)], arm="jumprelu")
    points = pooled_points(pd.concat([first, other, rows("sae", [(4, 0, 0, 10, 0.9, 4.0)])]))
    assert points[["arm", "sparsity", "on_front"]].values.tolist() == [
        ["batchtopk", 4.0, True], ["batchtopk", 8.0, False], ["jumprelu", 0.1, True]
    ]  # fmt: skip


def test_crosscoders_and_autoencoders_are_averaged_over_the_same_snapshots():
    nan = np.nan
    crosscoder = rows(
        "crosscoder", [(4, 0, -1, nan, 0.1, 9.0), (4, 0, 0, 0, 0.5, 3.0), (4, 0, 1, 10, 0.9, 90), (4, 0, 2, 20, 0.7, 5)]
    )
    saes = rows("sae", [(4, 0, 0, 0, 0.6, 4.0), (4, 0, 0, 20, 0.9, 4.2)])
    points = shared_points(pd.concat([crosscoder, saes])).set_index("kind")
    assert points.loc["crosscoder", ["ev", "l0"]].tolist() == pytest.approx([0.6, 4.0])
    assert points.loc["sae", ["ev", "l0"]].tolist() == pytest.approx([0.75, 4.1])


def test_equal_l0_is_linear_in_log_l0_and_undefined_far_outside():
    curve = pd.DataFrame({"l0": [40.0, 10.0, 0.0], "ev": [0.9, 0.7, 0.1]})
    assert ev_at_l0(20.0, curve) == pytest.approx(0.8)
    assert ev_at_l0(10.0, curve) == 0.7
    assert ev_at_l0(9.6, curve) == 0.7  # within 5%
    assert np.isnan(ev_at_l0(9.4, curve))
    assert np.isnan(ev_at_l0(43.0, curve))
    assert np.isnan(ev_at_l0(1.0, curve.iloc[:0]))


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0, 1)), min_size=1, max_size=8), st.floats(1, 100))
def test_equal_l0_stays_between_the_curve_s_scores(points, l0):
    curve = pd.DataFrame(points, columns=["l0", "ev"])
    value = ev_at_l0(l0, curve)
    assert np.isnan(value) or curve["ev"].min() - 1e-12 <= value <= curve["ev"].max() + 1e-12


def test_each_snapshot_is_compared_with_its_own_autoencoders_of_the_same_size_and_seed():
    crosscoder = rows(
        "crosscoder",
        [(4, 0, 0, 0, 0.5, 20.0), (4, 0, 1, 10, 0.8, 10.0), (4, 1, 0, 0, 0.6, 90.0), (8, 0, 0, 0, 0.9, 40.0)],
    )
    saes = rows(
        "sae", [(4, 0, 0, 0, 0.7, 10.0), (8, 0, 0, 0, 0.9, 40.0), (4, 1, 0, 0, 0.3, 10.0), (8, 1, 0, 0, 0.4, 40.0)]
    )
    other = rows("sae", [(4, 0, 0, 0, 0.99, 20.0)], size=16)
    found = sae_at_equal_l0(pd.concat([crosscoder, saes, other]), arm="batchtopk", sparsity=4)
    (row,) = found.to_dict("records")  # seed 1 lies outside its curve; snapshot 10 has none
    assert row == {"n_features": 8, "step": 0, "seed": 0, "l0": 20.0, "ev": pytest.approx(0.8), "ev_crosscoder": 0.5}


def test_the_middle_sparsity_is_one_of_the_arm_s_own():
    metrics = pd.concat(rows("sae", [(value, 0, 0, 0, 0.5, 1.0)]) for value in (40, 10, 20, 80))
    assert middle_sparsity(metrics, "batchtopk") == 20


def test_dominated_points_are_crosses_that_no_line_joins(study_tables):
    (figure,) = figures_of("sweep")
    canvas = draw(figure, study_tables)
    lines = [line for line in canvas.axes[0].get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
    # per size, jumprelu's weakest penalty: 60 active features explain less than 30
    assert sorted(len(line.get_xdata()) for line in lines) == [1, 1]
    assert all(line.get_linestyle() == "None" and line.get_xdata()[0] > 50 for line in lines)
    joined = [
        line.get_xdata()
        for line in canvas.axes[0].get_lines()
        if line.get_linestyle() == "-" and line.get_marker() in "os"
    ]
    assert len(joined) == 4
    assert max(x.max() for x in joined) < 50
