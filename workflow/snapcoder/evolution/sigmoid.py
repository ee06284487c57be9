"""Sigmoid rises of many curves at once: y = base + height / (1 + exp(−(x − midpoint) / slope)), base and height free.

Two stages. With midpoint and slope fixed, base and height are a regression on one column that all curves share: a grid
over midpoints and slopes costs one matrix product, and gives every curve its best start. Levenberg–Marquardt steps on
all four parameters follow, for all curves side by side. Standard errors are those of `scipy.optimize.curve_fit`:
residual variance over the degrees of freedom, times the inverse of JᵀJ. They are undefined for a rise that fewer than
two points lie on: a step between two points fits equally well anywhere between them, and `curve_fit` says infinite.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

WIDTH_PER_SLOPE = 2 * np.log(9)  # distance between 10% and 90% of the rise, in slopes
N_PARAMETERS = 4

_CHUNK = 4096  # curves at a time: bounds the Jacobian [curve, point, parameter]
_ITERATIONS = 60
_MIDPOINTS, _SLOPES = 4, 10  # grid: midpoints per interval between points, slopes in all
_STEEPEST = 0.2  # smallest slope of the grid, as a share of the interval that holds the midpoint
_TOLERANCE = 1e-10  # relative gain in squared error below which a curve is done
_ON_THE_RISE = 0.02  # a point lies on the rise between this share of it and one minus this share
_SINGULAR = 1e-10  # reciprocal condition of the scaled JᵀJ below which no parameter has an error


@dataclass(frozen=True)
class Rise:
    """Fitted rises; all arrays are [curve], NaN where no rising sigmoid can be fitted.

    midpoint, slope: in units of x; midpoint_se: NaN where the curve does not determine it; r2: 1 − SSE / SST.
    """

    midpoint: np.ndarray
    midpoint_se: np.ndarray
    slope: np.ndarray
    base: np.ndarray
    height: np.ndarray
    r2: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Distance in x between 10% and 90% of the rise."""
        return WIDTH_PER_SLOPE * self.slope


