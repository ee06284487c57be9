"""The crosscoder's parameters, its encoder (one product over all snapshots) and its decoder (CROSSCODER 1.1, 1.5)."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.storage.dictionaries import Dictionary


@dataclass(frozen=True)
class Parameters:
    """Weights of one crosscoder; the same container holds their gradients.

    encoder [snapshot, model, feature]; decoder [snapshot, feature, model]; encoder_bias [feature];
    decoder_bias [snapshot, model]; log_threshold [feature] (JumpReLU only; the others keep it unused).
    While training, encoder and decoder are views of feature-major memory, [feature, snapshot, model]: one product makes
    all pre-activations, and everything about one feature lies together.
    """

    encoder: Tensor
    decoder: Tensor
    encoder_bias: Tensor
    decoder_bias: Tensor
    log_threshold: Tensor

    @property
    def n_snapshots(self) -> int:
        """S."""
        return self.decoder.shape[0]

    @property
    def n_features(self) -> int:
        """F."""
        return self.decoder.shape[1]

    def norms(self) -> Tensor:
        """Return the decoder norms [snapshot, feature]."""
        return self.decoder.norm(dim=2)

    def named(self) -> dict[str, Tensor]:
        """Return the tensors by name, in declared order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def map(self, change: Callable[[Tensor], Tensor]) -> "Parameters":
        """Return new parameters with `change` applied to every tensor."""
        return Parameters(**{name: change(tensor) for name, tensor in self.named().items()})


def rows_of(weights: Tensor) -> Tensor:
    """Return a decoder [snapshot, feature, model] as [feature, snapshot × model], without a copy if it lies so."""
    return weights.transpose(0, 1).reshape(weights.shape[1], -1)


def product(left: Tensor, right: Tensor, *, precision: str) -> Tensor:
    """Return left @ right, its operands rounded to bfloat16 when `precision` is "bf16"; the result has left's dtype."""
    if precision == "bf16":
        return (left.to(torch.bfloat16) @ right.to(torch.bfloat16)).to(left.dtype)
    return left @ right


def encode(parameters: Parameters, x: Tensor, *, precision: str = "fp32", shard: Shard = WHOLE) -> Tensor:
    """Return the shared pre-activations z [token, feature] of normalised activations x [token, snapshot, model].

    z = Σ_s x_s · encoder[s] + bias is one matrix product over the concatenated snapshots. parameters, x and z are
    those of the shard.
    """
    n_snapshots, d_model, n_features = parameters.encoder.shape
    flat = x.reshape(len(x), n_snapshots * d_model)
    weights = parameters.encoder.reshape(n_snapshots * d_model, n_features)  # a view of feature-major memory
    return shard.over_snapshots(product(flat, weights, precision=precision)).add_(parameters.encoder_bias)


def decode(parameters: Parameters, z: Tensor, threshold: Tensor, *, gate: str) -> Tensor:
    """Return the reconstructions [token, snapshot, model] of pre-activations z [token, feature].

    Loops over snapshots, so no [token, snapshot, feature] tensor exists. threshold [feature] is in units of z · norm.
    """
    norms = gate_norms(parameters.norms(), gate=gate)
    return torch.stack(
        [
            z.mul(is_on(z, norms[s % len(norms)], threshold)) @ parameters.decoder[s] + parameters.decoder_bias[s]
            for s in range(parameters.n_snapshots)
        ],
        dim=1,
    )


def initialise(
    n_snapshots: int,
    d_model: int,
    n_features: int,
    *,
    norm: float,
    threshold: float,
    generator: torch.Generator,
    shard: Shard = WHOLE,
    like: Tensor | None = None,
) -> Parameters:
    """Return initial parameters: one head ~ U(−1, 1), scaled to `norm`, copied to all snapshots; encoder = decoderᵀ.

    All heads start equal, so that differences between snapshots are learnt, not drawn (CROSSCODER 1.5). n_snapshots
    and the result are those of the shard; n_features are all, which every process draws, to keep its own. The result
    has the dtype and the device of `like`.
    """
    head = (torch.rand(n_features, d_model, generator=generator) * 2 - 1)[shard.features]  # [feature, model]
    n_features = len(head)
    head *= norm / head.norm(dim=1, keepdim=True)
    head = head if like is None else head.to(like)  # before it is copied to all snapshots
    decoder, encoder = (head[:, None].repeat(1, n_snapshots, 1) for _ in range(2))  # never the same memory
    return Parameters(
        encoder=encoder.permute(1, 2, 0),
        decoder=decoder.permute(1, 0, 2),
        encoder_bias=head.new_zeros(n_features),
        decoder_bias=head.new_zeros(n_snapshots, d_model),
        log_threshold=head.new_full((n_features,), float(torch.tensor(threshold).log())),
    )


def from_dictionary(dictionary: Dictionary) -> Parameters:
    """Return a stored dictionary's weights as tensors."""
    threshold = torch.from_numpy(dictionary.threshold)
    return Parameters(
        encoder=torch.from_numpy(dictionary.encoder),
        decoder=torch.from_numpy(dictionary.decoder),
        encoder_bias=torch.from_numpy(dictionary.encoder_bias),
        decoder_bias=torch.from_numpy(dictionary.decoder_bias),
        log_threshold=threshold.clamp_min(1e-30).log(),
    )
