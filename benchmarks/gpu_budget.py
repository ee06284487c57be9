"""What training a crosscoder needs on one GPU, in closed form: bytes, operations per token, and the bound on speed.

    python benchmarks/gpu_budget.py > benchmarks/gpu_budget.md

Nothing here is measured; `benchmarks/gpu_throughput.py` measures. A test holds the persistent bytes to those of the
tensors that a real trainer allocates.
"""

from dataclasses import dataclass

from snapcoder.crosscoder.paths import DISTINCT
from snapcoder.crosscoder.sparse_gpu import Capacity

GPU_BYTES = 80e9
RESERVE = 2e9  # CUDA's context and what its allocator cannot use
FLOPS = 400e12  # bfloat16 products per second that a large one reaches, of a peak of 989e12 (H100 SXM)
BANDWIDTH = 3.0e12  # bytes per second of its memory, of a peak of 3.35e12
SAMPLE_ROWS = 256  # rows of a batch that the threshold is found on

WEIGHT_BYTES = {"fp32": 4, "bf16": 2}
STATE_BYTES = {"fp32": 8.0, "bf16": 4.0, "lean": 2.0, "8-bit": 2 + 2 * 4 / 256}
"""Bytes of Adam's moments per weight. lean adds one float32 per row; 8-bit has a float32 scale per block of 256."""

TODAY = {("fp32", "fp32"), ("fp32", "lean")}
"""Weights and moments that the trainer has; the others are on paper."""


@dataclass(frozen=True)
class Size:
    """A dictionary and its batch; k and k_start as in the settings."""

    snapshots: int
    d_model: int
    features: int
    batch: int
    k: float = 20
    k_start: float = 4.0
    gate: str = "per_snapshot"

    @property
    def row(self) -> int:
        """Weights of a feature's encoder or decoder, S d."""
        return self.snapshots * self.d_model

    @property
    def weights(self) -> int:
        """Weights of encoder and decoder."""
        return 2 * self.features * self.row

    @property
    def vectors(self) -> int:
        """Entries of encoder bias, log threshold and decoder bias."""
        return 2 * self.features + self.row

    @property
    def gates(self) -> int:
        """Gates of a feature."""
        return self.snapshots if self.gate == "per_snapshot" else 1

    @property
    def places(self) -> int:
        """Places per token, as at the first update."""
        return Capacity.for_k(self.k * self.k_start, gate=self.gate, n_features=self.features).places


def budget(size: Size, *, weights: str = "fp32", state: str = "fp32") -> dict[str, float]:
    """Return the bytes of one step's tensors on the sparse path with Triton, by name.

    workspace is the largest of what single operations hold beside the others, which live side by side. TopK and
    BatchTopK train no log threshold, so it has no moments.
    """
    width, rows = WEIGHT_BYTES[weights], size.features * size.row
    learnt_vectors = size.features + size.row
    moments = size.weights * STATE_BYTES[state]
    if state == "lean":
        # bfloat16 first moments; second moments: two rows a feature, but one per entry of a vector.
        moments += 2 * size.features * 4 + learnt_vectors * (2 + 4)
    else:
        moments += learnt_vectors * 8
    z = size.batch * size.features * 4
    encoding = max((rows + size.batch * size.row) * 2 + z / 2, z)  # operands and product in bfloat16; z before its bias
    sampling = SAMPLE_ROWS * (
        size.features * 4 + size.places * size.gates * 8
    )  # z · norm; norms there and their scores
    reviving = SAMPLE_ROWS * 4 * (4 * size.features + 2 * size.row)  # auxiliary loss: z and scores; residual and error
    return {
        "weights": size.weights * width + size.vectors * 4,
        "optimizer": moments,
        "gradients": size.weights * width + size.vectors * 4,
        "z": z,
        "x": size.batch * size.row * 4,
        "error": size.batch * size.row * 4,
        # feature, value, ∂z, felt; sorted feature and place; count and candidates per token; pointers per feature
        "entries": size.batch * (size.places * (4 * 4 + 4 + 8) + 8) + (size.features + 1) * 8,
        "gating": size.features * 4 * (3 * size.snapshots + size.gates),  # norms, twice, and the pull; gates
        "tracked": size.features * (6 * size.gates + 4),  # idle, fired now and since the last score; onsets
        "workspace": max(encoding if weights == "fp32" else 0, sampling, reviving),
    }


def operations(size: Size) -> tuple[float, float]:
    """Return floating-point operations per token on the sparse path, and on the dense one."""
    product = 2.0 * size.features * size.row
    entries = 2.0 * size.k * size.row * (3 + DISTINCT[size.gate])  # x̂, ∂f, ∂decoder; ∂encoder
    return product + entries, 5 * product


