"""One step's loss and gradients on a GPU when few features are on: everything after the encoder's product is sparse.

The results are those of `gradients` and `sparse`. Nothing is read back to the host: losses stay on the device, and the
entries of a token have a fixed number of places. When a token has more candidates than places, those that pass the cut
by least are dropped, and counted on the device; only then does the step differ from the exact one.
"""

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.gradients import Activation, Step
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.paths import DISTINCT
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.crosscoder.sparse_entries import NO_PENALTY, Gating

ROOM = 4.0
"""Places per token, per entry that a token has on average."""


@dataclass
class Capacity:
    """Places per token, and what did not fit: dropped entries and a token's largest number, 0-d tensors, so far.

    Reading either waits for the device.
    """

    places: int
    dropped: Tensor | None = field(default=None)
    largest: Tensor | None = field(default=None)

    @classmethod
    def for_k(cls, k: float, *, gate: str, n_features: int) -> "Capacity":
        """Return room for `ROOM` times the entries that k active features per token and snapshot make."""
        places = 32 * math.ceil(ROOM * DISTINCT[gate] * k / 32)
        return cls(min(places, n_features))

    def count(self, candidates: Tensor) -> None:
        """Take note of a batch's candidates per token, on their device."""
        lost = (candidates - self.places).clamp_min(0).sum()
        most = candidates.amax()
        self.dropped = lost if self.dropped is None else self.dropped + lost
        self.largest = most if self.largest is None else torch.maximum(self.largest, most)

    def overflow(self) -> str | None:
        """Return a line about entries dropped since the last call, None without any; waits for the device."""
        dropped = 0 if self.dropped is None else int(self.dropped)
        most, self.dropped, self.largest = self.largest, None, None
        if dropped == 0:
            return None
        return (
            f"{dropped} candidates for being on did not fit into {self.places} places per token and were dropped, the "
            f"weakest first; a token had up to {int(most) if most is not None else 0}. crosscoder.path: dense drops none"
        )


def gpu_loss_and_gradients(
    parameters: Parameters,
    x: Tensor,
    z: Tensor,
    threshold: Tensor | float,
    *,
    activation: Activation,
    penalty: Penalty,
    lift: Tensor | None = None,
    capacity: Capacity,
    kernels: ModuleType | None = None,
    norms: Tensor | None = None,
    shard: Shard = WHOLE,
) -> Step:
    """Return what `gradients.loss_and_gradients` returns; reconstruction and sparsity are 0-d tensors on the device.

    x [token, snapshot, model] and the weights may be bfloat16: sums are float32, and each gradient has its weight's
    dtype. kernels is `sparse_triton` or `sparse_torch`, by default the one that `kernels_for` finds. A threshold that
    learns through a window must lie above it: below, nearly every entry counts and the dense path is the right one. norms
    is `parameters.norms()`, when it is known already. Tensors are those of the shard; the losses are those of the whole.
    Raises ValueError for activation.include_negative with a threshold that learns.
    """
    if activation.learns_threshold and activation.include_negative:
        raise ValueError("crosscoder.path: sparse needs ste_include_negative: false; set path to auto or dense")
    kernels = kernels or kernels_for(x.device)
    n_tokens, n_snapshots, d_model = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    flat, decoder = x.reshape(n_tokens, -1), rows_of(parameters.decoder)
    per_entry = 1.0 / (n_tokens * shard.total_snapshots(n_snapshots))
    with torch.cuda.device_of(x):
        gating = Gating.of(parameters, threshold, lift, n_tokens, activation, penalty, dtype, norms, shard)
        entries = kernels.select(z.to(dtype).contiguous(), gating, capacity.places)
        capacity.count(entries.candidates)
        listed = entries.by_feature(parameters.n_features)
        bias, data = shard.once_over_features(parameters.decoder_bias.flatten()), shard.once_over_features(flat)
        error, squared = kernels.reconstruct(entries, decoder, bias, data, gating)
        if shard.axis == "features":
            error = shard.over_features(error)
            squared = torch.linalg.vector_norm(error).square()
        e = error.mul_(2 * per_entry)  # E_s
        if gating.kind == NO_PENALTY:
            q = torch.zeros_like(gating.cut)
        else:
            q = shard.over_snapshots(kernels.penalty_sums(entries, listed, gating)) * per_entry
        marginal = penalty.marginal(q) * per_entry
        d_code, felt = kernels.code_gradients(entries, decoder, e, marginal, gating)
        d_code = shard.over_snapshots(d_code)
        d_encoder, d_decoder, d_bias, d_theta, fired = kernels.weight_gradients(
            entries, listed, d_code, felt, decoder, flat, e, marginal, gating
        )
    log_threshold = torch.zeros_like(parameters.log_threshold)
    if activation.learns_threshold:
        felt_by_all = shard.over_snapshots(gating.cut.square() / activation.window * d_theta)
        log_threshold -= felt_by_all.to(log_threshold.dtype)
    shape = (parameters.n_features, n_snapshots, d_model)
    gradients = Parameters(
        encoder=d_encoder.view(shape).permute(1, 2, 0),
        decoder=d_decoder.view(shape).permute(1, 0, 2),
        encoder_bias=d_bias.to(parameters.encoder_bias.dtype),
        decoder_bias=e.view(n_tokens, n_snapshots, d_model).sum(dim=0).to(parameters.decoder_bias.dtype),
        log_threshold=log_threshold,
    )
    reconstruction, sparsity = shard.over_snapshots(squared * per_entry), shard.over_features(penalty.total(q))
    return Step(reconstruction, sparsity, gradients, fired, e.view_as(x))


def kernels_for(device: torch.device) -> ModuleType:
    """Return `sparse_triton` for a GPU where Triton is installed, else `sparse_torch`."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from snapcoder.crosscoder import sparse_triton

        return sparse_triton
    return sparse_torch
