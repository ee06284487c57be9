"""The caches of several snapshots side by side, so that one row's activations at all snapshots lie together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from snapcoder.storage.activations import (
    BLOCK_ROWS,
    CacheError,
    CacheHeader,
    RowTable,
    iterate_cache,
    read_header,
    require_same_rows,
)


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


@contextmanager
def open_aligned(
    paths: Sequence[str | Path], headers: Sequence[CacheHeader], *, memory_bytes: int, scratch: Path
) -> Iterator[np.ndarray]:
    """Give random access to all rows as one array [row, snapshot, model], float16 when all caches are, else float32.

    The array is held in memory when it fits `memory_bytes`, else in the file `scratch`, which is removed at the end.
    Every block's checksum is verified on the way.
    """
    dtype = np.dtype(np.float16 if all(header.dtype == "float16" for header in headers) else np.float32)
    shape = (headers[0].n_rows, len(paths), headers[0].d_model)
    in_memory = int(np.prod(shape)) * dtype.itemsize <= memory_bytes
    if in_memory:
        array = np.empty(shape, dtype=dtype)
    else:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        array = np.memmap(scratch, dtype=dtype, mode="w+", shape=shape)
    try:
        if in_memory:  # cache by cache reads each file once from start to end
            for index, path in enumerate(paths):
                for number, block in enumerate(iterate_cache(path)):
                    array[number * BLOCK_ROWS : number * BLOCK_ROWS + len(block), index] = block
        else:  # rows of all snapshots together: the scratch file is written once from start to end
            for number, block in enumerate(iterate_aligned(paths)):
                array[number * BLOCK_ROWS : number * BLOCK_ROWS + len(block)] = block
        yield array
    finally:
        if not in_memory:
            scratch.unlink(missing_ok=True)
