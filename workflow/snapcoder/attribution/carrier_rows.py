"""Rows about the carriers of one task: their history in it, its check against exact effects, and their onsets."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.attribution.carriers import FeatureHistory, TaskAttribution
from snapcoder.attribution.lead_lag import Acquisition, feature_lags, onset_places
from snapcoder.attribution.relie import agreement_with_exact, log_step_moments, relative_over_snapshots
from snapcoder.evolution.log_steps import log_steps

ONSETS: Mapping[str, str] = {"combined": "onset", "norm": "norm"}
"""What dates an onset, and the prefix of its columns in FEATURE_ONSETS."""


def relie_rows(carried: TaskAttribution, history: FeatureHistory) -> pd.DataFrame:
    """Return RELIE rows: every carrier at every snapshot that can do the task."""
    everywhere = np.ones(len(carried.steps), dtype=bool)
    step, feature = np.meshgrid(carried.steps, carried.features, indexing="ij")
    return pd.DataFrame(
        {
            "task": carried.task,
            "step": step.ravel(),
            "feature": feature.ravel(),
            "attr": carried.attr.ravel(),
            "attr_se": carried.se.ravel(),
            "relie": relative_over_snapshots(carried.attr, everywhere).ravel(),
            "reldec": relative_over_snapshots(history.norms(carried), everywhere).ravel(),
        }
    )


def check_rows(
    carried: TaskAttribution, history: FeatureHistory, *, bootstrap: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return RELIE_CHECK rows: RelIE and RelDec of one task against exact effects, where these were measured."""
    rows = []
    for name, size in (("relie", carried.attr), ("reldec", history.norms(carried))):
        found = agreement_with_exact(size, carried.exact, bootstrap=bootstrap, generator=generator)
        rows.append(
            {
                "task": carried.task,
                "quantity": name,
                "spearman": found.rho,
                "ci_lo": found.low,
                "ci_hi": found.high,
                "n_pairs": found.n,
                "n_features": found.n_features,
            }
        )
    return pd.DataFrame(rows)


def report_rows(
    whole: TaskAttribution, carried: TaskAttribution, history: FeatureHistory, when: Acquisition, *, top: int
) -> pd.DataFrame:
    """Return ATTRIBUTION_REPORT rows of one task. `whole` holds all features with any attribution, `carried` the carriers."""
    place = np.searchsorted(whole.features, carried.features)
    share, rank = whole.shares()[:, place], whole.ranks()[:, place]
    works = carried.attr != 0
    among = (rank <= top) & works
    everywhere, times, norm = np.ones(len(carried.steps), dtype=bool), log_steps(carried.steps), history.norms(carried)
    centroid = log_step_moments(carried.attr, carried.se, everywhere, times)
    onsets = history.onsets.iloc[carried.features]
    return pd.DataFrame(
        {
            "task": carried.task,
            "feature": carried.features,
            "attr_final": carried.attr[-1],
            "share_final": share[-1],
            "share_mean": share.mean(axis=0),
            "rank_final": np.where(works[-1], rank[-1], np.nan),
            "rank_best": np.where(works, rank, np.iinfo(np.int32).max).min(axis=0),
            "first_step": carried.steps[among.argmax(axis=0)],
            "last_step": carried.steps[len(carried.steps) - 1 - among[::-1].argmax(axis=0)],
            "n_snapshots": among.sum(axis=0),
            "relie_centroid": centroid.centroid,
            "relie_centroid_se": centroid.se,
            "relie_spread": centroid.spread,
            "reldec_centroid": log_step_moments(norm, np.zeros_like(norm), everywhere, times).centroid,
            "class": onsets["class"].to_numpy(),
            "verdict": onsets["verdict"].to_numpy(),
            "evidence": onsets["evidence"].to_numpy(),
            "acquisition": when.at,
            **_onset_columns(onsets, when),
        }
    )


def _onset_columns(onsets: pd.DataFrame, when: Acquisition) -> dict[str, object]:
    columns: dict[str, object] = {}
    for name, prefix in ONSETS.items():
        lo, hi = onsets[f"{prefix}_lo"], onsets[f"{prefix}_hi"]
        lags = feature_lags(*onset_places(lo, hi), when)
        columns |= {
            f"{prefix}_lo": lo.to_numpy(),
            f"{prefix}_hi": hi.to_numpy(),
            f"lag_{name}": lags.lag,
            f"lag_{name}_lo": np.where(np.isinf(lags.low), np.nan, lags.low),
            f"lag_{name}_hi": lags.high,
            f"timing_{name}": lags.category,
        }
    return columns
