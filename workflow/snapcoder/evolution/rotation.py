"""How feature directions turn over training, and how much of that is the whole basis turning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders

NULL_SHIFTS = 8  # pairings of different features behind cos_null_p95
FEATURES_PER_DIMENSION = 2  # features alive at both, per dimension, that the orthogonal map needs


@dataclass(frozen=True)
class PairRotation:
    """Two snapshots compared; arrays are [feature].

    cos: cosine of the decoder directions (NaN for a zero decoder); procrustes_cos: the same after the best orthogonal
    map (NaN unless alive at both); both_alive; null_p95: 95th percentile of |cos| between different features.
    """

    cos: np.ndarray
    procrustes_cos: np.ndarray
    both_alive: np.ndarray
    null_p95: float


def orthogonal_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the orthogonal R [model, model] that minimises ‖a R − b‖ (Schönemann 1966); a, b [feature, model]."""
    left, _, right = np.linalg.svd(a.T @ b)
    return left @ right


def cross_fitted_cosines(a: np.ndarray, b: np.ndarray, *, order: np.ndarray) -> np.ndarray:
    """Return the cosines of unit directions a and b [feature, model] after an orthogonal map fitted on other features.

    Features alternate, in `order`, between two halves; each half is mapped by the fit on the other. A map fitted on the
    same features would align n random directions in d dimensions to a cosine of about 0.85·√(d/n).
    NaN when there are fewer than 2·d features.
    """
    n, d = a.shape
    result = np.full(n, np.nan)
    if n < FEATURES_PER_DIMENSION * d:
        return result
    halves = (order[::2], order[1::2])
    for test, fit in (halves, halves[::-1]):
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
    order = np.argsort(norm_b[both], kind="stable")
    procrustes = np.full(len(cos), np.nan)
    procrustes[both] = cross_fitted_cosines(a[both], b[both], order=order)
    return PairRotation(cos, procrustes, both, _null_p95(a[both][order], b[both][order]))


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


def pairs(n_snapshots: int) -> Iterator[tuple[int, int]]:
    """Yield every pair of snapshots (a, b) with a < b."""
    return ((a, b) for a in range(n_snapshots) for b in range(a + 1, n_snapshots))


def rotation(decoders: SnapshotDecoders, *, alive: np.ndarray, cka: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables direction_rotation and rotation_summary.

    alive [snapshot, feature] bool; cka [snapshot, snapshot]: linear CKA of the activations.
    """
    n, norms = len(decoders.steps), decoders.norms()
    directions = [decoders.directions(s) for s in range(n)]
    tables: list[pd.DataFrame] = []
    summary: list[dict[str, float]] = [_same(decoders.steps[s], int(alive[s].sum()), cka[s, s]) for s in range(n)]
    for a, b in pairs(n):
        pair = compare(directions[a], directions[b], alive_a=alive[a], alive_b=alive[b], norm_b=norms[b])
        kinds = [kind for kind, wanted in (("adjacent", b == a + 1), ("to_final", b == n - 1)) if wanted]
        tables += [_features(pair, kind, (decoders.steps[a], decoders.steps[b])) for kind in kinds]
        row = _summarise(pair, cka[a, b])
        summary += [
            {"step_a": decoders.steps[a], "step_b": decoders.steps[b], **row},
            {"step_a": decoders.steps[b], "step_b": decoders.steps[a], **row},
        ]
    columns = ["feature", "kind", "step_a", "step_b"]
    table = pd.concat(tables, ignore_index=True).sort_values(columns, ignore_index=True)
    summary_table = pd.DataFrame(summary).sort_values(["step_a", "step_b"], ignore_index=True)
    return table.assign(layer=decoders.layer), summary_table.assign(layer=decoders.layer)


def _features(pair: PairRotation, kind: str, steps: Sequence[int]) -> pd.DataFrame:
    angle = np.degrees(np.arccos(pair.cos))
    decades = float(np.diff(log_steps(steps))[0])
    return pd.DataFrame(
        {
            "feature": np.arange(len(pair.cos)),
            "kind": kind,
            "step_a": steps[0],
            "step_b": steps[1],
            "cos": pair.cos,
            "angle_deg": angle,
            "angle_per_decade": angle / decades,
            "both_alive": pair.both_alive,
            "procrustes_cos": pair.procrustes_cos,
        }
    )


def _summarise(pair: PairRotation, cka: float) -> dict[str, float]:
    cos, mapped = pair.cos[pair.both_alive], pair.procrustes_cos[pair.both_alive]
    lo, hi = median_interval(cos)
    mapped = mapped[~np.isnan(mapped)]
    return {
        "n": len(cos),
        "cos_mean": float(cos.mean()) if len(cos) else float("nan"),
        "cos_median": float(np.median(cos)) if len(cos) else float("nan"),
        "cos_ci_lo": lo,
        "cos_ci_hi": hi,
        "procrustes_cos_median": float(np.median(mapped)) if len(mapped) else float("nan"),
        "cos_null_p95": pair.null_p95,
        "cka": cka,
    }


def _same(step: int, n_alive: int, cka: float) -> dict[str, float]:
    one = 1.0 if n_alive else float("nan")
    cosines = dict.fromkeys(("cos_mean", "cos_median", "cos_ci_lo", "cos_ci_hi", "procrustes_cos_median"), one)
    return {"step_a": step, "step_b": step, "n": n_alive, **cosines, "cos_null_p95": float("nan"), "cka": cka}
