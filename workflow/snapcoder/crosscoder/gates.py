"""When a feature is on: the gate, BatchTopK's threshold, and JumpReLU's straight-through window (CROSSCODER 1.1–1.3)."""

import numpy as np
import torch
from torch import Tensor


def gate_norms(norms: Tensor, *, gate: str) -> Tensor:
    """Return the norms that a gate multiplies z with, [gate, feature].

    per_snapshot: the decoder norm of each snapshot, one gate per snapshot; shared: the root mean square over
    snapshots, one gate for all. norms [snapshot, feature].
    """
    if gate == "per_snapshot":
        return norms
    if gate == "shared":
        return norms.square().mean(dim=0, keepdim=True).sqrt()
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


def batch_threshold(z: Tensor, norms: Tensor, *, k: float, floor: float = 0.0) -> float:
    """Return the threshold above which k entries per token and gate lie, ties aside (BatchTopK).

    z [token, feature]; norms [gate, feature]. Candidates are only the entries whose largest z · norm exceeds `floor`
    (a fraction of the last threshold): a few percent, where an exact top-k over all [token, gate, feature] entries
    would cost more than the matrix products of a training step. When the floor leaves too few, it falls back to 0.
    """
    keep = round(k * z.shape[0] * norms.shape[0])
    token, feature = torch.nonzero(z * norms.amax(dim=0) > floor, as_tuple=True)
    scores = (z[token, feature] * norms[:, feature]).flatten()  # [gate × candidate]
    scores = scores[scores > floor]
    if len(scores) <= keep:
        return batch_threshold(z, norms, k=k) if floor > 0 else 0.0
    # The (keep + 1)-th largest: a strict comparison with it keeps `keep` entries.
    rank = len(scores) - keep - 1
    return float(np.partition(scores.cpu().numpy(), rank)[rank])


def in_window(u: Tensor, threshold: Tensor, *, width: float, include_negative: bool) -> Tensor:
    """Return where the straight-through estimate lets JumpReLU's threshold feel a pre-activation u = z · norm.

    |u − θ| < width / 2; the submitted code of the paper also counted negative u, later code only u > 0.
    """
    near = (u - threshold).abs() < width / 2
    return near if include_negative else near & (u > 0)
