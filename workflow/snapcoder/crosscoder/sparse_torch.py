"""The sparse path of a GPU in torch operations only: for GPUs without Triton, and to compare the kernels with.

Rows of the decoder are gathered for some tokens at a time, so that the work space stays below `WORK_ELEMENTS` numbers
beside one chunk of [token, feature]. Weight gradients are added up by `index_add_`, whose order of sums on a GPU is
not fixed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from snapcoder.crosscoder.sparse_entries import LINEAR, NO_PENALTY, Entries, Gating

WORK_ELEMENTS = 64 << 20  # numbers in one gathered block


def select(z: Tensor, gating: Gating, capacity: int) -> Entries:
    """List each token's candidates in z [token, feature]; of too many, those are kept that pass the cut by most."""
    n_features = z.shape[1]
    largest, low, floor = gating.lowest()
    parts = []
    for tokens in _chunks(len(z), n_features):
        margin = z[tokens] * largest - (low + floor[tokens, None]).clamp_min(0)
        candidates = (margin > 0).sum(dim=1, dtype=torch.int32)
        kept = margin.topk(min(capacity, n_features), dim=1)
        passes = kept.values > 0
        feature = torch.where(passes, kept.indices, n_features).to(torch.int32)
        value = torch.where(passes, z[tokens].gather(1, kept.indices), 0)
        unused = (0, capacity - feature.shape[1])
        feature = torch.nn.functional.pad(feature, unused, value=n_features)
        value = torch.nn.functional.pad(value, unused)
        parts.append((feature, value, candidates.clamp_max(capacity), candidates))
    return Entries(*(torch.cat(part) for part in zip(*parts, strict=True)))


def reconstruct(entries: Entries, decoder: Tensor, bias: Tensor, x: Tensor, gating: Gating) -> tuple[Tensor, Tensor]:
    """Return x̂ − x [token, snapshot × model] and the sum of its squares; decoder [feature, snapshot × model]."""
    error = bias.to(entries.value.dtype) - x
    for tokens, g, columns, feature in _gathers(entries, decoder, gating):
        value = entries.value[tokens]
        _, on, _ = gating.open(value, feature, g, tokens)
        code = torch.where(on, value, 0)[:, None]  # [token, 1, capacity]
        error[tokens, columns] += (code @ decoder[feature, columns].to(error.dtype))[:, 0]
    return error, torch.linalg.vector_norm(error).square()


def penalty_sums(entries: Entries, listed: tuple[Tensor, Tensor], gating: Gating) -> Tensor:
    """Return the penalty's value summed over tokens and snapshots, [feature]."""
    q = torch.zeros_like(gating.cut)
    for g, s in _snapshots(gating):
        feature, v = _known(entries, gating), entries.value
        _, on, _ = gating.open(v, feature, g, slice(None))
        scaled = torch.where(on, v * gating.norm[feature, s], 0)
        own = scaled if gating.kind == LINEAR else torch.tanh(gating.stretch * scaled)
        q.index_add_(0, feature.flatten(), own.flatten())
    return q


def code_gradients(
    entries: Entries, decoder: Tensor, e: Tensor, marginal: Tensor, gating: Gating
) -> tuple[Tensor, Tensor]:
    """Return ∂L/∂z of each entry and what its threshold feels, both [token, capacity]; e [token, snapshot × model]."""
    d_code, felt = torch.zeros_like(entries.value), torch.zeros_like(entries.value)
    share = gating.norm.shape[1] // gating.gate.shape[1]
    for tokens, g, columns, feature in _gathers(entries, decoder, gating):
        value = entries.value[tokens]
        _, on, inside = gating.open(value, feature, g, tokens)
        part = (decoder[feature, columns].to(e.dtype) @ e[tokens, columns, None])[..., 0]
        if gating.kind != NO_PENALTY:
            for s in range(g * share, (g + 1) * share):
                norm = gating.norm[feature, s]
                # A feature that is off has f = 0, where the slope is that of the origin.
                part += marginal[feature] * norm * _slope(torch.where(on, value * norm, 0), gating)
        d_code[tokens] += torch.where(on, part, 0)
        felt[tokens] += torch.where(inside, part / gating.gate[feature, g], 0)
    return d_code, felt


