"""What the activations themselves do, without any dictionary: their spectrum and their similarity over snapshots."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from snapcoder.evolution.capacity import participation_ratio


@dataclass(frozen=True)
class Spectrum:
    """Participation ratio of the covariance with its 95% interval (NaN with one document), and top-1 share."""

    participation: float
    ci_lo: float
    ci_hi: float
    top1_share: float


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
    x = activations - activations.mean(axis=0, dtype=np.float64).astype(np.float32)
    x /= np.maximum(np.abs(x).max(), np.finfo(np.float32).tiny)
    covariance = (x.T @ x).astype(np.float64) / len(x)
    trace, square = float(np.trace(covariance)), float(np.einsum("ij,ij->", covariance, covariance))
    _, index = np.unique(doc, return_inverse=True)
    size = np.bincount(index).astype(np.float64)
    if trace == 0 or len(size) < 2:
        share = float("nan") if trace == 0 else _top_share(covariance, trace)
        return Spectrum(participation_ratio(covariance), float("nan"), float("nan"), share)
    # d tr C / d weight of a row = ‖x‖² − tr C;  d tr C² = 2 (xᵀC x − tr C²)
    of_trace = np.bincount(index, np.einsum("bd,bd->b", x, x)) - size * trace
    of_square = 2 * (np.bincount(index, np.einsum("bd,bd->b", x @ covariance.astype(np.float32), x)) - size * square)
    counts = np.random.default_rng(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), size=bootstrap)
    rows = counts @ size  # [draw]
    log_draws = 2 * (counts @ of_trace) / (rows * trace) - (counts @ of_square) / (rows * square)
    lo, hi = np.percentile(participation_ratio(covariance) * np.exp(log_draws), [2.5, 97.5])
    return Spectrum(participation_ratio(covariance), float(lo), float(hi), _top_share(covariance, trace))


def _top_share(covariance: np.ndarray, trace: float) -> float:
    last = len(covariance) - 1
    return float(eigh(covariance, eigvals_only=True, subset_by_index=[last, last])[0]) / trace


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
