"""What one training step costs, dense and sparse, over the number of active features: `python benchmarks/step_cost.py`.

The crossing of the two sets `crosscoder.paths.SPARSE_BELOW`. The bare encoder product is timed in the same loop.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch

from snapcoder.crosscoder.allocation import keep_freed_memory
from snapcoder.crosscoder.entries import select
from snapcoder.crosscoder.gates import batch_threshold, gate_norms
from snapcoder.crosscoder.gradients import Activation, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import encode, initialise
from snapcoder.crosscoder.optimizer import make_optimizer
from snapcoder.crosscoder.paths import DISTINCT
from snapcoder.crosscoder.sparse import sparse_loss_and_gradients, use_threads
from snapcoder.crosscoder.training import weights_of


def median_ms(action: Callable[[], object], repeats: int) -> float:
    """Return the median time of an action in ms, after two warm-up calls."""
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times[2:]))


def measure(
    n_features: int, k: int, gate: str, *, snapshots: int, width: int, batch: int, repeats: int
) -> dict[str, float]:
    """Return times in ms of the parts of one step on random data with k active features per token and snapshot."""
    generator = torch.Generator().manual_seed(0)
    parameters = initialise(snapshots, width, n_features, norm=1.0, threshold=0.1, generator=generator)
    parameters.decoder.mul_(0.5 + torch.rand(snapshots, n_features, 1, generator=generator))
    x = torch.randn(batch, snapshots, width, generator=generator)
    z = encode(parameters, x, precision="bf16")
    norms = gate_norms(parameters.norms(), gate=gate)
    cut = batch_threshold(z, norms, k=k, gate=gate)
    entries = select(z.numpy(), norms.amax(dim=0).numpy(), np.full(n_features, cut, np.float32))
    shared = {"activation": Activation(gate), "penalty": Penalty("none")}
    gradients = loss_and_gradients(parameters, x, z, cut, **shared, precision="bf16").gradients  # type: ignore[arg-type]
    weights = weights_of(parameters)
    optimizer = make_optimizer({n: weights[n] for n in ("encoder", "decoder")}, lr=0.0, beta2=0.999, state="fp32")
    for group in optimizer.param_groups:
        group["params"][0].grad = weights_of(gradients)[group["name"]].contiguous()
    return {
        "share": len(entries.feature) / batch / n_features,
        "encode": median_ms(lambda: encode(parameters, x, precision="bf16"), repeats),
        "sparse": median_ms(lambda: sparse_loss_and_gradients(parameters, x, z, cut, **shared), repeats),  # type: ignore[arg-type]
        "dense": median_ms(
            lambda: loss_and_gradients(parameters, x, z, cut, **shared, precision="bf16"),  # type: ignore[arg-type]
            repeats,
        ),
        "adam": median_ms(optimizer.step, repeats),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", nargs="+", type=int, default=[768, 3072])
    parser.add_argument("--k", nargs="+", type=int, default=[4, 12, 24, 48, 96, 192, 384])
    parser.add_argument("--snapshots", type=int, default=12)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("step_cost.md"))
    options = parser.parse_args()
    use_threads(torch.get_num_threads())
    keep_freed_memory()
    lines = [
        "# What one training step costs",
        "",
        f"`python benchmarks/step_cost.py`: S = {options.snapshots}, d = {options.width}, batch {options.batch}, "
        f"{torch.get_num_threads()} threads, random data; median ms of {options.repeats}.",
        "Encode is the bare encoder product in bf16; sparse and dense are everything after it up to the gradients.",
        "",
        "| gate | F | k | active entries | encode | sparse | dense | dense / sparse | Adam | (encode + sparse + Adam) / encode |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for gate, n_features, k in product(DISTINCT, options.features, options.k):
        if 8 * k > n_features:
            continue
        cost = measure(
            n_features,
            k,
            gate,
            snapshots=options.snapshots,
            width=options.width,
            batch=options.batch,
            repeats=options.repeats,
        )
        step = (cost["encode"] + cost["sparse"] + cost["adam"]) / cost["encode"]
        lines.append(
            f"| {gate} | {n_features} | {k} | {cost['share']:.1%} | {cost['encode']:.1f} | {cost['sparse']:.1f} | "
            f"{cost['dense']:.1f} | {cost['dense'] / cost['sparse']:.1f} | {cost['adam']:.1f} | {step:.1f} |"
        )
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
