"""Bootstrap over documents, shared by everything that is measured on a snapshot's predictions.

Draw b gives the same documents the same weights at every snapshot, so that differences between snapshots are paired.
"""

import numpy as np
import pandas as pd


def document_weights(n_documents: int, *, draws: int, seed: int) -> np.ndarray:
    """Return how often each draw takes each document, [1 + draw, document]; the first row takes each once."""
    generator = np.random.default_rng(seed)
    shares = np.full(n_documents, 1 / n_documents)
    counts = generator.multinomial(n_documents, shares, size=draws).astype(np.float64)
    return np.concatenate([np.ones((1, n_documents)), counts])


def sums_by(place: np.ndarray, value: np.ndarray, n: int) -> np.ndarray:
    """Return the sums of values by place, [n] float64."""
    return np.bincount(place, weights=value, minlength=n)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 2.5% and 97.5% percentiles of the draws that are defined; NaN when there is none."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def metric_frames(
    values: dict[str, np.ndarray], *, units: dict[str, str], n_rows: dict[str, int], known: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metrics (metric, value, ci_lo, ci_hi, n, unit) and draws (metric, draw, value) from values [1 + draw].

    known: whether the draws mean anything (they do not with a single document). A metric whose draws are all NaN has
    no interval and no draws.
    """
    metrics, draws = [], []
    for name, unit in units.items():
        resampled = values[name][1:] if known else values[name][:0]
        low, high = interval(resampled)
        metrics.append(
            {"metric": name, "value": values[name][0], "ci_lo": low, "ci_hi": high, "n": n_rows[name], "unit": unit}
        )
        if not np.isnan(resampled).all():
            draws.append(pd.DataFrame({"metric": name, "draw": np.arange(len(resampled)), "value": resampled}))
    empty = pd.DataFrame(
        {"metric": pd.Series(dtype=str), "draw": pd.Series(dtype="int64"), "value": pd.Series(dtype=float)}
    )
    return pd.DataFrame(metrics), pd.concat(draws, ignore_index=True) if draws else empty
