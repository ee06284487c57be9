import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import stats

from snapcoder.figures.axes import place, step_axis, step_text
from snapcoder.figures.summary import (
    acquired_tasks,
    log_step,
    median_interval,
    onset_bins,
    rank_correlation,
    share,
    turning_point,
)


def test_step_zero_lies_at_a_half_on_log_axes_and_at_zero_on_linear_ones():
    assert place([0, 4], "log").tolist() == [0.5, 4.0]
    assert place([0, 4], "linear").tolist() == [0.0, 4.0]
    assert log_step([0, 1, 10]) == pytest.approx([np.log10(0.5), 0, 1])


def test_the_log_axis_labels_its_half_as_zero():
    ax = step_axis(Figure().subplots(), [0, 4, 2000])
    assert ax.get_xticks()[0] == 0.5
    assert ax.xaxis.get_major_formatter()(0.5, 0) == "0"
    assert step_text(143_000) == "143k"


def test_the_median_interval_is_the_binomial_one():
    found = median_interval(np.arange(1, 101, dtype=float))
    assert (found.value, found.n) == (50.5, 100)
    assert (found.low, found.high) == (40.0, 61.0)  # the textbook ranks for n = 100


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_the_median_lies_in_its_interval(values):
    found = median_interval(np.array(values))
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


def test_shares_have_wilsons_interval_and_none_without_data():
    found = share(5, 10)
    assert (found.low, found.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert np.isnan(share(0, 0).value)


def test_rank_correlation_agrees_with_scipy_and_is_undefined_for_constants():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low < found.rho < found.high
    assert found.p < 0.01
    assert np.isnan(rank_correlation(x, np.zeros(60)).rho)


def test_onsets_are_counted_per_interval_and_rates_divide_by_its_width():
    timing = pd.DataFrame(
        {"onset_censoring": ["interval", "interval", "left", "right"], "onset_hi": [10.0, 100.0, 0.0, np.nan]}
    )
    bins = onset_bins(timing, [0, 10, 100])
    assert bins["count"].tolist() == [1, 1]
    assert bins["rate_per_decade"].tolist() == pytest.approx([1 / np.log10(20), 1.0])
    assert bins["expected"].sum() == pytest.approx(2)
    assert (bins["rate_lo"] < bins["rate_per_decade"]).all()


def test_a_turning_point_without_a_value_is_no_turning_point():
    keys = {"turn": "plain", "clock": "log_step", "statistic": "peak_median"}
    points = pd.DataFrame([{**keys, "law": "steady", "value": 3.0}, {**keys, "law": "wandering", "value": np.nan}])
    assert turning_point(points, law="steady")["value"] == 3.0
    assert turning_point(points, law="wandering") is None
    assert turning_point(points, law="steady", clock="step") is None
    assert turning_point(pd.DataFrame()) is None


def test_a_task_counts_from_the_snapshot_from_which_it_stays_acquired():
    rows = [("a", 0, True), ("a", 1, False), ("a", 2, True), ("a", 3, True), ("b", 0, True), ("b", 3, False)]
    performance = pd.DataFrame(rows, columns=["task", "step", "acquired"]).assign(status="scored")
    assert acquired_tasks(performance) == {"a": 2, "b": None}
