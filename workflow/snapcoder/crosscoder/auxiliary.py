"""Let dead features, and heads that fell silent at one snapshot, explain what the live ones leave over.

A head whose z · norm never passes the gate gets no gradient from the reconstruction: it would stay frozen for ever
(CROSSCODER 1.1c). Its auxiliary code is what it would have said. A feature that lives at other snapshots says z where
it is on there; of the features that are dead everywhere, the buried ones, the k with the largest z · norm speak for each
token. The loss is weight · mean ‖residual − auxiliary reconstruction‖².

Such codes are sparse too. So the gradients are those of a sparse step with the residual as data and other gates: the
dead heads of what is on anywhere are open, and all others closed. `sparse_auxiliary` takes it on a CPU,
`sparse_auxiliary_gpu` on a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.model import Parameters
from snapcoder.crosscoder.sharding import WHOLE, Shard


@dataclass(frozen=True)
class Opened:
    """What the dead say: entry (token, feature) speaks at gates where z · gate > cut.

    z [token, feature]; norms [snapshot, feature] of the decoder; gate [gate, feature], 0 for the living; cut [feature].
    All are those of the shard.
    """

    z: Tensor
    norms: Tensor
    gate: Tensor
    cut: Tensor

    @classmethod
    def to_the_dead(
        cls,
        z: Tensor,
        norms: Tensor,
        dead: Tensor,
        threshold: Tensor | float,
        *,
        gate: str,
        k: int,
        shard: Shard = WHOLE,
    ) -> "Opened":
        """Open the gates of the dead.

        z [token, feature]; norms [snapshot, feature] of the decoder; dead [gate, feature] marks the features (shared
        gate) or heads (per-snapshot gate) that have not fired for long; threshold is that of the living.
        """
        largest = shard.largest_over_snapshots(gate_norms(norms, gate=gate, shard=shard).amax(dim=0))
        buried = shard.largest_over_snapshots((~dead).any(dim=0).to(torch.uint8)) == 0
        scores = torch.where(buried, z * largest, -torch.inf)
        best = shard.join_features(scores.topk(min(k, scores.shape[1]), dim=1).values, 1)
        level = best.topk(min(k, best.shape[1]), dim=1).values[:, -1:]
        return cls(
            z=torch.where(buried & (scores < level), 0.0, z),
            norms=norms,
            gate=torch.where(dead, largest, 0.0),
            cut=torch.where(buried, 0.0, torch.zeros_like(largest) + threshold),  # of the buried, z says who speaks
        )


def rows_in_place(gradients: Parameters) -> tuple[Tensor, Tensor]:
    """Return a step's gradients of encoder and decoder as views [feature, snapshot × model]: adding to them adds there."""
    encoder, decoder = gradients.encoder.permute(2, 0, 1), gradients.decoder.permute(1, 0, 2)
    return encoder.view(len(encoder), -1), decoder.view(len(decoder), -1)
