"""Which feature of one dictionary is which of another: matched one to one, by decoders, encoders and activations."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

EXACT_FEATURES = 8192
"""Up to here pairs are the best assignment; with more features, mutual nearest neighbours, in bounded memory."""

CHUNK_FEATURES = 2048


@dataclass(frozen=True)
class Matches:
    """Pairs of features, and how alike they are; all arrays are [pair].

    a, b: features of the two dictionaries; decoder_cos, encoder_cos: cosines of the weights of all snapshots side by
    side; same_by_encoder: the encoders alone would have paired them too; activation_corr: Pearson correlation of their
    codes on the same rows (NaN when either never fires).
    """

    a: np.ndarray
    b: np.ndarray
    decoder_cos: np.ndarray
    encoder_cos: np.ndarray
    same_by_encoder: np.ndarray
    activation_corr: np.ndarray


def unit_rows(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the weights [snapshot, feature, model] of some features as unit rows [feature, snapshot · model].

    Snapshots lie side by side, so that the cosine of two rows weighs each snapshot by the norms there. Zero rows stay 0.
    """
    rows = weights[:, features].transpose(1, 0, 2).reshape(len(features), -1).astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def match_rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs (row of a, row of b) of unit rows that belong together by cosine, sorted by the row of a.

    The assignment with the largest sum of cosines (Hungarian method) up to `EXACT_FEATURES` rows; above, rows that are
    each other's nearest.
    """
    if max(len(a), len(b)) <= EXACT_FEATURES:
        return linear_sum_assignment(-(a @ b.T))
    nearest, back, best = np.zeros(len(a), np.int64), np.zeros(len(b), np.int64), np.full(len(b), -np.inf)
    for start in range(0, len(a), CHUNK_FEATURES):
        cosine = a[start : start + CHUNK_FEATURES] @ b.T
        nearest[start : start + len(cosine)] = cosine.argmax(axis=1)
        top = cosine.argmax(axis=0)
        value = cosine[top, np.arange(len(b))]
        better = value > best
        back[better], best[better] = start + top[better], value[better]
    mutual = back[nearest] == np.arange(len(a))
    return np.flatnonzero(mutual), nearest[mutual]


def code_correlations(a: csr_array, b: csr_array, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the Pearson correlation over rows of paired columns of two sparse codes [row, feature]; NaN for constants."""
    left, right = a.tocsc()[:, pairs[0]].astype(np.float64), b.tocsc()[:, pairs[1]].astype(np.float64)
    n = a.shape[0]
    mean = [np.asarray(part.sum(axis=0)).ravel() / n for part in (left, right)]
    square = [np.asarray(part.multiply(part).sum(axis=0)).ravel() / n for part in (left, right)]
    cross = np.asarray(left.multiply(right).sum(axis=0)).ravel() / n
    spread = np.sqrt(np.prod([np.maximum(s - m**2, 0.0) for s, m in zip(square, mean, strict=True)], axis=0))
    return np.divide(cross - mean[0] * mean[1], spread, out=np.full(len(cross), np.nan), where=spread > 0)


def random_match_cosine(a: np.ndarray, b: np.ndarray, *, n_snapshots: int, seed: int) -> float:
    """Return the 95th percentile of the best cosine that a feature finds in the other dictionary turned at random.

    One random rotation for all snapshots and features keeps norms, histories and overlaps inside the dictionary. a, b
    are unit rows [feature, snapshot · model].
    """
    d_model = b.shape[1] // n_snapshots
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d_model, d_model)))
    turned = (b.reshape(-1, d_model) @ turn.astype(np.float32)).reshape(b.shape)
    best = [(a[i : i + CHUNK_FEATURES] @ turned.T).max(axis=1) for i in range(0, len(a), CHUNK_FEATURES)]
    return float(np.percentile(np.concatenate(best), 95))
