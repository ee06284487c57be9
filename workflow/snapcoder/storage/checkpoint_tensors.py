"""Read single tensors of a checkpoint's safetensors files as float32, without torch.

NumPy has no bfloat16, so the bytes are read by the header (8 bytes of length, JSON, data) and widened here.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class CheckpointTensors:
    """Where each tensor of a checkpoint lies.

    entries: per tensor name the file, type, shape, first byte and number of bytes.
    """

    entries: dict[str, tuple[Path, str, tuple[int, ...], int, int]]

    def read(self, name: str) -> np.ndarray:
        """Read one tensor as float32; raise ValueError when its type is not a floating-point one."""
        path, dtype, shape, offset, length = self.entries[name]
        if dtype not in _STORED:
            raise ValueError(
                f"{path}: tensor {name} has type {dtype}, expected one of {', '.join(_STORED)}; convert the checkpoint"
            )
        with path.open("rb") as handle:
            handle.seek(offset)
            raw = handle.read(length)
        stored = np.frombuffer(raw, dtype=_STORED[dtype])
        if dtype == "BF16":
            stored = (stored.astype("<u4") << 16).view("<f4")
        return stored.astype(np.float32).reshape(shape)


def open_checkpoint(files: Iterable[Path]) -> CheckpointTensors:
    """List the tensors of a checkpoint's safetensors files, reading their headers alone.

    Raises ValueError naming the file when it is not a safetensors file.
    """
    entries: dict[str, tuple[Path, str, tuple[int, ...], int, int]] = {}
    for path in files:
        header, start = _header(path)
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                entries[name] = (path, entry["dtype"], tuple(entry["shape"]), start + first, last - first)
    return CheckpointTensors(entries)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        text = handle.read(length) if length <= path.stat().st_size else b""
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not a safetensors file; fetch or write the checkpoint again") from error
    return header, 8 + length
