import numpy as np
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, linear_head, planted_problem

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute
from snapcoder.attribution.gradients import (
    clean_gradient,
    completeness_gap,
    metric,
    metric_at,
    metric_ends,
    path_gradient,
    path_gradients,
    point_numbers,
)
from snapcoder.attribution.rows import feature_ranking
from snapcoder.language_model import run_from


def gap(attribution, path):
    total = np.asarray(attribution.feature.sum(axis=1)).ravel() + attribution.error
    return np.abs(total - (path.metric_clean - path.metric_base)).max()


def test_continuing_from_a_block_equals_replacing_its_output_in_a_full_pass(model):
    rng = np.random.default_rng(0)
    tokens = torch.tensor(rng.integers(0, 40, size=(3, 6)))
    for layer in (0, 1, 2):
        activation = torch.tensor(rng.normal(size=(3, 6, D_MODEL)), dtype=torch.float32, requires_grad=True)
        full = run_from(model, activation, tokens=tokens, layer=layer)[:, -1]
        with continue_from(model, layer=layer) as run:
            short = run.last_logits(tokens, activation)
        torch.testing.assert_close(short, full)
        gradients = [torch.autograd.grad(logits[:, 3].sum(), activation)[0] for logits in (full, short)]
        torch.testing.assert_close(gradients[0], gradients[1])
    with torch.no_grad():  # and the model is whole again afterwards
        torch.testing.assert_close(model(tokens).logits[:, -1].shape, torch.Size([3, 40]))
        assert all("forward" not in vars(block) for block in model.gpt_neox.layers)


def test_the_path_ends_are_the_models_own_answers(model, prompts, examples):
    with continue_from(model, layer=1) as run:
        ends = metric_ends(run, prompts)
    for index, example in enumerate(examples):
        for end, tokens in enumerate((example.clean_tokens, example.patch_tokens)):
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, -1]
            expected = float(logits[example.clean_token] - logits[example.patch_token])
            assert ends[end, index] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("points", [1, 4])
def test_attribution_is_complete_on_a_linear_head_with_any_number_of_points(prompts, here, points):
    path = path_gradient(linear_head(), prompts, points=points)
    found = attribute(prompts, here, path)
    assert gap(found, path) < 1e-3 * np.abs(path.metric_clean - path.metric_base).max()


def test_attribution_becomes_complete_on_a_real_model_as_points_are_added(model, prompts, here):
    with continue_from(model, layer=1) as run:
        paths = {points: path_gradient(run, prompts, points=points) for points in (1, 4, 16, 64)}
    gaps = [gap(attribute(prompts, here, path), path) for path in paths.values()]
    assert gaps[1] < gaps[0]
    assert gaps[3] < 0.2 * gaps[1]
    assert gaps[3] < 0.02 * np.abs(paths[64].metric_clean - paths[64].metric_base).mean()


def test_on_a_linear_head_attribution_equals_exact_ablation_of_each_feature(prompts, here):
    run = linear_head()
    found = attribute(prompts, here, path_gradient(run, prompts, points=1)).feature.toarray()
    delta = prompts.delta.toarray()
    for index in (0, 1):
        example = prompts.examples[index]
        rows = slice(prompts.offset[index], prompts.offset[index + 1])
        clean = torch.from_numpy(prompts.clean[rows])[None]
        before = metric(run, [example], clean)
        for feature in np.flatnonzero(np.abs(delta[rows]).sum(axis=0)):
            removed = np.outer(delta[rows, feature], here.decoder[feature]) / here.scale
            after = metric(run, [example], clean - torch.from_numpy(removed).float())
            assert found[index, feature] == pytest.approx(float(before - after), abs=1e-3)


def test_only_the_features_that_carry_the_answer_come_first():
    here, prompts, head = planted_problem(np.random.default_rng(11), 10)
    found = attribute(prompts, here, path_gradient(head, prompts, points=8))
    assert set(feature_ranking(found)[:2].tolist()) == {3, 7}
    others = np.delete(np.arange(N_FEATURES), [3, 7])
    assert np.abs(found.feature.toarray()[:, others]).max() < 1e-4
    assert np.abs(found.error).max() < 1e-4


