"""How activations become the stored numbers of `activations.dtype`, and which of them do not fit."""

from dataclasses import dataclass

import numpy as np

from snapcoder.storage.companding import LARGEST_DEVIATION, LARGEST_VALUE, Compander

STORED: dict[str, np.dtype] = {
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("<i1"),
}
"""Numbers on disk. bfloat16, which HDF5 lacks, is its bit pattern; int8 is the code of `storage.companding`."""

_LARGEST = {
    "float16": float(np.finfo(np.float16).max),
    "float32": float(np.finfo(np.float32).max),
    "bfloat16": float(np.uint32(0x7F7F0000).view(np.float32)),
}


@dataclass(frozen=True)
class StoredRows:
    """Rows as they are stored: values [row, …, model] of dtype `STORED[…]`, steps [row, …] float16 for int8, else None."""

    values: np.ndarray
    steps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return all that is stored for these rows."""
        return (self.values,) if self.steps is None else (self.values, self.steps)


def fits(rows: np.ndarray, dtype: str, compander: Compander | None) -> np.ndarray:
    """Return which values of finite float32 rows [row, model] the type can hold, as booleans of the same shape."""
    if compander is not None:
        return (np.abs(compander.deviation(rows)) <= LARGEST_DEVIATION) & (np.abs(rows) <= LARGEST_VALUE)
    return np.abs(rows) <= _LARGEST[dtype]


def largest(dtype: str) -> str:
    """Return in words the largest value that the type holds."""
    if dtype == "int8":
        return f"{LARGEST_DEVIATION:g} times the usual deviation of its dimension, and {LARGEST_VALUE:g}"
    return f"{_LARGEST[dtype]:.6g}"


def encode(rows: np.ndarray, dtype: str, compander: Compander | None) -> StoredRows:
    """Return float32 rows [row, model] that fit as they are stored; int8 needs its compander."""
    if compander is not None:
        return StoredRows(*compander.encode(rows))
    if dtype == "bfloat16":
        bits = rows.astype("<f4").view("<u4")
        return StoredRows(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"))  # round to nearest even
    return StoredRows(rows.astype(STORED[dtype]))


def decode(stored: StoredRows, dtype: str, compander: Compander | None) -> np.ndarray:
    """Return stored rows as float32, of the shape of their values."""
    if compander is not None and stored.steps is not None:
        return compander.decode(stored.values, stored.steps)
    if dtype == "bfloat16":
        return (stored.values.astype("<u4") << 16).view("<f4")
    return stored.values.astype(np.float32)
