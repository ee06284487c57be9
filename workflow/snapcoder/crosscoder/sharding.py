"""One crosscoder over several processes: who holds what, and the few sums that tie the parts together (CROSSCODER 4).

Every formula has two kinds of sums, over snapshots (z, ∂z, the penalty's mean) and over features (the reconstruction).
The code writes each of them once, as `shard.over_snapshots(partial)` or `shard.over_features(partial)`. Whichever axis
is split, its sums become one all-reduce and those of the other axis cost nothing; in one process (`WHOLE`) both do.

    features split    each rank holds F / W features of all snapshots;  [token, snapshot, model] is summed per step
    snapshots split   each rank holds S / W snapshots of all features;  [token, feature] is summed, forward and back

All ranks see the same sums bit for bit, so that whatever is decided from them is decided alike everywhere.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

AXES: dict[str, tuple[str, ...]] = {
    "encoder": ("snapshots", "model", "features"),
    "decoder": ("snapshots", "features", "model"),
    "encoder_bias": ("features",),
    "decoder_bias": ("snapshots", "model"),
    "log_threshold": ("features",),
}
"""What the dimensions of each parameter, its gradient and its optimiser state are."""


@dataclass(frozen=True)
class Shard:
    """The part of a crosscoder that this process holds.

    axis: "features" or "snapshots", whichever is split over the mesh's processes; "" when everything is here. Parts
    have equal size, except that the last one may be smaller (as `torch.chunk` cuts, and DTensor describes).
    """

    axis: str = ""
    n_snapshots: int = 0
    n_features: int = 0
    mesh: "DeviceMesh | None" = None

    @property
    def n_ranks(self) -> int:
        """W."""
        return self.mesh.size() if self.mesh is not None else 1

    @property
    def rank(self) -> int:
        """Which of the W processes this is."""
        return self.mesh.get_local_rank() if self.mesh is not None else 0

    @property
    def snapshots(self) -> slice:
        """The snapshots whose weights are here."""
        return self._part(self.n_snapshots) if self.axis == "snapshots" else slice(None)

    @property
    def features(self) -> slice:
        """The features whose weights are here."""
        return self._part(self.n_features) if self.axis == "features" else slice(None)

    @property
    def reads(self) -> slice:
        """The snapshots whose activations this process reads; see `complete_rows`."""
        return self._part(self.n_snapshots) if self.axis == "snapshots" or self._exchanges else slice(None)

    def total_snapshots(self, here: int) -> int:
        """Return S, given the number of snapshots here."""
        return self.n_snapshots if self.axis == "snapshots" else here

    def total_features(self, here: int) -> int:
        """Return F, given the number of features here."""
        return self.n_features if self.axis == "features" else here

    def total_gates(self, here: int, *, gate: str) -> int:
        """Return the number of gates of all processes, given the number here."""
        return self.total_snapshots(here) if gate == "per_snapshot" else here

    def over_snapshots(self, partial: Tensor) -> Tensor:
        """Return the sum over all snapshots of a sum over the snapshots here; `partial` may be overwritten."""
        return self._reduce(partial, "snapshots", "SUM")

    def over_features(self, partial: Tensor) -> Tensor:
        """Return the sum over all features of a sum over the features here; `partial` may be overwritten."""
        return self._reduce(partial, "features", "SUM")

    def number_over_snapshots(self, partial: float | Tensor) -> float | Tensor:
        """Return the sum over all snapshots of a number summed over the snapshots here; read when there is a sum."""
        return float(self.over_snapshots(torch.tensor(float(partial), dtype=torch.float64))) if self.axis else partial

    def once_over_features(self, term: Tensor) -> Tensor:
        """Return a term that a sum over features is to contain once: as it is for one process, 0 for the others."""
        return term if self.axis != "features" or self.rank == 0 else torch.zeros_like(term)

    def largest_over_snapshots(self, partial: Tensor) -> Tensor:
        """Return the maximum over all snapshots of a maximum over those here; of 0 and 1, whether any is 1."""
        return self._reduce(partial, "snapshots", "MAX")

    def agree(self, here: bool) -> bool:
        """Return whether any process says so (of a decision that only one may have seen reason for)."""
        if not self.axis:
            return here
        return bool(self._reduce(torch.tensor(int(here)), self.axis, "MAX"))  # in main memory: no GPU has to wait

    def join_snapshots(self, values: Tensor, dim: int) -> Tensor:
        """Return the values of all snapshots, joined along `dim`, on every process."""
        return self._join(values, dim) if self.axis == "snapshots" else values

    def join_features(self, values: Tensor, dim: int) -> Tensor:
        """Return the values of all features, joined along `dim`, on every process."""
        return self._join(values, dim) if self.axis == "features" else values

    def join_scores(self, scores: Tensor, *, gate: str) -> Tensor:
        """Return the scores [candidate] of all gates and features; a shared gate has the same ones at all snapshots."""
        return self.join_gates(self.join_features(scores, 0), gate=gate)

    def join_gates(self, values: Tensor, *, gate: str) -> Tensor:
        """Return the values of all gates [gate, …], on every process; a shared gate is known to all of them."""
        return self.join_snapshots(values, 0) if gate == "per_snapshot" else values

    def complete_rows(self, x: Tensor) -> Tensor:
        """Return the activations that a step here needs, of those read here [token, snapshot, model].

        With split snapshots these are the same. With split features every process needs all snapshots; each reads a
        part of them and the parts are exchanged, so that files are read and held in memory once, not W times (unless
        there are too few snapshots to give each process one).
        """
        return self._join(x, 1) if self._exchanges else x

    def mean(self, norms: Tensor) -> Tensor:
        """Return the mean of a quantity of every decoder row, given those here [snapshot, feature]."""
        if not self.axis:
            return norms.mean()
        sums = torch.stack([norms.sum(), norms.new_tensor(float(norms.numel()))])
        total = self._reduce(sums, self.axis, "SUM")
        return total[0] / total[1]

    def joint_norm(self, gradients: dict[str, Tensor]) -> Tensor:
        """Return the norm of all parameters' gradients together, a 0-d tensor, given the parts here by name."""
        norms = {name: torch.linalg.vector_norm(gradient) for name, gradient in gradients.items()}
        if not self.axis:
            return torch.stack(list(norms.values())).norm()
        split = torch.stack([norm for name, norm in norms.items() if self.axis in AXES[name]])
        everywhere = torch.stack([norm for name, norm in norms.items() if self.axis not in AXES[name]])
        return (self._reduce(split.square().sum(), self.axis, "SUM") + everywhere.square().sum()).sqrt()

    def whole(self, name: str, here: Tensor) -> Tensor:
        """Return one parameter in main memory: all of it on the first process, the part here on the others.

        All processes take part.
        """
        if self.axis not in AXES[name]:
            return here.cpu()
        return self._join(here.cpu(), AXES[name].index(self.axis), everywhere=False)

    @property
    def _exchanges(self) -> bool:
        return self.axis == "features" and _fills(self.n_snapshots, self.n_ranks)

    def _part(self, length: int) -> slice:
        size = math.ceil(length / self.n_ranks)
        return slice(min(self.rank * size, length), min((self.rank + 1) * size, length))

    def _reduce(self, values: Tensor, axis: str, operation: str) -> Tensor:
        if axis != self.axis or self.mesh is None:
            return values
        values = values.contiguous()
        dist.all_reduce(values, op=getattr(dist.ReduceOp, operation), group=self.mesh.get_group())
        return values

    def _join(self, values: Tensor, dim: int, *, everywhere: bool = True) -> Tensor:
        """Return all processes' values, in rank order along `dim`, where they may differ in length.

        With everywhere = False only the first process gets them; the others get their own back.
        """
        assert self.mesh is not None
        group = self.mesh.get_group()
        front = values.movedim(dim, 0).contiguous()
        lengths = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(self.n_ranks)]
        dist.all_gather(lengths, torch.tensor([len(front)], device=values.device), group=group)
        longest = max(int(length) for length in lengths)
        padded = front.new_zeros((longest, *front.shape[1:]))
        padded[: len(front)] = front
        receives = everywhere or self.rank == 0
        parts = [torch.empty_like(padded) for _ in range(self.n_ranks)] if receives else None
        if everywhere:
            dist.all_gather(parts, padded, group=group)
        else:
            dist.gather(padded, parts, group=group)
        if parts is None:
            return values
        kept = [part[: int(length)] for part, length in zip(parts, lengths, strict=True)]
        return torch.cat(kept).movedim(0, dim).contiguous()


