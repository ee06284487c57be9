"""The kernels of the sparse path on a GPU, in Triton, and the functions that launch them.

Every program owns what it writes and adds in a fixed order: no atomics, so equal inputs give equal bits. Sums are
held in ACC, float32 (float64 for float64 activations), whatever the weights are stored in. A dictionary can have more
than 2^31 weights, so that every row offset is 64 bits wide. Weights are feature-major, [feature, snapshot × model].
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from snapcoder.crosscoder.sparse_entries import NO_PENALTY, Entries, Gating

_COLUMNS = 1024  # weights of one program
_FEATURES = 2048  # of one token, read at a time by the selection
_PLACES = 16  # entries of one feature, read at a time

# Named again for the kernels, which see no other globals than constexpr ones.
_LINEAR: tl.constexpr = tl.constexpr(1)
_NO_PENALTY: tl.constexpr = tl.constexpr(NO_PENALTY)
_HALVINGS: tl.constexpr = tl.constexpr(40)


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    # Only for x >= 0. The quotient loses digits near 0, where the series is exact to float32; from 20 on it is 1.
    x = tl.minimum(x, 20.0)
    squared = x * x
    near = x * (1.0 - squared * (1.0 / 3.0 - squared * (2.0 / 15.0 - squared * (17.0 / 315.0))))
    return tl.where(x < 0.1, near, 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0))


@triton.jit
def _slope(scaled, STRETCH: tl.constexpr, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    if KIND == _LINEAR:
        slope = scaled * 0.0 + 1.0
    else:
        bent = _tanh(STRETCH * scaled)
        slope = STRETCH * (1.0 - bent * bent)
    return slope


@triton.jit
def _margin(row, largest, low, floor, i, n_features):  # type: ignore[no-untyped-def]
    inside = i < n_features
    score = tl.load(row + i, mask=inside, other=0.0) * tl.load(largest + i, mask=inside, other=0.0)
    margin = score - tl.maximum(tl.load(low + i, mask=inside, other=0.0) + floor, 0.0)
    return tl.where(inside, margin, -1.0)


@triton.jit
def _select(  # type: ignore[no-untyped-def]
    z, largest, low, floors, feature, value, counts, candidates, n_features, capacity, BLOCK: tl.constexpr
):
    # One token: count the candidates; where they are too many, halve the interval that holds the level with at most
    # `capacity` above it; list what is above the level, features in order.
    b = tl.program_id(0).to(tl.int64)
    row = z + b * n_features
    floor = tl.load(floors + b)
    total = 0
    top = floor * 0.0
    for start in range(0, n_features, BLOCK):
        margin = _margin(row, largest, low, floor, start + tl.arange(0, BLOCK), n_features)
        total += tl.sum((margin > 0).to(tl.int32), axis=0)
        top = tl.maximum(top, tl.max(margin, axis=0))
    level = top * 0.0
    if total > capacity:
        under = top * 0.0
        level = top
        for _ in range(_HALVINGS):
            middle = 0.5 * (under + level)
            above = 0
            for start in range(0, n_features, BLOCK):
                margin = _margin(row, largest, low, floor, start + tl.arange(0, BLOCK), n_features)
                above += tl.sum((margin > middle).to(tl.int32), axis=0)
            level = tl.where(above <= capacity, middle, level)
            under = tl.where(above <= capacity, under, middle)
    listed = 0
    for start in range(0, n_features, BLOCK):
        i = start + tl.arange(0, BLOCK)
        keep = _margin(row, largest, low, floor, i, n_features) > level
        kept = keep.to(tl.int32)
        place = b * capacity + listed + tl.cumsum(kept, axis=0) - 1
        tl.store(feature + place, i, mask=keep)
        tl.store(value + place, tl.load(row + i, mask=keep, other=0.0), mask=keep)
        listed += tl.sum(kept, axis=0)
    tl.store(counts + b, listed)
    tl.store(candidates + b, total)


@triton.jit
def _reconstruct(  # type: ignore[no-untyped-def]
    feature, value, counts, decoder, bias, x, gate, cut, lift, error, squares, n_tokens, capacity, n_gates, width,
    row_size, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # One token and one block of columns: Σ_i f_i decoder_i + bias − x, and its sum of squares.
    b, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c = block * BLOCK + tl.arange(0, BLOCK)
    inside = c < row_size
    g = c // width
    lifted = tl.load(lift + g * n_tokens + b, mask=inside, other=0.0)
    total = tl.zeros([BLOCK], ACC)
    for j in range(tl.load(counts + b)):
        i = tl.load(feature + b * capacity + j).to(tl.int64)
        v = tl.load(value + b * capacity + j)
        on = (v * tl.load(gate + i * n_gates + g, mask=inside, other=0.0) > tl.load(cut + i) + lifted) & inside
        total += v * tl.load(decoder + i * row_size + c, mask=on, other=0.0).to(ACC)
    total += tl.load(bias + c, mask=inside, other=0.0).to(ACC)
    total -= tl.load(x + b * row_size + c, mask=inside, other=0.0).to(ACC)
    total = tl.where(inside, total, 0.0)
    tl.store(error + b * row_size + c, total, mask=inside)
    tl.store(squares + b * tl.num_programs(1) + block, tl.sum(total * total, axis=0))


@triton.jit
def _mean_penalty(  # type: ignore[no-untyped-def]
    pointer, places, value, norm, gate, cut, lift, q, n_tokens, capacity, n_snapshots, n_gates, KIND: tl.constexpr,
    STRETCH: tl.constexpr, ACC: tl.constexpr, SNAPSHOTS: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    # One feature: its penalty, summed over tokens and snapshots.
    i = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, SNAPSHOTS)
    real = s < n_snapshots
    g = s // (n_snapshots // n_gates)
    norms = tl.load(norm + i * n_snapshots + s, mask=real, other=0.0)
    gates = tl.load(gate + i * n_gates + g, mask=real, other=0.0)
    theta = tl.load(cut + i)
    total = tl.zeros([SNAPSHOTS], ACC)
    end = tl.load(pointer + i + 1)
    for start in range(tl.load(pointer + i), end, PLACES):
        place = start + tl.arange(0, PLACES)
        at = tl.load(places + place, mask=place < end, other=0)
        v = tl.load(value + at, mask=place < end, other=0.0)
        there = (place < end)[:, None] & real[None, :]
        lifted = tl.load(lift + g[None, :] * n_tokens + (at // capacity)[:, None], mask=there, other=0.0)
        on = (v[:, None] * gates[None, :] > theta + lifted) & there
        scaled = tl.where(on, v[:, None] * norms[None, :], 0.0)
        if KIND != _LINEAR:
            scaled = _tanh(STRETCH * scaled)
        total += tl.sum(scaled, axis=0)
    tl.store(q + i, tl.sum(total, axis=0))


@triton.jit
def _code_gradients(  # type: ignore[no-untyped-def]
    feature, value, counts, decoder, error, norm, gate, cut, lift, marginal, d_code, felt, n_tokens, capacity,
    n_snapshots, n_gates, width, row_size, KIND: tl.constexpr, STRETCH: tl.constexpr, HALF_WINDOW: tl.constexpr,
    ACC: tl.constexpr, SHARE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # One entry: ∂L/∂z, and what its threshold feels, Σ 1[window] ∂L/∂f / gate.
    b, j = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if j < tl.load(counts + b):
        i = tl.load(feature + b * capacity + j).to(tl.int64)
        v = tl.load(value + b * capacity + j).to(ACC)
        theta_i = tl.load(cut + i)
        total = v - v
        near = v - v
        for g in range(n_gates):
            norm_g = tl.load(gate + i * n_gates + g)
            u, theta = v * norm_g, theta_i + tl.load(lift + g * n_tokens + b)
            on = u > theta
            inside = (tl.abs(u - theta) < HALF_WINDOW) & (u > 0)
            if on | inside:
                products = tl.zeros([BLOCK], ACC)
                for start in range(0, width, BLOCK):
                    c = start + tl.arange(0, BLOCK)
                    e = tl.load(error + b * row_size + g * width + c, mask=c < width, other=0.0)
                    weight = tl.load(decoder + i * row_size + g * width + c, mask=c < width, other=0.0)
                    products += e * weight.to(ACC)
                part = tl.sum(products, axis=0)
                if KIND != _NO_PENALTY:
                    share = n_snapshots // n_gates
                    s = tl.arange(0, SHARE)
                    norms = tl.load(norm + i * n_snapshots + g * share + s, mask=s < share, other=0.0)
                    # A feature that is off has f = 0, where the slope is that of the origin.
                    scaled = tl.where(on, v * norms, 0.0)
                    part += tl.load(marginal + i) * tl.sum(norms * _slope(scaled, STRETCH, KIND), axis=0)
                total += tl.where(on, part, 0.0)
                near += tl.where(inside, part / norm_g, 0.0)
        tl.store(d_code + b * capacity + j, total)
        tl.store(felt + b * capacity + j, near)


@triton.jit
def _feature_sums(  # type: ignore[no-untyped-def]
    pointer, places, value, d_code, felt, norm, gate, cut, lift, marginal, d_bias, d_theta, fired, pull, n_tokens,
    capacity, n_features, n_snapshots, n_gates, KIND: tl.constexpr, STRETCH: tl.constexpr, ACC: tl.constexpr,
    SNAPSHOTS: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    # One feature: Σ ∂z, Σ felt, where it fired, and how strongly the penalty pulls each decoder row along itself.
    i = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, SNAPSHOTS)
    real = s < n_snapshots
    share = n_snapshots // n_gates
    g = s // share
    norms = tl.load(norm + i * n_snapshots + s, mask=real, other=0.0)
    gates = tl.load(gate + i * n_gates + g, mask=real, other=0.0)
    theta = tl.load(cut + i)
    bias = tl.zeros([PLACES], ACC)
    near = tl.zeros([PLACES], ACC)
    times_on = tl.zeros([SNAPSHOTS], tl.int32)
    slopes = tl.zeros([SNAPSHOTS], ACC)
    end = tl.load(pointer + i + 1)
    for start in range(tl.load(pointer + i), end, PLACES):
        place = start + tl.arange(0, PLACES)
        at = tl.load(places + place, mask=place < end, other=0)
        v = tl.load(value + at, mask=place < end, other=0.0)
        bias += tl.load(d_code + at, mask=place < end, other=0.0)
        near += tl.load(felt + at, mask=place < end, other=0.0)
        there = (place < end)[:, None] & real[None, :]
        lifted = tl.load(lift + g[None, :] * n_tokens + (at // capacity)[:, None], mask=there, other=0.0)
        on = (v[:, None] * gates[None, :] > theta + lifted) & there
        times_on += tl.sum(on.to(tl.int32), axis=0)
        if KIND != _NO_PENALTY:
            slope = _slope(tl.where(on, v[:, None] * norms[None, :], 0.0), STRETCH, KIND)
            slopes += tl.sum(tl.where(on, slope * v[:, None], 0.0), axis=0)
    tl.store(d_bias + i, tl.sum(bias, axis=0))
    tl.store(d_theta + i, tl.sum(near, axis=0))
    tl.store(fired + g * n_features + i, (times_on > 0).to(tl.int8), mask=real & (s % share == 0))
    if KIND != _NO_PENALTY:
        # A decoder row of exactly zero has no direction to grow in: its norm gets no gradient.
        along = tl.where(norms > 0, tl.load(marginal + i) * slopes / tl.where(norms > 0, norms, 1.0), 0.0)
        tl.store(pull + i * n_snapshots + s, along, mask=real)


@triton.jit
def _weight_gradients(  # type: ignore[no-untyped-def]
    pointer, places, value, d_code, x, error, decoder, gate, cut, lift, pull, d_encoder, d_decoder, n_tokens, capacity,
    n_snapshots, n_gates, width, row_size, KIND: tl.constexpr, ACC: tl.constexpr, ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # One feature and one block of columns of its encoder and decoder rows; ADD leaves those without entries alone.
    i = tl.program_id(0).to(tl.int64)
    first, end = tl.load(pointer + i), tl.load(pointer + i + 1)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < row_size
    if ADD:
        inside = c < tl.where(first < end, row_size, 0)
    g = c // width
    gates = tl.load(gate + i * n_gates + g, mask=inside, other=0.0)
    theta = tl.load(cut + i)
    own_encoder = tl.zeros([BLOCK], ACC)
    own_decoder = tl.zeros([BLOCK], ACC)
    if ADD:
        own_encoder += tl.load(d_encoder + i * row_size + c, mask=inside, other=0.0).to(ACC)
        own_decoder += tl.load(d_decoder + i * row_size + c, mask=inside, other=0.0).to(ACC)
    for place in range(first, end):
        at = tl.load(places + place)
        b = at // capacity
        v = tl.load(value + at)
        own_encoder += tl.load(d_code + at) * tl.load(x + b * row_size + c, mask=inside, other=0.0).to(ACC)
        on = (v * gates > theta + tl.load(lift + g * n_tokens + b, mask=inside, other=0.0)) & inside
        own_decoder += v * tl.load(error + b * row_size + c, mask=on, other=0.0)
    if KIND != _NO_PENALTY:
        along = tl.load(pull + i * n_snapshots + c // (row_size // n_snapshots), mask=inside, other=0.0)
        own_decoder += along * tl.load(decoder + i * row_size + c, mask=inside, other=0.0).to(ACC)
    tl.store(d_encoder + i * row_size + c, own_encoder, mask=inside)
    tl.store(d_decoder + i * row_size + c, own_decoder, mask=inside)


def select(z: Tensor, gating: Gating, capacity: int) -> Entries:
    """List each token's candidates in z [token, feature]; of too many, those are kept that pass the cut by most."""
    n_tokens, n_features = z.shape
    largest, low, floor = gating.lowest()
    feature = torch.full((n_tokens, capacity), n_features, dtype=torch.int32, device=z.device)
    value = z.new_zeros(n_tokens, capacity)
    count, candidates = (torch.empty(n_tokens, dtype=torch.int32, device=z.device) for _ in range(2))
    _select[(n_tokens,)](
        z, largest, low, floor, feature, value, count, candidates, n_features, capacity,
        BLOCK=min(_FEATURES, triton.next_power_of_2(n_features)), num_warps=8,
    )  # fmt: skip
    return Entries(feature, value, count, candidates)


