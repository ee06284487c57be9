"""Losses and gradients against a dense [token, snapshot, feature] reference with autograd, and against differences."""

import math
from dataclasses import replace

import pytest
import torch
from dense_auxiliary import auxiliary_loss
from torch import Tensor
from torch.autograd import Function

from snapcoder.crosscoder.gates import batch_threshold, gate_norms
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients, reconstruction_error
from snapcoder.crosscoder.losses import Penalty, reconstruction_loss
from snapcoder.crosscoder.model import Parameters, decode, encode

S, D, F, B = 3, 5, 7, 11
PENALTIES = [Penalty("none"), Penalty("l1", 0.3), Penalty("tanh", 0.2, 4.0), Penalty("tanh_quad", 0.2, 4.0, 0.05)]


def random_parameters(seed: int = 0, *, n_snapshots: int = S) -> Parameters:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Parameters(
        encoder=draw(n_snapshots, D, F) * 0.4,
        decoder=draw(n_snapshots, F, D) * torch.rand(n_snapshots, F, 1, generator=generator, dtype=torch.float64),
        encoder_bias=draw(F) * 0.1,
        decoder_bias=draw(n_snapshots, D) * 0.1,
        log_threshold=math.log(0.3) + 0.2 * draw(F),
    )


def data(n_snapshots: int = S) -> Tensor:
    return torch.randn(B, n_snapshots, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


class Gate(Function):
    """f = z · 1[u > θ], the threshold's gradient through a window of width ε (CROSSCODER 1.2), dense and per entry."""

    @staticmethod
    def forward(ctx, z, norm, log_threshold, width, include_negative):  # type: ignore[no-untyped-def]
        theta = log_threshold.exp()
        u = z * norm
        ctx.save_for_backward(u, theta, norm)
        ctx.width, ctx.include_negative = width, include_negative
        return z * (u > theta)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        u, theta, norm = ctx.saved_tensors
        window = (u - theta).abs() < ctx.width / 2
        if not ctx.include_negative:
            window &= u > 0
        d_log = -(theta**2 / (ctx.width * norm) * window * gradient).sum(dim=(0, 1))
        return gradient * (u > theta), None, d_log, None, None


def reference(parameters: Parameters, x: Tensor, activation: Activation, penalty: Penalty) -> tuple[Tensor, Tensor]:
    """Return reconstruction and sparsity loss with everything dense, for autograd."""
    z = torch.einsum("bsd,sdf->bf", x, parameters.encoder) + parameters.encoder_bias
    norms = parameters.decoder.norm(dim=2)
    gating = norms if activation.gate == "per_snapshot" else norms.square().mean(0, keepdim=True).sqrt().expand(S, F)
    f = Gate.apply(
        z[:, None].expand(B, S, F),
        gating.detach(),
        parameters.log_threshold,
        activation.window,
        activation.include_negative,
    )
    error = torch.einsum("bsf,sfd->bsd", f, parameters.decoder) + parameters.decoder_bias - x
    v = f * norms
    value = {"none": torch.zeros_like, "l1": lambda t: t}.get(penalty.kind, lambda t: torch.tanh(penalty.stretch * t))(
        v
    )
    q = value.mean(dim=(0, 1))
    extra = q / penalty.frequency_scale if penalty.kind == "tanh_quad" else 0.0
    return error.square().sum(dim=2).mean(), penalty.weight * (q * (1 + extra)).sum()


def run(parameters: Parameters, x: Tensor, activation: Activation, penalty: Penalty) -> Step:
    z = encode(parameters, x)
    return loss_and_gradients(parameters, x, z, parameters.log_threshold.exp(), activation=activation, penalty=penalty)


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.kind)
@pytest.mark.parametrize("include_negative", [True, False])
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_every_gradient_equals_the_dense_autograd_reference(
    gate: str, include_negative: bool, penalty: Penalty
) -> None:
    activation = Activation(gate=gate, learns_threshold=True, window=1.0, include_negative=include_negative)
    parameters, x = random_parameters(), data()
    step = run(parameters, x, activation, penalty)
    leaves = parameters.map(lambda tensor: tensor.clone().requires_grad_())
    reconstruction, sparsity = reference(leaves, x, activation, penalty)
    (reconstruction + sparsity).backward()
    assert step.reconstruction == pytest.approx(float(reconstruction.detach()), rel=1e-12)
    assert step.sparsity == pytest.approx(float(sparsity.detach()), rel=1e-12)
    for name, gradient in step.gradients.named().items():
        expected = getattr(leaves, name).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12, msg=name)
    assert step.gradients.log_threshold.abs().max() > 0


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.kind)
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_gradients_are_the_slopes_of_the_loss(gate: str, penalty: Penalty) -> None:
    activation = Activation(gate=gate)
    parameters, x = random_parameters(1), data()
    step = run(parameters, x, activation, penalty)
    generator = torch.Generator().manual_seed(3)
    for name in ("encoder", "decoder", "encoder_bias", "decoder_bias"):
        # Gates do not move for so small a step, so the loss is smooth along it.
        direction = torch.randn(getattr(parameters, name).shape, generator=generator, dtype=torch.float64)
        ahead = replace(parameters, **{name: getattr(parameters, name) + 1e-7 * direction})
        behind = replace(parameters, **{name: getattr(parameters, name) - 1e-7 * direction})
        losses = [run(moved, x, activation, penalty) for moved in (ahead, behind)]
        slope = (
            sum(sign * (one.reconstruction + one.sparsity) for sign, one in zip((1, -1), losses, strict=True)) / 2e-7
        )
        assert slope == pytest.approx(float((getattr(step.gradients, name) * direction).sum()), rel=1e-5, abs=1e-7)


