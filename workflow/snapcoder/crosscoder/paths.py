"""Which way a step is computed: dense products, or sparse loops after one dense product."""

from importlib.util import find_spec

from snapcoder.study.crosscoder import CrosscoderSettings

SPARSE_BELOW = {"per_snapshot": 0.18, "shared": 0.04}
"""Share of a row's features from which dense products are faster on a CPU, as `benchmarks/step_cost.py` measures it.

A shared gate needs one dense product where gates per snapshot need as many smaller ones as there are snapshots.
"""

GPU_SPARSE_BELOW = 0.015
"""The same on a GPU with Triton, for large products, as `benchmarks/gpu_throughput.py` measures it."""

GPU_LAUNCHES = 5e7
"""What the dense path's many small operations cost a GPU, in entries of a row · rows · width of a snapshot."""

DISTINCT = {"per_snapshot": 1.7, "shared": 1.0}
"""Features that are on at some snapshot, per feature that is on at one of them."""


def is_sparse(settings: CrosscoderSettings, *, k: float, d_model: int, device: str) -> bool:
    """Return whether the step of an update with `k` active features per token takes the sparse path.

    auto decides by the expected share of entries, never by a clock: the same settings always take the same path.
    Raises ValueError when the sparse path is asked for where it does not exist.
    """
    dense_window = settings.arm == "jumprelu" and settings.ste_include_negative
    if settings.path == "sparse":
        if dense_window:
            raise ValueError(
                "crosscoder.path: sparse needs ste_include_negative: false, since with negative pre-activations in the "
                "window nearly every entry moves a threshold; set path to auto or dense"
            )
        return True
    if settings.path == "dense" or settings.arm in ("jumprelu", "relu_l1"):
        return False
    entries = k * DISTINCT[settings.gate]
    if device == "cpu":
        return entries < SPARSE_BELOW[settings.gate] * settings.n_features
    if find_spec("triton") is None:  # gathers in torch operations are slower than dense products
        return False
    return entries < GPU_SPARSE_BELOW * settings.n_features + GPU_LAUNCHES / (settings.batch_size * d_model)
