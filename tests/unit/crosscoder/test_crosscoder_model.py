"""Initialisation, normalisation, schedules and metrics, each against its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.crosscoder.codes import entries_above, sparse_code, stack_rows
from snapcoder.crosscoder.extension import code_correlation, gated_by, neighbours, ridge_decoder
from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.initialisation import search_initial_norm, with_norm
from snapcoder.crosscoder.metrics import evaluate
from snapcoder.crosscoder.model import encode, initialise
from snapcoder.crosscoder.normalise import fit_normaliser
from snapcoder.crosscoder.schedules import batch_rows, learning_rate_factor, sparsity_factor
from snapcoder.crosscoder.training import initial_parameters, penalty_of
from snapcoder.storage.activations import CacheHeader
from snapcoder.study.crosscoder import CrosscoderSettings


def header(activations: np.ndarray, step: int = 7) -> CacheHeader:
    mean = activations.mean(axis=0)
    return CacheHeader(
        step=step,
        layer=0,
        site="",
        d_model=activations.shape[1],
        dtype="float32",
        n_rows=len(activations),
        rows_sha256="",
        content_sha256="",
        mean=mean,
        mean_norm=float(np.linalg.norm(activations, axis=1).mean()),
        mean_square=float(np.square(activations - mean).sum(axis=1).mean()),
        max_abs=0.0,
    )


def test_all_heads_start_equal_with_the_encoder_as_transpose() -> None:
    parameters = initialise(4, 6, 9, norm=0.7, threshold=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parameters.decoder, parameters.decoder[:1].expand(4, 9, 6))
    assert torch.equal(parameters.encoder, parameters.decoder.transpose(1, 2))
    torch.testing.assert_close(parameters.norms(), torch.full((4, 9), 0.7))
    torch.testing.assert_close(with_norm(parameters, 0.2).norms(), torch.full((4, 9), 0.2))
    assert parameters.log_threshold.exp()[0] == pytest.approx(0.1)


@pytest.mark.parametrize("best", [0.03, 0.21, 1.7])
def test_the_norm_search_finds_the_lowest_error(best: float) -> None:
    assert search_initial_norm(lambda norm: (np.log(norm) - np.log(best)) ** 2) == pytest.approx(best, rel=0.05)


def test_the_initial_norm_falls_with_the_number_of_aligned_snapshots() -> None:
    x = torch.randn(256, 1, 16, generator=torch.Generator().manual_seed(0))
    chosen = CrosscoderSettings(n_features=64, k=8)
    one, nine = (float(initial_parameters(x.expand(256, n, 16), chosen).norms().mean()) for n in (1, 9))
    assert one / nine == pytest.approx(3, rel=0.15)


def test_normalising_gives_the_stated_scale_and_is_undone_exactly() -> None:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((500, 2, 8)) * np.array([[[3.0], [160.0]]]) + 5
    headers = [header(raw[:, s]) for s in range(2)]
    tensor = torch.from_numpy(raw).float()
    centred = fit_normaliser(headers, center=True)
    x = centred.normalise(tensor)
    torch.testing.assert_close(x.square().sum(dim=2).mean(dim=0), torch.full((2,), 8.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(2, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(centred.denormalise(x), tensor, rtol=1e-4, atol=1e-4)
    plain = fit_normaliser(headers, center=False)
    torch.testing.assert_close(
        plain.normalise(tensor).norm(dim=2).mean(dim=0), torch.full((2,), 8**0.5), rtol=1e-4, atol=0
    )


def test_a_snapshot_without_variation_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="snapshot 7: its cached activations are all equal"):
        fit_normaliser([header(np.ones((5, 3)))], center=True)


def test_the_learning_rate_rises_holds_and_falls() -> None:
    factors = [learning_rate_factor(t, steps=100, warmup=10, decay_share=0.2, final=0.03125) for t in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:81] == [1.0] * 72
    assert factors[99] == pytest.approx(0.03125 + 0.96875 / 20)
    assert learning_rate_factor(5, steps=100, warmup=0, decay_share=0.0, final=0.1) == 1.0


def test_the_sparsity_weight_rises_linearly() -> None:
    assert [sparsity_factor(t, steps=100, warmup_share=0.1) for t in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
    chosen = CrosscoderSettings(arm="jumprelu", sparsity_weight=0.3, steps=100)
    assert penalty_of(chosen, 5).weight == pytest.approx(0.15)
    assert penalty_of(CrosscoderSettings(), 50).kind == "none"


@settings(max_examples=30, deadline=None)
@given(n_rows=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 3), steps=st.integers(1, 12))
def test_every_epoch_visits_every_row_once(n_rows: int, batch_size: int, seed: int, steps: int) -> None:
    seen = np.concatenate([batch_rows(step, batch_size=batch_size, n_rows=n_rows, seed=seed) for step in range(steps)])
    assert len(seen) == steps * batch_size
    for epoch in range(len(seen) // n_rows):
        assert sorted(seen[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(n_rows))


def test_the_order_of_rows_depends_on_seed_and_epoch_only() -> None:
    first = batch_rows(0, batch_size=100, n_rows=100, seed=0)
    assert not np.array_equal(first, batch_rows(0, batch_size=100, n_rows=100, seed=1))
    assert not np.array_equal(first, batch_rows(1, batch_size=100, n_rows=100, seed=0))
    halves = np.concatenate([batch_rows(step, batch_size=50, n_rows=100, seed=0) for step in (0, 1)])
    np.testing.assert_array_equal(first, halves)


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_scores_equal_their_dense_definitions_however_rows_are_batched(gate: str) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = initialise(3, 6, 10, norm=0.4, threshold=0.1, generator=generator)
    parameters.decoder[1] *= 0.5
    parameters.decoder[2, :4] *= 0.01
    x, threshold = torch.randn(90, 3, 6, generator=generator) + 0.3, torch.full((10,), 0.12)
    scale = np.array([2.0, 0.5, 1.0])
    scores = evaluate(parameters, threshold, lambda: x.split(20), gate=gate, scale=scale)
    z, norms = encode(parameters, x).double(), parameters.norms().double()
    on = z[:, None] * gate_norms(norms, gate=gate) > threshold  # [row, gate, feature]
    on = on.expand(90, 3, 10)
    reached = torch.einsum("rsf,sfd->rsd", z[:, None] * on, parameters.decoder.double())
    squared = (x - reached).square().sum(dim=2)
    deviation = (x - x.double().mean(dim=0)).square().sum(dim=2)
    fires = z[:, None] * norms > threshold
    for s in range(3):
        assert scores[s].ev == pytest.approx(float(1 - squared[:, s].sum() / deviation[:, s].sum()), abs=1e-6)
        assert scores[s].ev_legacy == pytest.approx(float((1 - squared[:, s] / deviation[:, s]).mean()), rel=1e-4)
        assert scores[s].l0 == pytest.approx(float(on[:, s].sum() / 90))
        assert scores[s].nrmse == pytest.approx(
            float(squared[:, s].sqrt().mean() / x[:, s].norm(dim=1).mean()), rel=1e-5
        )
        assert scores[s].dead == pytest.approx(float((~fires[:, s].any(dim=0)).double().mean()))
        assert scores[s].dense == pytest.approx(float((fires[:, s].double().mean(dim=0) > 0.1).double().mean()))
    pooled, raw = scores[-1], torch.from_numpy(1 / scale**2)
    assert pooled.snapshot == -1
    assert pooled.ev == pytest.approx(float(1 - squared.sum() / deviation.sum()), abs=1e-6)
    assert pooled.ev_raw == pytest.approx(float(1 - (squared * raw).sum() / (deviation * raw).sum()), abs=1e-6)
    assert pooled.l0 == pytest.approx(float(on.double().sum(dim=2).mean()))
    assert pooled.n_rows == 90


def test_sparse_codes_hold_what_is_on_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = initialise(3, 6, 10, norm=0.4, threshold=0.1, generator=generator)
    parameters.decoder[1] *= 1.7
    x, threshold = torch.randn(50, 3, 6, generator=generator), torch.full((10,), 0.2)
    monkeypatch.setattr("snapcoder.crosscoder.codes.DENSE_ENTRIES", 70)  # seven rows at a time
    blocks = list(sparse_code(parameters, threshold, x.split(20), gate="per_snapshot"))
    assert [block.shape[0] for block in blocks] == [7, 7, 6, 7, 7, 6, 7, 3]
    code = stack_rows(blocks, n_features=10)
    z = encode(parameters, x)
    on = (z[:, None] * parameters.norms() > threshold).any(dim=1)
    np.testing.assert_allclose(code.toarray(), torch.where(on, z, 0.0).numpy(), rtol=1e-5)
    assert code.has_sorted_indices


def test_codes_with_empty_rows_survive_stacking_and_gating() -> None:
    z = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    code = stack_rows([entries_above(part, torch.ones(3), torch.full((3,), 0.5)) for part in z.split(2)], n_features=3)
    np.testing.assert_array_equal(code.toarray(), z.numpy())
    gated = gated_by(code, np.array([1.0, 1.0, 0.1]), np.full(3, 0.5))
    np.testing.assert_array_equal(gated.toarray(), z.numpy() * np.array([1, 1, 0]))


def test_the_ridge_decoder_solves_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((300, 6)) * (rng.random((300, 6)) < 0.4)
    dense[:, 5] = 0  # never fires
    truth, bias = rng.standard_normal((6, 4)), rng.standard_normal(4)
    z = torch.from_numpy(dense).float()
    code = entries_above(z, torch.ones(6), torch.zeros(6))
    x = dense @ truth + bias
    exact = ridge_decoder(code, x, ridge=0.0)
    np.testing.assert_allclose(exact.decoder[:5], truth[:5], atol=1e-5)
    np.testing.assert_allclose(exact.bias, bias, atol=1e-5)
    assert (exact.decoder[5] == 0).all()
    ridge = ridge_decoder(code, x, ridge=0.1)
    strength = 0.1 * (dense**2).sum() / 5
    residual = x - dense @ ridge.decoder - ridge.bias
    np.testing.assert_allclose(dense[:, :5].T @ residual, strength * ridge.decoder[:5], atol=1e-4)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-6)


def test_code_correlation_counts_the_pairs_that_either_code_uses() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((40, 5)) * (rng.random((40, 5)) < 0.5)
    b = a * rng.uniform(0.5, 1.5, a.shape) * (rng.random((40, 5)) < 0.8)
    sparse = [entries_above(torch.from_numpy(m), torch.ones(5), torch.zeros(5)) for m in (a, b)]
    either = (a != 0) | (b != 0)
    expected = np.corrcoef(a[either], b[either])[0, 1]
    assert code_correlation(*sparse) == pytest.approx(expected, rel=1e-5)
    assert code_correlation(sparse[0], sparse[0]) == pytest.approx(1)


def test_neighbours_are_the_nearest_on_either_side() -> None:
    assert neighbours(30, (0, 10, 100)) == [1, 2]
    assert neighbours(200, (0, 10, 100)) == [2]
    assert neighbours(5, (10, 100)) == [0]
