"""The sparse code of all cached rows, written once: what extension and analysis read instead of re-encoding.

Only entries that are on at some snapshot are kept; because gates are nested by decoder norm (or shared), this one
list with the norms and thresholds reproduces every snapshot's activations. It is written and read block by block:

| dataset | shape | what |
|---|---|---|
| `feature`, `z` | entry | int32 and float32, the entries of all rows one after the other |
| `count` | row | int32, entries of each row |
| `block_start` | block + 1 | int64, first entry of each block of rows (as many as the attribute `block_rows`) |
| `block_sha256` | block | hash of a block's count, feature and z |
| `feature_entries` | feature | int64, entries of each feature over all rows |
| `row/sequence` … | row | the row table |
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csr_array, vstack

from snapcoder.storage.activations import BLOCK_ROWS, RowTable
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json, json_sha256

_CHUNK_ENTRIES = 1 << 16


class CodesError(ValueError):
    """A file of codes that cannot be trusted."""


@dataclass(frozen=True)
class Codes:
    """Shared pre-activations z of the rows, sparse.

    z: csr_array [row, feature] float32; rows: which token each row is.
    """

    z: csr_array
    rows: RowTable


@dataclass(frozen=True)
class CodesHeader:
    """What a file of codes says of itself, apart from its entries. feature_entries [feature]: entries of each."""

    n_rows: int
    n_features: int
    n_entries: int
    rows_sha256: str
    content_sha256: str
    feature_entries: np.ndarray

    @property
    def entries_per_row(self) -> float:
        """Mean number of entries of a row."""
        return self.n_entries / max(self.n_rows, 1)


def write_codes(path: str | Path, codes: Codes, provenance: Mapping[str, Any]) -> None:
    """Write codes that lie in memory."""
    write_code_blocks(path, [codes.z], rows=codes.rows, n_features=codes.z.shape[1], provenance=provenance)


def write_code_blocks(
    path: str | Path, blocks: Iterable[csr_array], *, rows: RowTable, n_features: int, provenance: Mapping[str, Any]
) -> None:
    """Write blocks of codes [row, feature], of any sizes and in row order, holding one of `BLOCK_ROWS` rows at a time.

    The bytes do not depend on the sizes of the blocks. Raises `CodesError` when their rows are not those of `rows`.
    """
    with atomic_path(path) as part, h5py.File(part, "w", libver="latest") as file:
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        # Mantissas are noise: packing z would save a fifth of it, and cost more time than all else in reading.
        entries = {
            name: file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(_CHUNK_ENTRIES,), **how)
            for name, dtype, how in (("feature", np.int32, packed), ("z", np.float32, {}))
        }
        counts, starts, hashes = [np.zeros(0, dtype=np.int32)], [0], []
        feature_entries = np.zeros(n_features, dtype=np.int64)
        for block in resized(blocks, BLOCK_ROWS):
            count = np.diff(block.indptr).astype(np.int32)
            values = {"feature": block.indices.astype(np.int32), "z": block.data.astype(np.float32)}
            stop = starts[-1] + len(block.data)
            for name, dataset in entries.items():
                dataset.resize((stop,))
                dataset[starts[-1] : stop] = values[name]
            counts.append(count)
            starts.append(stop)
            hashes.append(array_sha256(count, *values.values()))
            feature_entries += np.bincount(values["feature"], minlength=n_features)
        file["count"] = np.concatenate(counts)
        if len(file["count"]) != len(rows):
            raise CodesError(f"{path}: codes of {len(file['count'])} rows for the {len(rows)} rows of the row table")
        file["block_start"], file["block_sha256"] = np.array(starts, dtype=np.int64), np.array(hashes, dtype="S64")
        file["feature_entries"] = feature_entries
        for name in (field.name for field in fields(RowTable)):
            data = getattr(rows, name)
            file.create_dataset(f"row/{name}", data=data, **packed)
        # Text of fixed length lies inside the header, which HDF5 has a checksum of.
        file.attrs["n_features"], file.attrs["block_rows"] = n_features, BLOCK_ROWS
        file.attrs["rows_sha256"] = np.bytes_(rows.sha256)
        file.attrs["content_sha256"] = np.bytes_(_content_hash(file))
        file.attrs["provenance"] = canonical_json(provenance)


def _content_hash(file: h5py.File) -> str:
    return json_sha256(
        {
            "blocks": [value.decode() for value in file["block_sha256"][:]],
            "start": array_sha256(file["block_start"][:], file["feature_entries"][:]),
            "n_features": int(file.attrs["n_features"]),
            "block_rows": int(file.attrs["block_rows"]),
            "rows": bytes(file.attrs["rows_sha256"]).decode(),
        }
    )


def resized(blocks: Iterable[csr_array], n_rows: int) -> Iterator[csr_array]:
    """Yield the rows of the blocks in blocks of `n_rows`, the last one smaller."""
    held: list[csr_array] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += block.shape[0]
        if n_held < n_rows:
            continue
        joined = _joined(held)
        cuts = range(0, n_held - n_held % n_rows, n_rows)
        yield from (joined if n_held == n_rows else joined[start : start + n_rows] for start in cuts)
        n_held %= n_rows
        held = [joined[-n_held:]] if n_held else []
    if n_held:
        yield _joined(held)


def _joined(blocks: list[csr_array]) -> csr_array:
    return blocks[0] if len(blocks) == 1 else vstack(blocks, format="csr")


def read_codes_header(path: str | Path) -> CodesHeader:
    """Read what a file of codes says of itself; raise `CodesError` when it is not what its hash says."""
    with _open(path) as file:
        return _header(path, file)


def codes_shape(path: str | Path) -> tuple[int, int]:
    """Return the numbers of rows and features of a file of codes."""
    header = read_codes_header(path)
    return header.n_rows, header.n_features


def read_code_rows(path: str | Path) -> RowTable:
    """Read which token each row of a file of codes is; raise `CodesError` when it is not what its hash says."""
    with _open(path) as file:
        header = _header(path, file)
        rows = RowTable(**{field.name: file[f"row/{field.name}"][:] for field in fields(RowTable)})
    if rows.sha256 != header.rows_sha256:
        raise CodesError(f"{path}: its row table was changed after it was written; delete the file and rerun")
    return rows


def read_codes(path: str | Path) -> Codes:
    """Read all codes at once, for small uses; raise `CodesError` as `iterate_codes` does."""
    empty = csr_array((0, codes_shape(path)[1]), dtype=np.float32)
    return Codes(z=vstack([empty, *iterate_codes(path)], format="csr"), rows=read_code_rows(path))


def iterate_codes(path: str | Path, *, rows_per_block: int = 65_536) -> Iterator[csr_array]:
    """Yield the codes [row, feature] float32 in blocks of `rows_per_block` rows, the last one smaller.

    Raises `CodesError` naming the stored block and its rows when its checksum differs.
    """
    return resized(_stored_blocks(path), rows_per_block)


def read_codes_of(path: str | Path, rows: np.ndarray) -> csr_array:
    """Read the codes of some rows (ascending) [row, feature], one stored block that holds any of them at a time.

    Raises `CodesError` as `iterate_codes` does, and when there is no such row.
    """
    n_rows, n_features = codes_shape(path)
    if len(rows) and not 0 <= rows[0] <= rows[-1] < n_rows:
        raise CodesError(f"{path}: holds {n_rows} rows, not row {rows[-1]}; delete the file and rerun")
    with _open(path) as file:
        block_rows = int(file.attrs["block_rows"])
    numbers, first = np.unique(rows // block_rows, return_index=True)
    parts, ends = [csr_array((0, n_features), dtype=np.float32)], np.append(first[1:], len(rows))
    for number, block, start, stop in zip(
        numbers, _stored_blocks(path, numbers.tolist()), first, ends[: len(first)], strict=True
    ):
        parts.append(block[rows[start:stop] - number * block_rows])
    return csr_array(vstack(parts, format="csr"))


def _stored_blocks(path: str | Path, numbers: Iterable[int] | None = None) -> Iterator[csr_array]:
    with _open(path) as file:
        header = _header(path, file)
        starts, hashes, block_rows = file["block_start"][:], file["block_sha256"][:], int(file.attrs["block_rows"])
        for number in range(len(hashes)) if numbers is None else numbers:
            expected = hashes[number]
            entries = slice(int(starts[number]), int(starts[number + 1]))
            rows = slice(number * block_rows, (number + 1) * block_rows)
            count = file["count"][rows]
            named = f"{path}: block {number} (rows {rows.start}–{rows.start + len(count) - 1})"
            try:
                feature, z = file["feature"][entries], file["z"][entries]
            except OSError as error:  # compressed bytes that make no sense
                raise CodesError(f"{named} cannot be read ({error}); delete the file and rerun") from error
            if array_sha256(count, feature, z).encode() != expected:
                raise CodesError(
                    f"{named}: the codes are not those that were written (checksum differs); delete the file and rerun"
                )
            indptr = np.concatenate([[0], np.cumsum(count, dtype=np.int64)])
            yield csr_array((z, feature, indptr), shape=(len(count), header.n_features))


def _header(path: str | Path, file: h5py.File) -> CodesHeader:
    if "block_sha256" not in file:
        raise CodesError(f"{path}: was written by an earlier version of snapcoder; delete the file and rerun")
    stored = bytes(file.attrs["content_sha256"]).decode()
    n_rows, starts = len(file["count"]), file["block_start"][:]
    if stored != _content_hash(file) or len(starts) != -(-n_rows // int(file.attrs["block_rows"])) + 1:
        raise CodesError(f"{path}: its header was changed after it was written; delete the file and rerun")
    return CodesHeader(
        n_rows=n_rows,
        n_features=int(file.attrs["n_features"]),
        n_entries=int(starts[-1]),
        rows_sha256=bytes(file.attrs["rows_sha256"]).decode(),
        content_sha256=stored,
        feature_entries=file["feature_entries"][:],
    )


@contextmanager
def _open(path: str | Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:  # what HDF5 says of bytes that contradict each other
        raise CodesError(f"{path}: not a readable file of codes ({error}); delete it and rerun") from error
