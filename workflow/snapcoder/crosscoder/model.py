"""The crosscoder's parameters, its encoder (one product over all snapshots) and its decoder (CROSSCODER 1.1, 1.5)."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.storage.dictionaries import Dictionary


@dataclass(frozen=True)
class Parameters:
    """Weights of one crosscoder; the same container holds their gradients.

    encoder [snapshot, model, feature]; decoder [snapshot, feature, model]; encoder_bias [feature];
    decoder_bias [snapshot, model]; log_threshold [feature] (JumpReLU only; the others keep it unused).
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


def product(left: Tensor, right: Tensor, *, precision: str) -> Tensor:
    """Return left @ right, its operands rounded to bfloat16 when `precision` is "bf16"; the result has left's dtype."""
    if precision == "bf16":
        return (left.to(torch.bfloat16) @ right.to(torch.bfloat16)).to(left.dtype)
    return left @ right


def encode(parameters: Parameters, x: Tensor, *, precision: str = "fp32") -> Tensor:
    """Return the shared pre-activations z [token, feature] of normalised activations x [token, snapshot, model].

    z = Σ_s x_s · encoder[s] + bias is one matrix product over the concatenated snapshots.
    """
    n_snapshots, d_model, n_features = parameters.encoder.shape
    flat = x.reshape(len(x), n_snapshots * d_model)
    weights = parameters.encoder.reshape(n_snapshots * d_model, n_features)
    return product(flat, weights, precision=precision) + parameters.encoder_bias


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
    n_snapshots: int, d_model: int, n_features: int, *, norm: float, threshold: float, generator: torch.Generator
) -> Parameters:
    """Return initial parameters: one head ~ U(−1, 1), scaled to `norm`, copied to all snapshots; encoder = decoderᵀ.

    All heads start equal, so that differences between snapshots are learnt, not drawn (CROSSCODER 1.5).
    """
    head = torch.rand(n_features, d_model, generator=generator) * 2 - 1  # [feature, model]
    head *= norm / head.norm(dim=1, keepdim=True)
    decoder = head.expand(n_snapshots, n_features, d_model).contiguous()
    return Parameters(
        encoder=decoder.transpose(1, 2).contiguous(),
        decoder=decoder,
        encoder_bias=torch.zeros(n_features),
        decoder_bias=torch.zeros(n_snapshots, d_model),
        log_threshold=torch.full((n_features,), float(torch.tensor(threshold).log())),
    )


def with_norm(parameters: Parameters, norm: float) -> Parameters:
    """Return initial parameters rescaled to another decoder norm, the encoder following as the transpose."""
    factor = norm / parameters.norms().mean()
    return Parameters(
        encoder=parameters.encoder * factor,
        decoder=parameters.decoder * factor,
        encoder_bias=parameters.encoder_bias,
        decoder_bias=parameters.decoder_bias,
        log_threshold=parameters.log_threshold,
    )


def search_initial_norm(error: Callable[[float], float]) -> float:
    """Return the decoder norm with the lowest initial reconstruction error, by a coarse and a fine grid.

    error(norm) is the mean squared error on one batch. The grid is geometric and reaches below the authors' 0.1: the
    encoder adds up S aligned heads, so that the best norm falls as 1/√S and their lower limit can bind.
    """
    coarse = [0.02 * 1.35**i for i in range(19)]  # 0.02 … 4.4
    best = min(coarse, key=error)
    fine = [best * factor for factor in (0.8, 0.85, 0.9, 0.95, 1.0, 1.06, 1.12, 1.18, 1.25)]
    return min(fine, key=error)


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
