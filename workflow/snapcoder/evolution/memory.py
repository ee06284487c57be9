"""How much memory the pass over one snapshot takes, and how its features are split to stay below a bound."""

from snapcoder.evolution.capacity import CHUNK_FEATURES
from snapcoder.evolution.regression import PRODUCT_FEATURES, slices
from snapcoder.evolution.trajectories import CHUNK_FEATURES as JOINED_FEATURES

GIB = 2**30
BUFFERS = 40 * 2**20  # of HDF5, Arrow and pandas, in any process
BYTES_PER_FEATURE = 200  # counts, sums and columns of the result
BYTES_PER_PART_ROW, BYTES_PER_CHUNK_ROW = 70, 1000  # of snapshot_features, and of feature_trajectory in the making
BYTES_PER_ENTRY = 48  # a block of codes as it is read, by feature, and with its gates
FEWEST = 64  # features of a pass below which reading everything again would cost more than it saves


def needed_bytes(
    n_features: int, d_model: int, features_per_pass: int, *, entries_per_row: float, block_rows: int
) -> int:
    """Return the bytes that one snapshot's pass takes.

    Buffers, the decoder and columns [feature], and the larger of what the dimensionality of features takes before the pass and
    what the pass takes: one block, one product and 8 bytes per model dimension of each of its features. No term
    depends on the number of rows or of snapshots.
    """
    decoder = 4 * n_features * d_model + BYTES_PER_FEATURE * n_features
    dimensionality = 24 * min(n_features, CHUNK_FEATURES) * d_model + 8 * d_model**2
    block = block_rows * (3 * 4 * d_model + round(BYTES_PER_ENTRY * entries_per_row))
    sums = 8 * d_model * (features_per_pass + min(features_per_pass, PRODUCT_FEATURES))
    return BUFFERS + decoder + max(dimensionality, block + sums)


def joining_bytes(n_features: int, n_snapshots: int) -> int:
    """Return the bytes of joining all snapshots: their parts, and one chunk with its checks and its Arrow copy."""
    chunk = min(n_features, JOINED_FEATURES)
    return BUFFERS + n_snapshots * (BYTES_PER_PART_ROW * n_features + BYTES_PER_CHUNK_ROW * chunk)


def feature_passes(
    n_features: int, d_model: int, *, entries_per_row: float, block_rows: int, memory_gb: float
) -> list[slice]:
    """Return the features of each pass over codes and cache, as few passes as `memory_gb` allows.

    Raises ValueError that says how much is needed when not even `FEWEST` features at a time fit.
    """

    def needed(per_pass: int) -> int:
        return needed_bytes(n_features, d_model, per_pass, entries_per_row=entries_per_row, block_rows=block_rows)

    fewest = needed(min(n_features, FEWEST))
    if fewest > memory_gb * GIB:
        raise ValueError(
            f"evolution.memory_gb: {memory_gb:g} is too little for {n_features} features of width {d_model}; "
            f"set it to {fewest / GIB * 1.01:.2g} or more"
        )
    n_passes = 1
    while needed(-(-n_features // n_passes)) > memory_gb * GIB:
        n_passes += 1
    return slices(slice(0, n_features), -(-n_features // n_passes))