def test_a_number_and_a_vector_as_threshold_give_the_same_step() -> None:
    parameters, x = random_parameters(), data()
    z = encode(parameters, x)
    activation, penalty = Activation(gate="per_snapshot"), Penalty("none")
    number = loss_and_gradients(parameters, x, z, 0.4, activation=activation, penalty=penalty)
    vector = loss_and_gradients(
        parameters, x, z, torch.full((F,), 0.4, dtype=torch.float64), activation=activation, penalty=penalty
    )
    assert number.reconstruction == vector.reconstruction
    torch.testing.assert_close(number.gradients.decoder, vector.gradients.decoder, rtol=0, atol=0)
    torch.testing.assert_close(number.gradients.encoder, vector.gradients.encoder, rtol=0, atol=0)


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_encode_and_decode_equal_the_definition(gate: str) -> None:
    parameters, x = random_parameters(), data()
    z = encode(parameters, x)
    expected = sum(x[:, s] @ parameters.encoder[s] for s in range(S)) + parameters.encoder_bias
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    theta = parameters.log_threshold.exp()
    reached = decode(parameters, z, theta, gate=gate)
    gating = gate_norms(parameters.norms(), gate=gate).expand(S, F)
    for s in range(S):
        by_hand = (z * (z * gating[s] > theta)) @ parameters.decoder[s] + parameters.decoder_bias[s]
        torch.testing.assert_close(reached[:, s], by_hand, rtol=1e-12, atol=1e-12)
    loss = float(reconstruction_loss(reached - x))
    assert loss == pytest.approx(reconstruction_error(parameters, x, theta, gate=gate), rel=1e-12)
    step = run(parameters, x, Activation(gate=gate), Penalty("none"))
    assert loss == pytest.approx(step.reconstruction, rel=1e-12)


def test_permuting_features_permutes_gradients_and_keeps_the_loss() -> None:
    parameters, x = random_parameters(), data()
    order = torch.randperm(F, generator=torch.Generator().manual_seed(1))
    permuted = Parameters(
        parameters.encoder[:, :, order],
        parameters.decoder[:, order],
        parameters.encoder_bias[order],
        parameters.decoder_bias,
        parameters.log_threshold[order],
    )
    activation = Activation(gate="per_snapshot", learns_threshold=True)
    first, second = (run(one, x, activation, PENALTIES[3]) for one in (parameters, permuted))
    assert first.reconstruction == pytest.approx(second.reconstruction, rel=1e-12)
    torch.testing.assert_close(first.gradients.encoder[:, :, order], second.gradients.encoder)
    torch.testing.assert_close(first.gradients.decoder[:, order], second.gradients.decoder)
    torch.testing.assert_close(first.gradients.log_threshold[order], second.gradients.log_threshold)


def test_with_one_snapshot_the_crosscoder_is_a_sparse_autoencoder() -> None:
    parameters, x = random_parameters(2, n_snapshots=1), data(1)
    w_enc, w_dec = parameters.encoder[0].clone().requires_grad_(), parameters.decoder[0].clone().requires_grad_()
    pre = x[:, 0] @ w_enc + parameters.encoder_bias
    latent = torch.where(pre * w_dec.detach().norm(dim=1) > 0.3, pre, 0.0)
    loss = (latent @ w_dec + parameters.decoder_bias[0] - x[:, 0]).square().sum(dim=1).mean()
    loss.backward()
    for gate in ("per_snapshot", "shared"):
        step = loss_and_gradients(
            parameters, x, encode(parameters, x), 0.3, activation=Activation(gate=gate), penalty=Penalty("none")
        )
        assert step.reconstruction == pytest.approx(float(loss.detach()), rel=1e-12)
        torch.testing.assert_close(step.gradients.encoder[0], w_enc.grad)
        torch.testing.assert_close(step.gradients.decoder[0], w_dec.grad)


