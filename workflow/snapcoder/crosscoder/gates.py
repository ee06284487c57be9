"""When a feature is on: the gate, BatchTopK's threshold, and JumpReLU's straight-through window (CROSSCODER 1.1–1.3)."""

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.entries import candidate_scores
from snapcoder.crosscoder.sharding import WHOLE, Shard

_FIRST_ROWS = 16


def gate_norms(norms: Tensor, *, gate: str, shard: Shard = WHOLE) -> Tensor:
    """Return the norms that a gate multiplies z with, [gate, feature].

    per_snapshot: the decoder norm of each snapshot, one gate per snapshot; shared: the root mean square over
    snapshots, one gate for all. norms [snapshot, feature].
    """
    if gate == "per_snapshot":
        return norms
    if gate == "shared":
        squares = shard.over_snapshots(norms.square().sum(dim=0, keepdim=True))
        return (squares / shard.total_snapshots(len(norms))).sqrt()
    raise ValueError(f"crosscoder.gate: {gate!r} is unknown; use per_snapshot or shared")


def is_on(z: Tensor, norm: Tensor, threshold: Tensor | float) -> Tensor:
    """Return the mask z · norm > threshold [token, feature]. The form without a division allows a norm of zero."""
    return z * norm > threshold


def keep_on(values: Tensor, u: Tensor, threshold: Tensor | float, out: Tensor | None = None) -> Tensor:
    """Return `values` where u = z · norm > threshold, else 0: the code from z, or its gradient, [token, feature].

    The result is written to `out` when given, which may be `values` itself.
    """
    out = torch.empty_like(values) if out is None else out
    if isinstance(threshold, float):  # one pass, no mask
        return torch.ops.aten.threshold_backward(values, u, threshold, grad_input=out)
    return torch.where(u > threshold, values, torch.zeros((), dtype=values.dtype, device=values.device), out=out)


def code(z: Tensor, norm: Tensor, threshold: Tensor | float) -> Tensor:
    """Return the gated code f = z · 1[z · norm > threshold] [token, feature] of one gate."""
    return z * is_on(z, norm, threshold)


def batch_threshold(
    z: Tensor, norms: Tensor, *, k: float, floor: float = 0.0, gate: str = "per_snapshot", shard: Shard = WHOLE
) -> float:
    """Return the threshold above which k entries per token and gate lie, ties aside (BatchTopK).

    z [token, feature]; norms [gate, feature]. Candidates are only the entries whose largest z · norm exceeds `floor`
    (a fraction of the last threshold): a few percent, where an exact top-k over all [token, gate, feature] entries
    would cost more than the matrix products of a training step. When the floor leaves too few, it falls back to 0.
    All processes find the same threshold, that of all their candidates together.
    """
    if floor == 0 and len(z) > _FIRST_ROWS:  # no last threshold: that of a few rows serves as well
        floor = 0.5 * batch_threshold(z[:_FIRST_ROWS], norms, k=k, gate=gate, shard=shard)
    found = _threshold_above(floor, z, norms, k=k, gate=gate, shard=shard)
    if found is None and floor > 0:
        found = _threshold_above(0.0, z, norms, k=k, gate=gate, shard=shard)
    return 0.0 if found is None else found


def _threshold_above(floor: float, z: Tensor, norms: Tensor, *, k: float, gate: str, shard: Shard) -> float | None:
    """Return the threshold when enough scores exceed `floor`, else None."""
    keep = round(k * z.shape[0] * shard.total_gates(len(norms), gate=gate))
    scores = shard.join_scores(_candidate_scores(floor, z, norms), gate=gate)
    if len(scores) <= keep:
        return None
    # The (keep + 1)-th largest: a strict comparison with it keeps `keep` entries.
    rank = len(scores) - keep - 1
    found = float(np.partition(scores.cpu().numpy(), rank)[rank])
    return found if found > floor else None


def _candidate_scores(floor: float, z: Tensor, norms: Tensor) -> Tensor:
    """Return z · norm at all gates [gate × candidate] of the entries that exceed `floor` at one of them."""
    if z.device.type == "cpu":
        return torch.from_numpy(candidate_scores(z.numpy(), norms.numpy(), floor)).flatten()
    token, feature = torch.nonzero(z * norms.amax(dim=0) > floor, as_tuple=True)
    return (z[token, feature] * norms[:, feature]).flatten()


def device_batch_threshold(
    z: Tensor, norms: Tensor, *, k: float, places: int, gate: str = "per_snapshot", shard: Shard = WHOLE
) -> Tensor:
    """Return what `batch_threshold` returns as a 0-d tensor, for a GPU: sizes are fixed, so that nothing is read back.

    Of each token the `places` features with the largest z · norm are looked at: it is exact when no token has more
    features above the threshold than that.
    """
    best = (z * norms.amax(dim=0)).topk(min(places, z.shape[1]), dim=1).indices  # [token, place]
    scores = z.gather(1, best)[:, :, None] * norms.T[best]  # [token, place, gate]
    scores = shard.join_scores(scores.flatten(), gate=gate)
    keep = round(k * z.shape[0] * shard.total_gates(len(norms), gate=gate))
    if len(scores) <= keep:
        return scores.new_zeros(())
    return scores.topk(keep + 1, sorted=False).values.amin().clamp_min(0)


def row_thresholds(z: Tensor, norms: Tensor, *, k: int, shard: Shard = WHOLE) -> Tensor:
    """Return the threshold above which each token's k largest positive z · norm lie, at each gate, [gate, token] (TopK).

    z [token, feature]; norms [gate, feature].
    """
    if k >= shard.total_features(z.shape[1]):
        return z.new_zeros(len(norms), len(z))
    best = torch.stack([(z * norm).topk(min(k + 1, len(norm)), dim=1).values for norm in norms])
    return shard.join_features(best, 2).topk(k + 1, dim=2).values[:, :, -1].clamp_min(0)


def in_window(u: Tensor, threshold: Tensor, *, width: float, include_negative: bool) -> Tensor:
    """Return where the straight-through estimate lets JumpReLU's threshold feel a pre-activation u = z · norm.

    |u − θ| < width / 2; the submitted code of the paper also counted negative u, later code only u > 0.
    """
    near = (u - threshold).abs() < width / 2
    return near if include_negative else near & (u > 0)
