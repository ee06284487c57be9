"""What all tests of order share: onsets by kind of evidence, groups of features, and the verdict rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from snapcoder.evolution.censored_times import Times
from snapcoder.evolution.log_steps import log_steps

FEW = 10  # features below which no verdict is given
LEVEL = 0.05
Rows = list[dict[str, Any]]
UNDEFINED: Mapping[str, Any] = {"statistic": np.nan, "effect": np.nan, "ci_lo": np.nan, "ci_hi": np.nan, "p": np.nan}


@dataclass(frozen=True)
class FeatureTimes:
    """Some features and when they start; feature, times [feature]. `by` names the evidence, `group` the choice."""

    by: str
    group: str
    feature: np.ndarray
    times: Times

    def __len__(self) -> int:
        return len(self.feature)

    def position(self) -> np.ndarray:
        """Return one time per feature for ranking, [feature]: the midpoint, or the first snapshot if present there."""
        return np.where(np.isinf(self.times.lo), self.times.hi, self.times.middle())

    def counts(self) -> tuple[Times, np.ndarray, np.ndarray]:
        """Return the distinct intervals, how many features start in each, and each feature's interval."""
        ends = np.column_stack([self.times.lo, self.times.hi])
        distinct, index, counts = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
        return Times(distinct[:, 0], distinct[:, 1]), counts, np.ravel(index)


def feature_times(table: pd.DataFrame, by: str) -> list[FeatureTimes]:
    """Return the features of a table of onsets (feature, class, onset_lo, onset_hi, onset_censoring) in two groups.

    all: not dead, and present lastingly at some time; emergent: class emergent, absent at the first snapshot.
    """
    begun = table[(table["class"] != "dead") & (table["onset_censoring"] != "right")]
    emergent = begun[(begun["class"] == "emergent") & (begun["onset_censoring"] == "interval")]
    return [_feature_times(begun, by, "all"), _feature_times(emergent, by, "emergent")]


def _feature_times(rows: pd.DataFrame, by: str, group: str) -> FeatureTimes:
    lo, hi = (rows[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("onset_lo", "onset_hi"))
    bounded = np.where(np.isnan(lo), -np.inf, log_steps(lo))
    return FeatureTimes(by, group, rows["feature"].to_numpy(), Times(bounded, log_steps(hi)))


def verdict_of_effect(effect: float, ci_hi: float, p: float, *, smallest: float, enough: bool) -> str:
    """Return the verdict on a claim that `effect` is positive.

    supported: positive with an adjusted p below 0.05; not_supported: not so, and the interval ends below the smallest
    effect that counts, or the effect is significantly negative; else undecidable.
    """
    if not enough or np.isnan(effect) or np.isnan(p):
        return "undecidable"
    if p < LEVEL and effect > 0:
        return "supported"
    return "not_supported" if ci_hi < smallest else "undecidable"


def corrected(rows: Rows, adjust: Any, name: str) -> Rows:
    """Return the rows of one family with `p_adjusted` and `correction`."""
    adjusted = adjust(np.array([row["p"] for row in rows], dtype=np.float64)) if rows else []
    known = sum(not np.isnan(row["p"]) for row in rows)
    return [
        {**row, "p_adjusted": float(p), "correction": f"{name} over {known}"}
        for row, p in zip(rows, adjusted, strict=True)
    ]
