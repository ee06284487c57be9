"""Which rows speak for a feature, and which rows they are compared with.

Documents are split into two halves. In each half a feature is represented by its strongest rows, ranked by its code. All
comparisons are between the halves: what one half of the documents chose is scored on the other, and no pair of rows
shares a document. Controls are a fixed random map of rows, the same for all features: to another row of the same half, and
to another row of the same half with the same token. So each set of controls has exactly the token counts of its feature.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from snapcoder.storage.activations import RowTable

BYTES_PER_ENTRY = 24  # of a chunk of codes: row and value, and what ranking one feature adds


@dataclass(frozen=True)
class Partners:
    """Of each row: its half (0 or 1), a random row of the same half, and one that also has the same token; all [row].

    A row whose token no other row of its half has is its own partner, which makes no difference in a comparison.
    """

    half: np.ndarray
    any_row: np.ndarray
    same_token: np.ndarray


def partners(rows: RowTable, *, seed: int) -> Partners:
    """Split the documents into halves and give every row its controls."""
    generator = np.random.default_rng(seed)
    documents, index = np.unique(rows.doc, return_inverse=True)
    half = (generator.permutation(len(documents)) % 2)[index].astype(np.int64)
    token = rows.token.astype(np.int64)
    return Partners(
        half=half,
        any_row=_next_in_group(half, generator),
        same_token=_next_in_group(token * 2 + half, generator),
    )


def _next_in_group(group: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return for each row another random row of its group, each row once: the next of a random round [row]."""
    order = generator.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    starts = np.flatnonzero(np.diff(group[order], prepend=group.min() - 1))
    ends = np.append(starts[1:], len(group)) - 1
    following = np.append(order[1:], order[:1])
    following[ends] = order[starts]
    result = np.empty(len(group), dtype=np.int64)
    result[order] = following
    return result


def strongest_rows(chunks: Iterable[tuple[int, csc_array]], rows: RowTable, *, top: int, seed: int) -> pd.DataFrame:
    """Return the table formation_rows, without layer: up to `top` rows per feature and half, strongest first.

    chunks: the shared code z of neighbouring features [row, feature of the chunk] with the number of the first one, in
    ascending order. Gates are nested by norm, so ranking by z ranks by the gated code of whichever
    snapshot the gate is open at: the last one for a feature that lasts, an earlier one for one that fades.
    """
    half = partners(rows, seed=seed).half
    parts = [
        _strongest(columns.indices[first:last], columns.data[first:last], half, top)
        for _, columns in chunks
        for first, last in pairwise(columns.indptr)
    ]
    row = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    feature = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    group = feature * 2 + half[row]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return pd.DataFrame(
        {
            "feature": feature,
            "half": half[row],
            "rank": np.arange(len(row)) - np.repeat(starts, np.diff(np.append(starts, len(row)))),
            "row": row,
            "doc": rows.doc[row],
            "token": rows.token[row],
        }
    )


def _strongest(row: np.ndarray, code: np.ndarray, half: np.ndarray, top: int) -> np.ndarray:
    """Return the rows of one feature with the largest positive codes, half 0 then half 1; equal codes by row number."""
    kept = []
    for h in (0, 1):
        inside = np.flatnonzero((half[row] == h) & (code > 0))
        if len(inside) > top:
            bound = np.partition(code[inside], len(inside) - top)[len(inside) - top]
            inside = inside[code[inside] >= bound]
        kept.append(row[inside][np.lexsort([row[inside], -code[inside]])][:top])
    return np.concatenate(kept).astype(np.int64)
