"""Activation caches: one HDF5 file per snapshot and layer, rows aligned over all snapshots.

| dataset | shape | what |
|---|---|---|
| `activations` | row, model | float32, float16, bfloat16 as uint16 bits, or the int8 codes of `storage.companding` |
| `row_step` | row | float16, int8 caches only: each row's step |
| `center`, `spread` | model | float32, int8 caches only: the units of the codes, fitted on the first block |
| `row/sequence` … | row | the row table |
| `mean` | model | float64, over train rows, of the activations before rounding |
| `block_sha256` | block | hash of all that is needed to read a block of `BLOCK_ROWS` rows back |

What is stored per row beside the numbers is 2 bytes of step, about 1.4 of the row table and 64 / `BLOCK_ROWS` of hash:
1.03 bytes per value at a width of 128. The attributes hold the rest of the header, with `header_sha256` over it, and
the square of the rounding error as a share of the variance, `noise_share`: explained variance can lose no more than
about that. HDF5 keeps checksums of its own structure, so that a flipped byte anywhere is found on reading; only of the
attribute `provenance` it is not, which nothing here reads and which the file's record has a hash of.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.storage.activation_dtypes import STORED, StoredRows, decode, encode, fits, largest
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.companding import Compander
from snapcoder.storage.hashing import array_sha256, canonical_json, json_sha256

BLOCK_ROWS = 4096
_ROW_COLUMNS = ("sequence", "position", "token", "doc", "split")


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
    dtype: str  # float16, float32, bfloat16, int8
    n_rows: int
    rows_sha256: str
    content_sha256: str
    mean: np.ndarray  # [model] float64, over train rows
    mean_norm: float  # mean ‖a‖ over train rows
    mean_square: float  # mean ‖a − mean‖² over train rows
    max_abs: float
    noise_share: float = 0.0  # mean ‖stored − a‖² over train rows, as a share of mean_square


class _Statistics:
    """Sums over the train rows of the blocks that have gone by, and the largest value of all rows."""

    def __init__(self, d_model: int) -> None:
        self.total = np.zeros(d_model)
        self.norms = self.squares = self.errors = self.largest = 0.0
        self.count = 0

    def add(self, block: np.ndarray, read_back: np.ndarray, *, is_train: np.ndarray) -> None:
        train = block[is_train].astype(np.float64)
        self.total += train.sum(axis=0)
        self.norms += float(np.linalg.norm(train, axis=1).sum())
        self.squares += float((train**2).sum())
        self.errors += float(((read_back[is_train] - train) ** 2).sum())
        self.count += len(train)
        self.largest = max(self.largest, float(np.abs(block).max()))

    def mean(self) -> np.ndarray:
        return self.total / max(self.count, 1)

    def attributes(self) -> dict[str, float]:
        count, mean = max(self.count, 1), self.mean()
        mean_square = self.squares / count - float(mean @ mean)
        return {
            "mean_norm": self.norms / count,
            "mean_square": mean_square,
            "max_abs": self.largest,
            "noise_share": self.errors / count / mean_square if mean_square > 0 else 0.0,
        }


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
) -> CacheHeader:
    """Write activation blocks (float32 [n, model], any sizes, in row order) as one cache; return its header.

    Raises `CacheError` naming snapshot, layer, token and dimension when a value is not finite or does not fit `dtype`,
    and when the number of rows differs from the row table's.
    """
    with atomic_path(path) as part, h5py.File(part, "w", libver="latest") as file:
        # In one piece: rows read in any order then cost no more than their bytes, and no padded last chunk is stored.
        data = file.create_dataset("activations", shape=(len(rows), d_model), dtype=STORED[dtype])
        data.attrs["axes"], data.attrs["unit"] = _text("row, model"), _text("residual stream")
        if dtype == "int8":
            file.create_dataset("row_step", shape=(len(rows),), dtype="<f2")
        compander: Compander | None = None
        hashes, statistics, start = [], _Statistics(d_model), 0
        for block in _fixed_size(blocks, BLOCK_ROWS):
            stop = start + len(block)
            if stop > len(rows):
                raise CacheError(f"{path}: more activations than the {len(rows)} rows of the row table")
            named = f"{path}: snapshot {step}, layer {layer}"
            _require(np.isfinite(block), block, rows, start, named, "is not finite; the snapshot overflows in this "
                     "sequence: check its weights, or leave the snapshot out of snapshots.steps")  # fmt: skip
            if dtype == "int8" and compander is None:
                compander = Compander.fit(block)
                file["center"], file["spread"] = compander.center, compander.spread
            others = " or ".join(other for other in ("int8", "bfloat16", "float32") if other != dtype)
            _require(fits(block, dtype, compander), block, rows, start, named, f"does not fit {dtype}, which goes up to "
                     f"{largest(dtype)}; set activations.dtype to {others}")  # fmt: skip
            stored = encode(block, dtype, compander)
            for name, values in zip(("activations", "row_step"), stored.arrays(), strict=False):
                file[name][start:stop] = values
            hashes.append(_block_hash(stored, compander))
            read_back = decode(stored, dtype, compander)
            statistics.add(block, read_back, is_train=rows.split[start:stop] == 0)
            start = stop
        if start != len(rows):
            raise CacheError(f"{path}: {start} activations for {len(rows)} rows")
        for name in _ROW_COLUMNS:
            file.create_dataset(
                f"row/{name}", data=getattr(rows, name), compression="gzip", compression_opts=4, shuffle=True
            )
        file["block_sha256"] = np.array(hashes, dtype="S64")
        file["mean"] = statistics.mean()
        file.attrs.update(
            step=step,
            layer=layer,
            site=_text(site),
            dtype=_text(dtype),
            rows_sha256=_text(rows.sha256),
            content_sha256=_text(json_sha256(hashes)),
            provenance=canonical_json(provenance),
            **statistics.attributes(),
        )
        file.attrs["header_sha256"] = _text(_header_hash(file))
        return _header(file)


def _text(value: str) -> np.bytes_:
    # Of fixed length, inside the checksummed header: strings of variable length lie in a heap that has no checksum,
    # and HDF5 may walk a broken heap for ever.
    return np.bytes_(value)


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


def _require(good: np.ndarray, block: np.ndarray, rows: RowTable, start: int, named: str, complaint: str) -> None:
    if good.all():
        return
    at, dimension = np.argwhere(~good)[0]
    row = start + int(at)
    raise CacheError(
        f"{named}, row {row} (sequence {rows.sequence[row]}, position {rows.position[row]}), dimension {dimension}: "
        f"the activation {block[at, dimension]:.6g} {complaint}"
    )


def _block_hash(stored: StoredRows, compander: Compander | None) -> str:
    units = () if compander is None else (compander.center, compander.spread)
    return array_sha256(*stored.arrays(), *units)


def _header_hash(file: h5py.File) -> str:
    names = sorted(set(file.attrs) - {"header_sha256", "provenance"})
    return json_sha256({**{name: _plain(file.attrs[name]) for name in names}, "mean": array_sha256(file["mean"][:])})


def _plain(value: np.generic) -> str | int | float:
    return value.decode() if isinstance(value, bytes) else value.item()


def _header(file: h5py.File) -> CacheHeader:
    n_rows, d_model = file["activations"].shape
    own = [field.name for field in fields(CacheHeader) if field.name not in ("n_rows", "d_model", "mean")]
    facts: dict[str, Any] = {name: _plain(file.attrs[name]) for name in own}
    return CacheHeader(**facts, n_rows=n_rows, d_model=d_model, mean=file["mean"][:])


def read_header(path: str | Path) -> CacheHeader:
    """Read what a cache says of itself, without its rows; raise `CacheError` when it is not what its hash says."""
    with _open(path) as file:
        if "header_sha256" not in file.attrs:
            raise CacheError(f"{path}: was written by an earlier version of snapcoder; delete the file and rerun")
        if _plain(file.attrs["header_sha256"]) != _header_hash(file):
            raise CacheError(f"{path}: its header was changed after it was written; delete the file and rerun")
        return _header(file)


def read_rows(path: str | Path) -> RowTable:
    """Read a cache's row table; raise `CacheError` when it is not what its hash says."""
    with _open(path) as file:
        table = RowTable(**{name: file[f"row/{name}"][:] for name in _ROW_COLUMNS})
        stored = _plain(file.attrs["rows_sha256"])
    if table.sha256 != stored:
        raise CacheError(f"{path}: its row table was changed after it was written; delete the file and rerun")
    return table


