"""Paths from every baseline, against closed forms and captum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_tasks import N_FEATURES, linear_head, make_dictionary, make_examples, task_prompts
from scipy.sparse import csr_array

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute, position_shares
from snapcoder.attribution.gradients import clean_gradient, metric, path_gradient
from snapcoder.attribution.paths import Path, path_from
from snapcoder.attribution.prompt_codes import of_snapshot, prompt_codes
from snapcoder.attribution.task_prompts import TaskPrompts

BASELINES = ("corrupted", "zero", "mean")
MEAN = np.where(np.arange(N_FEATURES) % 5, np.linspace(0.1, 0.9, N_FEATURES), 0.0)  # some features never fire


def reference(baseline, prompts):
    return {
        "corrupted": prompts.patch_code.toarray(),
        "zero": np.zeros(prompts.clean_code.shape),
        "mean": np.tile(MEAN, (prompts.clean_code.shape[0], 1)),
    }[baseline]


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_other_end_of_a_path_is_what_its_definition_says(prompts, here, baseline):
    path = path_from(baseline, prompts, here, MEAN)
    code = prompts.clean_code.toarray()
    error = prompts.clean - code @ here.decoder / here.scale  # with the decoder's bias, which does not move
    end = reference(baseline, prompts) @ here.decoder / here.scale + error
    if baseline == "corrupted":
        end = prompts.patch
        assert np.abs(path.error).max() > 0.01
    else:
        assert path.error is None
    np.testing.assert_allclose(prompts.clean - path.change, end, atol=1e-4)


@pytest.mark.parametrize("baseline", BASELINES)
def test_on_a_linear_head_every_attribution_has_its_closed_form_at_every_position(prompts, here, baseline):
    """Metric = Σ_t a_t · w_t, so attr = Σ_t (f − r)_t W_i · w_t / scale, by any method."""
    run, path = linear_head(), path_from(baseline, prompts, here, MEAN)
    moved = prompts.clean_code.toarray() - reference(baseline, prompts)
    at_clean = clean_gradient(run, prompts)
    by_method = (at_clean, path_gradient(run, prompts, points=3, change=path.change))
    weight = at_clean.gradient.astype(float)  # of a linear head it is w, whatever the activation
    per_position = moved * (weight @ here.decoder.T.astype(float) / here.scale)
    expected = np.zeros((len(prompts.examples), N_FEATURES))
    np.add.at(expected, prompts.example_of_position, per_position)
    by_distance = np.zeros((int(prompts.distance_to_last.max()) + 1, N_FEATURES))
    np.add.at(by_distance, prompts.distance_to_last, per_position)
    for gradient in by_method:
        found = attribute(prompts, here, gradient, path)
        np.testing.assert_allclose(found.feature.toarray(), expected, atol=1e-4)
        np.testing.assert_allclose(found.by_distance, by_distance, atol=1e-3)
        np.testing.assert_allclose(found.error_by_distance.sum(), found.error.sum(), atol=1e-4)
        np.testing.assert_allclose(found.delta, moved.sum(axis=0) / len(prompts.examples), atol=1e-5)
        used = np.abs(moved).any(axis=0)
        slopes = np.where(moved != 0, weight @ here.decoder.T / here.scale, np.nan)[:, used]
        np.testing.assert_allclose(found.slope[used], np.nanmean(slopes, axis=0), atol=1e-4)
        assert np.isnan(found.slope[~used]).all()
    for index in (0, 3):
        rows = slice(prompts.offset[index], prompts.offset[index + 1])
        shares, error, everything = position_shares(
            prompts, here, by_method[1], path, example=index, features=np.array([4, 11, 5])
        )
        np.testing.assert_allclose(shares, per_position[rows][:, [4, 11, 5]], atol=1e-4)
        np.testing.assert_allclose(per_position[rows].sum(axis=1) + error, everything, atol=1e-3)


@pytest.mark.parametrize("baseline", BASELINES)
def test_features_and_error_add_up_to_the_metrics_change_on_a_real_model(model, prompts, here, baseline):
    path = path_from(baseline, prompts, here, MEAN)
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=81, change=path.change)
    found = attribute(prompts, here, gradient, path)
    total = np.asarray(found.feature.sum(axis=1)).ravel() + found.error
    change = gradient.metric_clean - gradient.metric_base
    assert np.abs(total - change).max() < 0.02 * np.abs(change).mean()
    assert gradient.tried[-1][1] == pytest.approx(np.abs(total - change).mean() / np.abs(change).mean(), abs=1e-4)


def of_code(run, prompts, here, index):
    """The metric of one example as a function of codes and error, [point, position, …]; and both at the clean prompt."""
    rows = slice(prompts.offset[index], prompts.offset[index + 1])
    decoder = torch.from_numpy(here.decoder / np.float32(here.scale))
    code = torch.from_numpy(prompts.clean_code.toarray()[rows]).float()
    error = torch.from_numpy(prompts.clean[rows]) - code @ decoder

    def forward(code, error):
        return metric(run, [prompts.examples[index]] * len(code), code @ decoder + error)

    return forward, code[None], error[None]


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("method", ["ig", "atp"])
def test_captum_agrees_on_a_real_model(model, prompts, here, method, baseline):
    captum = pytest.importorskip("captum.attr")
    index, path = 1, path_from(baseline, prompts, here, MEAN)
    rows = slice(prompts.offset[index], prompts.offset[index + 1])
    with continue_from(model, layer=1) as run:
        forward, code, error = of_code(run, prompts, here, index)
        base_code = torch.from_numpy(reference(baseline, prompts)[rows]).float()[None]
        moved_error = path.error[rows] if path.error is not None else np.zeros_like(prompts.clean[rows])
        base_error = error - torch.from_numpy(moved_error).float()[None]
        if method == "ig":
            by_captum = captum.IntegratedGradients(forward, multiply_by_inputs=True).attribute(
                (code, error), baselines=(base_code, base_error), n_steps=8, method="riemann_middle", internal_batch_size=3
            )  # fmt: skip
            gradient = path_gradient(run, prompts, points=8, change=path.change)
        else:
            moved = tuple(t.requires_grad_(True) for t in (code - base_code, error - base_error))
            by_captum = captum.InputXGradient(lambda c, e: forward(base_code + c, base_error + e)).attribute(moved)
            gradient = clean_gradient(run, prompts)
    found = attribute(prompts, here, gradient, path)
    np.testing.assert_allclose(found.feature.toarray()[index], by_captum[0][0].sum(0).detach().numpy(), atol=1e-4)
    assert found.error[index] == pytest.approx(float(by_captum[1].detach().sum()), abs=1e-4)


def test_captum_attributes_the_same_to_the_whole_layer_from_the_tokens_on(model, prompts, here):
    captum = pytest.importorskip("captum.attr")
    index, path = 2, path_from("corrupted", prompts, here)
    example = prompts.examples[index]

    def from_tokens(tokens):
        logits = model(tokens, use_cache=False).logits[:, -1]
        return logits[:, example.clean_token] - logits[:, example.patch_token]

    by_captum = captum.LayerIntegratedGradients(from_tokens, model.gpt_neox.layers[1]).attribute(
        torch.tensor([example.clean_tokens]), baselines=torch.tensor([example.patch_tokens]), n_steps=8,
        method="riemann_middle",
    )  # fmt: skip
    by_captum = by_captum[0] if isinstance(by_captum, tuple) else by_captum
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=8)
    everything = position_shares(prompts, here, gradient, path, example=index, features=np.arange(2))[2]
    np.testing.assert_allclose(
        everything, by_captum.reshape(len(everything), -1).sum(dim=1).detach().numpy(), atol=1e-4
    )


def test_a_path_from_an_unknown_baseline_or_from_unknown_means_is_refused(prompts, here):
    for baseline in ("noise", "mean"):
        with pytest.raises(ValueError, match=f"no path from {baseline} codes"):
            path_from(baseline, prompts, here)


def test_codes_of_some_features_are_columns_of_all_codes(dictionary):
    rng = np.random.default_rng(0)
    here, chosen = of_snapshot(dictionary, 8), np.array([9, 2, 17])
    base = [rng.normal(size=(6, dictionary.decoder.shape[2])).astype(np.float32) for _ in dictionary.steps]
    every = prompt_codes(dictionary, here, base, base[1])
    some = prompt_codes(dictionary, here, base, base[1], features=chosen)
    np.testing.assert_allclose(some.toarray(), every.toarray()[:, chosen], rtol=1e-5)
    assert every[:, chosen].nnz > 0


def permuted(prompts, order):
    return TaskPrompts(
        prompts.examples, prompts.offset, prompts.clean, prompts.patch,
        csr_array(prompts.clean_code[:, order]), csr_array(prompts.patch_code[:, order]),
    )  # fmt: skip


def attributed(run, prompts, here, baseline, mean):
    path = path_from(baseline, prompts, here, mean)
    return attribute(prompts, here, path_gradient(run, prompts, points=3, change=path.change), path)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    baseline=st.sampled_from(BASELINES),
    factor=st.floats(0.05, 20.0),
)
def test_relabelling_features_or_rescaling_their_decoders_changes_no_attribution(shared_model, seed, baseline, factor):
    """Feature i with decoder c·W and code f/c is the same feature."""
    rng = np.random.default_rng(seed)
    here, prompts = task_prompts(shared_model, make_dictionary(rng), make_examples("t", 4, rng))
    scales = factor ** rng.uniform(-1, 1, size=N_FEATURES)
    order = rng.permutation(N_FEATURES)
    by_code = csr_array(np.diag(1 / scales))
    rescaled = TaskPrompts(
        prompts.examples, prompts.offset, prompts.clean, prompts.patch,
        csr_array(prompts.clean_code @ by_code), csr_array(prompts.patch_code @ by_code),
    )  # fmt: skip
    larger = replace(here, decoder=(here.decoder * scales[:, None]).astype(np.float32))
    with continue_from(shared_model, layer=1) as run:
        plain = attributed(run, prompts, here, baseline, MEAN)
        moved = attributed(run, permuted(prompts, order), here.of_features(order), baseline, MEAN[order])
        scaled = attributed(run, rescaled, larger, baseline, MEAN / scales)
    size = np.abs(plain.feature.toarray()).max()
    np.testing.assert_allclose(moved.feature.toarray(), plain.feature.toarray()[:, order], atol=1e-4 * size)
    np.testing.assert_allclose(scaled.feature.toarray(), plain.feature.toarray(), atol=1e-3 * size)
    np.testing.assert_allclose(scaled.error, plain.error, atol=1e-3 * size)
    np.testing.assert_allclose(scaled.delta * scales, plain.delta, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def shared_model(model):
    return model


def test_a_path_on_which_nothing_moves_attributes_nothing(model, prompts, here):
    still = csr_array(prompts.clean_code.shape, dtype=np.float32)
    path = Path("zero", still, None, np.zeros_like(prompts.clean), None)
    with continue_from(model, layer=1) as run:
        gradient = path_gradient(run, prompts, points=2, change=path.change)
    assert attribute(prompts, here, gradient, path).feature.nnz == 0
    np.testing.assert_array_equal(gradient.metric_clean, gradient.metric_base)
    assert np.isnan(gradient.tried[0][1])
