"""Which way a step is computed: dense products, or sparse loops after one dense product."""

from snapcoder.study.crosscoder import CrosscoderSettings

SPARSE_BELOW = {"per_snapshot": 0.18, "shared": 0.04}
"""Share of a row's features from which dense products are faster, as `benchmarks/step_cost.py` measures it.

A shared gate needs one dense product where gates per snapshot need as many smaller ones as there are snapshots.
"""

DISTINCT = {"per_snapshot": 1.7, "shared": 1.0}
"""Features that are on at some snapshot, per feature that is on at one of them."""


def is_sparse(settings: CrosscoderSettings, *, k: float, device: str) -> bool:
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
    if settings.path == "dense" or device != "cpu" or settings.arm in ("jumprelu", "relu_l1"):
        return False
    return k * DISTINCT[settings.gate] < SPARSE_BELOW[settings.gate] * settings.n_features
