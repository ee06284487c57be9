"""Feature dimensionality: how much of a dimension each feature has to itself (Elhage et al. 2022)."""

import numpy as np

CHUNK_FEATURES = 8192


def feature_dimensionality(decoder: np.ndarray) -> np.ndarray:
    """Return D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)² for every row of `decoder` [feature, model], NaN for zero rows.

    With M = WᵀW it is ‖W_i‖² / (Ŵ_iᵀ M Ŵ_i), in O(F d²). Equal to the capacity of Scherlis et al. (2022); Σ D_i ≤ d.
    """
    # In units of the largest entry, so that squares neither under- nor overflow; in float64, because overlaps of
    # features with small norms are differences of large ones.
    largest = float(np.abs(decoder).max(initial=0.0)) or 1.0
    chunks = [slice(i, i + CHUNK_FEATURES) for i in range(0, len(decoder), CHUNK_FEATURES)]
    moment = np.zeros((decoder.shape[1], decoder.shape[1]))  # M [model, model]
    for chunk in chunks:
        weights = decoder[chunk].astype(np.float64) / largest
        moment += weights.T @ weights
    result = np.full(len(decoder), np.nan)
    for chunk in chunks:
        weights = decoder[chunk].astype(np.float64) / largest
        square = np.einsum("fd,fd->f", weights, weights)
        overlap = np.einsum("fd,fd->f", weights @ moment, weights)  # ‖W_i‖² · Ŵ_iᵀMŴ_i
        np.divide(square**2, overlap, out=result[chunk], where=(square > 0) & (overlap > 0))
    return np.minimum(result, 1.0)  # rounding


def dimensionality_rate(decoder: np.ndarray) -> float:
    """Return Σ_i D_i / d over the features with a non-zero decoder."""
    return float(np.nansum(feature_dimensionality(decoder)) / decoder.shape[1])


def random_direction_rates(norms: np.ndarray, d_model: int, *, draws: int, seed: int) -> np.ndarray:
    """Return the rate Σ D_i / d of random isotropic directions that have these norms, [draw, snapshot].

    norms [snapshot, feature]. Each draw uses the same directions at every snapshot, so that the null differs between
    snapshots by their norms alone; norms are sorted first, so that the names of features do not matter.
    """
    generator = np.random.default_rng(seed)
    ordered = np.sort(norms, axis=1).astype(np.float32)
    rates = np.zeros((draws, len(norms)))
    for draw in range(draws):
        direction = generator.standard_normal((norms.shape[1], d_model), dtype=np.float32)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        for s, norm in enumerate(ordered):
            rates[draw, s] = dimensionality_rate(direction * norm[:, None])
    return rates


def participation_ratio(moment: np.ndarray) -> float:
    """Return (Σλ)²/Σλ² of a symmetric positive matrix: its effective number of dimensions (0 for a zero matrix)."""
    square = float(np.einsum("ij,ij->", moment, moment))
    return float(np.trace(moment)) ** 2 / square if square > 0 else 0.0
