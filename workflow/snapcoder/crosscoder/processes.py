"""Join the processes that train one crosscoder together, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from snapcoder.crosscoder.checkpoints import CheckpointFile, CheckpointStore
from snapcoder.crosscoder.device import choose_device
from snapcoder.crosscoder.sharding import WHOLE, Shard, choose_axis

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another; reading caches and writing a large checkpoint take their time."""


def is_started() -> bool:
    """Return whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def require_gpus(device: str, n_ranks: int) -> None:
    """Raise ValueError when `n_ranks` processes cannot have a GPU each; on a CPU any number will do, if that is asked for."""
    if device == "cpu":
        return
    present = torch.cuda.device_count()
    if present < n_ranks:
        raise ValueError(
            f"crosscoder.gpus: {n_ranks} asked for, but this machine has {present}; lower it, or set crosscoder.device "
            "to cpu for as many processes without a GPU"
        )


def own_device(device: str) -> torch.device:
    """Return the device of this process: of several GPUs, the one with the process's number on this machine."""
    chosen = choose_device(device)
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if chosen.type == "cuda" and is_started() else chosen


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Hold the group of all processes open; nothing in a single process.

    Tensors on a GPU travel by NCCL, those in main memory by gloo.
    """
    if not is_started():
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_shard(device: torch.device, *, sharding: str, n_features: int, n_snapshots: int, d_model: int) -> Shard:
    """Return what this process of the open group holds; `WHOLE` when it is alone.

    Raises ValueError when the crosscoder cannot be cut into as many parts as there are processes.
    """
    if not dist.is_available() or not dist.is_initialized():
        return WHOLE
    from torch.distributed.device_mesh import init_device_mesh  # here: one process must not pay for importing it

    n_ranks = dist.get_world_size()
    axis = choose_axis(sharding, n_features=n_features, n_snapshots=n_snapshots, d_model=d_model, n_ranks=n_ranks)
    mesh = init_device_mesh(device.type, (n_ranks,), mesh_dim_names=(axis,))
    return Shard(axis=axis, n_snapshots=n_snapshots, n_features=n_features, mesh=mesh)


def own_checkpoint(folder: Path, key: str, shard: Shard, *, gate: str) -> CheckpointStore:
    """Return where this process keeps its state: one file when it is alone, else its part of a folder.

    A process that is alone also takes over what several have left behind, and several what one has.
    """
    file, parts = CheckpointFile(folder / "checkpoint.safetensors", key), folder / "checkpoint"
    if not shard.axis and not parts.exists():
        return file
    from snapcoder.crosscoder.sharded_checkpoints import ShardedCheckpoint  # here: it takes long to import

    return ShardedCheckpoint(parts, key, shard, gate, file)
