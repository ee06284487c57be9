"""Let dead features, and heads that fell silent at one snapshot, explain what the live ones leave over.

A head whose z · norm never passes the gate gets no gradient from the reconstruction: it would stay frozen for ever
(CROSSCODER 1.1c). Its auxiliary code is what it would have said. A feature that lives at other snapshots says z where
it is on there; of the features that are dead everywhere, the k with the largest z · norm speak for each token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.model import Parameters
from snapcoder.crosscoder.sharding import WHOLE, Shard


@dataclass(frozen=True)
class Addition:
    """Gradients of the auxiliary loss for some features: code [token, chosen], decoder [chosen, snapshot, model]."""

    loss: float
    features: Tensor
    code: Tensor
    decoder: Tensor

    def add_to(self, gradients: Parameters, x: Tensor) -> None:
        """Add them to the gradients of a step, in place; x [token, snapshot, model] are the same rows."""
        encoder = (self.code.T @ x.reshape(len(x), -1)).view(len(self.features), *x.shape[1:])
        gradients.encoder.permute(2, 0, 1).index_add_(0, self.features, encoder)
        gradients.encoder_bias.index_add_(0, self.features, self.code.sum(dim=0))
        gradients.decoder.permute(1, 0, 2).index_add_(0, self.features, self.decoder)


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
    shard: Shard = WHOLE,
) -> Addition | None:
    """Return weight · mean ‖residual − auxiliary reconstruction‖² and its gradients of z and decoder.

    z [token, feature]; residual [token, snapshot, model] is x − x̂, taken as given; dead [gate, feature] marks the
    features (shared gate) or heads (per-snapshot gate) that have not fired for long. None when nothing is dead. Tensors
    are those of the shard.
    """
    if weight == 0 or not shard.agree(bool(dead.any())):
        return None
    n_tokens, n_snapshots, _ = residual.shape
    scale = weight / (n_tokens * shard.total_snapshots(n_snapshots))
    features = torch.nonzero(shard.largest_over_snapshots(dead.any(dim=0).to(torch.uint8))).flatten()
    silent = dead[:, features].expand(n_snapshots, -1)  # [snapshot, dead feature]
    gating = gate_norms(parameters.norms(), gate=gate, shard=shard)
    norm = shard.largest_over_snapshots(gating.amax(dim=0))[features]
    own = z[:, features]
    speaks = is_on(own, norm, threshold.expand(z.shape[1])[features] if isinstance(threshold, Tensor) else threshold)
    buried = shard.largest_over_snapshots((~silent).any(dim=0).to(torch.uint8)) == 0
    speaks[:, buried] = _largest(own[:, buried] * norm[buried], k, shard) & (own[:, buried] > 0)
    code = own * speaks  # [token, dead feature]
    d_code, total = torch.zeros_like(code), 0.0
    d_decoder = code.new_empty(len(features), n_snapshots, residual.shape[2])
    for s in range(n_snapshots):
        decoder = parameters.decoder[s, features] * silent[s][:, None]
        error = shard.over_features(code @ decoder).sub_(residual[:, s])
        total += float(torch.linalg.vector_norm(error)) ** 2
        error *= 2 * scale
        d_code.addmm_(error, decoder.T)
        d_decoder[:, s] = (code.T @ error) * silent[s][:, None]
    d_code = shard.over_snapshots(d_code * speaks)
    return Addition(float(shard.number_over_snapshots(total * scale)), features, d_code, d_decoder)


def _largest(scores: Tensor, k: int, shard: Shard) -> Tensor:
    """Return the mask of each row's k largest scores of all features; everything when there are no more than k."""
    best = shard.join_features(scores.topk(min(k, scores.shape[1]), dim=1).values, 1)
    if best.shape[1] < k:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= best.topk(k, dim=1).values[:, -1:]
