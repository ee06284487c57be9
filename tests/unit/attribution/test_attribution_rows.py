import numpy as np
import pandas as pd
import pytest
from planted_tasks import N_FEATURES, planted_problem

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute, position_shares
from snapcoder.attribution.gradients import path_gradient
from snapcoder.attribution.paths import path_from
from snapcoder.attribution.rows import (
    attribution_rows,
    feature_order,
    not_acquired_row,
    position_rows,
    quality_row,
)
from snapcoder.evolution.multiplicity import benjamini_hochberg
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.attribution import ATTRIBUTION, ATTRIBUTION_POSITIONS, ATTRIBUTION_QUALITY, primary_attribution

NAMES = {"task": "planted", "step": 8, "layer": 1, "method": "ig", "baseline": "corrupted"}


def rows_of(found, gradient, *, exact, n, cluster=None):
    cluster = np.arange(n) if cluster is None else cluster
    return attribution_rows(
        found, gradient, cluster, exact=exact, flips=500, bootstrap=200, rng=np.random.default_rng(0), names=NAMES
    )


def test_the_tables_hold_every_feature_that_has_a_share_and_the_error_and_fit_their_schemas(
    model, prompts, here, tmp_path
):
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=6)
    found, n = attribute(prompts, here, gradient), len(prompts.examples)
    dense = found.feature.toarray()
    exact = {feature: (1.1 * dense[:, feature].mean(), 0.5) for feature in range(8)}
    rows = rows_of(found, gradient, exact=exact, n=n)
    write_table(tmp_path / "a.parquet", rows, ATTRIBUTION, {})
    features = rows[rows["feature"] >= 0].sort_values("rank")
    assert features["rank"].tolist() == list(range(1, np.count_nonzero(dense.any(axis=0)) + 1))
    assert features["attr"].abs().is_monotonic_decreasing
    assert features["feature"].iloc[0] == np.abs(dense.mean(axis=0)).argmax()
    first = dense[:, features["feature"].iloc[0]]
    assert features["attr_se"].iloc[0] == pytest.approx(first.std() / np.sqrt(n), rel=0.2)
    by_feature = features.set_index("feature")
    for feature in by_feature.index:
        place = -np.abs(found.by_distance[:, feature]).argmax()
        assert by_feature.loc[feature, "position_max"] == place
        assert by_feature.loc[feature, "delta_f"] == pytest.approx(prompts.delta[:, [feature]].sum() / n, abs=1e-5)
    tested = by_feature[by_feature["q_bh"].notna()]
    used = (dense != 0).sum(axis=0)
    assert set(tested.index) == {feature for feature in by_feature.index if used[feature] >= 6}
    np.testing.assert_allclose(tested["q_bh"], benjamini_hochberg(tested["p_signflip"].to_numpy()))
    assert by_feature["exact_effect"].notna().sum() == len(set(range(8)) & set(by_feature.index))
    (error,) = rows[rows["feature"] == -1].to_dict("records")
    assert error["rank"] == 0
    assert error["attr"] == pytest.approx(found.error.mean())
    assert np.isnan([error["q_bh"], error["delta_f"], error["exact_effect"]]).all()
    top = np.arange(4)
    quality = quality_row(found, gradient, rows, top, n_clusters=n, tolerance=0.5, names=NAMES)
    assert rows["attr_share"].sum() == pytest.approx(1, abs=2 * quality["completeness_gap"] + 1e-6)
    assert quality["error_share"] == pytest.approx(error["attr"] / rows["attr"].sum())
    assert (quality["exact_r"], quality["exact_slope"]) == (pytest.approx(1), pytest.approx(1 / 1.1))
    assert quality["n_exact_top"] + quality["n_exact_random"] == by_feature["exact_effect"].notna().sum()
    assert (quality["linear"], quality["reason"]) == ("yes", "")
    write_table(tmp_path / "q.parquet", pd.DataFrame([quality]), ATTRIBUTION_QUALITY, {})
    assert read_table(tmp_path / "q.parquet")["tried_steps"].iloc[0].tolist() == [6]
    order = feature_order(rows, n_features=N_FEATURES)
    assert sorted(order.tolist()) == list(range(N_FEATURES))
    assert order[: len(features)].tolist() == features["feature"].tolist()