def fit_rises(x: np.ndarray, curves: np.ndarray) -> Rise:
    """Fit a rising sigmoid to every curve; x [point] increasing, curves [curve, point].

    Undefined (NaN) below five points, for constant curves and for curves that only fall.
    """
    n_curves, n_points = curves.shape
    if n_points <= N_PARAMETERS:
        return Rise(*np.full((6, n_curves), np.nan))
    parts = [_fit(x, curves[rows]) for rows in _chunks(n_curves)]
    return Rise(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else Rise(*np.empty((6, 0)))


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return midpoint, its error, slope, base, height and R² of the curves y [curve, point]."""
    total = np.square(y - y.mean(axis=1, keepdims=True)).sum(axis=1)
    start, rises = _best_of_grid(x, y)
    rises &= total > 1e-12 * np.square(y).sum(axis=1)
    found = np.full((len(y), 6), np.nan)  # [curve, result]
    if rises.any():
        theta = _refine(x, y[rises], start[rises])
        error, jacobian = _residuals(x, y[rises], theta)
        sse = np.square(error).sum(axis=1)
        se = _midpoint_error(jacobian, sse / (len(x) - N_PARAMETERS))
        risen = jacobian[..., 3]  # ∂y/∂height: share of the rise, [curve, point]
        se[((risen > _ON_THE_RISE) & (risen < 1 - _ON_THE_RISE)).sum(axis=1) < 2] = np.nan
        midpoint, log_slope, base, height = theta.T
        fitted = np.stack([midpoint, se, np.exp(log_slope), base, height, 1 - sse / total[rises]], axis=1)
        fitted[height <= 0] = np.nan
        found[rises] = fitted
    return tuple(found.T)


def _best_of_grid(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best (midpoint, log slope, base, height) of a grid [curve, parameter] and whether its height is positive."""
    interval = np.diff(x)
    midpoint = (x[:-1, None] + interval[:, None] * np.linspace(0, 1, _MIDPOINTS, endpoint=False)).ravel()
    # No steeper than the interval can show: where no point lies on the rise, steps go nowhere.
    steepest = np.repeat(_STEEPEST * interval, _MIDPOINTS)
    slope = (steepest * (np.ptp(x) / steepest) ** np.linspace(0, 1, _SLOPES)[:, None]).ravel()
    midpoint = np.tile(midpoint, _SLOPES)
    basis = expit((x[:, None] - midpoint) / slope)  # [point, grid]
    mean = basis.mean(axis=0)
    centred = basis - mean
    length = np.sqrt(np.square(centred).sum(axis=0))
    usable = length > 1e-9
    along = np.divide(centred, length, out=np.zeros_like(centred), where=usable)
    gain = y @ along  # [curve, grid]: the squared error falls by its square
    best = gain.argmax(axis=1)
    height = gain[np.arange(len(y)), best] / np.where(usable, length, 1.0)[best]
    base = y.mean(axis=1) - height * mean[best]
    return np.stack([midpoint[best], np.log(slope[best]), base, height], axis=1), height > 0


def _residuals(x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return y − model [curve, point] and the Jacobian of the model [curve, point, parameter]."""
    midpoint, log_slope, base, height = (column[:, None] for column in theta.T)
    slope = np.exp(log_slope)
    u = (x - midpoint) / slope
    g = expit(u)
    steep = height * g * (1 - g)
    jacobian = np.stack([-steep / slope, -steep * u, np.ones_like(g), g], axis=2)
    return y - base - height * g, jacobian


def _refine(x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Run Levenberg–Marquardt from `theta` [curve, parameter]; every curve has its own damping and stops on its own."""
    theta, damping = theta.copy(), np.full(len(y), 1e-3)
    active = np.arange(len(y))
    lowest, highest = np.log(1e-3 * np.diff(x).min()), np.log(10 * np.ptp(x))
    error, jacobian = _residuals(x, y, theta)
    sse = np.square(error).sum(axis=1)
    scale = np.square(y - y.mean(axis=1, keepdims=True)).sum(axis=1)
    for _ in range(_ITERATIONS):
        scaled, length = _scaled(jacobian)
        curvature = np.einsum("cpi,cpj->cij", scaled, scaled) + damping[active, None, None] * np.eye(N_PARAMETERS)
        gradient = np.einsum("cpi,cp->ci", scaled, error)
        tried = theta[active] + np.linalg.solve(curvature, gradient[..., None])[..., 0] / length
        tried[:, 0] = np.clip(tried[:, 0], x[0] - np.ptp(x), x[-1] + np.ptp(x))
        tried[:, 1] = np.clip(tried[:, 1], lowest, highest)
        new_error, new_jacobian = _residuals(x, y[active], tried)
        new_sse = np.square(new_error).sum(axis=1)
        better = new_sse <= sse[active]
        gain = sse[active] - new_sse
        theta[active[better]], sse[active[better]] = tried[better], new_sse[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 5, 1e-9), damping[active] * 4)
        done = (better & (gain <= _TOLERANCE * sse[active] + 1e-14 * scale[active])) | (damping[active] > 1e8)
        keep = better[:, None]
        error = np.where(keep, new_error, error)[~done]
        jacobian = np.where(keep[..., None], new_jacobian, jacobian)[~done]
        active = active[~done]
        if not len(active):
            break
    return theta


def _midpoint_error(jacobian: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return √((JᵀJ)⁻¹₀₀ · variance), [curve]; NaN where JᵀJ is singular: the points do not determine the midpoint."""
    scaled, length = _scaled(jacobian)
    values, vectors = np.linalg.eigh(np.einsum("cpi,cpj->cij", scaled, scaled))
    known = values[:, 0] > _SINGULAR * values[:, -1]
    inverse = (np.square(vectors[:, 0]) / np.where(known[:, None], values, 1.0)).sum(axis=1)
    return np.where(known, np.sqrt(inverse * variance) / length[:, 0], np.nan)


def _scaled(jacobian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Jacobian with columns of unit length, and the lengths [curve, parameter]; a zero column stays zero."""
    length = np.sqrt(np.square(jacobian).sum(axis=1))
    length = np.where(length > 1e-12, length, 1.0)
    return jacobian / length[:, None], length
