"""What the activations themselves do, without any dictionary: their spectrum and their similarity over snapshots."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from snapcoder.evolution.capacity import participation_ratio


@dataclass(frozen=True)
class Spectrum:
    """What the activations of one snapshot spread over.

    participation: ratio of the covariance with its 95% interval (NaN with one document); top1_share (NaN for constant
    activations); variances [model] ascending and first_direction [model]: of the covariance; mean [model];
    participation_with_mean: ratio of the second moments.
    """

    participation: float
    ci_lo: float
    ci_hi: float
    top1_share: float
    variances: np.ndarray
    first_direction: np.ndarray
    mean: np.ndarray
    participation_with_mean: float


def spaced_rows(n_rows: int, *, at_most: int) -> np.ndarray:
    """Return the indices of at most `at_most` rows, spread evenly over all rows."""
    if n_rows <= at_most:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, at_most).astype(np.int64)


def take_rows(blocks: Iterable[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return the chosen rows (ascending indices) of activations that come in blocks, [row, model] float32."""
    taken, start = [], 0
    for block in blocks:
        first, last = np.searchsorted(rows, [start, start + len(block)])
        taken.append(block[rows[first:last] - start])
        start += len(block)
    return np.concatenate(taken)


def spectrum(activations: np.ndarray, doc: np.ndarray, *, bootstrap: int, seed: int) -> Spectrum:
    """Return the spectrum of the covariance of `activations` [row, model], bootstrapping whole documents.

    doc [row]: document of each row. PR = (tr C)²/tr C². The bootstrap is linearised: each document moves tr C and tr C²
    by its rows' influence, so that a draw costs one weighted sum instead of one covariance.
    """
    mean = activations.mean(axis=0, dtype=np.float64)
    x = activations - mean.astype(np.float32)
    largest = np.maximum(np.abs(x).max(), np.finfo(np.float32).tiny)
    x /= largest
    covariance = (x.T @ x).astype(np.float64) / len(x)
    variances, directions = eigh(covariance)
    trace, square = float(np.trace(covariance)), float(np.einsum("ij,ij->", covariance, covariance))
    shape = {
        "variances": np.maximum(variances, 0.0) * float(largest) ** 2,
        "first_direction": directions[:, -1] if trace > 0 else np.zeros(len(covariance)),
        "mean": mean,
        "participation_with_mean": participation_ratio(covariance + np.outer(mean, mean) / float(largest) ** 2),
    }
    share = float(variances[-1]) / trace if trace > 0 else float("nan")
    participation = participation_ratio(covariance)
    _, index = np.unique(doc, return_inverse=True)
    size = np.bincount(index).astype(np.float64)
    if trace == 0 or len(size) < 2:
        return Spectrum(participation, float("nan"), float("nan"), share, **shape)
    # d tr C / d weight of a row = ‖x‖² − tr C;  d tr C² = 2 (xᵀC x − tr C²)
    of_trace = np.bincount(index, np.einsum("bd,bd->b", x, x)) - size * trace
    of_square = 2 * (np.bincount(index, np.einsum("bd,bd->b", x @ covariance.astype(np.float32), x)) - size * square)
    counts = np.random.default_rng(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), size=bootstrap)
    rows = counts @ size  # [draw]
    log_draws = 2 * (counts @ of_trace) / (rows * trace) - (counts @ of_square) / (rows * square)
    lo, hi = np.percentile(participation * np.exp(log_draws), [2.5, 97.5])
    return Spectrum(participation, float(lo), float(hi), share, **shape)


def linear_cka(activations: list[np.ndarray]) -> np.ndarray:
    """Return the linear CKA of every pair of snapshots on the same rows, [snapshot, snapshot] (Kornblith et al. 2019).

    ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) with centred columns; NaN for constant activations.
    """
    centred = []
    for block in activations:
        x = block - block.mean(axis=0, dtype=np.float64).astype(np.float32)
        length = np.linalg.norm(x)
        centred.append(x / length if length > 0 else x)
    n = len(centred)
    overlap = np.zeros((n, n))
    for a in range(n):
        for b in range(a, n):
            overlap[a, b] = overlap[b, a] = np.square(centred[a].T @ centred[b], dtype=np.float64).sum()
    own = np.sqrt(np.diag(overlap))
    scale = np.outer(own, own)
    return np.divide(overlap, scale, out=np.full((n, n), np.nan), where=scale > 0)
