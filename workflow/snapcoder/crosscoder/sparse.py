"""One step's loss and gradients when few features are on: after one dense encoder product, everything is sparse.

The mathematics is that of `gradients`, and so are the results, up to the order of sums; the cost is proportional to
the number of entries (token, feature) that are on at some snapshot, not to the size of the dictionary.
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_kernels as kernels
from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.gradients import Activation, Step
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.sharding import WHOLE, Shard

KINDS = {"none": kernels.NO_PENALTY, "l1": kernels.LINEAR, "tanh": kernels.TANH, "tanh_quad": kernels.TANH}


@dataclass(frozen=True)
class Entries:
    """Candidates for being on, by token: indptr [token + 1] int64, feature [entry] int32, value [entry] their z."""

    indptr: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def by_feature(self, n_features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the same entries by feature: pointer [feature + 1], and each entry's token and place in this list."""
        pointer = np.zeros(n_features + 1, dtype=np.int64)
        token, entry = np.empty(len(self.feature), np.int32), np.empty(len(self.feature), np.int32)
        kernels.list_by_feature(self.indptr, self.feature, pointer, token, entry)
        return pointer, token, entry


def select(z: np.ndarray, largest: np.ndarray, low: np.ndarray) -> Entries:
    """Return the entries of z [token, feature] with z · largest > low; largest and low are [feature]."""
    counts = np.empty(len(z), dtype=np.int64)
    kernels.count_entries(z, largest, low, counts)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    feature, value = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], z.dtype)
    kernels.fill_entries(z, largest, low, indptr, feature, value)
    return Entries(indptr, feature, value)


def sparse_loss_and_gradients(
    parameters: Parameters,
    x: Tensor,
    z: Tensor,
    threshold: Tensor | float,
    *,
    activation: Activation,
    penalty: Penalty,
    lift: Tensor | None = None,
    shard: Shard = WHOLE,
) -> Step:
    """Return what `gradients.loss_and_gradients` returns, on a CPU, for the same arguments.

    lift [gate, token] is added to the threshold of a token's gate (TopK); None for 0. A threshold that learns through a
    window must have its window above 0: below it nearly every entry counts and the dense path is the right one.
    """
    n_tokens, n_snapshots, d_model = x.shape
    n_features, dtype = parameters.n_features, x.numpy().dtype
    decoder = rows_of(parameters.decoder).numpy()
    norms = parameters.norms().T.contiguous()  # [feature, snapshot]
    gating = gate_norms(norms.T, gate=activation.gate, shard=shard).T.contiguous()  # [feature, gate]
    gate, norm = gating.numpy(), norms.numpy()
    cut = torch.as_tensor(threshold, dtype=x.dtype).expand(n_features).contiguous().numpy()
    raised = torch.zeros(1, 1).expand(gate.shape[1], n_tokens).to(x) if lift is None else lift
    lifts = raised.contiguous().numpy()
    half_window = activation.window / 2 if activation.learns_threshold else 0.0
    # What may be on at any snapshot of any process: all of them list the same entries.
    low = cut - half_window - float(shard.largest_over_snapshots(-raised.min()))
    largest = shard.largest_over_snapshots(gating.amax(dim=1))
    entries = select(z.numpy(), largest.numpy(), np.maximum(low, 0).astype(dtype))
    pointer, token, entry = entries.by_feature(n_features)
    kind, per_entry = KINDS[penalty.kind], 1.0 / (n_tokens * shard.total_snapshots(n_snapshots))

    flat = x.reshape(n_tokens, -1)
    error = shard.once_over_features(parameters.decoder_bias - x).view(n_tokens, -1)
    kernels.reconstruct(entries.indptr, entries.feature, entries.value, decoder, gate, cut, lifts, error.numpy())
    error = shard.over_features(error)
    reconstruction = shard.number_over_snapshots(float(torch.linalg.vector_norm(error)) ** 2 * per_entry)
    e = error.mul_(2 * per_entry)  # E_s

    q = np.zeros(n_features, dtype=dtype)
    if kind != kernels.NO_PENALTY:
        kernels.mean_penalty(
            pointer, entry, token, entries.value, norm, gate, cut, lifts, kind, penalty.stretch, q
        )  # fmt: skip
        q = shard.over_snapshots(torch.from_numpy(q)).numpy() * per_entry
    marginal = (penalty.marginal(torch.from_numpy(q)) * per_entry).numpy()
    d_code, felt = np.empty_like(entries.value), np.empty_like(entries.value)
    kernels.code_gradients(
        entries.indptr, entries.feature, entries.value, decoder, norm, gate, cut, lifts, e.numpy(), marginal, kind,
        penalty.stretch, half_window, d_code, felt,
    )  # fmt: skip
    shard.over_snapshots(torch.from_numpy(d_code))
    d_encoder, d_decoder = (torch.empty(n_features, n_snapshots, d_model, dtype=x.dtype) for _ in range(2))
    d_bias, d_theta = np.empty(n_features, dtype), np.empty(n_features, dtype)
    fired = np.zeros((gate.shape[1], n_features), dtype=bool)
    kernels.weight_gradients(
        pointer, token, entry, entries.value, d_code, felt, flat.numpy(), e.numpy(), decoder, norm, gate, cut, lifts,
        marginal, kind, penalty.stretch, _rows(d_encoder), _rows(d_decoder), d_bias, d_theta, fired,
    )  # fmt: skip
    log_threshold = torch.zeros_like(parameters.log_threshold)
    if activation.learns_threshold:
        log_threshold -= shard.over_snapshots(torch.from_numpy(cut**2 / activation.window * d_theta))
    gradients = Parameters(
        encoder=d_encoder.permute(1, 2, 0),
        decoder=d_decoder.permute(1, 0, 2),
        encoder_bias=torch.from_numpy(d_bias),
        decoder_bias=e.view_as(x).sum(dim=0),
        log_threshold=log_threshold,
    )
    sparsity = float(shard.over_features(penalty.total(torch.from_numpy(q))))
    return Step(reconstruction, sparsity, gradients, torch.from_numpy(fired), e.view_as(x))


def use_threads(threads: int) -> None:
    """Let the compiled loops use as many threads as torch does."""
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _rows(weights: Tensor) -> np.ndarray:
    return weights.view(len(weights), -1).numpy()
