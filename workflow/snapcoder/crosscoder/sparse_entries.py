"""What the sparse path of a GPU computes with: a batch's entries in a layout of fixed size, and when each is on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.gradients import Activation
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters
from snapcoder.crosscoder.sharding import WHOLE, Shard

NO_PENALTY, LINEAR, TANH = 0, 1, 2
_KINDS = {"none": NO_PENALTY, "l1": LINEAR, "tanh": TANH, "tanh_quad": TANH}


@dataclass(frozen=True)
class Entries:
    """Candidates for being on: feature [token, capacity] int32 and value [token, capacity], their z.

    A token with fewer candidates is filled up with feature = n_features and value = 0, which no gate lets through.
    candidates [token] int32 counts all that there were, count [token] int32 those that are listed, first in their row.
    """

    feature: Tensor
    value: Tensor
    count: Tensor
    candidates: Tensor

    @property
    def capacity(self) -> int:
        """Places per token."""
        return self.feature.shape[1]

    def by_feature(self, n_features: int) -> tuple[Tensor, Tensor]:
        """Return pointer [feature + 1] into the list of the same entries by feature, tokens in order, and that list.

        The list holds places in the flattened [token × capacity]; a place divided by the capacity is its token.
        """
        features, places = torch.sort(self.feature.flatten(), stable=True)
        bounds = torch.arange(n_features + 1, dtype=features.dtype, device=features.device)
        return torch.searchsorted(features, bounds), places


@dataclass(frozen=True)
class Gating:
    """When an entry is on, and what its penalty is.

    norm [feature, snapshot]; gate [feature, gate] is what z is multiplied with before it is compared with
    cut [feature] + lift [gate, token]; half_window is 0 when no threshold learns. Features, snapshots and gates are those
    of the shard.
    """

    norm: Tensor
    gate: Tensor
    cut: Tensor
    lift: Tensor
    half_window: float
    kind: int
    stretch: float
    shard: Shard = WHOLE

    @classmethod
    def of(
        cls,
        parameters: Parameters,
        threshold: Tensor | float,
        lift: Tensor | None,
        n_tokens: int,
        activation: Activation,
        penalty: Penalty,
        dtype: torch.dtype,
        norms: Tensor | None = None,
        shard: Shard = WHOLE,
    ) -> "Gating":
        """Return the gating of one batch, everything on the device of the parameters; norms as `parameters.norms()`."""
        if norms is None or norms.dtype != dtype:  # sums of squares of a bfloat16 decoder are taken in `dtype`
            norms = torch.linalg.vector_norm(parameters.decoder, dim=2, dtype=dtype)
        gate = gate_norms(norms, gate=activation.gate, shard=shard)
        if isinstance(threshold, Tensor):
            cut = threshold.to(norms).expand(norms.shape[1]).contiguous()
        else:
            cut = torch.full_like(norms[0], threshold)  # a fill needs no copy from the host, hence no wait
        raised = norms.new_zeros(len(gate), n_tokens) if lift is None else lift.to(dtype).contiguous()
        return cls(
            norm=norms.T.contiguous(),
            gate=gate.T.contiguous(),
            cut=cut,
            lift=raised,
            half_window=activation.window / 2 if activation.learns_threshold else 0.0,
            kind=_KINDS[penalty.kind],
            stretch=penalty.stretch,
            shard=shard,
        )

    def lowest(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return largest [feature], low [feature] and floor [token]: candidates have z · largest > max(low + floor, 0).

        They are over the gates of all processes, so that all list the same entries of a feature.
        """
        largest = self.shard.largest_over_snapshots(self.gate.amax(dim=1))
        return largest, self.cut - self.half_window, -self.shard.largest_over_snapshots(-self.lift.amin(dim=0))

    def open(self, value: Tensor, feature: Tensor, g: int, tokens: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return u = value · gate at gate `g`, whether it is on, and whether its threshold feels it, like value."""
        u = value * self.gate[feature, g]
        theta = self.cut[feature] + self.lift[g, tokens, None]
        inside = ((u - theta).abs() < self.half_window) & (u > 0)
        return u, u > theta, inside
