"""The sparse code of all rows: every pre-activation that is on at some snapshot, in one list."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.model import Parameters, encode

DENSE_ENTRIES = 1 << 26  # of [row, feature] that are encoded at a time; 256 MB in float32


def sparse_code(
    parameters: Parameters, threshold: Tensor, blocks: Iterable[Tensor], *, gate: str
) -> Iterator[csr_array]:
    """Yield z [row, feature] where it is on at some snapshot, for blocks of normalised x [token, snapshot, model].

    Gates are nested by norm, so an entry is on somewhere when it is on under the largest gate norm. Memory: the
    parameters, one block, and `DENSE_ENTRIES` dense entries.
    """
    largest = gate_norms(parameters.norms(), gate=gate).amax(dim=0)  # [feature]
    rows = max(1, DENSE_ENTRIES // parameters.n_features)
    for block in blocks:
        for x in block.split(rows):
            yield entries_above(encode(parameters, x), largest, threshold)


def entries_above(z: Tensor, norm: Tensor, threshold: Tensor) -> csr_array:
    """Return the entries of z [token, feature] with z · norm > threshold as a sparse array."""
    row, feature = torch.nonzero(is_on(z, norm, threshold), as_tuple=True)  # sorted by row, then feature
    counts = torch.bincount(row, minlength=len(z))
    indptr = np.concatenate([[0], counts.cumsum(0).cpu().numpy()]).astype(np.int64)
    values = z[row, feature].cpu().numpy().astype(np.float32)
    return csr_array((values, feature.cpu().numpy().astype(np.int32), indptr), shape=tuple(z.shape))


def stack_rows(parts: list[csr_array], *, n_features: int) -> csr_array:
    """Return the parts below each other as one sparse array [row, feature]."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.concatenate([part.data for part in parts])
    features = np.concatenate([part.indices for part in parts]).astype(np.int32)
    return csr_array((values, features, indptr), shape=(len(lengths), n_features))
