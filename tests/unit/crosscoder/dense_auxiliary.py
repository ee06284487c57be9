"""The auxiliary loss in dense products, as its formula says, and what compares the sparse ways with it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snapcoder.crosscoder.auxiliary import Opened
from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.model import Parameters, encode


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
) -> Addition | None:
    """Return weight · mean ‖residual − auxiliary reconstruction‖² and its gradients of z and decoder.

    z [token, feature]; residual [token, snapshot, model] is x − x̂, taken as given; dead [gate, feature] marks the
    features (shared gate) or heads (per-snapshot gate) that have not fired for long. None when nothing is dead.
    """
    if weight == 0 or not bool(dead.any()):
        return None
    n_tokens, n_snapshots, _ = residual.shape
    scale = weight / (n_tokens * n_snapshots)
    features = torch.nonzero(dead.any(dim=0)).flatten()
    silent = dead[:, features].expand(n_snapshots, -1)  # [snapshot, dead feature]
    gating = gate_norms(parameters.norms(), gate=gate)
    norm = gating.amax(dim=0)[features]
    own = z[:, features]
    speaks = is_on(own, norm, threshold.expand(z.shape[1])[features] if isinstance(threshold, Tensor) else threshold)
    buried = silent.all(dim=0)
    speaks[:, buried] = _largest(own[:, buried] * norm[buried], k) & (own[:, buried] > 0)
    code = own * speaks  # [token, dead feature]
    d_code, total = torch.zeros_like(code), 0.0
    d_decoder = code.new_empty(len(features), n_snapshots, residual.shape[2])
    for s in range(n_snapshots):
        decoder = parameters.decoder[s, features] * silent[s][:, None]
        error = (code @ decoder).sub_(residual[:, s])
        total += float(torch.linalg.vector_norm(error)) ** 2
        error *= 2 * scale
        d_code.addmm_(error, decoder.T)
        d_decoder[:, s] = (code.T @ error) * silent[s][:, None]
    return Addition(total * scale, features, d_code * speaks, d_decoder)


def _largest(scores: Tensor, k: int) -> Tensor:
    """Return the mask of each row's k largest scores; everything when there are no more than k."""
    if scores.shape[1] < k:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= scores.topk(k, dim=1).values[:, -1:]


AddTo = Callable[[Parameters, Opened, Tensor], None]
"""Adds the gradients of the auxiliary loss of weight 0.3 to a step's, given what is opened and the residual."""


def assert_added_as_dense(
    add: AddTo, gradients: Callable[[], Parameters], parameters: Parameters, x: Tensor, gate: str, cut: Tensor | float
) -> None:
    """Hold what a sparse way adds to `gradients` against the dense way; some are dead somewhere, four everywhere."""
    z, n_features = encode(parameters, x), parameters.n_features
    residual = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    n_gates = parameters.n_snapshots if gate == "per_snapshot" else 1
    dead = torch.rand(n_gates, n_features, generator=torch.Generator().manual_seed(2)) < 0.5
    dead[:, :4] = True  # more than may speak
    before, expected, found = (gradients() for _ in range(3))
    addition = auxiliary_loss(parameters, z, residual, dead, cut, gate=gate, k=2, weight=0.3)
    assert addition is not None
    addition.add_to(expected, x)
    add(found, Opened.to_the_dead(z, parameters.norms(), dead, cut, gate=gate, k=2), residual)
    for name in ("encoder", "decoder", "encoder_bias"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12, msg=name)
        assert not torch.equal(getattr(expected, name), getattr(before, name)), name


def assert_nothing_added(add: AddTo, parameters: Parameters, x: Tensor) -> None:
    """Hold that a sparse way adds nothing where nothing is dead."""
    found, nothing = parameters.map(torch.Tensor.clone), torch.zeros(parameters.norms().shape, dtype=torch.bool)
    z, norms = encode(parameters, x), parameters.norms()
    add(found, Opened.to_the_dead(z, norms, nothing, 0.1, gate="per_snapshot", k=3), x)
    for name, tensor in found.named().items():
        assert torch.equal(tensor, getattr(parameters, name)), name
