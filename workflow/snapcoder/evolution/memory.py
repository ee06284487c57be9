"""How much memory the pass over one snapshot takes, and how its features are split to stay below a bound."""

from snapcoder.evolution.capacity import CHUNK_FEATURES
from snapcoder.evolution.regression import PRODUCT_FEATURES, slices

GIB = 2**30
BYTES_PER_FEATURE = 200  # counts, sums and columns of the result
BYTES_PER_ENTRY = 48  # a block of codes as it is read, by feature, and with its gates
FEWEST = 64  # features of a pass below which reading everything again would cost more than it saves


def fixed_bytes(n_features: int, d_model: int, *, entries_per_row: float, block_rows: int) -> int:
    """Return the bytes that a pass takes whatever its number of features.

    The decoder and columns [feature], the larger of what a block needs and what the dimensionality of features needs.
    """
    decoder = 4 * n_features * d_model + BYTES_PER_FEATURE * n_features
    block = block_rows * (3 * 4 * d_model + round(BYTES_PER_ENTRY * entries_per_row))
    product = 8 * min(n_features, PRODUCT_FEATURES) * d_model
    dimensionality = 24 * min(n_features, CHUNK_FEATURES) * d_model + 8 * d_model**2
    return decoder + max(block + product, dimensionality)


def needed_bytes(
    n_features: int, d_model: int, features_per_pass: int, *, entries_per_row: float, block_rows: int
) -> int:
    """Return the bytes of one snapshot's pass: `fixed_bytes` and 8 bytes per model dimension of each of its features.

    No term depends on the number of rows or of snapshots.
    """
    fixed = fixed_bytes(n_features, d_model, entries_per_row=entries_per_row, block_rows=block_rows)
    return fixed + 8 * features_per_pass * d_model


def feature_passes(
    n_features: int, d_model: int, *, entries_per_row: float, block_rows: int, memory_gb: float
) -> list[slice]:
    """Return the features of each pass over codes and cache, as few passes as `memory_gb` allows.

    Raises ValueError that says how much is needed when not even `FEWEST` features fit beside the fixed part.
    """
    fixed = fixed_bytes(n_features, d_model, entries_per_row=entries_per_row, block_rows=block_rows)
    fitting = int((memory_gb * GIB - fixed) // (8 * d_model))
    fewest = min(n_features, FEWEST)
    if fitting < fewest:
        raise ValueError(
            f"evolution.memory_gb: {memory_gb:g} is too little for {n_features} features of width {d_model}; "
            f"set it to {(fixed + 8 * d_model * fewest) / GIB * 1.01:.2g} or more"
        )
    n_passes = -(-n_features // fitting)
    return slices(slice(0, n_features), -(-n_features // n_passes))
