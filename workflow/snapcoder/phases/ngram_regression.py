"""How much of a model's log-probabilities the n-gram models explain: a regression, per snapshot (Michaelov 2510.24963)."""

import numpy as np

from snapcoder.phases.resampling import sums_by

RANK_TOLERANCE = 1e-9  # directions with less of the variance of the n-gram models are one another's copies


def ngram_regression(
    response: np.ndarray, predictors: np.ndarray, place: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return R² of the least-squares fit of response [row] on predictors [row, predictor], with an intercept.

    place [row]: document of each row; weights [1 + draw, document]: how often each draw takes each document. Returns
    [1 + draw]; NaN where the response does not vary. Only sums of squares and products per document are used, so that
    draws cost no pass over the rows.
    """
    centred = np.concatenate([predictors - predictors.mean(axis=0), (response - response.mean())[:, None]], axis=1)
    n_documents, n = weights.shape[1], centred.shape[1]
    count = weights @ np.bincount(place, minlength=n_documents)
    first = np.stack([sums_by(place, column, n_documents) for column in centred.T], axis=1)  # [document, column]
    upper = [(i, j) for i in range(n) for j in range(i, n)]
    products = np.stack([sums_by(place, centred[:, i] * centred[:, j], n_documents) for i, j in upper], axis=1)
    mean = (weights @ first) / count[:, None]
    scatter = np.empty((len(weights), n, n))
    for (i, j), value in zip(upper, (weights @ products / count[:, None]).T, strict=True):
        scatter[:, i, j] = scatter[:, j, i] = value - mean[:, i] * mean[:, j]
    own, cross, total = scatter[:, :-1, :-1], scatter[:, :-1, -1], scatter[:, -1, -1]
    explained = np.einsum("di,dij,dj->d", cross, np.linalg.pinv(own, rcond=RANK_TOLERANCE, hermitian=True), cross)
    varies = total > np.finfo(np.float32).eps ** 2 * max(float(np.mean(response) ** 2), 1.0)  # log q is float32
    return np.where(varies, np.clip(explained / np.where(varies, total, 1.0), 0.0, 1.0), np.nan)
