"""The code by feature: columns of neighbouring features, gathered from a file of codes that is kept by row.

A reader that needs all entries of a feature at once (to rank them, or to sum them by token) holds as many features as
its memory allows and reads the file once for each such chunk.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import csc_array

from snapcoder.storage.activations import BLOCK_ROWS
from snapcoder.storage.codes import iterate_codes, read_codes_header

GIB = 2**30


def column_chunks(
    path: str | Path, *, memory_gb: float, bytes_per_entry: int, bytes_per_feature: int = 0
) -> list[slice]:
    """Cut the features into the fewest chunks of neighbours that each take at most `memory_gb`.

    Raises ValueError naming the feature when one alone takes more.
    """
    header = read_codes_header(path)
    bytes_of = header.feature_entries * bytes_per_entry + bytes_per_feature
    limit = memory_gb * GIB
    if header.n_features and bytes_of.max() > limit:
        widest = int(bytes_of.argmax())
        raise ValueError(
            f"features.memory_gb: {memory_gb:g} is too little for feature {widest}, which has "
            f"{header.feature_entries[widest]} entries; set it to {bytes_of[widest] / GIB * 1.01:.2g} or more"
        )
    reached = np.concatenate([[0], np.cumsum(bytes_of)])
    starts = [0]
    while starts[-1] < header.n_features:
        starts.append(int(np.searchsorted(reached, reached[starts[-1]] + limit, side="right")) - 1)
    return [slice(first, last) for first, last in pairwise(starts)]


def read_columns(path: str | Path, features: slice) -> csc_array:
    """Return the columns of some features [row, feature of the slice], rows ascending, in one pass over the file.

    Memory: 8 bytes per entry of these features, and one block.
    """
    header = read_codes_header(path)
    indptr = np.concatenate([[0], np.cumsum(header.feature_entries[features])])
    rows, values = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=np.float32)
    filled, first_row = indptr[:-1].copy(), 0
    for block in iterate_codes(path, rows_per_block=BLOCK_ROWS):  # as they are stored, without joining them
        columns = block.tocsc()
        here = columns.indptr[features.start : features.stop + 1]
        count = np.diff(here)
        place = np.repeat(filled - here[:-1], count) + np.arange(here[0], here[-1])
        rows[place] = columns.indices[here[0] : here[-1]] + first_row
        values[place] = columns.data[here[0] : here[-1]]
        filled += count
        first_row += block.shape[0]
    return csc_array((values, rows, indptr), shape=(header.n_rows, features.stop - features.start))


def iterate_columns(
    path: str | Path, *, memory_gb: float, bytes_per_entry: int, bytes_per_feature: int = 0
) -> Iterator[tuple[int, csc_array]]:
    """Yield the first feature of each chunk of `column_chunks` with the chunk's columns [row, feature of the chunk]."""
    chunks = column_chunks(
        path, memory_gb=memory_gb, bytes_per_entry=bytes_per_entry, bytes_per_feature=bytes_per_feature
    )
    for features in chunks:
        yield features.start, read_columns(path, features)
