"""Run a function in several processes that form one gloo group, and collect what each returns."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_CONTEXT = multiprocessing.get_context("forkserver")  # one import of torch, from a process without threads
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed.checkpoint", "torch.distributed.tensor"])


def run_in_ranks(n_ranks: int, function: Callable[..., Any], *arguments: Any, meeting: Path) -> list[Any]:
    """Return function(*arguments) of every rank. `meeting` is a path that the processes find each other by."""
    meeting.unlink(missing_ok=True)
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(n_ranks)]
    processes = [
        _CONTEXT.Process(target=_rank, args=(rank, n_ranks, str(meeting), pipe[1], function, arguments), daemon=True)
        for rank, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    try:
        answers = [receiver.recv() for receiver, _ in pipes]
    except EOFError:
        raise AssertionError("a rank died; its traceback is on standard error") from None
    for process in processes:
        process.join()
    return answers


def _rank(
    rank: int, n_ranks: int, meeting: str, answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=n_ranks, timeout=timedelta(seconds=90)
    )
    answer.send(function(*arguments))
    dist.barrier()
    dist.destroy_process_group()