def weight_gradients(
    entries: Entries,
    listed: tuple[Tensor, Tensor],
    d_code: Tensor,
    felt: Tensor,
    decoder: Tensor,
    x: Tensor,
    e: Tensor,
    marginal: Tensor,
    gating: Gating,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of encoder and decoder [feature, snapshot × model] and of the encoder bias [feature].

    Then Σ felt [feature], and fired [gate, feature]. Weight gradients have the decoder's dtype. The first two are added
    to those of `into` when it is given.
    """
    if into is None:
        d_encoder, d_decoder = (torch.zeros_like(decoder, dtype=e.dtype) for _ in range(2))
    else:
        d_encoder, d_decoder = into
    d_bias, d_theta = torch.zeros_like(gating.cut), torch.zeros_like(gating.cut)
    n_gates, n_features = gating.gate.shape[1], len(gating.gate)
    times_on = torch.zeros(n_gates, n_features, dtype=torch.int32, device=x.device)
    for tokens, g, columns, feature in _gathers(entries, decoder, gating):
        value, flat = entries.value[tokens], feature.flatten()
        _, on, _ = gating.open(value, feature, g, tokens)
        times_on[g].index_add_(0, flat, on.flatten().int())
        code = torch.where(on, value, 0)
        _add_products(d_decoder[:, columns], flat, code, e[tokens, columns])
        _add_products(d_encoder[:, columns], flat, d_code[tokens], x[tokens, columns].to(e.dtype))
    every = _known(entries, gating).flatten()
    d_bias.index_add_(0, every, d_code.flatten())
    d_theta.index_add_(0, every, felt.flatten())
    if gating.kind != NO_PENALTY:
        _add_pull(d_decoder, entries, decoder, marginal, gating)
    return d_encoder.to(decoder.dtype), d_decoder.to(decoder.dtype), d_bias, d_theta, times_on > 0


def _add_pull(d_decoder: Tensor, entries: Entries, decoder: Tensor, marginal: Tensor, gating: Gating) -> None:
    """Add the penalty's gradient of the decoder norms, along each row."""
    feature, v = _known(entries, gating), entries.value
    d_model = decoder.shape[1] // gating.norm.shape[1]
    for g, s in _snapshots(gating):
        norm, columns = gating.norm[:, s], slice(s * d_model, (s + 1) * d_model)
        _, on, _ = gating.open(v, feature, g, slice(None))
        slopes = torch.where(on, _slope(torch.where(on, v * norm[feature], 0), gating) * v, 0)
        total = torch.zeros_like(norm).index_add_(0, feature.flatten(), slopes.flatten())
        # A decoder row of exactly zero has no direction to grow in: its norm gets no gradient.
        pull = marginal * total / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        d_decoder[:, columns] += pull[:, None] * decoder[:, columns]


def _add_products(sums: Tensor, feature: Tensor, code: Tensor, rows: Tensor) -> None:
    """Add code [token, capacity] times rows [token, column] to the features' sums [feature, column]."""
    sums.index_add_(0, feature, (code[..., None] * rows[:, None]).flatten(0, 1))


def _slope(scaled: Tensor, gating: Gating) -> Tensor:
    if gating.kind == LINEAR:
        return torch.ones_like(scaled)
    return gating.stretch * (1 - torch.tanh(gating.stretch * scaled).square())


def _known(entries: Entries, gating: Gating) -> Tensor:
    """Return features that can be looked up: an unused place has value 0, so that any feature will do."""
    return entries.feature.clamp_max(len(gating.gate) - 1).long()


def _gathers(entries: Entries, decoder: Tensor, gating: Gating) -> Iterator[tuple[slice, int, slice, Tensor]]:
    """Yield chunks of tokens with each gate, its columns of the decoder, and the tokens' features [token, capacity]."""
    n_gates = gating.gate.shape[1]
    width = decoder.shape[1] // n_gates
    features = _known(entries, gating)
    for tokens in _chunks(len(features), entries.capacity * width):
        for g in range(n_gates):
            yield tokens, g, slice(g * width, (g + 1) * width), features[tokens]


def _snapshots(gating: Gating) -> Iterator[tuple[int, int]]:
    """Yield each snapshot with its gate before it."""
    n_snapshots, n_gates = gating.norm.shape[1], gating.gate.shape[1]
    for s in range(n_snapshots):
        yield s * n_gates // n_snapshots, s


def _chunks(n_tokens: int, numbers_per_token: int) -> Iterator[slice]:
    size = max(1, WORK_ELEMENTS // numbers_per_token)
    for start in range(0, n_tokens, size):
        yield slice(start, min(start + size, n_tokens))
