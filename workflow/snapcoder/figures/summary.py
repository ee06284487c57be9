"""Small summaries of tables that figures draw and findings quote, so that both say the same."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

ZERO = 0.5  # log axes place step 0 here
SIGNIFICANT = 0.05
CLOCKS = {"log_step": "log steps", "step": "linear steps", "tokens": "tokens", "loss": "loss"}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval and the number of observations behind it; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation with a 95% bootstrap interval and a permutation p-value."""

    rho: float
    low: float
    high: float
    p: float
    n: int


def log_step(steps: pd.Series | np.ndarray | list[int]) -> np.ndarray:
    """Return log10 of the steps, step 0 placed at 0.5."""
    values = np.asarray(steps, dtype=float)
    return np.log10(np.where(values == 0, ZERO, values))


def median_interval(values: pd.Series | np.ndarray) -> Estimate:
    """Return the median with its distribution-free 95% interval from order statistics (binomial, no resampling)."""
    data = np.sort(np.asarray(values, dtype=float))
    data = data[~np.isnan(data)]
    if not data.size:
        return Estimate(np.nan, np.nan, np.nan, 0)
    rank = max(int(stats.binom.ppf(0.025, data.size, 0.5)) - 1, 0)
    return Estimate(float(np.median(data)), float(data[rank]), float(data[data.size - 1 - rank]), int(data.size))


def share(count: int, n: int) -> Estimate:
    """Return count / n with Wilson's 95% interval."""
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    interval = stats.binomtest(count, n).proportion_ci(method="wilson")
    return Estimate(count / n, float(interval.low), float(interval.high), n)


def rank_correlation(x: np.ndarray, y: np.ndarray, *, draws: int = 1000, seed: int = 0) -> RankCorrelation:
    """Return Spearman's rho of two arrays [n], with a bootstrap interval and a two-sided permutation p-value.

    NaN pairs are left out; undefined (NaN) below four pairs or when one side is constant.
    """
    keep = ~(np.isnan(x) | np.isnan(y))
    x, y = np.asarray(x, dtype=float)[keep], np.asarray(y, dtype=float)[keep]
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(np.nan, np.nan, np.nan, np.nan, n)
    a, b = stats.rankdata(x), stats.rankdata(y)
    rho = float(np.corrcoef(a, b)[0, 1])
    generator = np.random.default_rng(seed)
    null = [abs(np.corrcoef(a, generator.permutation(b))[0, 1]) for _ in range(draws)]
    resampled = []
    for _ in range(draws):
        rows = generator.integers(n, size=n)
        if np.ptp(x[rows]) > 0 and np.ptp(y[rows]) > 0:
            resampled.append(np.corrcoef(stats.rankdata(x[rows]), stats.rankdata(y[rows]))[0, 1])
    low, high = np.quantile(resampled, [0.025, 0.975]) if resampled else (np.nan, np.nan)
    p = (1 + sum(value >= abs(rho) - 1e-12 for value in null)) / (1 + draws)
    return RankCorrelation(rho, float(low), float(high), float(p), n)


def onset_bins(timing: pd.DataFrame, steps: list[int]) -> pd.DataFrame:
    """Count onsets per interval between neighbouring snapshots.

    Returns one row per interval (step_lo, step_hi]: count, decades, rate_per_decade, rate_lo, rate_hi (exact Poisson
    95%), steps, and the log-uniform expectation `expected`. Only interval-censored onsets count.
    """
    steps = sorted(steps)
    inside = timing[timing["onset_censoring"] == "interval"]
    bins = pd.DataFrame({"step_lo": steps[:-1], "step_hi": steps[1:]})
    count = inside["onset_hi"].astype("float64").value_counts()
    bins["count"] = bins["step_hi"].map(count).fillna(0).astype(int)
    bins["decades"] = log_step(bins["step_hi"]) - log_step(bins["step_lo"])
    bins["steps"] = bins["step_hi"] - bins["step_lo"]
    bins["rate_per_decade"] = bins["count"] / bins["decades"]
    bins["rate_lo"] = np.nan_to_num(stats.chi2.ppf(0.025, 2 * bins["count"]) / 2) / bins["decades"]
    bins["rate_hi"] = stats.chi2.ppf(0.975, 2 * bins["count"] + 2) / 2 / bins["decades"]
    bins["expected"] = bins["count"].sum() * bins["decades"] / bins["decades"].sum()
    return bins


def rotation_by_interval(rotation: pd.DataFrame) -> pd.DataFrame:
    """Summarise turning between neighbouring snapshots over the features that are alive at both.

    Returns one row per interval: n, and the median angle per decade with its 95% interval, plain (`angle`, `angle_lo`,
    `angle_hi`) and after the best orthogonal map (`procrustes`, …), in degrees per decade, and `angle_deg`,
    `procrustes_deg` in degrees.
    """
    pairs = rotation[(rotation["kind"] == "adjacent") & rotation["both_alive"]]
    rows = []
    for _, group in pairs.groupby("step_b", sort=True):  # neighbours: one step_a for each step_b
        step_a, step_b = int(group["step_a"].iloc[0]), int(group["step_b"].iloc[0])
        decades = float(log_step([step_b])[0] - log_step([step_a])[0])
        plain = median_interval(group["angle_deg"])
        mapped = median_interval(np.degrees(np.arccos(group["procrustes_cos"].astype(float).clip(-1, 1))))
        rows.append(
            {
                "step_a": step_a, "step_b": step_b, "decades": decades, "n": plain.n,
                "angle_deg": plain.value, "angle": plain.value / decades,
                "angle_lo": plain.low / decades, "angle_hi": plain.high / decades,
                "procrustes_deg": mapped.value, "procrustes": mapped.value / decades,
                "procrustes_lo": mapped.low / decades, "procrustes_hi": mapped.high / decades,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def metric_curve(phase_metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of one metric with a defined value, by step."""
    if phase_metrics.empty:
        return phase_metrics
    chosen = phase_metrics[(phase_metrics["metric"] == metric) & phase_metrics["value"].notna()]
    return chosen.sort_values("step")


def preferred_segments(segments: pd.DataFrame, metric_set: str, clock: str) -> pd.DataFrame:
    """Return the segments of one metric set on one clock, by the model that BIC prefers there, in order; maybe none."""
    if segments.empty:
        return segments
    chosen = (segments["metric_set"] == metric_set) & (segments["clock"] == clock) & segments["preferred"]
    return segments[chosen].sort_values("segment")


def supported(rows: pd.DataFrame) -> bool:
    """Return whether the segments of one cut are phases: more than one, and one continuous process is rejected."""
    return len(rows) > 1 and bool(rows["p_perm"].iloc[0] < SIGNIFICANT)


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "p undefined" if np.isnan(p) else f"p = {p:.3f}"


def acquired_tasks(performance: pd.DataFrame) -> dict[str, int | None]:
    """Return per scored task the snapshot from which it stays acquired to the end; None when it is not at the end."""
    found: dict[str, int | None] = {}
    if performance.empty:
        return found
    for task, group in performance[performance["status"] == "scored"].groupby("task", sort=True):
        ordered = group.sort_values("step")
        since = None
        for step, acquired in zip(ordered["step"][::-1], ordered["acquired"][::-1], strict=True):
            if not acquired:
                break
            since = int(step)
        found[str(task)] = since
    return found
