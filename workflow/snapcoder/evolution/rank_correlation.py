"""Spearman's correlation, plain and with controls held fixed: interval and permutation p-value, vectorised over draws.

A bootstrap draw is a vector of weights (how often it holds each observation). Midranks of the resampled data follow from
running sums of weights along each variable's order, which is found once: no sorting per draw.
"""

from dataclasses import dataclass

import numpy as np

from snapcoder.evolution.bca import bca_interval

CHUNK_VALUES = 1 << 17  # weights held at a time: they stay in the processor's cache
JACKKNIFE_GROUPS = 1000  # more observations than this are left out in random groups, which bounds the cost
_NOTHING = 1e-12  # variance of a rank variable in units of n²: below this there is none


@dataclass(frozen=True)
class Correlation:
    """A correlation with its 95% BCa interval and two-sided permutation p-value; NaN where undefined."""

    value: float
    ci_lo: float
    ci_hi: float
    p: float
    n: int


def correlations(
    x: np.ndarray, y: np.ndarray, controls: np.ndarray, *, bootstrap: int, permutations: int, seed: int
) -> tuple[Correlation, Correlation]:
    """Return Spearman's ρ of x and y [n], and the same with the ranks of `controls` [n, control] held fixed.

    The partial correlation is that of the residuals of both rank variables on the ranks of the controls. Its
    permutation test is Freedman and Lane's (1983): residuals of x are permuted, and regressed on the controls again.
    Observations are put in a canonical order first: relabelling them changes nothing.
    """
    data = np.column_stack([x, y, controls]).astype(np.float64)
    data = data[np.lexsort(data.T[::-1])]
    n = len(data)
    codes = [np.unique(column, return_inverse=True)[1] for column in data.T]
    value = _both(rank_covariance(codes, np.ones((1, n))))[0] if n > 2 else np.full(2, np.nan)
    if np.isnan(value).all():
        return tuple(Correlation(np.nan, np.nan, np.nan, np.nan, n) for _ in range(2))  # type: ignore[return-value]
    generator = np.random.default_rng(seed)
    draws = np.concatenate(
        [
            _both(rank_covariance(codes, generator.multinomial(n, np.full(n, 1 / n), size=size)))
            for size in _chunks(bootstrap, n)
        ]
    )
    without = _leave_out(codes, n, generator)
    p = _permutation_p(codes, value, permutations, generator)
    intervals = [bca_interval(value[i], draws[:, i], without[:, i]) for i in range(2)]
    plain, partial = (Correlation(float(value[i]), *intervals[i], float(p[i]), n) for i in range(2))
    return plain, partial


def rank_covariance(codes: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the covariance of weighted midranks, [draw, variable, variable], in units of n².

    codes: per variable the dense rank of each observation, [n]; weights [draw, n], each row a resampled data set.
    """
    weights = np.asarray(weights, dtype=np.float64)
    total = weights.sum(axis=1, keepdims=True)
    ranks = []
    for code in codes:
        order = np.argsort(code, kind="stable")
        first = np.searchsorted(code[order], np.arange(code.max() + 1))
        tied = np.add.reduceat(weights[:, order], first, axis=1)  # [draw, value]
        middle = (np.cumsum(tied, axis=1) - tied / 2) / total  # midrank − ½, as a share
        ranks.append(middle[:, code] - 0.5)  # the weighted mean of midranks is exactly half of the total
    n_variables = len(ranks)
    covariance = np.empty((len(weights), n_variables, n_variables))
    for a in range(n_variables):
        weighted = weights * ranks[a]
        for b in range(a, n_variables):
            covariance[:, a, b] = covariance[:, b, a] = np.einsum("dn,dn->d", weighted, ranks[b]) / total[:, 0]
    return covariance


def partial_correlation(covariance: np.ndarray) -> np.ndarray:
    """Return the correlation of variables 0 and 1 given all others, [draw], from covariances [draw, variable, variable].

    Controls are swept out one by one (Schur complements, equal to regressing them out); one without variance of its
    own left changes nothing. NaN when x or y has none left.
    """
    rest = covariance.copy()
    for control in range(2, rest.shape[1]):
        own = rest[:, control, control]
        gain = np.divide(rest[:, :, control], own[:, None], out=np.zeros(rest.shape[:2]), where=own[:, None] > _NOTHING)
        rest = rest - gain[:, :, None] * rest[:, None, control, :]
    variance = np.stack([rest[:, 0, 0], rest[:, 1, 1]])
    product = np.sqrt(np.prod(np.maximum(variance, 0.0), axis=0))
    known = (variance > _NOTHING).all(axis=0)
    return np.divide(rest[:, 0, 1], product, out=np.full(len(rest), np.nan), where=known)


def _both(covariance: np.ndarray) -> np.ndarray:
    """Return plain and partial correlation, [draw, 2]."""
    return np.column_stack([partial_correlation(covariance[:, :2, :2]), partial_correlation(covariance)])


def _chunks(draws: int, n: int) -> list[int]:
    size = max(1, CHUNK_VALUES // n)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _leave_out(codes: list[np.ndarray], n: int, generator: np.random.Generator) -> np.ndarray:
    """Return both correlations without each observation, or without each of `JACKKNIFE_GROUPS` random groups."""
    n_groups = min(n, JACKKNIFE_GROUPS)
    group = generator.permutation(n) % n_groups
    parts, start = [], 0
    for size in _chunks(n_groups, n):
        kept = group[None, :] != np.arange(start, start + size)[:, None]
        parts.append(_both(rank_covariance(codes, kept)))
        start += size
    return np.concatenate(parts)


def _permutation_p(
    codes: list[np.ndarray], value: np.ndarray, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    n = len(codes[0])
    ranks = np.column_stack([_midranks(code) for code in codes])  # [n, variable], centred
    basis = _orthonormal(ranks[:, 2:])
    left = ranks[:, :2] - basis @ (basis.T @ ranks[:, :2])  # residuals of x and y on the controls
    (x, y), (rest_x, rest_y) = ranks[:, :2].T, left.T
    known = ~np.isnan(value)
    exceed = np.zeros(2)
    for size in _chunks(permutations, n):
        shuffled = generator.permuted(np.broadcast_to(np.arange(n), (size, n)), axis=1)
        plain = _safe_ratio(x[shuffled] @ y, np.sqrt((x @ x) * (y @ y)))
        moved = rest_x[shuffled]  # [permutation, n]
        length = np.maximum(rest_x @ rest_x - ((moved @ basis) ** 2).sum(axis=1), 0.0)
        partial = _safe_ratio(moved @ rest_y, np.sqrt(length * (rest_y @ rest_y)))
        exceed += [
            (np.abs(draw) >= abs(bound) - 1e-12).sum() for draw, bound in zip((plain, partial), value, strict=True)
        ]
    return np.where(known, (1 + exceed) / (1 + permutations), np.nan)


def _midranks(code: np.ndarray) -> np.ndarray:
    tied = np.bincount(code)
    return (np.cumsum(tied) - tied / 2)[code] - len(code) / 2


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns [n, control], [n, rank]."""
    if not columns.shape[1]:
        return columns
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, size > 1e-9 * max(size.max(), 1.0)]


def _safe_ratio(over: np.ndarray, under: np.ndarray | float) -> np.ndarray:
    under = np.broadcast_to(under, over.shape)
    return np.divide(over, under, out=np.zeros_like(over), where=under > _NOTHING)
