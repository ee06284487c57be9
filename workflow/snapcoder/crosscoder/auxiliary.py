"""Let dead features, and heads that fell silent at one snapshot, explain what the live ones leave over.

A head whose z · norm never passes the gate gets no gradient from the reconstruction: it would stay frozen for ever
(CROSSCODER 1.1c). Its auxiliary code is what it would have said. A feature that lives at other snapshots says z where
it is on there; of the features that are dead everywhere, the k with the largest z · norm speak for each token.
"""

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.model import Parameters


def auxiliary_loss(
    parameters: Parameters,
    z: Tensor,
    residual: Tensor,
    dead: Tensor,
    threshold: Tensor | float,
    *,
    gate: str,
    k: int,
    weight: float,
) -> tuple[float, tuple[Tensor, Tensor] | None]:
    """Return weight · mean ‖residual − auxiliary reconstruction‖² and its gradients of z and decoder.

    z [token, feature]; residual [token, snapshot, model] is x − x̂, taken as given; dead [gate, feature] marks the
    features (shared gate) or heads (per-snapshot gate) that have not fired for long. None when nothing is dead.
    """
    if weight == 0 or not bool(dead.any()):
        return 0.0, None
    n_tokens, n_snapshots, _ = residual.shape
    scale = weight / (n_tokens * n_snapshots)
    features = torch.nonzero(dead.any(dim=0)).flatten()
    silent = dead[:, features].expand(n_snapshots, -1)  # [snapshot, dead feature]
    norm = gate_norms(parameters.norms(), gate=gate).amax(dim=0)[features]
    own = z[:, features]
    speaks = is_on(own, norm, threshold[features] if isinstance(threshold, Tensor) else threshold)
    buried = silent.all(dim=0)
    speaks[:, buried] = _largest(own[:, buried] * norm[buried], k) & (own[:, buried] > 0)
    code = own * speaks  # [token, dead feature]
    d_code, d_decoder, total = torch.zeros_like(code), torch.zeros_like(parameters.decoder), 0.0
    for s in range(n_snapshots):
        decoder = parameters.decoder[s, features] * silent[s][:, None]
        error = torch.addmm(residual[:, s], code, decoder, beta=-1)  # auxiliary reconstruction − residual
        total += float(torch.linalg.vector_norm(error)) ** 2
        error *= 2 * scale
        d_code.addmm_(error, decoder.T)
        d_decoder[s, features] = (code.T @ error) * silent[s][:, None]
    d_z = torch.zeros_like(z)
    d_z[:, features] = d_code * speaks
    return total * scale, (d_z, d_decoder)


def _largest(scores: Tensor, k: int) -> Tensor:
    """Return the mask of each row's k largest scores; everything when there are no more than k."""
    mask = torch.ones_like(scores, dtype=torch.bool)
    if scores.shape[1] > k:
        mask.zero_().scatter_(1, scores.topk(k, dim=1).indices, True)
    return mask
