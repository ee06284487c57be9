import numpy as np
import pytest
import torch
from planted_tasks import N_FEATURES, linear_head, planted_problem, task_prompts

from snapcoder.attribution import ablation as ablation_module
from snapcoder.attribution.ablation import Ranking, ablation_curves, ablation_sizes, curve_rows, rankings
from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute
from snapcoder.attribution.gradients import metric, metric_ends, path_gradient
from snapcoder.attribution.prompt_codes import of_snapshot
from snapcoder.attribution.rows import feature_ranking
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.tasks import ABLATION_CURVES

KS = (0, 1, 3, 10, N_FEATURES)


@pytest.fixture
def prompts(model, dictionary, examples):
    return task_prompts(model, dictionary, examples)[1]


@pytest.fixture
def here(dictionary):
    return of_snapshot(dictionary, 8)


def by_mode(curves, name="attr_here"):
    return {curve.mode: curve.metric for curve in curves if curve.ranking.name == name}


def test_the_four_ends_of_disrupt_and_restore_coincide(model, prompts, here):
    ranked = [Ranking("attr_here", np.random.default_rng(0).permutation(N_FEATURES))]
    with continue_from(model, layer=1) as run:
        curves = by_mode(ablation_curves(run, prompts, here, ranked, KS))
        clean = metric_ends(run, prompts)[0]
    np.testing.assert_allclose(curves["disrupt"][0], clean, atol=1e-4)
    np.testing.assert_allclose(curves["restore"][-1], clean, atol=1e-4)
    np.testing.assert_allclose(curves["disrupt"][-1], curves["restore"][0], atol=1e-4)
    assert np.abs(curves["disrupt"][-1] - clean).max() > 0.01


def test_with_every_feature_patched_only_the_error_term_is_clean(model, prompts, here):
    """The far end, computed from the definition: patch reconstruction plus clean error."""
    ranked = [Ranking("attr_here", np.arange(N_FEATURES))]
    with continue_from(model, layer=1) as run:
        far = by_mode(ablation_curves(run, prompts, here, ranked, KS))["disrupt"][-1]
        for index, example in enumerate(prompts.examples):
            rows = slice(prompts.offset[index], prompts.offset[index + 1])
            explained = prompts.delta.toarray()[rows] @ here.decoder / here.scale
            error = (prompts.clean - prompts.patch)[rows] - explained
            activation = torch.from_numpy(prompts.patch[rows] + error).float()[None]
            with torch.no_grad():
                assert far[index] == pytest.approx(float(metric(run, [example], activation)), abs=1e-4)


def test_inner_points_follow_the_definition_whatever_the_batching(model, prompts, here, monkeypatch):
    order = np.random.default_rng(1).permutation(N_FEATURES)
    delta = prompts.delta.toarray()
    for tokens in (1, 50, 10_000):
        monkeypatch.setattr(ablation_module, "_BATCH_TOKENS", tokens)
        with continue_from(model, layer=1) as run:
            curves = by_mode(ablation_curves(run, prompts, here, [Ranking("attr_here", order)], KS))
            for k_index, k in enumerate(KS[1:-1], start=1):
                for mode, patched in (("disrupt", order[:k]), ("restore", order[k:])):
                    for index in (0, 3):
                        rows = slice(prompts.offset[index], prompts.offset[index + 1])
                        shift = delta[rows][:, patched] @ here.decoder[patched] / here.scale
                        activation = torch.from_numpy(prompts.clean[rows] - shift).float()[None]
                        with torch.no_grad():
                            expected = float(metric(run, [prompts.examples[index]], activation))
                        assert curves[mode][k_index, index] == pytest.approx(expected, abs=1e-4)


def test_on_a_linear_head_disrupt_and_restore_mirror_each_other_and_follow_the_attributions(prompts, here):
    run = linear_head()
    found = attribute(prompts, here, path_gradient(run, prompts, points=1))
    order = feature_ranking(found)
    curves = by_mode(ablation_curves(run, prompts, here, [Ranking("attr_here", order)], KS))
    clean, far = curves["disrupt"][0], curves["restore"][0]
    np.testing.assert_allclose(curves["disrupt"] + curves["restore"], (clean + far) + np.zeros((len(KS), 1)), atol=1e-2)
    attributed = found.feature.toarray()
    for k_index, k in enumerate(KS):
        expected = clean - attributed[:, order[:k]].sum(axis=1)
        np.testing.assert_allclose(curves["disrupt"][k_index], expected, atol=1e-2)


