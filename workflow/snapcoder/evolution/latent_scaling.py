"""Latent scaling over snapshots: how much of a feature is in the error, and how much in what other features reconstruct.

For two models by Minder et al. (2504.02922): β = argmin Σ ‖y − β z d‖² with y either the reconstruction error plus the
feature's own contribution (ε), or the reconstruction without it (r). A decoder that sparsity shrank leaves its signal in ε;
a feature whose work other features do leaves it in r. Closed form, with an intercept, from sums over rows, since everything
is linear: Σ z y·u = u·Σ z x − u·Σ z x̂ + (Σ z f)(W·u) for ε and u·Σ z x̂ − (Σ z f)(W·u) for r, where f is the gated code, W the
decoder and u any direction. Sums are kept per stretch of whole documents, which gives standard errors.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Slope:
    """A regression slope with its standard error over stretches of documents; both [feature], NaN where undefined."""

    value: np.ndarray
    se: np.ndarray


class CodeSums:
    """Sums over each stretch of documents that do not depend on any direction.

    n, [segment]; count, z, zz, f, zf [segment, feature]: active rows, Σz, Σz², Σf, Σzf; x, xhat [segment, model].
    """

    def __init__(self, n_segments: int, n_features: int, d_model: int) -> None:
        self.n = np.zeros(n_segments)
        self.count, self.z, self.zz, self.f, self.zf = (np.zeros((n_segments, n_features)) for _ in range(5))
        self.x, self.xhat = (np.zeros((n_segments, d_model)) for _ in range(2))

    def add_code(self, segment: int, z: csr_array) -> None:
        """Add the rows of the shared code, before anything else is known."""
        n_features = z.shape[1]
        self.n[segment] += z.shape[0]
        self.count[segment] += np.bincount(z.indices, minlength=n_features)
        self.z[segment] += np.bincount(z.indices, z.data, minlength=n_features)
        self.zz[segment] += np.bincount(z.indices, z.data.astype(np.float64) ** 2, minlength=n_features)

    def add_snapshot(self, segment: int, z: csr_array, f: csr_array, x: np.ndarray, xhat: np.ndarray) -> None:
        """Add what one snapshot makes of the same rows: gated code f [row, feature], x and x̂ [row, model]."""
        n_features = z.shape[1]
        joint = z.multiply(f).tocsr()
        self.f[segment] += np.bincount(f.indices, f.data, minlength=n_features)
        self.zf[segment] += np.bincount(joint.indices, joint.data, minlength=n_features)
        self.x[segment] += x.sum(axis=0, dtype=np.float64)
        self.xhat[segment] += xhat.sum(axis=0, dtype=np.float64)


class DirectionSums:
    """Sums Σ z (x·u) and Σ z (x̂·u) over each stretch of documents, along one unit direction u per feature.

    direction [feature, model] (zero where there is none); of_x, of_xhat [segment, feature].
    """

    def __init__(self, direction: np.ndarray, n_segments: int) -> None:
        self.direction = direction
        self.of_x, self.of_xhat = (np.zeros((n_segments, len(direction))) for _ in range(2))

    def add(self, segment: int, zx: np.ndarray, zxhat: np.ndarray) -> None:
        """Add Σ z x and Σ z x̂ [feature, model] of rows of one stretch."""
        self.of_x[segment] += np.einsum("fd,fd->f", zx, self.direction)
        self.of_xhat[segment] += np.einsum("fd,fd->f", zxhat, self.direction)


def scaling_slopes(
    sums: CodeSums, along: DirectionSums, decoder: np.ndarray, *, segments: np.ndarray, min_active: int
) -> tuple[Slope, Slope]:
    """Return the slopes of (y_ε·u, y_r·u) on z over the given segments; u is of unit length, so units are those of W.

    NaN where z is constant, where fewer than `min_active` of all rows are active, and where there is no direction.
    """
    own = np.einsum("fd,fd->f", decoder.astype(np.float64), along.direction)  # W·u
    total_x, total_xhat = (total @ along.direction.T for total in (sums.x, sums.xhat))  # Σ x·u, [segment, feature]
    of_error = along.of_x - along.of_xhat + sums.zf * own
    of_rest = along.of_xhat - sums.zf * own
    defined = (sums.count.sum(axis=0) >= min_active) & (along.direction != 0).any(axis=1)
    return (
        _slope(sums, of_error, total_x - total_xhat + sums.f * own, segments, defined),
        _slope(sums, of_rest, total_xhat - sums.f * own, segments, defined),
    )


def _slope(sums: CodeSums, zp: np.ndarray, p: np.ndarray, segments: np.ndarray, defined: np.ndarray) -> Slope:
    """Regress p on z over segments, from Σ z p and Σ p, [segment, feature]; standard error by whole segments."""
    n, z, zz = sums.n[segments, None], sums.z[segments], sums.zz[segments]
    zp, p = zp[segments], p[segments]
    rows = max(float(n.sum()), 1.0)
    mean_z, mean_p = z.sum(axis=0) / rows, p.sum(axis=0) / rows
    joint = zp - mean_z * p - mean_p * z + n * mean_z * mean_p  # Σ (z − z̄)(p − p̄)
    spread = zz - 2 * mean_z * z + n * mean_z**2  # Σ (z − z̄)²
    whole = spread.sum(axis=0)
    defined = defined & (whole > 0)
    value = np.divide(joint.sum(axis=0), whole, out=np.full(len(whole), np.nan), where=defined)
    used = len(segments)
    left = ((joint - value * spread) ** 2).sum(axis=0) * used / max(used - 1, 1)
    se = np.divide(np.sqrt(left), whole, out=np.full(len(whole), np.nan), where=defined & (used > 1))
    return Slope(value, se)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return the rows [feature, model] at unit length; zero where they are zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