def test_points_are_the_most_divided_by_three_while_at_least_three_remain():
    assert [point_numbers(most) for most in (27, 10, 30, 9, 1, 3)] == [
        (3, 9, 27), (10,), (10, 30), (3, 9), (1,), (3,),
    ]  # fmt: skip


def along(run, prompts, **keywords):
    ends = metric_ends(run, prompts)
    change = {"corrupted": prompts.clean - prompts.patch}
    return path_gradients(run, prompts, change, clean=ends[0], base={"corrupted": ends[1]}, **keywords)["corrupted"]


def test_refining_the_midpoint_rule_reuses_its_points_and_equals_taking_all_at_once(model, prompts):
    with continue_from(model, layer=1) as run:
        refined, at_once = along(run, prompts, numbers=(3, 9, 27)), path_gradient(run, prompts, points=27)
        stepwise = [path_gradient(run, prompts, points=points) for points in (3, 9)]
    np.testing.assert_allclose(refined.gradient, at_once.gradient, rtol=1e-4, atol=1e-5)
    assert [points for points, _ in refined.tried] == [3, 9, 27]
    for (_, gap), direct in zip(refined.tried, [*stepwise, at_once], strict=True):
        assert gap == pytest.approx(direct.tried[0][1], abs=1e-4)
    assert refined.tried[-1][1] < refined.tried[0][1]


def test_refining_stops_at_the_tolerance_and_each_path_for_itself(model, prompts):
    with continue_from(model, layer=1) as run:
        gaps = dict(along(run, prompts, numbers=(3, 9, 27)).tried)
        assert gaps[9] < gaps[3]
        stopped = along(run, prompts, numbers=(3, 9, 27), tolerance=gaps[9])
        assert (stopped.points, len(stopped.tried)) == (9, 2)
        ends = metric_ends(run, prompts)
        change = prompts.clean - prompts.patch
        near = metric_at(run, prompts, [prompts.clean - 1e-3 * change])[0]
        both = path_gradients(
            run, prompts, {"far": change, "near": np.float32(1e-3) * change},
            clean=ends[0], base={"far": ends[1], "near": near}, numbers=(3, 9), tolerance=(gaps[3] + gaps[9]) / 2,
        )  # fmt: skip
    assert (both["far"].points, both["near"].points) == (9, 3)
    np.testing.assert_allclose(both["far"].gradient, stopped.gradient, rtol=1e-4, atol=1e-5)


def test_points_that_are_no_refinement_are_refused(prompts):
    with pytest.raises(ValueError, match="midpoints of 4 are not among those of 8; use three times as many"):
        along(linear_head(), prompts, numbers=(4, 8))


@pytest.mark.parametrize("batch_tokens", [1, 30, 100_000])
def test_gradients_do_not_depend_on_what_shares_a_pass(model, prompts, batch_tokens):
    with continue_from(model, layer=1) as run:
        small = path_gradient(run, prompts, points=5, batch_tokens=batch_tokens)
        large, clean = path_gradient(run, prompts, points=5), clean_gradient(run, prompts, batch_tokens=batch_tokens)
        ends = metric_ends(run, prompts)
    np.testing.assert_allclose(small.gradient, large.gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([small.metric_clean, small.metric_base], ends, atol=1e-4)
    np.testing.assert_allclose(clean.metric_clean, ends[0], atol=1e-4)


def test_the_clean_gradient_is_the_derivative_of_the_metric(model, prompts):
    with continue_from(model, layer=1) as run:
        found, direction = (
            clean_gradient(run, prompts).gradient,
            np.random.default_rng(5).normal(size=prompts.clean.shape),
        )
        nudge = np.float32(1e-2) * direction.astype(np.float32)
        up, down = metric_at(run, prompts, [prompts.clean + nudge, prompts.clean - nudge])
    expected = np.bincount(prompts.example_of_position, weights=(found * nudge).sum(axis=1))
    np.testing.assert_allclose((up - down) / 2, expected, atol=2e-3 * np.abs(expected).max())


def test_where_the_metric_does_not_change_there_is_no_gap_to_speak_of(prompts):
    zero = np.zeros_like(prompts.clean)
    assert np.isnan(completeness_gap(prompts, zero, zero, np.zeros(len(prompts.examples))))
