"""The loops of the sparse path on a CPU, compiled at first use: what a step does with the few features that are on.

Every loop runs over tokens or over features, one of them a thread, and adds in a fixed order: the result does not
depend on the number of threads. Arrays: indptr [token + 1], feature and value [entry] list a batch's entries by token;
pointer [feature + 1], token and entry [entry] list the same entries by feature. Weights are feature-major,
[feature, snapshot × model]; gate [feature, gate] is what z is multiplied with before it is compared with
cut [feature] + lift [gate, token].
"""

from typing import Any

import numba
import numpy as np

_PARALLEL: Any = {
    "parallel": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},  # sums may be reordered; inf and nan keep their meaning
}
NO_PENALTY, LINEAR, TANH = 0, 1, 2


@numba.njit(**_PARALLEL)
def count_entries(z, largest, low, counts):  # type: ignore[no-untyped-def]
    """Count each token's features with z · largest > low[feature]."""
    for b in numba.prange(z.shape[0]):
        n = 0
        for i in range(z.shape[1]):
            n += z[b, i] * largest[i] > low[i]
        counts[b] = n


@numba.njit(**_PARALLEL)
def fill_entries(z, largest, low, indptr, feature, value):  # type: ignore[no-untyped-def]
    """Write the entries that `count_entries` counted."""
    for b in numba.prange(z.shape[0]):
        at = indptr[b]
        for i in range(z.shape[1]):
            if z[b, i] * largest[i] > low[i]:
                feature[at] = i
                value[at] = z[b, i]
                at += 1


@numba.njit(cache=True)
def list_by_feature(indptr, feature, pointer, token, entry):  # type: ignore[no-untyped-def]
    """List the entries by feature, tokens in order; pointer starts as zeros."""
    for at in range(feature.shape[0]):
        pointer[feature[at] + 1] += 1
    for i in range(pointer.shape[0] - 1):
        pointer[i + 1] += pointer[i]
    free = pointer[:-1].copy()
    for b in range(indptr.shape[0] - 1):
        for at in range(indptr[b], indptr[b + 1]):
            place = free[feature[at]]
            token[place] = b
            entry[place] = at
            free[feature[at]] = place + 1


@numba.njit(**_PARALLEL)
def reconstruct(indptr, feature, value, decoder, gate, cut, lift, out):  # type: ignore[no-untyped-def]
    """Add each token's Σ_i f_i decoder_i to out [token, snapshot × model]."""
    n_gates = gate.shape[1]
    width = out.shape[1] // n_gates
    for b in numba.prange(out.shape[0]):
        row = out[b]
        for at in range(indptr[b], indptr[b + 1]):
            i, v = feature[at], value[at]
            g = 0
            while g < n_gates:
                first = g
                while g < n_gates and v * gate[i, g] > cut[i] + lift[g, b]:
                    g += 1
                for c in range(first * width, g * width):  # a run of open gates is one loop
                    row[c] += v * decoder[i, c]
                g += 1


@numba.njit(**_PARALLEL)
def mean_penalty(pointer, entry, token, value, norms, gate, cut, lift, kind, stretch, q):  # type: ignore[no-untyped-def]
    """Sum each feature's penalty value over tokens and snapshots; norms [feature, snapshot]."""
    n_snapshots, n_gates = norms.shape[1], gate.shape[1]
    share = n_snapshots // n_gates
    for i in numba.prange(q.shape[0]):
        total = 0.0
        for place in range(pointer[i], pointer[i + 1]):
            v, b = value[entry[place]], token[place]
            for g in range(n_gates):
                if v * gate[i, g] > cut[i] + lift[g, b]:
                    for s in range(g * share, (g + 1) * share):
                        scaled = v * norms[i, s]
                        total += scaled if kind == LINEAR else np.tanh(stretch * scaled)
        q[i] = total


@numba.njit(cache=True, error_model="numpy", fastmath=_PARALLEL["fastmath"])
def _open_product(e, decoder, v, gate, cut, lift, width):  # type: ignore[no-untyped-def]
    """Return Σ e · decoder over the snapshots whose gates are open."""
    total = v - v
    g = 0
    while g < gate.shape[0]:
        first = g
        while g < gate.shape[0] and v * gate[g] > cut + lift[g]:
            g += 1
        for c in range(first * width, g * width):
            total += e[c] * decoder[c]
        g += 1
    return total


