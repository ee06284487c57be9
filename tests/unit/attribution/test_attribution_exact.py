import numpy as np
import pytest
import torch
from planted_tasks import N_FEATURES, linear_head, planted_problem
from scipy import stats
from scipy.sparse import csr_array

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.contributions import attribute
from snapcoder.attribution.exact import agreement, exact_effects, verified_features
from snapcoder.attribution.gradients import clean_gradient, metric, path_gradient
from snapcoder.attribution.paths import moved_features, path_from
from snapcoder.attribution.task_prompts import TaskPrompts

MEAN = np.linspace(0.0, 0.5, N_FEATURES)


@pytest.mark.parametrize("baseline", ["corrupted", "zero", "mean"])
@pytest.mark.parametrize("batch_tokens", [8, 10_000])
def test_exact_effects_are_what_replacing_one_feature_does_one_at_a_time(model, prompts, here, baseline, batch_tokens):
    path, features = path_from(baseline, prompts, here, MEAN), np.array([7, 0, 19])
    moved = moved_features(path.varying, path.constant, features)
    directions = here.decoder[features] / here.scale
    with continue_from(model, layer=1) as run:
        found = exact_effects(run, prompts, moved, directions, batch_tokens=batch_tokens)
        for index in (0, 1, 11):
            rows = slice(prompts.offset[index], prompts.offset[index + 1])
            clean = torch.from_numpy(prompts.clean[rows])[None]
            for column in range(3):
                shift = torch.from_numpy(np.outer(moved[rows, column], directions[column])).float()
                with torch.no_grad():
                    expected = metric(run, [prompts.examples[index]] * 2, torch.cat([clean, clean - shift]))
                assert found[index, column] == pytest.approx(float(expected[0] - expected[1]), abs=1e-4)


def test_a_feature_that_does_not_move_has_no_effect_and_is_not_run(prompts):
    class Counting:
        device, n = torch.device("cpu"), 0

        def last_logits(self, tokens, activation):
            self.n += len(activation)
            return linear_head().last_logits(tokens, activation)

    run, moved = Counting(), np.zeros((len(prompts.clean), 2))
    moved[prompts.offset[3], 1] = 1.0
    effects = exact_effects(run, prompts, moved, np.ones((2, prompts.clean.shape[1])))
    assert run.n == len(prompts.examples) + 1  # every clean prompt, and the one example where something moves
    assert effects[3, 1] != 0
    effects[3, 1] = 0
    assert (effects == 0).all()


@pytest.mark.parametrize("baseline", ["corrupted", "zero", "mean"])
def test_on_a_linear_head_attributions_are_exact_effects_to_the_digit(prompts, here, baseline):
    run, path, features = linear_head(), path_from(baseline, prompts, here, MEAN), np.arange(N_FEATURES)
    moved = moved_features(path.varying, path.constant, features)
    exact = exact_effects(run, prompts, moved, here.decoder / here.scale)
    found = attribute(prompts, here, clean_gradient(run, prompts), path).feature.toarray()
    np.testing.assert_allclose(found, exact, atol=1e-3)
    compared = agreement(found.mean(axis=0), exact.mean(axis=0))
    assert compared.r == pytest.approx(1, abs=1e-6)
    assert compared.slope == pytest.approx(1, abs=1e-4)
    assert compared.r2 == pytest.approx(1, abs=1e-4)


def test_where_the_head_saturates_patching_at_the_clean_prompt_misses_what_integrated_gradients_find():
    """One feature moves far into the flat part of tanh: its gradient there is nearly nothing, its effect nearly all."""
    rng = np.random.default_rng(2)
    here, prompts, _ = planted_problem(rng, 12, carriers=(3,))
    prompts.clean[:] = prompts.patch  # only the carrier moves, at the last position, from −0 to far right
    code = np.zeros((len(prompts.clean), N_FEATURES), dtype=np.float32)
    code[prompts.offset[1:] - 1, 3] = 8.0
    prompts.clean[:] = prompts.patch + code @ here.decoder / here.scale
    read = torch.from_numpy(here.decoder[3])

    class Saturating:
        device = torch.device("cpu")

        def last_logits(self, tokens, activation):
            start = torch.from_numpy(prompts.patch[prompts.offset[1:] - 1] @ here.decoder[3]).max()
            score = torch.tanh((activation[:, -1] @ read - start) * here.scale)
            return torch.nn.functional.one_hot(torch.tensor(1), 40) * score[:, None]

    moved = TaskPrompts(
        prompts.examples, prompts.offset, prompts.clean, prompts.patch,
        csr_array(code), csr_array(code.shape, dtype=np.float32),
    )  # fmt: skip
    run = Saturating()
    exact = exact_effects(run, moved, code[:, [3]], here.decoder[[3]] / here.scale)[:, 0]
    at_clean = attribute(moved, here, clean_gradient(run, moved)).feature.toarray()[:, 3]
    along = attribute(moved, here, path_gradient(run, moved, points=81)).feature.toarray()[:, 3]
    assert exact.min() > 0.5
    assert np.abs(at_clean).max() < 0.05 * exact.min()
    np.testing.assert_allclose(along, exact, rtol=0.02)


def test_agreement_is_that_of_scipy():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=30)
    attributed = 0.7 * exact + 0.2 * rng.normal(size=30) + 0.1
    exact[:4] = 0
    found = agreement(attributed, exact)
    line = stats.linregress(exact, attributed)
    assert (found.n, found.slope, found.r) == (30, pytest.approx(line.slope), pytest.approx(line.rvalue))
    residual, spread = ((exact - attributed) ** 2).sum(), 30 * exact.var()
    assert found.r2 == pytest.approx(1 - residual / spread)
    assert found.sign == pytest.approx(np.mean(np.sign(exact[4:]) == np.sign(attributed[4:])))


def test_agreement_of_too_few_or_of_effectless_features_is_undefined():
    few, nothing = agreement(np.ones(2), np.arange(2.0)), agreement(np.arange(5.0), np.zeros(5))
    assert np.isnan([few.r, few.slope, few.r2, nothing.r, nothing.slope, nothing.r2, nothing.sign]).all()
    flat = agreement(np.zeros(5), np.arange(5.0))
    assert np.isnan(flat.r)
    assert (flat.slope, flat.sign) == (0, 0)


def test_verified_features_are_the_largest_and_random_others_that_have_any_attribution():
    size = np.array([0, 5, 0, 3, 9, 1, 2, 4, 0.0])
    chosen = verified_features(size, top=2, random=2, rng=np.random.default_rng(0))
    assert chosen[:2].tolist() == [4, 1]
    assert set(chosen[2:].tolist()) <= {3, 5, 6, 7}
    assert len(set(chosen.tolist())) == 4
    assert sorted(verified_features(size, top=50, random=9, rng=np.random.default_rng(0)).tolist()) == [
        1,
        3,
        4,
        5,
        6,
        7,
    ]