WHOLE = Shard()
"""Everything in one process: no sum crosses a process, no part is missing."""


def choose_axis(sharding: str, *, n_features: int, n_snapshots: int, d_model: int, n_ranks: int) -> str:
    """Return the axis to split: what `sharding` says; for auto, features when F > S · d, else snapshots.

    The rule compares what is summed over processes per token: S · d values, or F values in each direction. When auto's
    first choice would leave a process without work, it takes the other. Raises ValueError when nothing can be split.
    """
    lengths = {"features": n_features, "snapshots": n_snapshots}
    first = sharding if sharding != "auto" else ("features" if n_features > n_snapshots * d_model else "snapshots")
    candidates = [first] if sharding != "auto" else [first, *({"features", "snapshots"} - {first})]
    for axis in candidates:
        if _fills(lengths[axis], n_ranks):
            return axis
    size = math.ceil(lengths[first] / n_ranks)
    fitting = [ranks for ranks in range(1, min(lengths[first], 64) + 1) if _fills(lengths[first], ranks)]
    near = sorted(sorted(fitting, key=lambda ranks: abs(ranks - n_ranks))[:3])
    raise ValueError(
        f"crosscoder.gpus: {lengths[first]} {first} in parts of {size} leave some of {n_ranks} processes without work; "
        f"use {' or '.join(map(str, near))}, or set crosscoder.sharding to auto"
    )


def _fills(length: int, n_ranks: int) -> bool:
    """Return whether cutting into equal parts, the last one smaller, gives every process something."""
    return math.ceil(length / math.ceil(length / n_ranks)) == n_ranks