def step_seconds(size: Size, *, state: str) -> dict[str, float]:
    """Return the seconds of one update by part, each at the rate that its bytes or products allow.

    float32 weights. The entries' reads are counted as if no cache served any: an upper bound.
    """
    rows = size.features * size.row
    # Reads and writes per weight: torch's fused kernel, which also writes the clipped gradient back; or rows' norms,
    # then weights, gradients and first moments once.
    optimizer = {"fp32": 32, "lean": 20}[state]
    reads = 4.0 * size.row * size.k * (3 + DISTINCT[size.gate])
    read_and_written = {
        "copy of the encoder in bfloat16": rows * 8,
        "decoder norms, three times": rows * 12,
        "entries": size.batch * reads,
        "select": size.batch * size.features * 8,
        "gradients and their norm": size.weights * (4 + 4),
        "optimizer": size.weights * optimizer,
    }
    return {"encoder product": 2.0 * rows * size.batch / FLOPS} | {
        name: count / BANDWIDTH for name, count in read_and_written.items()
    }


LARGE, PAPER = Size(32, 768, 98_304, 2048), Size(32, 768, 24_576, 2048)
SIZES = {
    "S=32, d=768, F=98,304, batch 2,048": LARGE,
    "S=32, d=768, F=24,576, batch 2,048": PAPER,
    "default study: S=17, d=128, F=1,024, batch 1,024": Size(17, 128, 1024, 1024),
}
OPTIONS = [("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "lean"), ("fp32", "8-bit")] + [
    ("bf16", state) for state in ("fp32", "bf16", "lean", "8-bit")
]


def main() -> None:
    """Print the tables as markdown."""
    print("# What a step needs on one GPU, on paper\n")
    print("Closed form, not measured. Command: `python benchmarks/gpu_budget.py > benchmarks/gpu_budget.md`.")
    print("Sparse path with Triton, BatchTopK, k = 20 (k_start 4), one gate per snapshot. GB = 10⁹ bytes; a size fits")
    print(f"when its sum is at most {(GPU_BYTES - RESERVE) / 1e9:.0f} GB of 80 (2 GB are left to CUDA). Not counted:")
    print("held-out scoring.\n")
    for name, size in SIZES.items():
        memory(name, size)
    speed()


def memory(name: str, size: Size) -> None:
    """Print one size's table."""
    parts = list(budget(size))
    print(f"## {name}\n\n| weights in | moments in | {' | '.join(parts)} | sum, GB | fits | trainer |")
    print("|---" * (len(parts) + 5) + "|")
    for weights, state in OPTIONS:
        needed = budget(size, weights=weights, state=state)
        total = sum(needed.values())
        cells = " | ".join(f"{needed[part] / 1e9:.3g}" for part in parts)
        fits = "yes" if total <= GPU_BYTES - RESERVE else "no"
        has = "has it" if (weights, state) in TODAY else "on paper"
        print(f"| {weights} | {state} | {cells} | {total / 1e9:.3g} | {fits} | {has} |")
    print()


def speed() -> None:
    """Print operations per token and the bound on tokens per second."""
    print("## Operations and the bound on speed\n")
    print(
        f"Assumed: {FLOPS / 1e12:.0f} TFLOP/s in large bfloat16 products and {BANDWIDTH / 1e12:.1f} TB/s of memory (an"
    )
    print(
        "80 GB H100 SXM below its peak), float32 weights, parts one after another, data always ready. Only what fits.\n"
    )
    print("| size | GFLOP/token | dense path | tokens/s by the encoder product alone |")
    print("|---|---|---|---|")
    for name, size in SIZES.items():
        sparse, dense = operations(size)
        bound = FLOPS / (2 * size.features * size.row)
        print(f"| {name} | {sparse / 1e9:.3g} | {dense / 1e9:.3g} | {bound:,.0f} |")
    print(
        "\n| F (S=32, d=768) | batch | moments | ms per update | of these optimizer | tokens/s | input, GB/s in fp16 |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in (PAPER, LARGE):
        for batch in (2048, 4096, 8192):
            for state in ("fp32", "lean"):
                own = Size(size.snapshots, size.d_model, size.features, batch)
                if sum(budget(own, state=state).values()) > GPU_BYTES - RESERVE:
                    continue
                seconds = step_seconds(own, state=state)
                total = sum(seconds.values())
                rate = batch / total
                print(
                    f"| {own.features:,} | {batch:,} | {state} | {total * 1e3:.1f} | {seconds['optimizer'] * 1e3:.1f} | "
                    f"{rate:,.0f} | {rate * own.row * 2 / 1e9:.1f} |"
                )
    print("\nThe aim of 60,000 tokens/s at F = 24,576 needs this many GB/s of activations from disk or main memory:")
    print(f"{60_000 * PAPER.row * 2 / 1e9:.1f} in fp16, {60_000 * PAPER.row / 1e9:.1f} in int8.")


if __name__ == "__main__":
    main()
