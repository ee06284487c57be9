"""Small summaries of tables that figures draw and findings quote, so that both say the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

ZERO = 0.5  # log axes place step 0 here
FEW_TOKENS = 100  # classes with fewer scored tokens are in the tables, but not drawn or told of
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


def turning_point(
    points: pd.DataFrame,
    *,
    law: str = "wandering",
    statistic: str = "peak_median",
    clock: str = "log_step",
    turn: str = "plain",
) -> dict[str, Any] | None:
    """Return one row of the table turning_points; None when there is no such row or it has no value."""
    if points.empty:
        return None
    wanted = {"law": law, "statistic": statistic, "clock": clock, "turn": turn}
    rows = points[np.logical_and.reduce([points[name] == value for name, value in wanted.items()])]
    if rows.empty or pd.isna(rows["value"].iloc[0]):
        return None
    return dict(rows.iloc[0])


def norm_correlations(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Return per feature Spearman's rho over snapshots of its relative norm and `column`, in no particular order.

    rows: feature_presence. Features are left out where either is missing at a snapshot or the same at all.
    """
    norm, other = (
        rows.pivot(index="feature", columns="step", values=name).to_numpy(float) for name in ("norm_rel", column)
    )
    keep = ~(np.isnan(norm) | np.isnan(other)).any(axis=1)
    norm, other = norm[keep], other[keep]
    if not norm.size:
        return np.zeros(0)
    varies = (np.ptp(norm, axis=1) > 0) & (np.ptp(other, axis=1) > 0)
    a, b = (stats.rankdata(values[varies], axis=1) for values in (norm, other))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))


def metric_curve(phase_metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of one metric with a defined value, by step."""
    if phase_metrics.empty:
        return phase_metrics
    chosen = phase_metrics[(phase_metrics["metric"] == metric) & phase_metrics["value"].notna()]
    return chosen.sort_values("step")


def smoothed_entropies(ngram_entropy: pd.DataFrame, smoothing: str = "kneser_ney") -> pd.DataFrame:
    """Return the rows of one smoothing, by order; without a name, of the one that everything is measured against."""
    if ngram_entropy.empty:
        return ngram_entropy
    return ngram_entropy[ngram_entropy["smoothing"] == smoothing].sort_values("order")


def shown_classes(token_classes: pd.DataFrame, family: str, *, least: int = FEW_TOKENS) -> list[str]:
    """Return the classes of a family with at least `least` tokens: ordered ones in order, others by frequency."""
    if token_classes.empty:
        return []
    chosen = token_classes[(token_classes["family"] == family) & (token_classes["n"] >= least)]
    if family == "position":
        chosen = chosen.assign(first=chosen["class"].str.split("_").str[1].astype(int)).sort_values("first")
    elif family == "frequency":
        chosen = chosen.sort_values("class")
    else:
        chosen = chosen.sort_values(["n", "class"], ascending=[False, True])
    return [str(name) for name in chosen["class"]]


def class_label(name: str) -> str:
    """Return the name of a class of tokens as it is shown: bands as ranges, underscores as spaces."""
    kind, *bounds = name.split("_")
    if kind == "frequency":
        return f"{int(bounds[0])}–{bounds[1]}%"
    if kind == "position":
        return "–".join(bounds)
    return name.replace("_", " ")


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
