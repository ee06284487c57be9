"""The loops of the sparse path on a CPU, compiled at first use: what a step does with the few features that are on.

Every token, or every feature, is summed by one thread in a fixed order: the result depends neither on the number of
threads nor on how `bounds` [part + 1] divides tokens or features among them.

Arrays: entries as in `entry_kernels`. Weights and activations are cut into blocks of columns, [feature or token, block,
column], one or several per gate: a view of one block has no offset that a compiler would have to prove positive, and a
block of all rows fits the second-level cache, where a matrix of whole rows would not. gate [gate, feature] is what z is
multiplied with before it is compared with cut [feature] + lift [gate, token].
"""

import numba
import numpy as np

from snapcoder.crosscoder.compilation import FAST, PARALLEL

LARGEST_BLOCK = 192
"""Columns of a block at most: 3072 rows of 4-byte numbers are then about as large as the second-level cache."""


def block_width(width: int) -> int:
    """Return into what blocks of columns a gate's `width` columns are cut: halves of halves, down to LARGEST_BLOCK."""
    while width > LARGEST_BLOCK and width % 2 == 0:
        width //= 2
    return width


@numba.njit(**FAST)
def add_rows(out, weight, row, n, matrix, block):  # type: ignore[no-untyped-def]
    """Add Σ_j weight[j] · matrix[row[j], block] to out [column], j < n.

    Four rows share one pass, so that `out` is loaded and stored once for four multiplications.
    """
    j = 0
    while j + 4 <= n:
        w0, w1, w2, w3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        m0, m1 = matrix[row[j], block], matrix[row[j + 1], block]
        m2, m3 = matrix[row[j + 2], block], matrix[row[j + 3], block]
        for c in range(out.shape[0]):
            out[c] += w0 * m0[c] + w1 * m1[c] + w2 * m2[c] + w3 * m3[c]
        j += 4
    while j < n:
        w0, m0 = weight[j], matrix[row[j], block]
        for c in range(out.shape[0]):
            out[c] += w0 * m0[c]
        j += 1


@numba.njit(**FAST)
def multiply_rows(out, vector, row, n, matrix, block):  # type: ignore[no-untyped-def]
    """Write Σ_c vector[c] · matrix[row[j], block, c] to out[j], j < n."""
    zero = vector.dtype.type(0)
    j = 0
    while j + 4 <= n:
        m0, m1 = matrix[row[j], block], matrix[row[j + 1], block]
        m2, m3 = matrix[row[j + 2], block], matrix[row[j + 3], block]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for c in range(vector.shape[0]):
            s0 += vector[c] * m0[c]
            s1 += vector[c] * m1[c]
            s2 += vector[c] * m2[c]
            s3 += vector[c] * m3[c]
        out[j], out[j + 1], out[j + 2], out[j + 3] = s0, s1, s2, s3
        j += 4
    while j < n:
        m0, s0 = matrix[row[j], block], zero
        for c in range(vector.shape[0]):
            s0 += vector[c] * m0[c]
        out[j] = s0
        j += 1


@numba.njit(**FAST)
def _list_open(first, last, feature, value, gate, cut, lift, half_window, row, code, place):  # type: ignore[no-untyped-def]
    """List the entries whose gate is open, or less than half_window from it; return how many there are."""
    n = 0
    for at in range(first, last):
        i, v = feature[at], value[at]
        u, theta = v * gate[i], cut[i] + lift
        row[n], code[n], place[n] = (
            i,
            v,
            at,
        )  # overwritten by the next one when its gate is closed: no jump to mispredict
        n += (u > theta) | ((abs(u - theta) < half_window) & (u > 0))
    return n


@numba.njit(**PARALLEL)
def errors_and_code_gradients(  # type: ignore[no-untyped-def]
    bounds, indptr, feature, value, decoder, gate, cut, lift, scale, e, d_code
):
    """Do what `reconstruct`, a multiplication with scale and `code_gradients` without a window do, for half the reads.

    e [token, block, column] starts as what the reconstruction is added to.
    """
    blocks_per_gate = e.shape[1] // gate.shape[0]
    for part in numba.prange(bounds.shape[0] - 1):
        row, place = np.empty(gate.shape[1], feature.dtype), np.empty(gate.shape[1], np.int64)
        code, product = np.empty(gate.shape[1], value.dtype), np.empty(gate.shape[1], value.dtype)
        d_code[indptr[bounds[part]] : indptr[bounds[part + 1]]] = 0
        for block in range(e.shape[1]):
            g = block // blocks_per_gate
            for b in range(bounds[part], bounds[part + 1]):
                own = e[b, block]
                n = _list_open(indptr[b], indptr[b + 1], feature, value, gate[g], cut, lift[g, b], 0, row, code, place)
                add_rows(own, code, row, n, decoder, block)
                for c in range(own.shape[0]):
                    own[c] *= scale
                multiply_rows(product, own, row, n, decoder, block)
                for j in range(n):
                    d_code[place[j]] += product[j]


