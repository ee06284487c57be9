from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, HeadRun, exact_problem, linear_head, planted_problem
from scipy.sparse import csr_array

from snapcoder.attribution.ablation import ablate_sets, ablation_curves
from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute
from snapcoder.attribution.gradients import metric, metric_ends, path_gradient
from snapcoder.attribution.rankings import Ranking, by_order, random_rankings
from snapcoder.attribution.rows import feature_ranking
from snapcoder.attribution.units import (
    Units,
    baseline_units,
    direction_attributions,
    direction_replacement,
    feature_replacements,
)

KS = (0, 1, 3, 10, N_FEATURES)
ABLATIONS = ("zero", "mean", "resample")


@pytest.fixture
def mean():
    return np.random.default_rng(5).uniform(0, 1, N_FEATURES)


def by_mode(curves, name="attr_here"):
    return {curve.mode: curve.metric for curve in curves if curve.ranking == name}


def curves_of(run, prompts, replacement, order, ks=KS, **options):
    ranked, clean = [by_order("attr_here", order, ks)], metric_ends(run, prompts)[0]
    return by_mode(ablation_curves(run, prompts, replacement, ranked, clean, **options))


def slow_metric(run, prompts, here, mean, ablation, ablated, index):
    """The metric of one example by the definition, with dense codes: a + Σ_{ablated} (r_i − f_i) decoder_i / scale."""
    rows = slice(prompts.offset[index], prompts.offset[index + 1])
    clean = prompts.clean_code.toarray()[rows].astype(np.float64)
    value = {
        "zero": np.zeros_like(clean),
        "mean": np.tile(mean, (len(clean), 1)),
        "resample": prompts.patch_code.toarray()[rows],
    }
    activation = prompts.clean[rows].astype(np.float64)
    for feature in ablated:
        activation += np.outer(value[ablation][:, feature] - clean[:, feature], here.decoder[feature] / here.scale)
    with torch.no_grad():
        return float(metric(run, [prompts.examples[index]], torch.from_numpy(activation).float()[None]))  # fmt: skip


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_four_ends_of_disrupt_and_restore_coincide(ablation, model, prompts, here, mean):
    order = np.random.default_rng(0).permutation(N_FEATURES)
    with continue_from(model, layer=1) as run:
        curves = curves_of(run, prompts, feature_replacements(prompts, here, mean)[ablation], order)
        clean = metric_ends(run, prompts)[0]
    assert np.array_equal(curves["disrupt"][0], clean)
    assert np.array_equal(curves["restore"][-1], clean)
    assert np.array_equal(curves["disrupt"][-1], curves["restore"][0])
    assert np.abs(curves["disrupt"][-1] - clean).max() > 0.01


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_point_follows_the_definition_whatever_the_batching(ablation, model, prompts, here, mean):
    order = np.random.default_rng(1).permutation(N_FEATURES)
    replacement = feature_replacements(prompts, here, mean)[ablation]
    for tokens in (1, 50, 10_000):
        with continue_from(model, layer=1) as run:
            curves = curves_of(run, prompts, replacement, order, batch_tokens=tokens)
            for k_index, k in enumerate(KS):
                for mode, ablated in (("disrupt", order[:k]), ("restore", order[k:])):
                    for index in (0, 3):
                        expected = slow_metric(run, prompts, here, mean, ablation, ablated, index)
                        assert curves[mode][k_index, index] == pytest.approx(expected, abs=1e-4)


def test_with_every_feature_resampled_only_the_error_term_is_clean(model, prompts, here, mean):
    with continue_from(model, layer=1) as run:
        far = curves_of(run, prompts, feature_replacements(prompts, here, mean)["resample"], np.arange(N_FEATURES))
        for index, example in enumerate(prompts.examples):
            rows = slice(prompts.offset[index], prompts.offset[index + 1])
            explained = prompts.delta.toarray()[rows] @ here.decoder / here.scale
            error = (prompts.clean - prompts.patch)[rows] - explained
            activation = torch.from_numpy(prompts.patch[rows] + error).float()[None]
            with torch.no_grad():
                assert far["disrupt"][-1, index] == pytest.approx(float(metric(run, [example], activation)), abs=1e-4)


def test_with_every_neuron_or_principal_direction_resampled_the_patch_prompt_is_left(model, prompts):
    sample = np.random.default_rng(0).normal(size=(50, D_MODEL)).astype(np.float32) @ np.diag(np.arange(D_MODEL) + 1.0)
    for units in baseline_units(sample.astype(np.float32)).values():
        with continue_from(model, layer=1) as run:
            replacement = direction_replacement(prompts, units)
            curves = curves_of(run, prompts, replacement, np.arange(D_MODEL), (0, 5, D_MODEL))
            clean, patch = metric_ends(run, prompts)
        np.testing.assert_allclose(curves["disrupt"][-1], patch, atol=1e-4)
        np.testing.assert_allclose(curves["restore"][-1], clean, atol=1e-6)


def test_principal_directions_are_an_orthonormal_basis_the_most_variance_first():
    rng = np.random.default_rng(0)
    sample = (rng.normal(size=(400, 6)) * [1, 5, 2, 0.1, 3, 0.5] + 7).astype(np.float32)
    directions = baseline_units(sample)["pca"].directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-5)
    variance = (sample @ directions.T).var(axis=0)
    assert (np.diff(variance) <= 0).all()
    assert np.abs(directions).argmax(axis=1).tolist() == [1, 4, 2, 0, 5, 3]
    assert (directions[np.arange(6), [1, 4, 2, 0, 5, 3]] > 0).all()  # the sign is fixed: the same bytes every time


