"""The parameters that training starts from (CROSSCODER 1.5)."""

from collections.abc import Callable

import torch
from torch import Tensor

from snapcoder.crosscoder.gates import batch_threshold, gate_norms
from snapcoder.crosscoder.gradients import reconstruction_error
from snapcoder.crosscoder.model import Parameters, encode, initialise
from snapcoder.crosscoder.sharding import WHOLE, Shard
from snapcoder.study.crosscoder import CrosscoderSettings

_SEARCH_ROWS, _THRESHOLD_ROWS = 128, 64


def initial_parameters(x: Tensor, settings: CrosscoderSettings, shard: Shard = WHOLE) -> Parameters:
    """Return the initial parameters for data like x [token, snapshot, model], the norm found on its first rows.

    All processes draw the same dictionary; each keeps its part.
    """
    parameters = initialise(
        x.shape[1],
        x.shape[2],
        settings.n_features,
        norm=settings.init_norm or 1.0,
        threshold=settings.threshold_init,
        generator=torch.Generator().manual_seed(settings.seed),
        shard=shard,
        like=x,
    )
    if settings.init_norm is not None:
        return parameters
    sample = x[:_SEARCH_ROWS]

    def error(norm: float) -> float:
        candidate = with_norm(parameters, norm, shard)
        cut: float | Tensor = candidate.log_threshold.exp() if settings.arm == "jumprelu" else 0.0
        if settings.arm in ("batchtopk", "topk"):
            gating = gate_norms(candidate.norms(), gate=settings.gate, shard=shard)
            z = encode(candidate, sample[:_THRESHOLD_ROWS], shard=shard)
            cut = batch_threshold(z, gating, k=settings.k, gate=settings.gate, shard=shard)
        return reconstruction_error(candidate, sample, cut, gate=settings.gate, shard=shard)

    return with_norm(parameters, search_initial_norm(error), shard)


def with_norm(parameters: Parameters, norm: float, shard: Shard = WHOLE) -> Parameters:
    """Return initial parameters rescaled to another decoder norm, the encoder following as the transpose."""
    factor = norm / shard.mean(parameters.norms())
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
