"""Training rows for a GPU, read ahead: while one update is computed, the rows of the next are gathered in the background.

They are gathered as they are stored, straight into pinned memory, and copied to the GPU beside the computation, on a
stream of their own; decoding and normalising follow where training computes. Which rows an update gets is a pure
function of its number, so that nothing here can change a result.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.crosscoder.training import Order
from snapcoder.storage.aligned import AlignedRows


@dataclass(frozen=True)
class _Gathered:
    """What is stored for some rows, where training computes; copied: when the copy has arrived there."""

    parts: list[Tensor]
    copied: torch.cuda.Event | None


class RowsAhead:
    """Rows of cached activations by number, on the normaliser's device; a context manager that ends the background work.

    Correct for row numbers in any order; fast when they are those of `order`, update by update.
    """

    def __init__(self, activations: AlignedRows, normaliser: Normaliser, order: Order) -> None:
        self.normaliser, self.dtype = normaliser, activations.dtype
        self.waited = 0.0  # seconds that training stood still for rows, the first ones included
        # PyTorch gathers bit patterns of 16 bits as signed integers only.
        stored = (array.view("<i2") if array.dtype == "<u2" else array for array in activations.stored.arrays())
        self._arrays = [torch.from_numpy(array) for array in stored]
        self._order = order
        self._wanted: tuple[int, np.ndarray] | None = None  # the update that `order` was asked for last, and its rows
        self._coming: tuple[int, Future[_Gathered]] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._device = normaliser.center.device
        self._side = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._units: tuple[Tensor, Tensor] | None = None
        if activations.compander is not None:
            units = (activations.compander.spread, activations.compander.center)
            spread, center = (torch.from_numpy(unit).to(self._device) for unit in units)
            self._units = spread, center

    def order(self, step: int) -> np.ndarray:
        """Return the row numbers of update `step` [batch], which are asked for next."""
        self._wanted = step, self._order(step)
        return self._wanted[1]

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Return the normalised activations [row, snapshot, model] of row numbers."""
        began = time.monotonic()
        step = self._wanted[0] if self._wanted is not None and rows is self._wanted[1] else None
        if step is not None and self._coming is not None and self._coming[0] == step:
            gathered = self._coming[1].result()
        else:
            gathered = self._gather(rows)
        if step is not None:
            self._coming = step + 1, self._worker.submit(lambda: self._gather(self._order(step + 1)))
        self.waited += time.monotonic() - began
        return self.normaliser.normalise(self._decoded(gathered))

    def _gather(self, rows: np.ndarray) -> "_Gathered":
        which, on_gpu = torch.from_numpy(rows), self._side is not None
        parts = [
            torch.index_select(
                array, 0, which, out=torch.empty((len(rows), *array.shape[1:]), dtype=array.dtype, pin_memory=on_gpu)
            )
            for array in self._arrays
        ]
        if self._side is None:
            return _Gathered(parts, None)
        with torch.cuda.stream(self._side):  # torch's allocator keeps pinned memory until it has been copied
            moved = [part.to(self._device, non_blocking=True) for part in parts]
            return _Gathered(moved, self._side.record_event())

    def _decoded(self, gathered: "_Gathered") -> Tensor:
        if gathered.copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(gathered.copied)  # the stream waits; the host does not
            for part in gathered.parts:
                part.record_stream(stream)
        values, *steps = gathered.parts
        if self._units is not None:  # as storage.companding.Compander.decode
            spread, center = self._units
            return (values * steps[0].float()[..., None]).sinh_().mul_(spread).add_(center)
        return values.view(torch.bfloat16) if self.dtype == "bfloat16" else values

    def __enter__(self) -> "RowsAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