def test_a_decoder_row_of_zero_gives_finite_gradients() -> None:
    parameters, x = random_parameters(), data()
    parameters.decoder[1, 2] = 0.0
    parameters.decoder[:, 3] = 0.0
    for gate in ("per_snapshot", "shared"):
        activation = Activation(gate=gate, learns_threshold=True)
        step = run(parameters, x, activation, PENALTIES[3])
        assert all(bool(gradient.isfinite().all()) for gradient in step.gradients.named().values())


def test_bfloat16_products_stay_close_to_exact_ones() -> None:
    parameters = random_parameters().map(lambda tensor: tensor.float())
    x = data().float()
    z = encode(parameters, x)
    exact, rounded = (
        loss_and_gradients(
            parameters, x, z, 0.3, activation=Activation("per_snapshot"), penalty=Penalty("none"), precision=precision
        )
        for precision in ("fp32", "bf16")
    )
    assert rounded.reconstruction == pytest.approx(exact.reconstruction, rel=0.02)
    for name in ("encoder", "decoder"):
        left, right = getattr(exact.gradients, name), getattr(rounded.gradients, name)
        assert float((left - right).norm() / left.norm()) < 0.02


@pytest.mark.parametrize("loud", [1.0, 100.0])  # first rows that are no sample of the others must not matter
@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_batchtopk_keeps_exactly_k_entries_per_token_and_gate(gate: str, loud: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 60, generator=generator)
    z[:20] *= loud
    norms = gate_norms(torch.rand(4, 60, generator=generator), gate=gate)
    for floor in (0.0, 0.3, 100.0):  # too high a floor must not change the answer
        threshold = batch_threshold(z, norms, k=5, floor=floor)
        kept = sum(int((z * norm > threshold).sum()) for norm in norms)
        assert kept == 5 * 200 * len(norms)
    dense = (z[:, None] * norms).flatten().sort(descending=True).values
    assert threshold == float(dense[5 * 200 * len(norms)])


def test_batchtopk_keeps_everything_positive_when_there_is_less_than_k() -> None:
    z = torch.tensor([[1.0, -1.0, 2.0], [-1.0, -2.0, 3.0]])
    assert batch_threshold(z, torch.ones(1, 3), k=3) == 0.0


@pytest.mark.parametrize("gate", ["per_snapshot", "shared"])
def test_the_auxiliary_loss_reaches_only_the_dead_and_its_gradients_are_slopes(gate: str) -> None:
    parameters, x = random_parameters(), data()
    z, residual = encode(parameters, x), data() * 0.5
    dead = torch.zeros(S if gate == "per_snapshot" else 1, F, dtype=torch.bool)
    dead[0, :4] = True
    dead[-1, 2] = True
    options = {"gate": gate, "k": 2, "weight": 0.1}
    addition = auxiliary_loss(parameters, z, residual, dead, 0.3, **options)  # type: ignore[arg-type]
    assert addition is not None
    assert addition.loss > 0
    gradients = parameters.map(torch.zeros_like)
    addition.add_to(gradients, x)
    d_z, d_decoder = torch.zeros_like(z), gradients.decoder
    d_z[:, addition.features] = addition.code
    torch.testing.assert_close(gradients.encoder, torch.einsum("bsd,bf->sdf", x, d_z))
    torch.testing.assert_close(gradients.encoder_bias, d_z.sum(dim=0))
    assert bool((d_z[:, 4:] == 0).all())
    assert bool((d_decoder[:, 4:] == 0).all())
    if gate == "per_snapshot":
        assert bool((d_decoder[1] == 0).all())
    assert d_z.abs().sum() > 0
    generator = torch.Generator().manual_seed(5)
    for index, base in enumerate((z, parameters.decoder)):
        direction = torch.randn(base.shape, generator=generator, dtype=torch.float64)
        losses = []
        for sign in (1, -1):
            moved = base + sign * 1e-7 * direction
            changed = (parameters, moved) if index == 0 else (replace(parameters, decoder=moved), z)
            result = auxiliary_loss(*changed, residual, dead, 0.3, **options)  # type: ignore[arg-type]
            assert result is not None
            losses.append(result.loss)
        slope = (losses[0] - losses[1]) / 2e-7
        assert slope == pytest.approx(float(((d_z, d_decoder)[index] * direction).sum()), rel=1e-5, abs=1e-8)
    assert auxiliary_loss(parameters, z, residual, torch.zeros_like(dead), 0.3, **options) is None  # type: ignore[arg-type]
