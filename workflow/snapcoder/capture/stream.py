"""Activations without a cache: the forward passes of all snapshots, one pool of sequences at a time.

A pool is a block of memory [row, snapshot, model]. The trainer reads its rows in the order of `crosscoder.pools`; on a
GPU the next pool is filled in the background meanwhile, so that two pools are held instead of one.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from snapcoder.capture.capture import captured
from snapcoder.capture.rows import Selection
from snapcoder.capture.truncated import TruncatedSnapshots
from snapcoder.crosscoder.pools import Pools
from snapcoder.storage.activations import RowTable


@dataclass(frozen=True)
class PoolShape:
    """How a row lies in memory, and whether a second pool is filled ahead."""

    n_snapshots: int
    d_model: int
    dtype: torch.dtype
    ahead: bool

    def n_buffers(self, pools: Pools) -> int:
        """Return how many pools are held at once."""
        return 2 if self.ahead and len(pools.sizes) > 1 else 1

    def n_bytes(self, pools: Pools) -> int:
        """Return the memory of the pools that are held at once."""
        row = self.n_snapshots * self.d_model * self.dtype.itemsize
        return self.n_buffers(pools) * int(pools.sizes.max()) * row


def pool_dtype(dtype: str) -> torch.dtype:
    """Return the type of a pool's numbers: that of a cache of this `activations.dtype`; bfloat16 instead of int8 codes.

    The codes need units fitted on a whole cache; bfloat16 accepts as large activations as they do.
    """
    return {"float32": torch.float32, "float16": torch.float16}.get(dtype, torch.bfloat16)


def require_pools_fit(pools: Pools, shape: PoolShape, *, memory_gb: float) -> int:
    """Return the memory of the pools in bytes; raise ValueError when it is more than `memory_gb`."""
    needed = shape.n_bytes(pools)
    if needed > memory_gb * 2**30:
        largest = int(pools.sizes.max())
        raise ValueError(
            f"crosscoder.memory_gb: {memory_gb:g} GB, but {shape.n_buffers(pools)} pools of {largest} rows of "
            f"{shape.n_snapshots} snapshots take {needed / 2**30:.1f} GB; raise it or set crosscoder.pool_tokens to "
            f"{int(largest * memory_gb * 2**30 / needed)} or less"
        )
    return needed


@dataclass(frozen=True)
class _Coming:
    """A pool that is being filled in the background."""

    pool: int
    done: Future[None]
    stopped: threading.Event

    def stop(self) -> None:
        """End the work as soon as the forward pass under way is done, whatever came of it."""
        self.stopped.set()
        self.done.exception()


class StreamedRows:
    """Rows of a stream by number, as raw activations; a context manager that ends the background work.

    Correct for row numbers in any order; fast when they come in the order of `batch_rows`.
    """

    def __init__(
        self,
        snapshots: TruncatedSnapshots,
        selection: Selection,
        pools: Pools,
        shape: PoolShape,
        *,
        n_positions: int,
    ) -> None:
        """n_positions: length of the whole training in rows; no pool is filled that lies beyond it."""
        self.snapshots, self.selection, self.pools, self.n_positions = snapshots, selection, pools, n_positions
        size = (int(pools.sizes.max()), shape.n_snapshots, shape.d_model)
        on_gpu = snapshots.device.type == "cuda"  # pinned memory is what a GPU copies to and from at full speed
        n_buffers = shape.n_buffers(pools)
        self._buffers = [torch.empty(size, dtype=shape.dtype, pin_memory=on_gpu) for _ in range(n_buffers)]
        self._held: dict[int, Tensor] = {}  # the pool that rows are read from
        self._rows: dict[int, np.ndarray] = {}
        self._coming: _Coming | None = None
        self._position = 0  # where the training order stands: only the background work depends on it
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pool") if n_buffers > 1 else None
        self._side = torch.cuda.Stream(snapshots.device) if on_gpu and n_buffers > 1 else None

    def batch_rows(self, step: int, *, batch_size: int) -> np.ndarray:
        """Return the row numbers of update `step` [batch], and note how far training has come."""
        self._position = (step + 1) * batch_size
        return self.pools.batch_rows(step, batch_size=batch_size)

    def held_bytes(self) -> int:
        """Return the memory of the pools, which never grows."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Return the activations [row, snapshot, model] of row numbers, in the dtype of the pools."""
        pool_of = self.pools.pool_of(rows)
        first = self._buffers[0]
        found = torch.empty((len(rows), *first.shape[1:]), dtype=first.dtype, pin_memory=first.is_pinned())
        for pool in dict.fromkeys(pool_of.tolist()):
            held = self._pool(pool)
            here = np.flatnonzero(pool_of == pool)
            place = torch.from_numpy(np.searchsorted(self._rows[pool], rows[here]))
            if len(here) == len(rows):
                return torch.index_select(held, 0, place, out=found)
            found[torch.from_numpy(here)] = held[place]
        return found

    def _pool(self, pool: int) -> Tensor:
        if pool in self._held:
            return self._held[pool]
        coming, self._coming = self._coming, None
        free = self._other_buffer()
        if len(self._buffers) == 1:
            self._held = {}  # the buffer that it lies in is filled anew
        if coming is not None and coming.pool == pool:
            coming.done.result()
        else:
            if coming is not None:  # training was resumed elsewhere; the buffer is needed
                coming.stop()
            self._fill(pool, free, threading.Event())
        self._held, self._rows = {pool: free}, {pool: self.pools.rows(pool)}
        self._begin_next(pool)
        return free

    def _other_buffer(self) -> Tensor:
        held = next(iter(self._held.values()), None)
        return next((buffer for buffer in self._buffers if buffer is not held), self._buffers[0])

    def _begin_next(self, pool: int) -> None:
        """Start filling the pool that the training order comes to after this one."""
        if self._worker is None:
            return
        ahead = self.pools.stretches(max(self._position - 1, 0), self.n_positions)
        following = next((stretch.pool for stretch in ahead if stretch.pool != pool), None)
        if following is not None:
            stopped = threading.Event()
            done = self._worker.submit(self._fill, following, self._other_buffer(), stopped)
            self._coming = _Coming(following, done, stopped)

    def _fill(self, pool: int, buffer: Tensor, stopped: threading.Event) -> None:
        rows = self.selection.rows(self.pools.sequences[pool])
        device, settings = self.snapshots.device, self.selection.settings
        # The device and stream of a thread are its own; copies to the host below end before the buffer is read.
        with torch.cuda.stream(self._side) if self._side is not None else nullcontext():
            for index, model in enumerate(self.snapshots):
                start = 0
                for piece in captured(
                    model,
                    self.selection.table,
                    rows,
                    layer=self.snapshots.layer,
                    batch_size=settings.batch_size,
                    device=device,
                ):
                    if stopped.is_set():
                        return
                    stored = piece.to(buffer.dtype)
                    self._require_finite(stored, piece, rows, start, index)
                    buffer[start : start + len(stored), index] = stored
                    start += len(stored)

    def _require_finite(self, stored: Tensor, piece: Tensor, rows: RowTable, start: int, index: int) -> None:
        bad = ~torch.isfinite(stored).all(dim=1)
        if not bool(bad.any()):
            return
        at = int(bad.nonzero()[0])
        kind = str(stored.dtype).removeprefix("torch.")
        what = f"does not fit {kind}" if bool(torch.isfinite(piece[at]).all()) else "is not finite"
        raise ValueError(
            f"{self.snapshots.folders[index]}: the activation of sequence {rows.sequence[start + at]}, position "
            f"{rows.position[start + at]} {what}; set activations.dtype to bfloat16 or float32, or check the snapshot"
        )

    def __enter__(self) -> "StreamedRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._coming is not None:
            self._coming.stopped.set()
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