def test_the_two_features_that_carry_the_answer_disrupt_and_restore_it_on_examples_that_did_not_rank_them():
    rng = np.random.default_rng(12)
    here, ranking, head = planted_problem(rng, 20)
    evaluation = planted_problem(np.random.default_rng(12), 40)[1]  # the same dictionary, other examples besides
    found = attribute(ranking, here, path_gradient(head, ranking, points=8))
    everyone = np.ones(N_FEATURES, dtype=bool)
    ranked = rankings(feature_ranking(found), np.ones(N_FEATURES), everyone, draws=5, rng=rng)
    curves = ablation_curves(head, evaluation, here, ranked, (0, 2, N_FEATURES))
    clean, patch = metric_ends(head, evaluation)
    own = by_mode(curves)
    np.testing.assert_allclose(own["disrupt"][1], patch, atol=1e-4)
    np.testing.assert_allclose(own["restore"][1], clean, atol=1e-4)
    random = [c.metric[1].mean() for c in curves if c.ranking.name == "random" and c.mode == "disrupt"]
    assert max(abs(clean.mean() - value) for value in random) < abs(clean.mean() - patch.mean())


def test_sizes_are_those_of_the_grid_that_are_possible_and_all():
    assert ablation_sizes((50, 0, 5, 24, 1), 24) == (0, 1, 5, 24)
    assert ablation_sizes((5,), 3) == (0, 3)


def test_a_grid_of_the_ends_alone_works(model, prompts, here):
    with continue_from(model, layer=1) as run:
        curves = ablation_curves(run, prompts, here, [Ranking("norm", np.arange(N_FEATURES))], (0, N_FEATURES))
    assert [curve.metric.shape for curve in curves] == [(2, len(prompts.examples))] * 2


def test_rankings_are_orders_of_all_features_and_controls_start_with_features_that_change():
    norm = np.array([1.0, 5.0, 3.0, 4.0, 2.0])
    changing = np.array([False, True, True, False, True])
    ranked = rankings(np.arange(5), norm, changing, draws=3, rng=np.random.default_rng(0))
    assert [(r.name, r.draw) for r in ranked] == [
        ("attr_here", 0), ("norm", 0), ("random", 0), ("random", 1), ("random", 2),
    ]  # fmt: skip
    assert ranked[1].order.tolist() == [1, 2, 4, 3, 0]
    for ranking in ranked[2:]:
        assert sorted(ranking.order.tolist()) == list(range(5))
        assert set(ranking.order[:3].tolist()) == {1, 2, 4}
    assert len({tuple(ranking.order.tolist()) for ranking in ranked[2:]}) > 1


def test_rows_fit_their_table_and_faithfulness_runs_from_the_patch_to_the_clean_metric(prompts, here, tmp_path):
    run = linear_head()
    order = np.arange(N_FEATURES)
    curves = ablation_curves(run, prompts, here, [Ranking("attr_here", order), Ranking("random", order, 1)], KS)
    clean = curves[0].metric[0]
    names = {"task": "t", "step": 8, "layer": 1, "bootstrap": 50, "seed": 0}
    rows = curve_rows(curves, clean - 1.0 - np.linspace(0, 0.1, len(clean)), np.arange(len(clean)), **names)
    write_table(tmp_path / "c.parquet", rows, ABLATION_CURVES, {})
    table = read_table(tmp_path / "c.parquet")
    assert len(table) == 2 * 2 * len(KS)
    ends = table[(table["mode"] == "disrupt") & (table["k"] == 0)]
    np.testing.assert_allclose(ends["faithfulness"], 1.0)
    assert (table["metric_ci_lo"] <= table["metric_ci_hi"]).all()
    unstable = curve_rows(
        curves, clean + np.where(np.arange(len(clean)) % 2, 1.0, -1.0), np.arange(len(clean)), **names
    )
    assert unstable["faithfulness"].isna().all()
