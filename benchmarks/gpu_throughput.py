"""Tokens per second and peak memory of training on a GPU, whole updates, rows read from main memory.

    python benchmarks/gpu_throughput.py > benchmarks/gpu_throughput.md

First the sparse paths' gradients are compared with the dense path's on this GPU; a difference ends the run with exit
status 1. Then real trainers run on random float16 rows in main memory: threshold, step, auxiliary loss, clipping,
optimiser, and the reading of rows ahead. Whatever waits for the GPU in an update is an error. --memory-gb limits what
may be taken of the GPU. Without a GPU the script says so and exits with status 2.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.gates import batch_threshold
from snapcoder.crosscoder.gradients import Activation, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode, initialise
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.crosscoder.rows_ahead import RowsAhead
from snapcoder.crosscoder.schedules import batch_rows
from snapcoder.crosscoder.sparse_gpu import Capacity, gpu_loss_and_gradients, kernels_for
from snapcoder.crosscoder.training import Trainer
from snapcoder.storage.activation_dtypes import StoredRows
from snapcoder.storage.aligned import AlignedRows
from snapcoder.study.crosscoder import CrosscoderSettings

ACTIVATION, PENALTY = Activation("per_snapshot"), Penalty("none")
TOLERANCE = 1e-3  # of a gradient's largest entry: float32 sums in another order
HELD_BATCHES = 6  # of rows in main memory, more than any cache holds
DEAD_AFTER = 2  # updates: soon there are dead heads, which the auxiliary loss looks after


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    snapshots: int
    width: int
    features: int
    batch: int
    k: int = 20
    moments: str = "fp32"
    path: str = "auto"


CASES = [
    *(Case(32, 768, 24_576, batch, path=path) for batch in (2048, 4096) for path in ("dense", "sparse")),
    Case(32, 768, 24_576, 2048, moments="lean"),
    Case(32, 768, 24_576, 4096, moments="lean"),
    Case(32, 768, 98_304, 2048, moments="lean"),
    Case(32, 768, 98_304, 4096, moments="lean"),
]
PARITY = Case(32, 768, 2048, 64)
CROSSING = [
    *(Case(32, 768, 24_576, 2048, k=k, path=path) for k in (80, 160, 320) for path in ("dense", "sparse")),
    *(Case(32, 768, 4096, 2048, k=k, path=path) for k in (20, 60) for path in ("dense", "sparse")),
    *(Case(17, 128, 1024, 1024, k=k, path=path) for k in (20, 80) for path in ("dense", "sparse")),
]
"""Where one path becomes faster than the other: `crosscoder.paths.SPARSE_BELOW`."""


def main(arguments: list[str]) -> int:
    """Check parity, then measure; return the exit status."""
    options = parsed(arguments)
    if not torch.cuda.is_available():
        print("gpu_throughput.py needs a GPU that torch can use; this machine has none", file=sys.stderr)
        return 2
    device = torch.device("cuda")
    memory = torch.cuda.get_device_properties(device).total_memory
    if options.memory_gb:
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.memory_gb * 1e9 / memory))
    for kernels in (sparse_torch, kernels_for(device)):
        worst = difference(kernels, device)
        if worst > TOLERANCE:
            print(f"{kernels.__name__}: gradients differ from the dense path's by {worst:.2g} of the largest entry")
            return 1
    command = " ".join(["python benchmarks/gpu_throughput.py", *arguments])
    limit = f", of which {options.memory_gb:g} GB may be taken" if options.memory_gb else ""
    print(f"# Training on {torch.cuda.get_device_name()}\n")
    print(f"Command: `{command}`. torch {torch.__version__}, {memory / 1e9:.0f} GB of GPU memory{limit}.")
    print(f"The sparse paths' gradients were equal to the dense one's within {TOLERANCE:g} of their largest entry.")
    print(f"Whole updates by `Trainer`, mean of {options.updates}; rows in float16 from main memory; nothing waited.\n")
    table(CASES, options.updates, device)
    print("\n## Where the sparse path stops paying\n")
    table(CROSSING, options.updates, device)
    return 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--memory-gb", type=float, default=0.0, help="take no more of the GPU; 0: all of it")
    return parser.parse_args(arguments)


def table(cases: list[Case], updates: int, device: torch.device) -> None:
    """Measure cases and print one row each."""
    print(
        "| S | d | F | batch | k | moments | path | entries per row | tokens/s | ms per update | waited for rows, ms |",
        end="",
    )
    print(" peak memory, GB | dropped |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        cells = [case.snapshots, case.width, f"{case.features:,}", case.batch, case.k, case.moments, case.path]
        try:
            cells += measured(case, updates, device)
        except torch.cuda.OutOfMemoryError:
            cells += ["", "out of memory", "", "", "", ""]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        torch.cuda.empty_cache()


def measured(case: Case, updates: int, device: torch.device) -> list[str]:
    """Return the cells of a case: entries, tokens/s, ms, ms waited, peak memory and dropped entries."""
    values = np.random.default_rng(0).standard_normal((HELD_BATCHES * case.batch // 8, 1, case.width), np.float32)
    values = np.tile(values, (8, case.snapshots, 1)).astype(np.float16)
    settings = CrosscoderSettings(
        n_features=case.features, batch_size=case.batch, k=case.k, k_start=1.0, steps=10_000, path=case.path,
        optimizer_state=case.moments, dead_after=DEAD_AFTER, init_norm=0.3, device="cuda",
    )  # fmt: skip
    normaliser = Normaliser(torch.zeros(case.snapshots, case.width), torch.ones(case.snapshots)).to(device)
    order = partial(batch_rows, batch_size=case.batch, n_rows=len(values), seed=0)
    torch.cuda.reset_peak_memory_stats()
    with RowsAhead(AlignedRows(StoredRows(values), "float16", None), normaliser, order) as rows:
        trainer = Trainer(rows, len(values), len(values), settings, rows.order)
        for _ in range(5 + DEAD_AFTER):
            trainer.update()
        trainer.capacity.overflow()
        torch.cuda.synchronize()
        waited, began = rows.waited, time.perf_counter()
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(updates):
            trainer.update()
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / updates
        waited = (rows.waited - waited) / updates
        dropped = 0 if trainer.capacity.dropped is None else int(trainer.capacity.dropped)
        x = rows(np.arange(256))
        z, norms = encode(trainer.parameters, x, precision="bf16"), trainer.parameters.norms()
        entries = float((z * norms.amax(dim=0) > float(trainer.tracked.threshold)).sum(dim=1).double().mean())
    peak = torch.cuda.max_memory_allocated() / 1e9
    rate = case.batch / seconds
    return [
        f"{entries:.0f}",
        f"{rate:,.0f}",
        f"{seconds * 1e3:.1f}",
        f"{waited * 1e3:.1f}",
        f"{peak:.1f}",
        f"{dropped}",
    ]


def difference(kernels: ModuleType, device: torch.device, case: Case = PARITY, places: int | None = None) -> float:
    """Return the largest difference from the dense path's gradients in float32, as a share of each one's largest entry.

    Entries that do not fit into `places` per row count as a difference, since the dense path has them.
    """
    parameters, x, cut = problem(case, device)
    z = encode(parameters, x)
    exact = loss_and_gradients(parameters, x, z, cut, activation=ACTIVATION, penalty=PENALTY).gradients.named()
    room = Capacity(places) if places else Capacity.for_k(case.k, gate=ACTIVATION.gate, n_features=case.features)
    own = gpu_loss_and_gradients(
        parameters, x, z, cut, activation=ACTIVATION, penalty=PENALTY, capacity=room, kernels=kernels
    ).gradients.named()
    return max(
        float((exact[name] - own[name]).abs().amax() / exact[name].abs().amax().clamp_min(1e-30)) for name in exact
    )


def problem(case: Case, device: torch.device) -> tuple[Parameters, Tensor, float]:
    """Return weights of many norms, activations, and the cut that leaves k features on per row and snapshot."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.batch, case.snapshots, case.width, generator=generator).to(device)
    start = initialise(
        case.snapshots, case.width, case.features, norm=0.3, threshold=0.1, generator=generator, like=x
    )  # fmt: skip
    grown = 0.5 + torch.rand(case.snapshots, case.features, 1, generator=generator).to(device)
    shaken = replace(start, decoder=start.decoder * grown)
    return shaken, x, batch_threshold(encode(shaken, x), shaken.norms(), k=case.k)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
