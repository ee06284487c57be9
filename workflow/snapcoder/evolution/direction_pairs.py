"""Two snapshots' decoder directions compared: feature by feature, and beyond the turn that all features share."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

NULL_SHIFTS = 8  # pairings of different features behind null_p95
FEATURES_PER_DIMENSION = 2  # features alive at both, per dimension, that the orthogonal map needs


@dataclass(frozen=True)
class PairRotation:
    """Two snapshots compared; arrays are [feature].

    cos: cosine of the decoder directions (NaN for a zero decoder); procrustes_cos: the same after the best orthogonal
    map (NaN unless alive at both); both_alive; null_p95: 95th percentile of |cos| between different features;
    procrustes_null_p95: the same after the best map between features and other features' directions.
    """

    cos: np.ndarray
    procrustes_cos: np.ndarray
    both_alive: np.ndarray
    null_p95: float
    procrustes_null_p95: float


def orthogonal_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the orthogonal R [model, model] that minimises ‖a R − b‖ (Schönemann 1966); a, b [feature, model]."""
    left, _, right = np.linalg.svd(a.T @ b)
    return left @ right


def cross_fitted_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosines of unit directions a and b [feature, model] after an orthogonal map fitted on other features.

    Features alternate between two halves; each half is mapped by the fit on the other. A map fitted on the same
    features would align n random directions in d dimensions to a cosine of about 0.85·√(d/n).
    NaN when there are fewer than 2·d features.
    """
    n, d = a.shape
    result = np.full(n, np.nan)
    if n < FEATURES_PER_DIMENSION * d:
        return result
    for test, fit in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        result[test] = np.einsum("fd,fd->f", a[test] @ orthogonal_map(a[fit], b[fit]), b[test])
    return np.clip(result, -1.0, 1.0)


def compare(
    a: np.ndarray, b: np.ndarray, *, alive_a: np.ndarray, alive_b: np.ndarray, norm_b: np.ndarray
) -> PairRotation:
    """Compare unit directions a and b [feature, model] of two snapshots.

    Halves and null pairings follow the order of the norms at b, so that the names of features do not matter.
    """
    cos = np.clip(np.einsum("fd,fd->f", a, b), -1.0, 1.0)
    both = alive_a & alive_b & ~np.isnan(cos)
    members = np.flatnonzero(both)
    members = members[np.argsort(norm_b[members], kind="stable")]
    a, b = a[members], b[members]
    mapped = np.full(len(cos), np.nan)
    mapped[members] = cross_fitted_cosines(a, b)
    shuffled = np.abs(cross_fitted_cosines(a, np.roll(b, len(b) // 2, axis=0)))  # a dictionary with other labels
    null = float(np.percentile(shuffled, 95)) if len(members) else float("nan")
    return PairRotation(cos, mapped, both, _null_p95(a, b), null)


def _null_p95(a: np.ndarray, b: np.ndarray) -> float:
    n = len(a)
    shifts = np.unique(np.linspace(0, n, NULL_SHIFTS + 2)[1:-1].astype(int))
    shifts = shifts[(shifts > 0) & (shifts < n)]
    if not len(shifts):
        return float("nan")
    return float(np.percentile([np.abs(np.einsum("fd,fd->f", a, np.roll(b, k, axis=0))) for k in shifts], 95))


def median_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile-bootstrap interval of the median, without drawing.

    The median of n draws with replacement is at most the k-th smallest value with probability
    P(Binomial(n, k/n) ≥ ⌈n/2⌉), so the percentiles are order statistics. NaN for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    share = np.arange(1, n + 1) / n
    lower = binom.sf((n + 1) // 2 - 1, n, share)  # P(lower median ≤ k-th smallest)
    upper = binom.sf(n // 2, n, share)
    ordered = np.sort(values)
    tail = (1 - level) / 2
    return float(ordered[np.argmax(lower >= tail)]), float(ordered[np.argmax(upper >= 1 - tail)])
