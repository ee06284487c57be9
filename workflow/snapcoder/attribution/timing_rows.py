"""Rows about when a task's carriers appeared, together: shares, mean lag, and features alike as the control."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from snapcoder.attribution.carrier_rows import ONSETS
from snapcoder.attribution.carriers import FeatureHistory, TaskAttribution
from snapcoder.attribution.lead_lag import (
    Acquisition,
    against_alike,
    alike,
    feature_lags,
    mean_lag,
    onset_places,
)
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.multiplicity import holm
from snapcoder.study.carriers import CarrierSettings

WEIGHTINGS = ("all", "first", "last")


def timing_rows(
    whole: TaskAttribution,
    carried: TaskAttribution,
    history: FeatureHistory,
    when: Acquisition,
    *,
    settings: CarrierSettings,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return TASK_FEATURE_TIMING rows of one task: by what weighs the carriers, and by what dates their onsets."""
    share = whole.shares()[:, np.searchsorted(whole.features, carried.features)]
    first = min(int(np.searchsorted(log_steps(carried.steps), when.since)), len(share) - 1) if when.known else 0
    weights = dict(zip(WEIGHTINGS, (share.mean(axis=0), share[first], share[-1]), strict=True))
    at = history.places(carried.steps)
    pool = history.alive[at].any(axis=0)
    pool[carried.features] = True
    drawn = alike(
        carried.features,
        history.rate[at].mean(axis=0),
        pool,
        permutations=settings.permutations,
        generator=generator,
    )
    rows = []
    for onset_by, prefix in ONSETS.items():
        lo, hi = onset_places(history.onsets[f"{prefix}_lo"], history.onsets[f"{prefix}_hi"])
        middle = np.where(np.isfinite(lo), (lo + hi) / 2, hi)
        own = lo[carried.features], hi[carried.features]
        for name, weight in weights.items():
            emerged = mean_lag(*own, weight, when, bootstrap=settings.bootstrap, generator=generator)
            rows.append(
                {
                    "task": carried.task,
                    "weighting": name,
                    "onset_by": onset_by,
                    "step_first": carried.steps[first],
                    "step_last": carried.steps[-1],
                    "acquisition": when.at,
                    "acquisition_lo": when.low,
                    "acquisition_hi": when.high,
                    "acquired_by": "sigmoid" if np.isfinite(when.se) else "snapshots" if when.known else "none",
                    "n_carriers": len(weight),
                    "carried": weight.sum(),
                    **_shares(*own, weight, when),
                    "lag": emerged.value,
                    "lag_ci_lo": emerged.low,
                    "lag_ci_hi": emerged.high,
                    "n_emerged": emerged.n,
                    **asdict(against_alike(middle, carried.features, drawn, weight, when)),
                    "n_pool": int(pool.sum()),
                }
            )
    return pd.DataFrame(rows)


def _shares(lo: np.ndarray, hi: np.ndarray, weight: np.ndarray, when: Acquisition) -> dict[str, float]:
    """Return how the carriers' attribution is shared out over times of onset; sums to 1, NaN without an acquisition."""
    category = feature_lags(lo, hi, when).category
    initial = np.isneginf(lo) & ~np.isnan(hi)
    parts = {
        "share_initial": initial,
        "share_before": ~initial & (category == "leads"),
        "share_together": ~initial & (category == "together"),
        "share_after": ~initial & (category == "lags"),
        "share_undated": category == "undated",
    }
    if not when.known or not weight.sum():
        return dict.fromkeys(parts, np.nan)
    # Sums in another order may differ in the last bit; a share must not exceed 1.
    return {name: min(1.0, float(weight[chosen].sum() / weight.sum())) for name, chosen in parts.items()}


def add_corrections(rows: pd.DataFrame) -> pd.DataFrame:
    """Add Holm-corrected p-values: over tasks, for each weighting and dating of onsets."""
    if rows.empty:
        return rows
    rows = rows.copy()
    groups = rows.groupby(["weighting", "onset_by"], sort=False)
    for name in ("p_shift", "p_distance"):
        rows[f"{name}_holm"] = groups[name].transform(lambda p: holm(p.to_numpy()))
    return rows
