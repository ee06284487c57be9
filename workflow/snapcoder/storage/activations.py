"""Activation caches: one HDF5 file per snapshot and layer, rows aligned over all snapshots.

Rows are written in blocks of `BLOCK_ROWS`; every block has its sha256, so a flipped byte is found on reading.
bfloat16, which HDF5 lacks, is stored as its uint16 bit pattern.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json, json_sha256

BLOCK_ROWS = 4096


class CacheError(ValueError):
    """An activation cache that cannot be trusted."""


@dataclass(frozen=True)
class RowTable:
    """Which token each cached row is; the same for every snapshot and layer of a study.

    sequence, position, token, doc [row] int32; split [row] uint8 (0 train, 1 heldout). Train rows come first.
    """

    sequence: np.ndarray
    position: np.ndarray
    token: np.ndarray
    doc: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def sha256(self) -> str:
        """Hash that two caches must share before they may be trained on together."""
        return array_sha256(self.sequence, self.position, self.token, self.doc, self.split)


@dataclass(frozen=True)
class CacheHeader:
    """What a cache says of itself, apart from its rows."""

    step: int
    layer: int
    site: str  # e.g. "blocks.2.resid_post"
    d_model: int
    dtype: str  # float16, float32, bfloat16
    n_rows: int
    rows_sha256: str
    content_sha256: str
    mean: np.ndarray  # [model] float64, over train rows
    mean_norm: float  # mean ‖a‖ over train rows
    mean_square: float  # mean ‖a − mean‖² over train rows
    max_abs: float


def write_cache(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    *,
    rows: RowTable,
    step: int,
    layer: int,
    site: str,
    d_model: int,
    dtype: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write activation blocks (float32 [n, model], any sizes, in row order) as one cache.

    Raises `CacheError` naming the row when a value is not finite or does not fit `dtype`, and when the number of
    rows differs from the row table's.
    """
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        stored = np.dtype({"float16": "<f2", "float32": "<f4", "bfloat16": "<u2"}[dtype])
        data = file.create_dataset(
            "activations", shape=(len(rows), d_model), dtype=stored, chunks=(min(BLOCK_ROWS, len(rows)), d_model)
        )
        data.attrs["axes"] = "row, model"
        data.attrs["unit"] = "residual stream"
        hashes, total, norms, squares, count, largest, start = [], np.zeros(d_model), 0.0, 0.0, 0, 0.0, 0
        for block in _fixed_size(blocks, BLOCK_ROWS):
            stop = start + len(block)
            if stop > len(rows):
                raise CacheError(f"{path}: more activations than the {len(rows)} rows of the row table")
            encoded = _encode(block, dtype, rows, start, path)
            data[start:stop] = encoded
            hashes.append(array_sha256(encoded))
            train = block[rows.split[start:stop] == 0].astype(np.float64)
            total += train.sum(axis=0)
            norms += float(np.linalg.norm(train, axis=1).sum())
            squares += float((train**2).sum())
            count += len(train)
            largest = max(largest, float(np.abs(block).max()))
            start = stop
        if start != len(rows):
            raise CacheError(f"{path}: {start} activations for {len(rows)} rows")
        mean = total / max(count, 1)
        for name in ("sequence", "position", "token", "doc", "split"):
            file.create_dataset(f"row/{name}", data=getattr(rows, name), compression="gzip", compression_opts=4)
        file.create_dataset("block_sha256", data=np.array(hashes, dtype="S64"))
        file.create_dataset("mean", data=mean)
        file.attrs.update(
            step=step,
            layer=layer,
            site=site,
            dtype=dtype,
            rows_sha256=rows.sha256,
            content_sha256=json_sha256(hashes),
            mean_norm=norms / max(count, 1),
            mean_square=squares / max(count, 1) - float(mean @ mean),
            max_abs=largest,
            provenance=canonical_json(provenance),
        )


