"""Resumable training state of several processes: each writes its part, any number of processes reads it back.

The parts are described as DTensors and written by torch.distributed.checkpoint in its safetensors layout (its default
one is pickled), so that another number of processes, or another split, finds its own parts by itself.
"""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, Placement, Replicate
from torch.distributed.tensor import Shard as Split

from snapcoder.crosscoder.checkpoints import Checkpoint, CheckpointFile
from snapcoder.crosscoder.sharding import AXES, Shard
from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import canonical_json

_LATEST = "latest.json"


@dataclass(frozen=True)
class ShardedCheckpoint:
    """A folder with the last state, the key of what it belongs to, and the part of it that is this process's.

    `latest.json` names the folder of the last complete state and is replaced atomically: a kill while the next one is
    being written leaves it in place. gate says whether dead counters are kept per snapshot; file is where one process
    alone may have left the state that several go on from.
    """

    path: Path
    key: str
    shard: Shard
    gate: str
    file: CheckpointFile | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the state, every process its part; all processes take part."""
        folder = self.path / f"step{checkpoint.facts['step']}"
        if self.shard.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)  # left over from a killed run
            folder.mkdir(parents=True)
        self._wait()
        placed = {name: self._placed(name, tensor.detach()) for name, tensor in checkpoint.tensors.items()}
        with _in_any_number():
            dcp.save(placed, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        if self.shard.rank == 0:
            latest = {"key": self.key, "folder": folder.name, "facts": checkpoint.facts}
            write_text(self.path / _LATEST, canonical_json(latest))
            for old in self.path.glob("step*"):
                if old != folder:
                    shutil.rmtree(old)
        self._wait()

    def load(self) -> Checkpoint | None:
        """Return this process's part of the last state; None when there is none or it belongs to something else."""
        file = self.path / _LATEST
        if not file.exists():
            return self._part_of_file()
        latest = json.loads(file.read_text(encoding="utf-8"))
        if latest.get("key") != self.key:
            return None
        reader = HuggingFaceStorageReader(str(self.path / latest["folder"]))
        here = {
            name: self._empty(name, tuple(stored.size), stored.properties.dtype)
            for name, stored in reader.read_metadata().state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }
        with _in_any_number():
            dcp.load({name: self._placed(name, tensor) for name, tensor in here.items()}, storage_reader=reader)
        return Checkpoint(here, latest["facts"])

    def remove(self) -> None:
        """Delete the state, and the folder above when that is empty; after all processes are done with it."""
        self._wait()
        if self.shard.rank == 0:
            shutil.rmtree(self.path, ignore_errors=True)
            if self.file is not None:
                self.file.remove()
            if self.path.parent.exists() and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()

    def _part_of_file(self) -> Checkpoint | None:
        """Return this process's part of a state that one process saved."""
        whole = self.file.load() if self.file is not None else None
        if whole is None:
            return None
        here = {name: self._cut(name, tensor) for name, tensor in whole.tensors.items()}
        return Checkpoint(here, whole.facts)

    def _cut(self, name: str, tensor: Tensor) -> Tensor:
        dim = self._dim(name, tuple(tensor.shape))
        if dim is None:
            return tensor
        part = getattr(self.shard, self.shard.axis)
        return tensor.narrow(dim, part.start, part.stop - part.start).clone()

    def _dim(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return which dimension of a stored tensor is split; None when every process holds all of it."""
        axes = _axes(name, shape, self.gate)
        return axes.index(self.shard.axis) if self.shard.axis in axes else None

    def _placed(self, name: str, here: Tensor) -> Tensor:
        """Return the part as a DTensor that knows where in the whole it lies."""
        if self.shard.mesh is None:
            return here.contiguous()
        dim, shape = self._dim(name, tuple(here.shape)), list(here.shape)
        placement: Placement = Replicate()
        if dim is not None:
            placement = Split(dim)
            shape[dim] = getattr(self.shard, f"n_{self.shard.axis}")
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(
            here.contiguous(), self.shard.mesh, [placement], run_check=False, shape=torch.Size(shape), stride=stride
        )

    def _empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return room for this process's part of a stored tensor."""
        own, dim = list(shape), self._dim(name, shape)
        if dim is not None:
            part = getattr(self.shard, self.shard.axis)
            own[dim] = part.stop - part.start
        return torch.empty(own, dtype=dtype, device=self.shard.mesh.device_type if self.shard.mesh else "cpu")

    def _wait(self) -> None:
        if self.shard.mesh is not None:
            dist.barrier(group=self.shard.mesh.get_group())


def _axes(name: str, shape: tuple[int, ...], gate: str) -> tuple[str, ...]:
    """Return what a stored tensor's dimensions are; () when they are not those of a parameter, as Adam's step count."""
    if name in ("idle", "fired"):
        return ("snapshots" if gate == "per_snapshot" else "gate", "features")
    if name == "onsets":
        return ("features",)
    parameter = next((part for part in name.split(".") if part in AXES), None)
    axes = AXES[parameter] if parameter else ()
    if len(shape) != len(axes):
        return ()
    if len(axes) == 3:  # weights are trained as they lie in memory
        return ("features", "row", "row") if shape[1:] == (1, 1) else ("features", "snapshots", "model")
    return axes


@contextmanager
def _in_any_number() -> Iterator[None]:
    """Keep quiet about there being only one process: that is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield
