import numpy as np
import pandas as pd
import pytest
from planted_tasks import N_FEATURES, exact_problem
from scipy.integrate import trapezoid

from snapcoder.attribution.ablation import Curve, ablate_sets, ablation_curves
from snapcoder.attribution.curve_summary import (
    TaskEnds,
    areas,
    curve_rows,
    effect_share,
    half_size,
    matched_tests,
    nonadditivity,
    summary_rows,
)
from snapcoder.attribution.gradients import metric_ends
from snapcoder.attribution.rankings import by_order
from snapcoder.attribution.units import feature_replacements
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.ablation import ABLATION_CURVES, ABLATION_SUMMARY
from snapcoder.tasks.intervals import bootstrap_weights

KS = (0, 1, 2, N_FEATURES)
WHERE = {"layer": 1, "task": "t", "step": 8}


def ends_of(clean, patch):
    weights = bootstrap_weights(np.arange(len(clean)), draws=50, rng=np.random.default_rng(0))
    return TaskEnds(clean, patch, weights)


def problem(effects, order, **keywords):
    here, prompts, run = exact_problem(effects, **keywords)
    clean, patch = metric_ends(run, prompts)
    replacement = feature_replacements(prompts, here, np.zeros(N_FEATURES))["resample"]
    full = np.concatenate([order, np.setdiff1d(np.arange(N_FEATURES), order)])
    curves = ablation_curves(run, prompts, replacement, [by_order("attr_here", full, KS)], clean)
    return run, prompts, replacement, curves, ends_of(clean, patch)


def test_numbers_of_a_curve_are_those_computed_by_hand():
    """Effects 3 and 1: s = 0, ¾, 1, …, 1 at 0, 1, 2, …, 24 features, both when they are taken away and when put back."""
    *_, curves, ends = problem({3: 3.0, 7: 1.0}, [3, 7])
    rows = summary_rows(curves, ends, matched_tests(curves)).set_index("mode")
    for mode in ("disrupt", "restore"):
        row = rows.loc[mode]
        assert row["effect"] == pytest.approx(4, abs=1e-5)
        assert row["effect_share"] == pytest.approx(1, abs=1e-5)
        assert row["k50"] == pytest.approx(2 / 3, abs=1e-5)
        assert row["cpr"] == pytest.approx((0.375 + 0.875 + 22) / 24, abs=1e-5)
        assert row["cmd"] == pytest.approx((0.625 + 0.125) / 24, abs=1e-5)
        for name in ("k50", "cpr", "cmd"):  # every example is the same, so no draw differs
            assert row[f"{name}_ci_lo"] == pytest.approx(row[name], abs=1e-4)
            assert row[f"{name}_ci_hi"] == pytest.approx(row[name], abs=1e-4)


def test_in_the_wrong_order_it_takes_all():
    """With the carriers last, the line from 2 to 24 features reaches one half in its middle."""
    *_, curves, ends = problem({3: 3.0, 7: 1.0}, [0, 1])
    row = summary_rows(curves, ends, matched_tests(curves)).set_index("mode").loc["restore"]
    assert row["k50"] == pytest.approx(13)
    assert row["cpr"] == pytest.approx(11 / 24)
    assert row["cmd"] == pytest.approx(13 / 24)


def test_share_half_and_areas_agree_with_independent_formulas():
    rng = np.random.default_rng(0)
    ks = np.array([0, 1, 2, 5, 10, 40])
    metric = rng.normal(size=(6, 7)).cumsum(axis=0)
    share = effect_share(metric)
    np.testing.assert_allclose(share[[0, -1]], [[0.0] * 7, [1.0] * 7])
    fine = np.linspace(0, 40, 400_001)
    for column in range(7):
        line = np.interp(fine, ks, share[:, column])
        assert half_size(ks, share)[column] == pytest.approx(fine[np.argmax(line >= 0.5)], abs=1e-3)
        cpr, _ = areas(ks, share)
        assert cpr[column] == pytest.approx(trapezoid(line, fine / 40), abs=1e-6)
    _, cmd = areas(ks, share)
    np.testing.assert_allclose(cmd, trapezoid(np.abs(1 - share), ks / 40, axis=0))


def test_a_curve_that_overshoots_is_closest_at_its_first_half():
    assert half_size(np.array([0, 10, 20, 30]), np.array([0.0, 1.0, 0.2, 1.0])) == pytest.approx(5)


def test_nothing_is_said_of_an_effect_that_is_not_there_or_goes_the_wrong_way():
    metric = np.array([[0.0, 1.0, -1.0, 0.5], [0.4, 1.0, -1.0, 0.5], [-0.1, 1.1, -0.9, 0.4]])
    flat = Curve("feature", 5, "resample", "attr_here", 0, "disrupt", (0, 2, 5), metric)
    wrong = Curve("feature", 5, "resample", "norm", 0, "disrupt", (0, 2, 5), metric[[0]] + np.array([[0], [1], [2]]))
    ends = ends_of(metric[0], metric[0] - 3)
    rows = summary_rows([flat, wrong], ends, matched_tests([flat, wrong])).set_index("ranking")
    assert rows[["k50", "cpr", "cmd", "k50_ci_lo"]].isna().all(axis=None)
    assert rows.loc["norm", "effect"] == pytest.approx(-2)
    assert rows.loc["attr_here", "effect_share"] == pytest.approx(rows.loc["attr_here", "effect"] / 3)