@numba.njit(**_PARALLEL)
def code_gradients(  # type: ignore[no-untyped-def]
    indptr, feature, value, decoder, norms, gate, cut, lift, e, marginal, kind, stretch, half_window, d_code, felt
):
    """Write ∂L/∂z of each entry to d_code, and what its threshold feels, Σ 1[window] ∂L/∂f / gate, to felt.

    e [token, snapshot × model] is the gradient of the reconstruction; marginal [feature] the penalty's A / (B S).
    half_window is 0 when no threshold learns.
    """
    n_gates, n_snapshots = gate.shape[1], norms.shape[1]
    width, share = e.shape[1] // n_gates, n_snapshots // n_gates
    for b in numba.prange(e.shape[0]):
        for at in range(indptr[b], indptr[b + 1]):
            i, v = feature[at], value[at]
            if kind == NO_PENALTY and half_window == 0:  # nothing to tell gates apart by
                felt[at] = v - v
                d_code[at] = _open_product(e[b], decoder[i], v, gate[i], cut[i], lift[:, b], width)
                continue
            total = v - v
            near = v - v
            for g in range(n_gates):
                u, theta = v * gate[i, g], cut[i] + lift[g, b]
                on = u > theta
                inside = half_window > 0 and abs(u - theta) < half_window and u > 0
                if on or inside:
                    part = v - v
                    for c in range(g * width, (g + 1) * width):
                        part += e[b, c] * decoder[i, c]
                    if kind != NO_PENALTY:
                        for s in range(g * share, (g + 1) * share):
                            # A feature that is off has f = 0, where the slope is that of the origin.
                            scaled = v * norms[i, s] if on else v - v
                            slope = 1.0 if kind == LINEAR else stretch * (1.0 - np.tanh(stretch * scaled) ** 2)
                            part += marginal[i] * norms[i, s] * slope
                    if on:
                        total += part
                    if inside:
                        near += part / gate[i, g]
            d_code[at] = total
            felt[at] = near


@numba.njit(**_PARALLEL)
def weight_gradients(  # type: ignore[no-untyped-def]
    pointer, token, entry, value, d_code, felt, x, e, decoder, norms, gate, cut, lift, marginal, kind, stretch,
    d_encoder, d_decoder, d_bias, d_theta, fired,
):  # fmt: skip
    """Write the gradients of every feature's encoder and decoder row and bias, Σ felt, and where it fired."""
    n_gates, n_snapshots = gate.shape[1], norms.shape[1]
    width, share, d = e.shape[1] // n_gates, n_snapshots // n_gates, e.shape[1] // n_snapshots
    for i in numba.prange(pointer.shape[0] - 1):
        own_encoder, own_decoder = d_encoder[i], d_decoder[i]
        own_encoder[:] = 0
        own_decoder[:] = 0
        bias = 0.0
        theta = 0.0
        for place in range(pointer[i], pointer[i + 1]):
            b, at = token[place], entry[place]
            v, gradient = value[at], d_code[at]
            bias += gradient
            theta += felt[at]
            if gradient != 0:
                for c in range(own_encoder.shape[0]):
                    own_encoder[c] += gradient * x[b, c]
            g = 0
            while g < n_gates:
                first = g
                while g < n_gates and v * gate[i, g] > cut[i] + lift[g, b]:
                    fired[g, i] = True
                    g += 1
                for c in range(first * width, g * width):
                    own_decoder[c] += v * e[b, c]
                g += 1
        d_bias[i] = bias
        d_theta[i] = theta
        if kind != NO_PENALTY:
            for s in range(n_snapshots):
                if norms[i, s] > 0:
                    g = s // share
                    total = 0.0
                    for place in range(pointer[i], pointer[i + 1]):
                        v = value[entry[place]]
                        if v * gate[i, g] > cut[i] + lift[g, token[place]]:
                            slope = 1.0 if kind == LINEAR else stretch * (1.0 - np.tanh(stretch * v * norms[i, s]) ** 2)
                            total += slope * v
                    pull = marginal[i] * total / norms[i, s]
                    for c in range(s * d, (s + 1) * d):
                        own_decoder[c] += pull * decoder[i, c]