def reconstruct(entries: Entries, decoder: Tensor, bias: Tensor, x: Tensor, gating: Gating) -> tuple[Tensor, Tensor]:
    """Return x̂ − x [token, snapshot × model] and the sum of its squares; decoder [feature, snapshot × model]."""
    (n_tokens, row_size), n_gates = x.shape, gating.gate.shape[1]
    block = _block(row_size)
    error = torch.empty_like(x, dtype=entries.value.dtype)
    squares = error.new_empty(n_tokens, triton.cdiv(row_size, block))
    _reconstruct[squares.shape](
        entries.feature, entries.value, entries.count, decoder, bias, x, gating.gate, gating.cut, gating.lift, error,
        squares, n_tokens, entries.capacity, n_gates, row_size // n_gates, row_size, ACC=_accumulator(error),
        BLOCK=block,
    )  # fmt: skip
    return error, squares.sum()


def penalty_sums(entries: Entries, listed: tuple[Tensor, Tensor], gating: Gating) -> Tensor:
    """Return the penalty's value summed over tokens and snapshots, [feature]; listed is `entries.by_feature`."""
    q, (n_features, n_snapshots) = torch.empty_like(gating.cut), gating.norm.shape
    _mean_penalty[(n_features,)](
        *listed, entries.value, gating.norm, gating.gate, gating.cut, gating.lift, q, len(entries.value),
        entries.capacity, n_snapshots, gating.gate.shape[1], KIND=gating.kind, STRETCH=gating.stretch,
        ACC=_accumulator(q), SNAPSHOTS=triton.next_power_of_2(n_snapshots), PLACES=_PLACES, num_warps=1,
    )  # fmt: skip
    return q


