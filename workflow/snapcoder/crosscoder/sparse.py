"""One step's loss and gradients when few features are on: after one dense encoder product, everything is sparse.

The mathematics is that of `gradients`, and so are the results, up to the order of sums; the cost is proportional to
the number of entries (token, feature) that are on at some snapshot, not to the size of the dictionary.
"""

import numba
import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_kernels as kernels
from snapcoder.crosscoder import sparse_penalties as penalties
from snapcoder.crosscoder.entries import Entries, select
from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.gradients import Activation, Step
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, rows_of
from snapcoder.crosscoder.sharding import WHOLE, Shard

KINDS = {"none": 0, "l1": penalties.LINEAR, "tanh": penalties.TANH, "tanh_quad": penalties.TANH}


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
    norms: Tensor | None = None,
) -> Step:
    """Return what `gradients.loss_and_gradients` returns, on a CPU, for the same arguments.

    lift [gate, token] is added to the threshold of a token's gate (TopK); None for 0. A threshold that learns through a
    window must have its window above 0: below it nearly every entry counts and the dense path is the right one. norms
    are `parameters.norms()` when the caller has them.
    """
    n_tokens, n_snapshots, d_model = x.shape
    n_features, dtype = parameters.n_features, x.numpy().dtype
    norms = parameters.norms() if norms is None else norms  # [snapshot, feature]
    gating = gate_norms(norms, gate=activation.gate, shard=shard)
    cut = torch.as_tensor(threshold, dtype=x.dtype).expand(n_features).contiguous().numpy()
    raised = torch.zeros(1, 1).expand(len(gating), n_tokens).to(x) if lift is None else lift
    gates = gating.contiguous().numpy(), cut, raised.contiguous().numpy()
    half_window = activation.window / 2 if activation.learns_threshold else 0.0
    # What may be on at any snapshot of any process: all of them list the same entries.
    low = cut - half_window - float(shard.largest_over_snapshots(-raised.min()))
    largest = shard.largest_over_snapshots(gating.amax(dim=0))
    entries = select(z.numpy(), largest.numpy(), np.maximum(low, 0).astype(dtype))
    listed = entries.by_feature(n_features)
    by_token = entries.indptr, entries.feature, entries.value
    by_feature = listed.pointer, listed.token, listed.value
    per_entry = 1.0 / (n_tokens * shard.total_snapshots(n_snapshots))

    width = kernels.block_width(n_snapshots * d_model // len(gating))
    decoder = rows_of(parameters.decoder).view(n_features, -1, width).numpy()  # [feature, block, column]
    e = shard.once_over_features(parameters.decoder_bias - x).view(n_tokens, -1, width)  # of no code; soon E_s
    e, d_code, felt = errors_and_code_gradients(
        entries, decoder, gates, e, 2 * per_entry, half_window=half_window, shard=shard
    )
    reconstruction = shard.number_over_snapshots(float(torch.linalg.vector_norm(e)) ** 2 / (4 * per_entry))

    shape = KINDS[penalty.kind], penalty.stretch
    q = np.zeros(n_features, dtype=dtype)
    if penalty.kind != "none":
        penalties.mean_penalty(*by_feature, norms.numpy(), *gates, *shape, q)
        q = shard.over_snapshots(torch.from_numpy(q)).numpy() * per_entry
    marginal = (penalty.marginal(torch.from_numpy(q)) * per_entry).numpy()
    if penalty.kind != "none":
        penalties.add_to_code_gradients(*by_token, norms.numpy(), *gates, marginal, *shape, half_window, d_code, felt)
    shard.over_snapshots(torch.from_numpy(d_code))

    gradient, d_bias, d_theta = listed.sums(d_code, felt)
    d_encoder, d_decoder = np.empty(decoder.shape, dtype), np.empty(decoder.shape, dtype)
    fired = np.zeros(gating.shape, dtype=bool)
    busy, idle = listed.busy_and_idle()
    kernels.clear_rows(idle, d_encoder, d_decoder)
    parts = parts_of(np.append(listed.pointer[busy], listed.pointer[-1]))
    kernels.encoder_gradients(
        parts, busy, listed.pointer, listed.token, gradient, x.reshape(e.shape).numpy(), d_encoder, True
    )  # fmt: skip
    kernels.decoder_gradients(parts, busy, *by_feature, e.numpy(), *gates, d_decoder, fired, True)
    rows = n_features, n_snapshots, d_model
    if penalty.kind != "none":
        penalties.add_to_decoder_gradients(
            *by_feature, decoder.reshape(rows), norms.numpy(), *gates, marginal, *shape, d_decoder.reshape(rows)
        )
    log_threshold = torch.zeros_like(parameters.log_threshold)
    if activation.learns_threshold:
        log_threshold -= shard.over_snapshots(torch.from_numpy(cut**2 / activation.window * d_theta))
    gradients = Parameters(
        encoder=torch.from_numpy(d_encoder).view(rows).permute(1, 2, 0),
        decoder=torch.from_numpy(d_decoder).view(rows).permute(1, 0, 2),
        encoder_bias=torch.from_numpy(d_bias),
        decoder_bias=e.view_as(x).sum(dim=0),
        log_threshold=log_threshold,
    )
    sparsity = float(shard.over_features(penalty.total(torch.from_numpy(q))))
    return Step(reconstruction, sparsity, gradients, torch.from_numpy(fired), e.view_as(x))


def errors_and_code_gradients(
    entries: Entries,
    decoder: np.ndarray,
    gates: tuple[np.ndarray, np.ndarray, np.ndarray],
    e: Tensor,
    scale: float,
    *,
    half_window: float = 0.0,
    shard: Shard = WHOLE,
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return e = scale · (Σ f decoder + e), the gradients of the codes, and what thresholds feel [entry].

    decoder [feature, block, column]; gates: gate [gate, feature], cut [feature] and lift [gate, token]; e [token, block,
    column] may be overwritten.
    """
    d_code, felt = np.empty_like(entries.value), np.zeros_like(entries.value)
    arrays = parts_of(entries.indptr), entries.indptr, entries.feature, entries.value, decoder, *gates
    if shard.axis == "features" or half_window > 0:
        kernels.reconstruct(*arrays, e.numpy())
        e = shard.over_features(e).mul_(scale)
        kernels.code_gradients(*arrays, e.numpy(), half_window, d_code, felt)
    else:
        kernels.errors_and_code_gradients(*arrays, decoder.dtype.type(scale), e.numpy(), d_code)
    return e, d_code, felt


def parts_of(starts: np.ndarray) -> np.ndarray:
    """Return bounds [thread + 1] that divide tokens, or features, into parts of about equal work.

    starts [token + 1] is where their entries start; one without entries counts as one, since it is visited too.
    """
    work = starts + np.arange(len(starts))
    return np.searchsorted(work, np.linspace(0, work[-1], numba.get_num_threads() + 1)).astype(np.int64)


def use_threads(threads: int) -> None:
    """Let the compiled loops use as many threads as torch does."""
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
