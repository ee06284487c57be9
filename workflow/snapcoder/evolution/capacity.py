"""Feature dimensionality: how much of a dimension each feature has to itself (Elhage et al. 2022)."""

from dataclasses import dataclass

import numpy as np

CHUNK_FEATURES = 8192


@dataclass(frozen=True)
class Capacity:
    """Dimensionality D_i of every feature (NaN for zero rows), and what one more copy of it adds to Σ D_i, [feature]."""

    dimensionality: np.ndarray
    influence: np.ndarray


def capacity(decoder: np.ndarray) -> Capacity:
    """Return D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)² of the rows of `decoder` [feature, model] and their influence on Σ D_i.

    With M = WᵀW it is ‖W_i‖⁴ / W_iᵀ M W_i, in O(F d²). Equal to the capacity of Scherlis et al. (2022); Σ D_i ≤ d.
    Influence: ∂ Σ_k w_k D_k(w) / ∂ w_i at weights 1, D_i − W_iᵀ Q W_i with Q = Σ_k D_k W_k W_kᵀ / W_kᵀ M W_k: its own
    dimensions minus what it takes from others. Influences add up to 0, because weighting all alike changes nothing.
    """
    # In units of the largest entry, so that squares neither under- nor overflow; in float64, because overlaps of
    # features with small norms are differences of large ones.
    largest = float(np.abs(decoder).max(initial=0.0)) or 1.0
    chunks = [slice(i, i + CHUNK_FEATURES) for i in range(0, len(decoder), CHUNK_FEATURES)]
    moment, taken = np.zeros((2, decoder.shape[1], decoder.shape[1]))  # M, Q [model, model]
    for chunk in chunks:
        weights = decoder[chunk].astype(np.float64) / largest
        moment += weights.T @ weights
    share = np.full(len(decoder), np.nan)
    for chunk in chunks:
        weights = decoder[chunk].astype(np.float64) / largest
        square = np.einsum("fd,fd->f", weights, weights)
        overlap = np.einsum("fd,fd->f", weights @ moment, weights)  # W_iᵀMW_i
        known = (square > 0) & (overlap > 0)
        np.divide(square**2, overlap, out=share[chunk], where=known)
        scaled = np.divide(square, overlap, out=np.zeros_like(square), where=known)[:, None] * weights
        taken += scaled.T @ scaled  # D_i W_iW_iᵀ / W_iᵀMW_i, because D_i is ‖W_i‖⁴ over the same
    influence = np.zeros(len(decoder))
    for chunk in chunks:
        weights = decoder[chunk].astype(np.float64) / largest
        influence[chunk] = np.nan_to_num(share[chunk]) - np.einsum("fd,fd->f", weights @ taken, weights)
    return Capacity(np.minimum(share, 1.0), influence)  # at most 1 but for rounding


def feature_dimensionality(decoder: np.ndarray) -> np.ndarray:
    """Return D_i of every row of `decoder` [feature, model], NaN for zero rows."""
    return capacity(decoder).dimensionality


def dimensionality_rate(decoder: np.ndarray) -> float:
    """Return Σ_i D_i / d over the features with a non-zero decoder."""
    return float(np.nansum(feature_dimensionality(decoder)) / decoder.shape[1])


def without_direction(decoder: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return `decoder` [feature, model] with its component along `direction` [model] taken out; a zero direction takes none."""
    length = np.linalg.norm(direction)
    if length == 0:
        return decoder
    unit = (direction / length).astype(decoder.dtype)
    rest: np.ndarray = decoder - np.outer(decoder @ unit, unit)
    return rest


def random_direction_rates(
    norms: np.ndarray,
    d_model: int,
    *,
    draws: int,
    seed: int,
    variances: np.ndarray | None = None,
    at_most: int = CHUNK_FEATURES,
) -> np.ndarray:
    """Return the rate Σ D_i / d of random directions that have these norms, [draw, snapshot].

    norms [snapshot, feature]; variances [snapshot, model]: eigenvalues of the covariance that directions are drawn with
    (none: isotropic). Each draw uses the same random numbers at every snapshot, so that the null differs between
    snapshots by norms and spectrum alone; norms are sorted first, so that the names of features do not matter.
    Of more than `at_most` features, as many, spread over the norms, stand for all: their overlaps with each other are
    scaled up to F − 1 others.
    """
    generator = np.random.default_rng(seed)
    n_features = norms.shape[1]
    kept = np.arange(n_features)
    if n_features > at_most:
        kept = np.linspace(0, n_features - 1, at_most).round().astype(np.int64)
    ordered = np.sort(norms, axis=1)[:, kept].astype(np.float32)
    ordered /= np.maximum(ordered.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    others = (n_features - 1) / max(len(kept) - 1, 1)
    rates = np.zeros((draws, len(norms)))
    for draw in range(draws):
        normal = generator.standard_normal((len(kept), d_model), dtype=np.float32)
        for s, norm in enumerate(ordered):
            shape = normal if variances is None else normal * np.sqrt(variances[s]).astype(np.float32)
            length = np.maximum(np.linalg.norm(shape, axis=1), np.finfo(np.float32).tiny)
            rates[draw, s] = _sampled_rate(shape * (norm / length)[:, None], others) * n_features / len(kept) / d_model
    return rates


def _sampled_rate(decoder: np.ndarray, others: float) -> float:
    """Return Σ D_i of the rows when every row's overlap with the other rows counts `others` times; float32."""
    square = np.einsum("fd,fd->f", decoder, decoder).astype(np.float64)
    overlap = np.einsum("fd,fd->f", decoder @ (decoder.T @ decoder), decoder).astype(np.float64)
    total = square**2 + others * np.maximum(overlap - square**2, 0.0)
    return float(np.divide(square**2, total, out=np.zeros_like(total), where=total > 0).sum())


def participation_ratio(moment: np.ndarray) -> float:
    """Return (Σλ)²/Σλ² of a symmetric positive matrix: its effective number of dimensions (0 for a zero matrix)."""
    square = float(np.einsum("ij,ij->", moment, moment))
    return float(np.trace(moment)) ** 2 / square if square > 0 else 0.0


def spectral_participation(variances: np.ndarray) -> float:
    """Return (Σλ)²/Σλ² of eigenvalues; 0 when all are zero."""
    square = float((variances**2).sum())
    return float(variances.sum()) ** 2 / square if square > 0 else 0.0


def rank_me(variances: np.ndarray) -> float:
    """Return exp of the entropy of the singular values √λ as shares of their sum (RankMe, Garrido et al. 2023); 0 for none."""
    singular = np.sqrt(np.maximum(variances, 0.0))
    if singular.sum() == 0:
        return 0.0
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
