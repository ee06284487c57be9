"""One step's loss and its gradients, written out: no autograd, no [token, snapshot, feature] tensor, saved or not.

The formulas are CROSSCODER 1.2 and 1.4. With B tokens, S snapshots, E_s = 2 (x̂_s − x_s) / (B S), v = f n and the
penalty's marginal A and slope h:
    ∂L/∂f_s = E_s · decoder[s] + A h n_s / (B S)          ∂z = Σ_s 1[on at s] · ∂f_s
    ∂encoder[s] = x_sᵀ ∂z                                 ∂decoder[s] = Σ_b f_s E_s + (A / B S) (Σ_b h f_s) decoder[s] / n_s
    ∂ log θ = −Σ_{b,s} θ² / (ε n_s) · 1[window] · ∂f_s    (JumpReLU only)
Snapshots that share one gate are one group, whose products run over the concatenated snapshots.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, in_window, keep_on
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode
from snapcoder.crosscoder.sharding import WHOLE, Shard


@dataclass(frozen=True)
class Activation:
    """Which features are on: the gate, and for JumpReLU the window through which the threshold learns."""

    gate: str
    learns_threshold: bool = False
    window: float = 4.0
    include_negative: bool = True


@dataclass(frozen=True)
class Step:
    """What one batch yields: losses, gradients, and what the trainer tracks.

    fired [gate, feature]: on in some token of the batch; error [token, snapshot, model]: E_s = 2 (x̂_s − x_s) / (B S).
    On a GPU the losses are 0-d tensors, which nobody has waited for.
    """

    reconstruction: float | Tensor
    sparsity: float | Tensor
    gradients: Parameters
    fired: Tensor
    error: Tensor


def loss_and_gradients(
    parameters: Parameters,
    x: Tensor,
    z: Tensor,
    threshold: Tensor | float,
    *,
    activation: Activation,
    penalty: Penalty,
    precision: str = "fp32",
    lift: Tensor | None = None,
    shard: Shard = WHOLE,
) -> Step:
    """Return the loss and every gradient for normalised activations x [token, snapshot, model].

    z is `encode(parameters, x)`; threshold ([feature] or a number) is in units of z · norm; lift [gate, token] is added
    to the threshold of a token's gate (TopK). The gradients of encoder and decoder lie feature-major in memory. Tensors
    are those of the shard; the losses are those of the whole.
    """
    n_tokens, n_snapshots, d_model = x.shape
    norms = parameters.norms()  # [snapshot, feature]
    gating = gate_norms(norms, gate=activation.gate, shard=shard)  # [gate, feature]
    low = torch.bfloat16 if precision == "bf16" else x.dtype
    per_entry = 1.0 / (n_tokens * shard.total_snapshots(n_snapshots))

    q = _mean_penalty(z, norms, gating, threshold, penalty, shard)  # [feature]; TopK has no penalty
    marginal = penalty.marginal(q)
    d_z = torch.zeros_like(z)
    d_rows = x.new_empty(parameters.n_features, n_snapshots, d_model)
    d_decoder = d_rows.permute(1, 0, 2)
    error = torch.empty_like(x)
    d_bias = torch.empty_like(parameters.decoder_bias)
    d_log_threshold = torch.zeros_like(parameters.log_threshold)
    fired = torch.empty(gating.shape, dtype=torch.bool, device=x.device)
    u, f = torch.empty_like(z), torch.empty_like(z)  # work space, [token, feature]
    squared: float | Tensor = 0.0
    for index, group in _groups(n_snapshots, len(gating)):
        width = group.stop - group.start
        torch.mul(z, gating[index], out=u)
        if lift is not None:
            u -= lift[index][:, None]
        keep_on(z, u, threshold, out=f)
        fired[index] = f.amax(dim=0) > 0
        code, decoder = f.to(low), _stacked(parameters.decoder[group].to(low))
        residual = shard.over_features((code @ decoder).to(x.dtype)).view(n_tokens, width, d_model)
        residual.add_(parameters.decoder_bias[group]).sub_(x[:, group])
        squared += unread(torch.linalg.vector_norm(residual)) ** 2
        error[:, group] = residual.mul_(2 * per_entry)  # E_s
        d_bias[group] = residual.sum(dim=0)
        e = residual.view(n_tokens, width * d_model).to(low)
        d_rows[:, group] = (code.T @ e).view(-1, width, d_model)
        d_f = (e @ decoder.T).to(x.dtype)  # [token, feature]
        if penalty.kind != "none":
            for s in range(group.start, group.stop):
                _add_penalty(d_f, d_decoder[s], f, parameters.decoder[s], norms[s], marginal * per_entry, penalty)
        if activation.learns_threshold:
            theta = torch.as_tensor(threshold, dtype=x.dtype, device=x.device)
            near = in_window(u, theta, width=activation.window, include_negative=activation.include_negative)
            felt = torch.where(near, d_f, 0.0).sum(dim=0)
            share = theta.square() / (activation.window * gating[index])
            d_log_threshold -= torch.where(gating[index] > 0, share * felt, 0.0)
        d_z += keep_on(d_f, u, threshold, out=f)
    d_z = shard.over_snapshots(d_z)
    flat = x.to(low).view(n_tokens, n_snapshots * d_model)
    d_encoder = (d_z.to(low).T @ flat).to(x.dtype).view(-1, n_snapshots, d_model)
    gradients = Parameters(
        encoder=d_encoder.permute(1, 2, 0),
        decoder=d_decoder,
        encoder_bias=d_z.sum(dim=0),
        decoder_bias=d_bias,
        log_threshold=shard.over_snapshots(d_log_threshold),
    )
    reconstruction = shard.number_over_snapshots(squared * per_entry)
    sparsity = unread(shard.over_features(penalty.total(q)))
    return Step(reconstruction, sparsity, gradients, fired, error)


def unread(number: Tensor) -> float | Tensor:
    """Return a 0-d tensor as a float on a CPU, and as it is on a GPU, where reading it would wait for the device."""
    return number if number.is_cuda else float(number)


def _add_penalty(
    d_f: Tensor, d_decoder: Tensor, f: Tensor, decoder: Tensor, norm: Tensor, share: Tensor, penalty: Penalty
) -> None:
    """Add one snapshot's penalty gradients to d_f [token, feature] and d_decoder [feature, model]; share is A / (B S)."""
    slope = penalty.slope(f * norm)
    d_f += slope * (share * norm)
    d_norm = share * (slope * f).sum(dim=0)
    # A decoder row of exactly zero has no direction to grow in: its norm gets no gradient.
    d_decoder += (d_norm / norm.clamp_min(torch.finfo(norm.dtype).tiny))[:, None] * decoder


