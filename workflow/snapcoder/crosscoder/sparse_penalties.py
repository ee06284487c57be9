"""The loops of the sparse path on a CPU that only a sparsity penalty needs; arrays as in `sparse_kernels`.

norms [snapshot, feature]; marginal [feature] is the penalty's A / (B S).
"""

import numba
import numpy as np

from snapcoder.crosscoder.compilation import FAST, PARALLEL

LINEAR, TANH = 1, 2


@numba.njit(**PARALLEL)
def mean_penalty(pointer, token, code, norms, gate, cut, lift, kind, stretch, q):  # type: ignore[no-untyped-def]
    """Sum each feature's penalty value over tokens and snapshots."""
    share = norms.shape[0] // gate.shape[0]
    for i in numba.prange(q.shape[0]):
        total = 0.0
        for place in range(pointer[i], pointer[i + 1]):
            v, b = code[place], token[place]
            for g in range(gate.shape[0]):
                if v * gate[g, i] > cut[i] + lift[g, b]:
                    for s in range(g * share, (g + 1) * share):
                        scaled = v * norms[s, i]
                        total += scaled if kind == LINEAR else np.tanh(stretch * scaled)
        q[i] = total


@numba.njit(**FAST)
def _slope(scaled, kind, stretch):  # type: ignore[no-untyped-def]
    return 1.0 if kind == LINEAR else stretch * (1.0 - np.tanh(stretch * scaled) ** 2)


@numba.njit(**PARALLEL)
def add_to_code_gradients(  # type: ignore[no-untyped-def]
    indptr, feature, value, norms, gate, cut, lift, marginal, kind, stretch, half_window, d_code, felt
):
    """Add what the penalty adds to `sparse_kernels.code_gradients`' d_code and felt."""
    share = norms.shape[0] // gate.shape[0]
    for b in numba.prange(indptr.shape[0] - 1):
        for at in range(indptr[b], indptr[b + 1]):
            i, v = feature[at], value[at]
            for g in range(gate.shape[0]):
                u, theta = v * gate[g, i], cut[i] + lift[g, b]
                on, inside = u > theta, abs(u - theta) < half_window and u > 0
                if on or inside:
                    pull = 0.0
                    for s in range(g * share, (g + 1) * share):
                        # A feature that is off has f = 0, where the slope is that of the origin.
                        pull += norms[s, i] * _slope(v * norms[s, i] if on else v - v, kind, stretch)
                    pull *= marginal[i]
                    if on:
                        d_code[at] += pull
                    if inside:
                        felt[at] += pull / gate[g, i]


@numba.njit(**PARALLEL)
def add_to_decoder_gradients(  # type: ignore[no-untyped-def]
    pointer, token, code, decoder, norms, gate, cut, lift, marginal, kind, stretch, d_decoder
):
    """Add the pull of the penalty on the norms of every decoder row; decoder and d_decoder [feature, snapshot, model]."""
    share = norms.shape[0] // gate.shape[0]
    for i in numba.prange(pointer.shape[0] - 1):
        for s in range(norms.shape[0]):
            if norms[s, i] > 0:
                g = s // share
                total = 0.0
                for place in range(pointer[i], pointer[i + 1]):
                    v = code[place]
                    if v * gate[g, i] > cut[i] + lift[g, token[place]]:
                        total += _slope(v * norms[s, i], kind, stretch) * v
                pull = marginal[i] * total / norms[s, i]
                for c in range(decoder.shape[2]):
                    d_decoder[i, s, c] += pull * decoder[i, s, c]