def read_cache(path: str | Path) -> np.ndarray:
    """Read all rows as float32 [row, model], verifying every block's checksum."""
    return np.concatenate(list(iterate_cache(path)))


def iterate_cache(path: str | Path, numbers: Iterable[int] | None = None) -> Iterator[np.ndarray]:
    """Yield the rows in float32 blocks of at most `BLOCK_ROWS`, verifying each block's checksum.

    numbers: which blocks to read, in any order; all of them in order when None. Raises `CacheError` naming the rows
    when a checksum differs.
    """
    dtype, compander = read_encoding(path)
    return (decode(stored, dtype, compander) for stored in iterate_stored(path, numbers))


def read_encoding(path: str | Path) -> tuple[str, Compander | None]:
    """Return the dtype of a cache and, for int8, the units of its codes."""
    with _open(path) as file:
        dtype = str(_plain(file.attrs["dtype"]))
        if dtype not in STORED:
            raise CacheError(f"{path}: dtype {dtype!r} is not one of {', '.join(STORED)}; delete the file and rerun")
        return dtype, Compander(file["center"][:], file["spread"][:]) if dtype == "int8" else None


def iterate_stored(path: str | Path, numbers: Iterable[int] | None = None) -> Iterator[StoredRows]:
    """Yield the same blocks as `iterate_cache`, as they are stored; to be decoded with `read_encoding`."""
    _, compander = read_encoding(path)
    with _open(path) as file:
        hashes, n_rows = file["block_sha256"][:], len(file["activations"])
        if len(hashes) != -(-n_rows // BLOCK_ROWS):
            raise CacheError(f"{path}: {len(hashes)} checksums for {n_rows} rows; delete the file and rerun")
        for number in range(len(hashes)) if numbers is None else numbers:
            here = slice(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS)
            stored = StoredRows(file["activations"][here], None if compander is None else file["row_step"][here])
            if _block_hash(stored, compander).encode() != hashes[number]:
                raise CacheError(
                    f"{path}: rows {here.start}–{here.start + len(stored) - 1} are not those that were written "
                    "(checksum differs); delete the file and rerun"
                )
            yield stored


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


@contextmanager
def _open(path: str | Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:  # what HDF5 says of bytes that contradict each other
        raise CacheError(f"{path}: not a readable HDF5 file ({error}); delete it and rerun") from error
