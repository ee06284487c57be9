"""The caches of several snapshots side by side, so that one row's activations at all snapshots lie together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snapcoder.storage.activation_dtypes import STORED, StoredRows, decode
from snapcoder.storage.activations import (
    BLOCK_ROWS,
    CacheError,
    CacheHeader,
    RowTable,
    iterate_cache,
    iterate_stored,
    read_encoding,
    read_header,
    require_same_rows,
)
from snapcoder.storage.companding import Compander


def read_aligned_headers(paths: Sequence[str | Path]) -> tuple[RowTable, list[CacheHeader]]:
    """Return the caches' common row table and their headers.

    Raises `CacheError` when the caches do not share their tokens, layer and width, or when train rows are not first.
    """
    rows = require_same_rows(paths)
    headers = [read_header(path) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        if (header.layer, header.d_model) != (headers[0].layer, headers[0].d_model):
            raise CacheError(
                f"{path}: layer {header.layer}, width {header.d_model}, but {paths[0]} has layer {headers[0].layer}, "
                f"width {headers[0].d_model}; one dictionary needs caches of one layer"
            )
    if (np.diff(rows.split.astype(np.int8)) < 0).any():
        raise CacheError(f"{paths[0]}: train rows do not come first; delete the file and rerun")
    return rows, headers


def iterate_aligned(paths: Sequence[str | Path]) -> Iterator[np.ndarray]:
    """Yield float32 blocks [row, snapshot, model] of all rows in order, every cache's checksums verified."""
    for blocks in zip(*[iterate_cache(path) for path in paths], strict=True):
        yield np.stack(blocks, axis=1)


@dataclass(frozen=True)
class AlignedRows:
    """All rows of several snapshots side by side, kept as they are stored and decoded where they are read.

    stored: values [row, snapshot, model] with, for int8, steps [row, snapshot]; compander: the units of int8 codes,
    [snapshot, model] each, else None.
    """

    stored: StoredRows
    dtype: str
    compander: Compander | None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of rows, snapshots and dimensions."""
        return self.stored.values.shape

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take up, in memory or in the scratch file."""
        return sum(array.nbytes for array in self.stored.arrays())

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return activations [row, snapshot, model] of row numbers: float16 when they are stored so, else float32."""
        stored = StoredRows(*(array[rows] for array in self.stored.arrays()))
        return stored.values if self.dtype == "float16" else decode(stored, self.dtype, self.compander)


@contextmanager
def open_aligned(
    paths: Sequence[str | Path], headers: Sequence[CacheHeader], *, memory_bytes: int, scratch: Path
) -> Iterator[AlignedRows]:
    """Give random access to all rows: in the caches' own dtype when it is one for all, else as float32.

    The rows are held in memory when they fit `memory_bytes`, else in the file `scratch`, which is removed at the end.
    Every block's checksum is verified on the way.
    """
    dtypes = {header.dtype for header in headers}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    n_rows, n_snapshots, d_model = headers[0].n_rows, len(paths), headers[0].d_model
    companders = [compander for _, compander in map(read_encoding, paths) if compander is not None]
    compander = Compander.stack(companders) if dtype == "int8" else None
    steps = np.empty((n_rows, n_snapshots), dtype=np.float16) if compander is not None else None
    step_bytes = 0 if steps is None else steps.nbytes
    in_memory = n_rows * n_snapshots * d_model * STORED[dtype].itemsize + step_bytes <= memory_bytes
    if in_memory:
        values = np.empty((n_rows, n_snapshots, d_model), dtype=STORED[dtype])
    else:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        values = np.memmap(scratch, dtype=STORED[dtype], mode="w+", shape=(n_rows, n_snapshots, d_model))
    aligned = AlignedRows(StoredRows(values, steps), dtype, compander)
    try:
        # In memory, reading cache by cache goes through each file once from start to end; block by block, the
        # scratch file is written once from start to end.
        sources = [_blocks_as(path, dtype) for path in paths]
        if in_memory:
            pieces = (
                (index, number, block) for index, source in enumerate(sources) for number, block in enumerate(source)
            )
        else:
            pieces = (
                (index, number, block)
                for number, blocks in enumerate(zip(*sources, strict=True))
                for index, block in enumerate(blocks)
            )
        for index, number, block in pieces:
            here = slice(number * BLOCK_ROWS, number * BLOCK_ROWS + len(block))
            for held, read in zip(aligned.stored.arrays(), block.arrays(), strict=True):
                held[here, index] = read
        yield aligned
    finally:
        if not in_memory:
            scratch.unlink(missing_ok=True)


def _blocks_as(path: str | Path, dtype: str) -> Iterator[StoredRows]:
    if read_encoding(path)[0] == dtype:
        return iterate_stored(path)
    return (StoredRows(block) for block in iterate_cache(path))
