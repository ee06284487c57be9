"""The gradients of the auxiliary loss on a CPU."""

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_kernels as kernels
from snapcoder.crosscoder.auxiliary import Opened, rows_in_place
from snapcoder.crosscoder.entries import select
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.crosscoder.sparse import errors_and_code_gradients, parts_of


def add_auxiliary(
    gradients: Parameters,
    parameters: Parameters,
    opened: Opened,
    x: Tensor,
    residual: Tensor,
    *,
    weight: float,
    shard: Shard = WHOLE,
) -> None:
    """Add the gradients of weight · mean ‖residual − auxiliary reconstruction‖² to those of a step, in place.

    x, residual [token, snapshot, model] and what is opened are of the same rows; residual x − x̂ is taken as given. Tensors
    are those of the shard.
    """
    n_tokens, n_snapshots, d_model = x.shape
    largest = shard.largest_over_snapshots(opened.gate.amax(dim=0))
    entries = select(opened.z.contiguous().numpy(), largest.numpy(), opened.cut.numpy())
    listed = entries.by_feature(parameters.n_features)
    width = kernels.block_width(n_snapshots * d_model // len(opened.gate))
    decoder = rows_of(parameters.decoder).view(parameters.n_features, -1, width).numpy()
    gates = opened.gate.numpy(), opened.cut.numpy(), np.zeros((len(opened.gate), n_tokens), decoder.dtype)
    scale = 2 * weight / (n_tokens * shard.total_snapshots(n_snapshots))
    e, d_code, _ = errors_and_code_gradients(
        entries, decoder, gates, shard.once_over_features(-residual).view(n_tokens, -1, width), scale, shard=shard
    )
    shard.over_snapshots(torch.from_numpy(d_code))
    gradient, d_bias, _ = listed.sums(d_code, np.zeros_like(d_code))
    d_encoder, d_decoder = (rows.view(decoder.shape).numpy() for rows in rows_in_place(gradients))
    busy, _ = listed.busy_and_idle()
    parts, fired = parts_of(np.append(listed.pointer[busy], listed.pointer[-1])), np.empty(gates[0].shape, dtype=bool)
    kernels.encoder_gradients(
        parts, busy, listed.pointer, listed.token, gradient, x.reshape(e.shape).numpy(), d_encoder, False
    )
    kernels.decoder_gradients(
        parts, busy, listed.pointer, listed.token, listed.value, e.numpy(), *gates, d_decoder, fired, False
    )
    gradients.encoder_bias.add_(torch.from_numpy(d_bias))