def _fixed_size(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held >= size:
            joined = np.concatenate(held)
            while len(joined) >= size:
                yield joined[:size]
                joined = joined[size:]
            held, n_held = [joined], len(joined)
    if n_held:
        yield np.concatenate(held)


def _encode(block: np.ndarray, dtype: str, rows: RowTable, start: int, path: str | Path) -> np.ndarray:
    limit = float(np.finfo(np.float16).max) if dtype == "float16" else np.inf
    bad = ~np.isfinite(block).all(axis=1) | (np.abs(block) > limit).any(axis=1)
    if bad.any():
        row = start + int(np.flatnonzero(bad)[0])
        where = f"row {row} (sequence {rows.sequence[row]}, position {rows.position[row]})"
        what = "is not finite" if not np.isfinite(block[row - start]).all() else f"does not fit {dtype}"
        raise CacheError(
            f"{path}: the activation of {where} {what}; set activations.dtype to float32 or check the snapshot"
        )
    if dtype == "bfloat16":
        bits = block.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # round to nearest even
    return block.astype("<f2" if dtype == "float16" else "<f4")


def _decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (stored.astype("<u4") << 16).view("<f4")
    return stored.astype(np.float32)


def read_header(path: str | Path) -> CacheHeader:
    """Read what a cache says of itself, without its rows."""
    with _open(path) as file:
        data = file["activations"]
        return CacheHeader(
            step=int(file.attrs["step"]),
            layer=int(file.attrs["layer"]),
            site=str(file.attrs["site"]),
            d_model=int(data.shape[1]),
            dtype=str(file.attrs["dtype"]),
            n_rows=int(data.shape[0]),
            rows_sha256=str(file.attrs["rows_sha256"]),
            content_sha256=str(file.attrs["content_sha256"]),
            mean=file["mean"][:],
            mean_norm=float(file.attrs["mean_norm"]),
            mean_square=float(file.attrs["mean_square"]),
            max_abs=float(file.attrs["max_abs"]),
        )


def read_rows(path: str | Path) -> RowTable:
    """Read a cache's row table; raise `CacheError` when it is not what its hash says."""
    with _open(path) as file:
        table = RowTable(**{name: file[f"row/{name}"][:] for name in ("sequence", "position", "token", "doc", "split")})
        stored = str(file.attrs["rows_sha256"])
    if table.sha256 != stored:
        raise CacheError(f"{path}: its row table was changed after it was written; delete the file and rerun")
    return table


def read_cache(path: str | Path) -> np.ndarray:
    """Read all rows as float32 [row, model], verifying every block's checksum."""
    return np.concatenate(list(iterate_cache(path)))


def iterate_cache(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the rows in float32 blocks of at most `BLOCK_ROWS`, verifying each block's checksum.

    Raises `CacheError` naming the block when a checksum differs.
    """
    with _open(path) as file:
        data, dtype, hashes = file["activations"], str(file.attrs["dtype"]), file["block_sha256"][:]
        for index, start in enumerate(range(0, data.shape[0], BLOCK_ROWS)):
            stored = data[start : start + BLOCK_ROWS]
            if array_sha256(stored).encode() != hashes[index]:
                raise CacheError(
                    f"{path}: rows {start}–{start + len(stored) - 1} are not those that were written "
                    "(checksum differs); delete the file and rerun"
                )
            yield _decode(stored, dtype)


def require_same_rows(paths: Iterable[str | Path]) -> RowTable:
    """Return the row table that all caches share; raise `CacheError` naming the first that differs."""
    first: RowTable | None = None
    first_path: str | Path = ""
    for path in paths:
        if first is None:
            first, first_path = read_rows(path), path
        elif read_header(path).rows_sha256 != first.sha256:
            raise CacheError(f"{path}: was captured on other tokens than {first_path}; delete it and rerun")
    if first is None:
        raise CacheError("no activation caches given")
    return first


def _open(path: str | Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CacheError(f"{path}: not a readable HDF5 file ({error}); delete it and rerun") from error
