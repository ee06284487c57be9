"""The gradients of the auxiliary loss on a GPU; nothing is read back."""

from types import ModuleType

import torch
from torch import Tensor

from snapcoder.crosscoder.auxiliary import Opened, rows_in_place
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.crosscoder.sparse_entries import NO_PENALTY, Gating


def add_auxiliary_on_gpu(
    gradients: Parameters,
    parameters: Parameters,
    opened: Opened,
    x: Tensor,
    residual: Tensor,
    *,
    weight: float,
    places: int,
    kernels: ModuleType,
    shard: Shard = WHOLE,
) -> None:
    """Do what `sparse_auxiliary.add_auxiliary` does.

    places: room per token for entries. kernels: `sparse_triton` or `sparse_torch`.
    """
    n_tokens, n_snapshots, d_model = x.shape
    gating = Gating(
        norm=opened.norms.T.contiguous(),
        gate=opened.gate.T.contiguous(),
        cut=opened.cut,
        lift=x.new_zeros(len(opened.gate), n_tokens),
        half_window=0.0,
        kind=NO_PENALTY,
        stretch=1.0,
        shard=shard,
    )
    entries = kernels.select(opened.z, gating, places)
    listed, decoder = entries.by_feature(parameters.n_features), rows_of(parameters.decoder)
    bias, data = x.new_zeros(n_snapshots * d_model), shard.once_over_features(residual.reshape(n_tokens, -1))
    error, _ = kernels.reconstruct(entries, decoder, bias, data, gating)
    e = shard.over_features(error).mul_(2 * weight / (n_tokens * shard.total_snapshots(n_snapshots)))
    nothing = torch.zeros_like(gating.cut)
    d_code, felt = kernels.code_gradients(entries, decoder, e, nothing, gating)
    d_code = shard.over_snapshots(d_code)
    _, _, d_bias, _, _ = kernels.weight_gradients(
        entries, listed, d_code, felt, decoder, x.reshape(n_tokens, -1), e, nothing, gating, rows_in_place(gradients)
    )
    gradients.encoder_bias.add_(d_bias)