@pytest.mark.parametrize(
    "exact, tolerance, reason",
    [
        (lambda a: a**2, 0.5, "correlation with exact effects"),
        (lambda a: 0.5 * a, 0.5, "2.00 of attribution per unit of exact effect, not 0.8 to 1.25"),
        (lambda a: a, 0.0, "completeness gap 0."),
        (lambda a: 0 * a, 0.5, "24 features verified: too few, or without any effect"),
    ],
)
def test_where_the_linear_picture_breaks_the_quality_says_so(model, prompts, here, exact, tolerance, reason):
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=3)
    found = attribute(prompts, here, gradient)
    mean = np.asarray(found.feature.mean(axis=0)).ravel()
    known = {feature: (float(exact(mean[feature])), np.nan) for feature in range(N_FEATURES)}
    rows = rows_of(found, gradient, exact=known, n=len(prompts.examples))
    quality = quality_row(found, gradient, rows, np.arange(5), n_clusters=5, tolerance=tolerance, names=NAMES)
    assert quality["linear"] == ("unknown" if "too few" in reason else "no")
    assert reason in quality["reason"]


def test_features_that_carry_the_answer_are_significant_and_the_others_are_not():
    here, prompts, head = planted_problem(np.random.default_rng(11), 40)
    gradient = path_gradient(head, prompts, points=9)
    rows = rows_of(attribute(prompts, here, gradient), gradient, exact={}, n=40)
    features = rows[rows["feature"] >= 0].set_index("feature")
    assert set(features.index[features["q_bh"] < 0.05]) == {3, 7}
    assert rows.loc[rows["feature"] == -1, "p_signflip"].item() > 0


def test_clusters_widen_the_error_and_raise_the_p_value():
    """Every example three times is no more evidence than once."""
    here, prompts, head = planted_problem(np.random.default_rng(3), 9)
    gradient = path_gradient(head, prompts, points=9)
    found = attribute(prompts, here, gradient)
    alone = rows_of(found, gradient, exact={}, n=9).set_index("feature")
    grouped = rows_of(found, gradient, exact={}, n=9, cluster=np.repeat([0, 1, 2], 3)).set_index("feature")
    assert alone.loc[3, "p_signflip"] == 2 / 2**9
    assert grouped.loc[3, "p_signflip"] == 2 / 2**3
    assert grouped.loc[:, "q_bh"].isna().all()  # three clusters cannot make p ≤ 0.05


def test_positions_of_an_example_add_up_to_its_attribution_and_fit_their_schema(model, prompts, here, tmp_path):
    path = path_from("corrupted", prompts, here)
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=4)
    found, features = attribute(prompts, here, gradient, path), np.array([2, 9])
    shares = position_shares(prompts, here, gradient, path, example=1, features=features)
    tokens = [f"t{token}" for token in prompts.examples[1].clean_tokens]
    rows = position_rows(shares, features, tokens, names={"example": 17, "task": "planted", "step": 8, "layer": 1})
    write_table(tmp_path / "p.parquet", rows, ATTRIBUTION_POSITIONS, {})
    total = rows.groupby("feature")["attr"].sum()
    dense = found.feature.toarray()[1]
    assert total[2] == pytest.approx(dense[2], abs=1e-5)
    assert total[9] == pytest.approx(dense[9], abs=1e-5)
    assert total[-1] == pytest.approx(found.error[1], abs=1e-5)
    assert total[-2] == pytest.approx(dense.sum() + found.error[1], abs=1e-4)
    assert rows.loc[rows["feature"] == 9, "token"].tolist() == tokens


def test_a_task_that_is_not_acquired_gets_a_plain_reason_and_no_numbers(tmp_path):
    performance = pd.Series(
        {
            "task": "t", "status": "scored", "accuracy": 0.52, "accuracy_ci_lo": 0.45, "accuracy_ci_hi": 0.59,
            "chance": 0.5, "logit_diff": 0.02, "logit_diff_ci_lo": -0.1, "logit_diff_ci_hi": 0.12, "attributable": True,
        }
    )  # fmt: skip
    names = {"step": 8, "layer": 1, "method": "ig", "baseline": "corrupted"}
    row = not_acquired_row(performance, names)
    assert row["status"] == "not_acquired"
    assert row["reason"].startswith("accuracy 0.52 [0.45, 0.59] against chance 0.50")
    assert np.isnan(row["completeness_gap"])
    dropped = not_acquired_row(pd.Series({"task": "u", "status": "dropped"}), names)
    assert "dropped" in dropped["reason"]
    sentences = not_acquired_row(pd.Series({**performance, "task": "v", "attributable": False}), names)
    assert sentences["status"] == "not_attributable"
    assert "no patch prefix" in sentences["reason"]
    write_table(tmp_path / "q.parquet", pd.DataFrame([row, dropped, sentences]), ATTRIBUTION_QUALITY, {})
    table = read_table(tmp_path / "q.parquet")
    assert table["n_examples"].tolist() == [0, 0, 0]
    assert len(primary_attribution(table)) == 3
