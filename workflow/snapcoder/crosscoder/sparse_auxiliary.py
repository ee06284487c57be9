"""The auxiliary loss of `auxiliary` on a GPU: the same gradients, by the sparse path, and nothing is read back.

What silent heads would say is a sparse code too: an entry that is on somewhere speaks at the snapshots where its heads
are dead. So it is a step of its own, with the residual as data and the gates of dead heads open instead of the others.
"""

from types import ModuleType

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.crosscoder.sparse_entries import NO_PENALTY, Gating


def add_auxiliary(
    gradients: Parameters,
    parameters: Parameters,
    norms: Tensor,
    x: Tensor,
    z: Tensor,
    residual: Tensor,
    dead: Tensor,
    threshold: Tensor | float,
    *,
    gate: str,
    k: int,
    weight: float,
    places: int,
    kernels: ModuleType,
    shard: Shard = WHOLE,
) -> None:
    """Add the gradients of weight · mean ‖residual − auxiliary reconstruction‖² to those of a step, in place.

    x, residual [token, snapshot, model] and z [token, feature] are of the same rows; dead [gate, feature] as in
    `auxiliary.auxiliary_loss`; norms is `parameters.norms()`. places: room per token for entries of features that live
    at other snapshots. Tensors are those of the shard.
    """
    n_tokens, n_snapshots, d_model = x.shape
    gates = gate_norms(norms, gate=gate, shard=shard)
    largest = shard.largest_over_snapshots(gates.amax(dim=0))
    buried = shard.largest_over_snapshots((~dead).any(dim=0).to(torch.uint8)) == 0  # dead everywhere
    gating = Gating(
        norm=norms.T.contiguous(),
        gate=torch.where(dead, largest, 0.0).T.contiguous(),
        cut=torch.where(buried, 0.0, torch.zeros_like(largest) + threshold),  # z alone says which buried ones speak
        lift=norms.new_zeros(len(gates), n_tokens),
        half_window=0.0,
        kind=NO_PENALTY,
        stretch=1.0,
        shard=shard,
    )
    entries = kernels.select(_with_k_buried(z, largest, buried, k, shard), gating, places + k)
    listed, decoder = entries.by_feature(parameters.n_features), rows_of(parameters.decoder)
    bias, data = x.new_zeros(n_snapshots * d_model), shard.once_over_features(residual.reshape(n_tokens, -1))
    error, _ = kernels.reconstruct(entries, decoder, bias, data, gating)
    e = shard.over_features(error).mul_(2 * weight / (n_tokens * shard.total_snapshots(n_snapshots)))
    nothing = torch.zeros_like(gating.cut)
    d_code, felt = kernels.code_gradients(entries, decoder, e, nothing, gating)
    d_code = shard.over_snapshots(d_code)
    into = rows_of(gradients.encoder.transpose(1, 2)), rows_of(gradients.decoder)
    _, _, d_bias, _, _ = kernels.weight_gradients(
        entries, listed, d_code, felt, decoder, x.reshape(n_tokens, -1), e, nothing, gating, into
    )
    gradients.encoder_bias.add_(d_bias)


def _with_k_buried(z: Tensor, largest: Tensor, buried: Tensor, k: int, shard: Shard) -> Tensor:
    """Return z [token, feature] with all but each token's k largest z · norm of the buried features set to 0."""
    scores = torch.where(buried, z * largest, -torch.inf)
    best = shard.join_features(scores.topk(min(k, scores.shape[1]), dim=1).values, 1)
    level = best.topk(min(k, best.shape[1]), dim=1).values[:, -1:]
    return torch.where(buried & (scores < level), 0.0, z)
