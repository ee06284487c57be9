"""What each feature contributes to the metric: attr_i = (f_i − r_i) · ∂m/∂f_i, over examples and over positions."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from snapcoder.attribution.gradients import PathGradient
from snapcoder.attribution.paths import CORRUPTED, Path, moved_features, path_from
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts


@dataclass(frozen=True)
class Attribution:
    """Shares of the change of the metric, in its units, and what they are made of.

    feature [example, feature] sparse, error [example]: summed over positions. by_distance [distance, feature],
    error_by_distance [distance]: summed over examples, at each distance from the last position. delta [feature]: f − r,
    summed over positions, mean over examples; slope [feature]: mean of ∂m/∂f over positions with f ≠ r, NaN without any.
    """

    feature: csr_array
    error: np.ndarray
    by_distance: np.ndarray
    error_by_distance: np.ndarray
    delta: np.ndarray
    slope: np.ndarray


def attribute(
    prompts: TaskPrompts, here: SnapshotDictionary, found: PathGradient, path: Path | None = None
) -> Attribution:
    """Return the attributions of every feature and of the error term; path: default from patch to clean.

    Works on the non-zero entries of f − r, and on sums over positions where it has a constant part. Features and error
    add up to change · gradient, whatever the dictionary.
    """
    path = path_from(CORRUPTED, prompts, here) if path is None else path
    example, distance = prompts.example_of_position, prompts.distance_to_last
    n_examples, n_distances = len(prompts.examples), int(distance.max()) + 1
    sums = _of_varying(path, found.gradient, here, example, distance)
    if path.constant is not None:
        sums = _with_constant(sums, path.constant, found.gradient, here, example, distance)
    error = np.zeros(len(example)) if path.error is None else np.einsum("pd,pd->p", path.error, found.gradient)
    return Attribution(
        feature=sums.feature,
        error=np.bincount(example, weights=error, minlength=n_examples),
        by_distance=sums.by_distance,
        error_by_distance=np.bincount(distance, weights=error, minlength=n_distances),
        delta=sums.delta / n_examples,
        slope=np.divide(sums.slope, sums.count, out=np.full(len(sums.count), np.nan), where=sums.count > 0),
    )


@dataclass(frozen=True)
class _Sums:
    """Attributions [example, feature], [distance, feature]; sums over positions of f − r, of slopes, and their number."""

    feature: csr_array
    by_distance: np.ndarray
    delta: np.ndarray
    slope: np.ndarray
    count: np.ndarray


def _of_varying(
    path: Path, gradient: np.ndarray, here: SnapshotDictionary, example: np.ndarray, distance: np.ndarray
) -> _Sums:
    n_features, n_distances = path.varying.shape[1], int(distance.max()) + 1
    entries = path.varying.tocoo()
    position, feature = entries.coords
    slope = _row_products(gradient, position, here.decoder, feature) / here.scale  # ∂m/∂f at each entry
    share = entries.data.astype(np.float64) * slope
    shape = (int(example.max()) + 1, n_features)
    per_example = csr_array((share, (example[position], feature)), shape=shape)
    per_example.sum_duplicates()
    flat = distance[position] * n_features + feature
    return _Sums(
        feature=per_example,
        by_distance=np.bincount(flat, share, minlength=n_distances * n_features).reshape(n_distances, n_features),
        delta=np.bincount(feature, weights=entries.data, minlength=n_features),
        slope=np.bincount(feature, weights=slope, minlength=n_features),
        count=np.bincount(feature, minlength=n_features),
    )


def _with_constant(
    sums: _Sums,
    constant: np.ndarray,
    gradient: np.ndarray,
    here: SnapshotDictionary,
    example: np.ndarray,
    distance: np.ndarray,
) -> _Sums:
    """Return the sums with the constant part of f − r added, which every position has."""
    directions = here.decoder.astype(np.float64).T / here.scale
    everywhere = constant != 0
    return _Sums(
        feature=csr_array(sums.feature + constant * (_summed(gradient, example) @ directions)),
        by_distance=sums.by_distance + constant * (_summed(gradient, distance) @ directions),
        delta=sums.delta + constant * len(example),
        slope=np.where(everywhere, gradient.sum(axis=0, dtype=np.float64) @ directions, sums.slope),
        count=np.where(everywhere, len(example), sums.count),
    )


def position_shares(
    prompts: TaskPrompts,
    here: SnapshotDictionary,
    found: PathGradient,
    path: Path,
    *,
    example: int,
    features: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, at each position of one example, the attribution of some features, of the error, and of everything.

    Shapes [position, feature], [position], [position]; everything: error and all features, not only `features`.
    """
    rows = slice(int(prompts.offset[example]), int(prompts.offset[example + 1]))
    gradient = found.gradient[rows].astype(np.float64)
    moved = moved_features(path.varying[rows], path.constant, features)
    chosen = moved * (gradient @ here.decoder[features].T / here.scale)
    error = np.zeros(len(gradient)) if path.error is None else (path.error[rows] * gradient).sum(axis=1)
    return chosen, error, (path.change[rows] * gradient).sum(axis=1)


def _summed(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the sums of rows [row, model] of each group, [group, model] float64."""
    sums = np.zeros((int(group.max()) + 1, rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums


def _row_products(left: np.ndarray, rows: np.ndarray, right: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return left[rows] · right[columns] row by row, [entry] float64, in bounded memory."""
    products = np.empty(len(rows))
    for start in range(0, len(rows), 1 << 15):
        part = slice(start, start + (1 << 15))
        products[part] = np.einsum("ed,ed->e", left[rows[part]], right[columns[part]], dtype=np.float64)
    return products
