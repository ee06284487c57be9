"""Activations that all arms train on: sparse sums of directions that appear, fade or stay, already centred and scaled."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Size:
    """A problem. planted: features in the data; l0: of them in a row, averaged; k: active features a token may use."""

    n_snapshots: int
    d_model: int
    n_features: int
    planted: int
    l0: float
    k: int
    n_train: int = 40_000
    n_heldout: int = 4_096
    batch_size: int = 1024
    noise: float = 0.05


SIZES = {
    "easy": Size(n_snapshots=12, d_model=96, n_features=768, planted=300, l0=10, k=12),
    "large": Size(n_snapshots=12, d_model=96, n_features=3072, planted=300, l0=10, k=12),
    "single": Size(n_snapshots=1, d_model=768, n_features=3072, planted=1200, l0=20, k=25, n_train=20_000),
    "toy": Size(
        n_snapshots=3, d_model=16, n_features=32, planted=12, l0=2, k=3, n_train=600, n_heldout=200, batch_size=64
    ),
}
"""easy and large are the two of the crosscoder; single has one snapshot, for peers that train plain autoencoders."""


def planted_rows(size: Size, seed: int) -> np.ndarray:
    """Return x [row, snapshot, model] float32: train rows, then held-out rows; a pure function of its arguments.

    Half of the features are there from the first snapshot on, the others appear at a random one; every tenth fades
    again. Frequencies follow Zipf's law. Each snapshot is centred and scaled to a mean squared norm of d_model.
    """
    rng = np.random.default_rng([seed, size.n_snapshots, size.d_model, size.planted])
    n_rows = size.n_train + size.n_heldout
    onset = np.where(np.arange(size.planted) % 2 == 0, 0, rng.integers(0, size.n_snapshots, size.planted))
    offset = np.where(np.arange(size.planted) % 10 == 1, onset + max(2, size.n_snapshots // 3), size.n_snapshots)
    rate = 1 / (np.arange(size.planted) + 5.0)
    rate = rng.permutation(np.minimum(rate * size.l0 / rate.sum(), 0.9))
    amount = (rng.random((n_rows, size.planted)) < rate) * rng.uniform(0.5, 1.5, (n_rows, size.planted))
    amount = amount.astype(np.float32)
    shared = rng.standard_normal((size.planted, size.d_model))
    x = np.empty((n_rows, size.n_snapshots, size.d_model), dtype=np.float32)
    for s in range(size.n_snapshots):
        direction = shared + 0.15 * rng.standard_normal(shared.shape)  # a feature drifts a little
        present = (onset <= s) & (s < offset)
        direction *= (present / np.linalg.norm(direction, axis=1))[:, None]
        signal = amount @ direction.astype(np.float32)
        variance = float(signal.var(axis=0).sum())
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise * np.float32(np.sqrt(size.noise * variance / size.d_model))
        signal -= signal[: size.n_train].mean(axis=0)
        norm = np.square(signal[: size.n_train], dtype=np.float64).sum(axis=1).mean()
        x[:, s] = signal * np.float32(np.sqrt(size.d_model / norm))
    return x