def code_gradients(
    entries: Entries, decoder: Tensor, e: Tensor, marginal: Tensor, gating: Gating
) -> tuple[Tensor, Tensor]:
    """Return ∂L/∂z of each entry and what its threshold feels, both [token, capacity]; e [token, snapshot × model]."""
    (n_tokens, row_size), n_snapshots, n_gates = e.shape, gating.norm.shape[1], gating.gate.shape[1]
    d_code, felt = torch.zeros_like(entries.value), torch.zeros_like(entries.value)
    _code_gradients[(n_tokens, entries.capacity)](
        entries.feature, entries.value, entries.count, decoder, e, gating.norm, gating.gate, gating.cut, gating.lift,
        marginal, d_code, felt, n_tokens, entries.capacity, n_snapshots, n_gates, row_size // n_gates, row_size,
        KIND=gating.kind, STRETCH=gating.stretch, HALF_WINDOW=gating.half_window, ACC=_accumulator(e),
        SHARE=triton.next_power_of_2(n_snapshots // n_gates), BLOCK=_block(row_size // n_gates),
    )  # fmt: skip
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
    (n_tokens, row_size), (n_features, n_snapshots) = x.shape, gating.norm.shape
    n_gates, block = gating.gate.shape[1], _block(row_size)
    d_bias, d_theta, pull = torch.empty_like(gating.cut), torch.empty_like(gating.cut), torch.empty_like(gating.norm)
    fired = torch.empty(n_gates, n_features, dtype=torch.int8, device=x.device)
    held = {"KIND": gating.kind, "ACC": _accumulator(e)}
    _feature_sums[(n_features,)](
        *listed, entries.value, d_code, felt, gating.norm, gating.gate, gating.cut, gating.lift, marginal, d_bias,
        d_theta, fired, pull, n_tokens, entries.capacity, n_features, n_snapshots, n_gates, STRETCH=gating.stretch,
        SNAPSHOTS=triton.next_power_of_2(n_snapshots), PLACES=_PLACES, num_warps=1, **held,
    )  # fmt: skip
    d_encoder, d_decoder = into or (torch.empty_like(decoder), torch.empty_like(decoder))
    _weight_gradients[(n_features, triton.cdiv(row_size, block))](
        *listed, entries.value, d_code, x, e, decoder, gating.gate, gating.cut, gating.lift, pull, d_encoder, d_decoder,
        n_tokens, entries.capacity, n_snapshots, n_gates, row_size // n_gates, row_size, ADD=into is not None, BLOCK=block,
        **held,
    )  # fmt: skip
    return d_encoder, d_decoder, d_bias, d_theta, fired.bool()


def _accumulator(like: Tensor) -> Any:
    return tl.float64 if like.dtype == torch.float64 else tl.float32


def _block(columns: int) -> int:
    return min(_COLUMNS, triton.next_power_of_2(columns))