def reconstruction_error(
    parameters: Parameters, x: Tensor, threshold: Tensor | float, *, gate: str, shard: Shard = WHOLE
) -> float:
    """Return mean ‖x̂ − x‖² without gradients (used by the search for the initial norm)."""
    z = encode(parameters, x, shard=shard)
    gating = gate_norms(parameters.norms(), gate=gate, shard=shard)
    total = 0.0
    for index, group in _groups(x.shape[1], len(gating)):
        f = keep_on(z, z * gating[index], threshold)
        reached = shard.over_features(f @ _stacked(parameters.decoder[group])).view(len(x), -1, x.shape[2])
        total += float((reached + parameters.decoder_bias[group] - x[:, group]).square().sum())
    return float(shard.number_over_snapshots(total)) / (x.shape[0] * shard.total_snapshots(x.shape[1]))


def _mean_penalty(
    z: Tensor, norms: Tensor, gating: Tensor, threshold: Tensor | float, penalty: Penalty, shard: Shard
) -> Tensor:
    """Return q [feature], the penalty's value averaged over tokens and snapshots; a first pass, needed by tanh_quad."""
    q = torch.zeros_like(norms[0])
    if penalty.kind == "none":
        return q
    for index, group in _groups(len(norms), len(gating)):
        f = keep_on(z, z * gating[index], threshold)
        for s in range(group.start, group.stop):
            q += penalty.value(f * norms[s]).sum(dim=0)
    return shard.over_snapshots(q) / (len(z) * shard.total_snapshots(len(norms)))


def _groups(n_snapshots: int, n_gates: int) -> Iterator[tuple[int, slice]]:
    """Yield each gate with the snapshots that it opens."""
    width = n_snapshots // n_gates
    for index in range(n_gates):
        yield index, slice(index * width, (index + 1) * width)


def _stacked(decoder: Tensor) -> Tensor:
    """Return a group's decoders [snapshot, feature, model] as one matrix [feature, snapshot × model]."""
    return decoder.transpose(0, 1).reshape(decoder.shape[1], -1)
