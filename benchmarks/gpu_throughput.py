"""Tokens per second and peak memory on a GPU: dense, sparse in torch operations, and sparse with Triton kernels.

    python benchmarks/gpu_throughput.py --snapshots 32 --width 768 --features 24576 > benchmarks/gpu_throughput.md

First the three are compared with each other on this GPU; a difference ends the run with exit status 1. Activations are
random and on the device, so that reading data is left out. Without a GPU it says so and exits with status 2.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from snapcoder.crosscoder import sparse_torch
from snapcoder.crosscoder.gates import batch_threshold
from snapcoder.crosscoder.gradients import Activation, Step, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode, initialise
from snapcoder.crosscoder.optimizer import make_optimizer
from snapcoder.crosscoder.sparse_gpu import Capacity, gpu_loss_and_gradients
from snapcoder.crosscoder.training import weights_of

StepOf = Callable[[Parameters, Tensor, Tensor, float], Step]
ACTIVATION, PENALTY = Activation("per_snapshot"), Penalty("none")
TOLERANCE = 1e-3  # of a gradient's largest entry: float32 sums in another order, some in TF32


@dataclass(frozen=True)
class Path:
    """One way to compute a step; a sparse one counts in `room` what it drops."""

    step: StepOf
    room: Capacity | None = None


def main(arguments: list[str]) -> int:
    """Check parity, then measure; return the exit status."""
    options = parsed(arguments)
    if not torch.cuda.is_available():
        print("gpu_throughput.py needs a GPU that torch can use; this machine has none", file=sys.stderr)
        return 2
    device = torch.device("cuda")
    paths = paths_of(options)
    for name, path in paths.items():
        worst = difference(path, options, device) if path.room is not None else 0.0
        if worst > TOLERANCE:
            print(
                f"{name}: gradients differ from the dense path's by {worst:.2g} of the largest entry", file=sys.stderr
            )
            return 1
    print(f"# Throughput on {torch.cuda.get_device_name()}\n")
    print(f"Command: `python benchmarks/gpu_throughput.py {' '.join(arguments)}`.")
    print(f"The paths' gradients were equal within {TOLERANCE:g} of their largest entry.\n")
    print("| path | tokens/s | ms per update | peak memory, GB | dropped entries |\n|---|---|---|---|---|")
    for name, path in paths.items():
        try:
            seconds, peak, dropped = measured(path, options, device)
        except torch.cuda.OutOfMemoryError:
            print(f"| {name} | out of memory | | | |", flush=True)
            continue
        rate = options.batch / seconds
        print(f"| {name} | {rate:,.0f} | {seconds * 1e3:.1f} | {peak / 1e9:.2f} | {dropped} |", flush=True)
    return 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshots", type=int, default=32)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--features", type=int, default=24_576)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--moments", choices=("fp32", "lean"), default="fp32")
    return parser.parse_args(arguments)


def paths_of(options: argparse.Namespace) -> dict[str, Path]:
    """Return the paths by name."""

    def dense(parameters: Parameters, x: Tensor, z: Tensor, cut: float) -> Step:
        return loss_and_gradients(parameters, x, z, cut, activation=ACTIVATION, penalty=PENALTY, precision="bf16")

    def sparse(kernels: ModuleType) -> Path:
        room = Capacity.for_k(options.k, gate=ACTIVATION.gate, n_features=options.features)

        def step(parameters: Parameters, x: Tensor, z: Tensor, cut: float) -> Step:
            return gpu_loss_and_gradients(
                parameters, x, z, cut, activation=ACTIVATION, penalty=PENALTY, capacity=room, kernels=kernels
            )

        return Path(step, room)

    paths = {"dense": Path(dense), "sparse, torch operations": sparse(sparse_torch)}
    if find_spec("triton") is not None:
        from snapcoder.crosscoder import sparse_triton

        paths["sparse, Triton"] = sparse(sparse_triton)
    return paths


def problem(
    options: argparse.Namespace, device: torch.device, *, features: int, batch: int
) -> tuple[Parameters, Tensor, float]:
    """Return weights, activations and the cut that leaves k features on per token and snapshot."""
    generator = torch.Generator().manual_seed(0)
    start = initialise(
        options.snapshots, options.width, features, norm=0.3, threshold=0.1, generator=generator
    )  # fmt: skip
    parameters = start.map(lambda tensor: tensor.to(device))
    x = torch.randn(batch, options.snapshots, options.width, generator=generator).to(device)
    sample = min(256, batch)
    return parameters, x, batch_threshold(encode(parameters, x)[:sample], parameters.norms(), k=options.k)


def difference(path: Path, options: argparse.Namespace, device: torch.device) -> float:
    """Return the largest difference from the dense path's gradients in float32, as a share of each one's largest entry.

    At a small size. Entries that do not fit count as a difference, since the dense path has them.
    """
    parameters, x, cut = problem(options, device, features=min(options.features, 2048), batch=64)
    z = encode(parameters, x)
    exact = loss_and_gradients(parameters, x, z, cut, activation=ACTIVATION, penalty=PENALTY).gradients.named()
    own = path.step(parameters, x, z, cut).gradients.named()
    return max(
        float((exact[name] - own[name]).abs().amax() / exact[name].abs().amax().clamp_min(1e-30)) for name in exact
    )


def measured(path: Path, options: argparse.Namespace, device: torch.device) -> tuple[float, int, int]:
    """Return seconds per update (product, step, Adam), peak bytes, and the entries dropped in all updates.

    While a sparse path runs, any operation that waits for the device is an error.
    """
    parameters, x, cut = problem(options, device, features=options.features, batch=options.batch)
    optimizer = make_optimizer(weights_of(parameters), lr=1e-5, beta2=0.999, state=options.moments)

    def update() -> None:
        z = encode(parameters, x, precision="bf16")
        gradients = weights_of(path.step(parameters, x, z, cut).gradients)
        for group in optimizer.param_groups:
            group["params"][0].grad = gradients[group["name"]]
        optimizer.step()

    for _ in range(3):
        update()
    room = path.room
    if room is not None:
        room.overflow()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error" if room is not None else "default")
    began = time.perf_counter()
    for _ in range(options.updates):
        update()
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / options.updates
    dropped = int(room.dropped) if room is not None and room.dropped is not None else 0
    return seconds, torch.cuda.max_memory_allocated(), dropped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
