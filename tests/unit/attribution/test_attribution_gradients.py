import numpy as np
import pandas as pd
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, linear_head, planted_problem, task_prompts

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.gradients import attribute, metric, metric_ends, path_gradient
from snapcoder.attribution.prompt_codes import of_snapshot
from snapcoder.attribution.rows import attribution_rows, feature_order, feature_ranking, not_acquired_row, quality_row
from snapcoder.language_model import run_from
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.tasks import ATTRIBUTION, ATTRIBUTION_QUALITY


@pytest.fixture
def prompts(model, dictionary, examples):
    return task_prompts(model, dictionary, examples)[1]


@pytest.fixture
def here(dictionary):
    return of_snapshot(dictionary, 8)


def gap(attribution, path):
    total = np.asarray(attribution.feature.sum(axis=1)).ravel() + attribution.error
    return np.abs(total - (path.metric_clean - path.metric_patch)).max()


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
    assert gap(found, path) < 1e-3 * np.abs(path.metric_clean - path.metric_patch).max()


def test_attribution_becomes_complete_on_a_real_model_as_points_are_added(model, prompts, here):
    with continue_from(model, layer=1) as run:
        paths = {points: path_gradient(run, prompts, points=points) for points in (1, 4, 16, 64)}
    gaps = [gap(attribute(prompts, here, path), path) for path in paths.values()]
    assert gaps[1] < gaps[0]
    assert gaps[3] < 0.2 * gaps[1]
    assert gaps[3] < 0.02 * np.abs(paths[64].metric_clean - paths[64].metric_patch).mean()


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


def test_captum_agrees_on_a_real_model(model, prompts, here):
    captum = pytest.importorskip("captum.attr")
    index = 1
    example, rows = prompts.examples[index], slice(prompts.offset[index], prompts.offset[index + 1])
    decoder = torch.from_numpy(here.decoder / np.float32(here.scale))
    delta = torch.from_numpy(prompts.delta.toarray()[rows]).float()  # code relative to the patch prompt's
    change = torch.from_numpy(prompts.clean[rows] - prompts.patch[rows])
    error = change - delta @ decoder
    patch = torch.from_numpy(prompts.patch[rows])
    with continue_from(model, layer=1) as run:

        def of_code(code, error):  # [point, position, feature], [point, position, model]
            return metric(run, [example] * len(code), patch + code @ decoder + error)

        by_captum = captum.IntegratedGradients(of_code, multiply_by_inputs=True).attribute(
            (delta[None], error[None]),
            baselines=(torch.zeros_like(delta)[None], torch.zeros_like(error)[None]),
            n_steps=8,
            method="riemann_middle",
            internal_batch_size=3,
        )
        ours = attribute(prompts, here, path_gradient(run, prompts, points=8))
    np.testing.assert_allclose(ours.feature.toarray()[index], by_captum[0][0].sum(0).detach().numpy(), atol=1e-4)
    assert ours.error[index] == pytest.approx(float(by_captum[1].sum()), abs=1e-4)


def test_only_the_features_that_carry_the_answer_come_first():
    here, prompts, head = planted_problem(np.random.default_rng(11), 10)
    found = attribute(prompts, here, path_gradient(head, prompts, points=8))
    assert set(feature_ranking(found)[:2].tolist()) == {3, 7}
    others = np.delete(np.arange(N_FEATURES), [3, 7])
    assert np.abs(found.feature.toarray()[:, others]).max() < 1e-4
    assert np.abs(found.error).max() < 1e-4


def test_the_tables_hold_every_feature_that_has_a_share_and_the_error_and_fit_their_schemas(
    model, prompts, here, tmp_path
):
    with continue_from(model, layer=1) as run:
        path = path_gradient(run, prompts, points=6)
    found = attribute(prompts, here, path)
    names = {"task": "planted", "step": 8, "layer": 1}
    rows = attribution_rows(found, path, points=6, **names)
    write_table(tmp_path / "a.parquet", rows, ATTRIBUTION, {})
    dense = found.feature.toarray()
    features = rows[rows["feature"] >= 0].sort_values("rank")
    assert features["rank"].tolist() == list(range(1, np.count_nonzero(dense.any(axis=0)) + 1))
    assert features["attr"].abs().is_monotonic_decreasing
    assert features["feature"].iloc[0] == np.abs(dense.mean(axis=0)).argmax()
    first = dense[:, features["feature"].iloc[0]]
    assert features["attr_se"].iloc[0] == pytest.approx(first.std(ddof=1) / np.sqrt(len(first)))
    (error,) = rows[rows["feature"] == -1].to_dict("records")
    assert error["rank"] == 0
    assert error["attr"] == pytest.approx(found.error.mean())
    order = feature_order(rows, n_features=N_FEATURES)
    assert order.tolist() == feature_ranking(found).tolist()
    quality = quality_row(found, path, **names)
    assert rows["attr_share"].sum() == pytest.approx(1, abs=2 * quality["completeness_gap"] + 1e-6)
    assert quality["error_share"] == pytest.approx(error["attr"] / rows["attr"].sum())
    write_table(tmp_path / "q.parquet", pd.DataFrame([quality]), ATTRIBUTION_QUALITY, {})
    assert read_table(tmp_path / "q.parquet")["n_examples"].tolist() == [len(prompts.examples)]


def test_a_task_that_is_not_acquired_gets_a_plain_reason_and_no_numbers(tmp_path):
    performance = pd.Series(
        {
            "task": "t", "status": "scored", "accuracy": 0.52, "accuracy_ci_lo": 0.45, "accuracy_ci_hi": 0.59,
            "chance": 0.5, "logit_diff": 0.02, "logit_diff_ci_lo": -0.1, "logit_diff_ci_hi": 0.12, "attributable": True,
        }
    )  # fmt: skip
    row = not_acquired_row(performance, step=8, layer=1)
    assert row["status"] == "not_acquired"
    assert row["reason"].startswith("accuracy 0.52 [0.45, 0.59] against chance 0.50")
    assert np.isnan(row["completeness_gap"])
    dropped = not_acquired_row(pd.Series({"task": "u", "status": "dropped"}), step=8, layer=1)
    assert "dropped" in dropped["reason"]
    whole = pd.Series({**performance, "task": "v", "attributable": False})
    sentences = not_acquired_row(whole, step=8, layer=1)
    assert sentences["status"] == "not_attributable"
    assert "no patch prefix" in sentences["reason"]
    write_table(tmp_path / "q.parquet", pd.DataFrame([row, dropped, sentences]), ATTRIBUTION_QUALITY, {})
    assert read_table(tmp_path / "q.parquet")["n_examples"].tolist() == [0, 0, 0]