def test_when_the_dictionary_is_the_identity_basis_features_are_neurons(model, prompts, mean):
    """With the coordinates themselves as codes, features and neurons have one ranking and one curve."""
    identity = np.eye(D_MODEL, dtype=np.float32)
    same = replace(prompts, clean_code=csr_array(prompts.clean), patch_code=csr_array(prompts.patch))
    neurons = baseline_units(np.random.default_rng(0).normal(size=(9, D_MODEL)).astype(np.float32))["neuron"]
    with continue_from(model, layer=1) as run:
        path = path_gradient(run, same, points=4)
        attributed = direction_attributions(same, path.gradient, neurons)
        expected = ((prompts.clean - prompts.patch) * path.gradient).sum(axis=0) / len(prompts.examples)
        order = np.argsort(-np.abs(attributed), kind="stable")
        as_features = Units("feature", identity)
        replacement = replace(direction_replacement(same, neurons), units=as_features, code=same.delta.tocsc())
        one = curves_of(run, same, replacement, order, (0, 1, 4, D_MODEL))
        two = curves_of(run, same, direction_replacement(same, neurons), order, (0, 1, 4, D_MODEL))
    np.testing.assert_allclose(attributed, expected, rtol=1e-4, atol=1e-6)
    for mode in ("disrupt", "restore"):
        np.testing.assert_allclose(one[mode], two[mode], atol=1e-5)


def test_on_a_linear_head_disrupt_and_restore_mirror_each_other_and_follow_the_attributions(prompts, here, mean):
    run = linear_head()
    found = attribute(prompts, here, path_gradient(run, prompts, points=1))
    order = feature_ranking(found)
    curves = curves_of(run, prompts, feature_replacements(prompts, here, mean)["resample"], order)
    clean, far = curves["disrupt"][0], curves["restore"][0]
    np.testing.assert_allclose(curves["disrupt"] + curves["restore"], (clean + far) + np.zeros((len(KS), 1)), atol=1e-2)
    attributed = found.feature.toarray()
    for k_index, k in enumerate(KS):
        expected = clean - attributed[:, order[:k]].sum(axis=1)
        np.testing.assert_allclose(curves["disrupt"][k_index], expected, atol=1e-2)


def test_the_two_features_that_carry_the_answer_disrupt_and_restore_it_on_examples_that_did_not_rank_them(mean):
    rng = np.random.default_rng(12)
    here, ranking, head = planted_problem(rng, 20)
    evaluation = planted_problem(np.random.default_rng(12), 40)[1]  # the same dictionary, other examples besides
    found = attribute(ranking, here, path_gradient(head, ranking, points=8))
    everyone = np.ones(N_FEATURES, dtype=bool)
    ranked = [
        by_order("attr_here", feature_ranking(found), (0, 2, N_FEATURES)),
        *random_rankings(everyone, (2,), draws=5, rng=rng),
    ]
    clean, patch = metric_ends(head, evaluation)
    replacement = feature_replacements(evaluation, here, mean)["resample"]
    curves = ablation_curves(head, evaluation, replacement, ranked, clean)
    own = by_mode(curves)
    np.testing.assert_allclose(own["disrupt"][1], patch, atol=1e-4)
    np.testing.assert_allclose(own["restore"][1], clean, atol=1e-4)
    random = [c.metric[0].mean() for c in curves if c.ranking == "random" and c.mode == "disrupt"]
    assert len(random) == 5
    assert max(abs(clean.mean() - value) for value in random) < abs(clean.mean() - patch.mean())


def test_equal_sets_are_run_once_and_units_that_do_not_change_count_for_nothing():
    here, prompts, head = exact_problem({3: 3.0, 7: 1.0})
    seen = []

    class Counting(HeadRun):
        def last_logits(self, tokens, activation):
            seen.append(len(activation))
            return super().last_logits(tokens, activation)

    run = Counting(head._head)
    replacement = feature_replacements(prompts, here, np.zeros(N_FEATURES))["resample"]
    clean = metric_ends(run, prompts)[0]
    seen.clear()
    sets = [np.array(chosen, dtype=np.int64) for chosen in ([3, 7], [7, 3], [7, 20, 3], [20, 21], range(N_FEATURES))]
    values = ablate_sets(run, prompts, replacement, sets, clean)
    assert sum(seen) == 3 * len(prompts.examples)  # the far end, and {3, 7} in two modes
    np.testing.assert_allclose(values[0], values[1])
    np.testing.assert_allclose(values[0], values[2])
    np.testing.assert_allclose(values[3], [clean, clean - 4], atol=1e-5)
    np.testing.assert_allclose(values[4], [clean - 4, clean], atol=1e-5)


def test_an_ablation_that_changes_nothing_leaves_the_metric(prompts, here):
    still = replace(prompts, patch_code=prompts.clean_code)
    run = linear_head()
    clean = metric_ends(run, still)[0]
    replacement = feature_replacements(still, here, np.zeros(N_FEATURES))["resample"]
    values = ablate_sets(run, still, replacement, [np.array([1, 2]), np.arange(N_FEATURES)], clean)
    assert np.array_equal(values, np.broadcast_to(clean, values.shape))


def test_a_grid_of_the_ends_alone_works(model, prompts, here, mean):
    with continue_from(model, layer=1) as run:
        clean = metric_ends(run, prompts)[0]
        ranked = [by_order("norm", np.arange(N_FEATURES), (0, N_FEATURES)), Ranking("matched", (), ())]
        curves = ablation_curves(run, prompts, feature_replacements(prompts, here, mean)["mean"], ranked, clean)
    assert [curve.metric.shape for curve in curves] == [(2, len(prompts.examples))] * 2 + [
        (0, len(prompts.examples))
    ] * 2