def test_effects_of_single_features_add_up_on_a_linear_head_and_not_on_a_product():
    for product, expected in ((False, 0.0), (True, -6.0)):
        here, prompts, run = exact_problem({3: 2.0, 7: 3.0}, product=product)
        clean, patch = metric_ends(run, prompts)
        replacement = feature_replacements(prompts, here, np.zeros(N_FEATURES))["resample"]
        top = np.array([3, 7])
        metric = ablate_sets(run, prompts, replacement, [top, *top[:, None]], clean, modes=("disrupt",))[:, 0]
        found = nonadditivity(metric[0], metric[1:], ends_of(clean, patch))
        assert found["nonadditivity"] == pytest.approx(expected, abs=1e-4)
        assert found["nonadditivity_ci_lo"] == pytest.approx(expected, abs=1e-4)
        assert found["single_sum"] == pytest.approx(12.0 if product else 5.0, abs=1e-4)
        assert found["nonadditivity_k"] == 2


def drawn(mode, values, k=2):
    return [
        Curve("feature", 9, "resample", "matched", draw, mode, (k,), np.array([[value, value]]))
        for draw, value in enumerate(values)
    ]


def top(mode, values, ks=(0, 2, 4, 9)):
    metric = np.repeat(np.array(values, dtype=float)[:, None], 2, axis=1)
    return Curve("feature", 9, "resample", "attr_here", 0, mode, ks, metric)


def test_p_counts_draws_that_do_at_least_as_much_and_is_corrected_over_sizes():
    curves = [
        top("disrupt", [5, 2, 1, 0]), *drawn("disrupt", [4, 3, 2, 5]), *drawn("disrupt", [3, 3, 4, 5], k=4),
        top("restore", [0, 3, 4, 5]), *drawn("restore", [1, 2, 3, 4]),
    ]  # fmt: skip
    found = matched_tests(curves).set_index(["mode", "k"])
    assert found.loc[("disrupt", 2)].tolist() == [0.75, 2 / 5, 2 / 5]
    assert found.loc[("disrupt", 4)].tolist() == [1.0, 1 / 5, 2 / 5]  # the smaller p of two, twice
    assert found.loc[("restore", 2)].tolist() == [0.5, 3 / 5, 3 / 5]  # one size: nothing to correct
    ends = ends_of(np.array([5.0, 5.0]), np.array([0.0, 0.1]))
    rows = summary_rows(curves, ends, matched_tests(curves)).set_index("mode")
    assert rows.loc["disrupt", ["matched_k", "percentile_vs_matched", "p_matched_holm"]].tolist() == [4, 1.0, 2 / 5]
    assert len(rows) == 2  # controls have no summary


def test_rows_fit_their_tables_and_faithfulness_runs_from_the_patch_to_the_clean_metric(tmp_path):
    *_, curves, ends = problem({3: 3.0, 7: 1.0}, [3, 7])
    curves += drawn("disrupt", np.arange(4.0), k=2)
    curves = [*curves[:2], *(c.__class__(**{**vars(c), "metric": np.tile(c.metric[:, :1], 8)}) for c in curves[2:])]
    tests = matched_tests(curves)
    rows = curve_rows(curves, ends, tests).assign(**WHERE)
    write_table(tmp_path / "c.parquet", rows, ABLATION_CURVES, {})
    table = read_table(tmp_path / "c.parquet")
    own = table[(table["ranking"] == "attr_here") & (table["mode"] == "restore")].set_index("k")
    np.testing.assert_allclose(own.loc[[0, 1, 2], "faithfulness"], [0, 0.75, 1], atol=1e-5)
    assert (table["metric_ci_lo"] <= table["metric_ci_hi"]).all()
    tested = table[table["p_matched"].notna()]
    assert tested[["mode", "ranking", "k"]].to_numpy().tolist() == [["disrupt", "attr_here", 2]]
    summary = summary_rows(curves, ends, tests).assign(
        **WHERE, matched_exact=np.nan, single_sum=np.nan, nonadditivity_k=np.nan,
        **{f"nonadditivity{end}": np.nan for end in ("", "_ci_lo", "_ci_hi")},
    )  # fmt: skip
    write_table(tmp_path / "s.parquet", summary, ABLATION_SUMMARY, {})
    assert len(read_table(tmp_path / "s.parquet")) == 2
    noisy = TaskEnds(ends.clean, ends.clean + np.where(np.arange(8) % 2, 1.0, -1.0), ends.weights)
    assert curve_rows(curves, noisy, tests)["faithfulness"].isna().all()
    assert summary_rows(curves, noisy, pd.DataFrame(tests))["effect_share"].isna().all()