@numba.njit(**PARALLEL)
def reconstruct(bounds, indptr, feature, value, decoder, gate, cut, lift, out):  # type: ignore[no-untyped-def]
    """Add each token's Σ_i f_i decoder_i to out [token, block, column]."""
    blocks_per_gate = out.shape[1] // gate.shape[0]
    for part in numba.prange(bounds.shape[0] - 1):
        row, place = np.empty(gate.shape[1], feature.dtype), np.empty(gate.shape[1], np.int64)
        code = np.empty(gate.shape[1], value.dtype)
        for block in range(out.shape[1]):
            g = block // blocks_per_gate
            for b in range(bounds[part], bounds[part + 1]):
                n = _list_open(indptr[b], indptr[b + 1], feature, value, gate[g], cut, lift[g, b], 0, row, code, place)
                add_rows(out[b, block], code, row, n, decoder, block)


@numba.njit(**PARALLEL)
def code_gradients(  # type: ignore[no-untyped-def]
    bounds, indptr, feature, value, decoder, gate, cut, lift, e, half_window, d_code, felt
):
    """Write Σ over open gates of e · decoder of each entry to d_code, and Σ 1[window] e · decoder / gate to felt.

    e [token, block, column] is the gradient of the reconstruction; half_window is 0 when no threshold learns.
    """
    blocks_per_gate = e.shape[1] // gate.shape[0]
    for part in numba.prange(bounds.shape[0] - 1):
        row, place = np.empty(gate.shape[1], feature.dtype), np.empty(gate.shape[1], np.int64)
        code, product = np.empty(gate.shape[1], value.dtype), np.empty(gate.shape[1], value.dtype)
        d_code[indptr[bounds[part]] : indptr[bounds[part + 1]]] = 0
        felt[indptr[bounds[part]] : indptr[bounds[part + 1]]] = 0
        for block in range(e.shape[1]):
            g = block // blocks_per_gate
            for b in range(bounds[part], bounds[part + 1]):
                first, last = indptr[b], indptr[b + 1]
                n = _list_open(first, last, feature, value, gate[g], cut, lift[g, b], half_window, row, code, place)
                multiply_rows(product, e[b, block], row, n, decoder, block)
                for j in range(n):
                    i = row[j]
                    u, theta = code[j] * gate[g, i], cut[i] + lift[g, b]
                    if u > theta:
                        d_code[place[j]] += product[j]
                    if abs(u - theta) < half_window and u > 0:
                        felt[place[j]] += product[j] / gate[g, i]


@numba.njit(**PARALLEL)
def clear_rows(idle, d_encoder, d_decoder):  # type: ignore[no-untyped-def]
    """Write zeros to the encoder and decoder rows of features without entries, a whole row at a time."""
    for j in numba.prange(idle.shape[0]):
        d_encoder[idle[j]] = 0
        d_decoder[idle[j]] = 0


@numba.njit(**PARALLEL)
def encoder_gradients(bounds, busy, pointer, token, gradient, x, d_encoder, fresh):  # type: ignore[no-untyped-def]
    """Write Σ gradient · x to the encoder rows of the features `busy`, or add it to them when they are not fresh.

    bounds divides this list.
    """
    parts = bounds.shape[0] - 1
    for task in numba.prange(x.shape[1] * parts):  # a thread gets tasks in order: it reads few blocks of x
        block, part = task // parts, task % parts
        for i in busy[bounds[part] : bounds[part + 1]]:
            own, first, last = d_encoder[i, block], pointer[i], pointer[i + 1]
            if fresh:
                own[:] = 0
            add_rows(own, gradient[first:last], token[first:last], last - first, x, block)


@numba.njit(**PARALLEL)
def decoder_gradients(  # type: ignore[no-untyped-def]
    bounds, busy, pointer, token, code, e, gate, cut, lift, d_decoder, fired, fresh
):
    """Write Σ f · e to the decoder rows of the features `busy`, or add it, and write which of their gates opened."""
    parts, blocks_per_gate = bounds.shape[0] - 1, e.shape[1] // gate.shape[0]
    for task in numba.prange(e.shape[1] * parts):
        row, weight = np.empty(e.shape[0], token.dtype), np.empty(e.shape[0], code.dtype)
        block, part = task // parts, task % parts
        g = block // blocks_per_gate
        for i in busy[bounds[part] : bounds[part + 1]]:
            n = 0
            for place in range(pointer[i], pointer[i + 1]):
                row[n], weight[n] = token[place], code[place]
                n += code[place] * gate[g, i] > cut[i] + lift[g, token[place]]
            own = d_decoder[i, block]
            if fresh:
                own[:] = 0
            add_rows(own, weight, row, n, e, block)
            if block % blocks_per_gate == 0:
                fired[g, i] = n > 0
