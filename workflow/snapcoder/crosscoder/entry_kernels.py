"""The loops that find and list a batch's entries on a CPU, compiled at first use.

Arrays: z [token, feature]; indptr [token + 1], feature and value [entry] list the entries by token; pointer
[feature + 1], token, entry and code [entry] list the same entries by feature.
"""

import numba
import numpy as np

from snapcoder.crosscoder.compilation import FAST, PARALLEL

SPAN = 32
"""Columns of z that are looked through only when one of them holds an entry."""


@numba.njit(**PARALLEL)
def count_entries(z, largest, low, counts):  # type: ignore[no-untyped-def]
    """Count the features with z · largest > low[feature] of each token and span of features, counts [token, span]."""
    for b in numba.prange(z.shape[0]):
        for span in range(counts.shape[1]):
            first = np.uint64(span * SPAN)
            n = 0
            for i in range(min(SPAN, z.shape[1] - span * SPAN)):
                at = first + np.uint64(i)
                n += z[b, at] * largest[at] > low[at]
            counts[b, span] = n


@numba.njit(**PARALLEL)
def fill_entries(z, largest, low, counts, indptr, feature, value):  # type: ignore[no-untyped-def]
    """Write the entries that `count_entries` counted."""
    for b in numba.prange(z.shape[0]):
        at = indptr[b]
        for span in range(counts.shape[1]):
            i, last = np.uint64(span * SPAN), at + counts[b, span]
            while at < last:  # what is no entry is overwritten by the next one: no jump to mispredict
                feature[at], value[at] = i, z[b, i]
                at += z[b, i] * largest[i] > low[i]
                i += np.uint64(1)


@numba.njit(**PARALLEL)
def score_entries(feature, value, norms, scores):  # type: ignore[no-untyped-def]
    """Write each entry's z · norm at every gate to scores [entry, gate]; norms [feature, gate]."""
    for at in numba.prange(feature.shape[0]):
        own, norm = scores[at], norms[feature[at]]
        for g in range(own.shape[0]):
            own[g] = value[at] * norm[g]


@numba.njit(**FAST)
def list_by_feature(indptr, feature, value, pointer, token, entry, code):  # type: ignore[no-untyped-def]
    """List the entries by feature, tokens in order; pointer starts as zeros; code is value in this order."""
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
            code[place] = value[at]
            free[feature[at]] = place + 1


@numba.njit(**PARALLEL)
def sum_by_feature(pointer, entry, d_code, felt, gradient, d_bias, d_theta):  # type: ignore[no-untyped-def]
    """List d_code by feature, as gradient, and write its sums and those of felt to d_bias and d_theta."""
    for i in numba.prange(d_bias.shape[0]):
        bias, theta = 0.0, 0.0
        for place in range(pointer[i], pointer[i + 1]):
            gradient[place] = d_code[entry[place]]
            bias += gradient[place]
            theta += felt[entry[place]]
        d_bias[i], d_theta[i] = bias, theta
