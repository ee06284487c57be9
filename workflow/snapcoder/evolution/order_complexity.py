"""Whether features that start, or peak, later are more complex; with how often and how strongly they fire held fixed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.multiplicity import benjamini_hochberg
from snapcoder.evolution.order_rows import FEW, UNDEFINED, FeatureTimes, Rows, corrected, verdict_of_effect
from snapcoder.evolution.rank_correlation import Correlation, correlations
from snapcoder.study.order import OrderSettings

MEASURES = ("complexity", "context_need", "bigram_need", "context_window", "complexity_llm")
"""Columns that grow with the complexity of a feature; those that are there are tested."""

CONTROLS = ("rate_mean", "norm_max")
_PLAIN = "features permuted"
_PARTIAL = "residuals of the ranks permuted (Freedman–Lane)"


def complexity_rows(
    timing: pd.DataFrame, complexity: pd.DataFrame, groups: Sequence[FeatureTimes], *, settings: OrderSettings
) -> Rows:
    """Return the rows of `later_more_complex`: onset and peak against each measure, plain and partial.

    Ranks make the controls' logarithms irrelevant: log rate and log norm have the ranks of rate and norm.
    """
    features = timing.merge(complexity.drop(columns="layer", errors="ignore"), on="feature").set_index("feature")
    rows: Rows = []
    for times in groups:
        own = features.reindex(times.feature)
        rows += _against(own, times.position(), "onset", times, settings)
        if times.by == "norm":
            peak = log_steps(own["peak_step"].to_numpy(dtype=np.float64, na_value=np.nan))
            rows += _against(own, peak, "peak", times, settings)
    rows = corrected(rows, benjamini_hochberg, "Benjamini–Hochberg")
    return [
        {
            **row,
            "verdict": verdict_of_effect(
                row["effect"],
                row["ci_hi"],
                row["p_adjusted"],
                smallest=settings.smallest_effect,
                enough=row["n"] >= FEW,
            ),
        }
        for row in rows
    ]


def _against(features: pd.DataFrame, when: np.ndarray, x: str, times: FeatureTimes, settings: OrderSettings) -> Rows:
    rows: Rows = []
    controls = features[list(CONTROLS)].to_numpy(dtype=np.float64, na_value=np.nan)
    for measure in MEASURES:
        if measure not in features:
            continue
        level = features[measure].to_numpy(dtype=np.float64, na_value=np.nan)
        keep = ~np.isnan(np.column_stack([when, level, controls])).any(axis=1)
        results = correlations(
            when[keep], level[keep], controls[keep], bootstrap=settings.bootstrap,
            permutations=settings.permutations, seed=settings.seed,
        )  # fmt: skip
        for name, null, result in zip(("spearman", "partial_spearman"), (_PLAIN, _PARTIAL), results, strict=True):
            rows.append(
                {
                    "question": "later_more_complex", "x": x, "y": measure, "group": times.group, "onset_by": times.by,
                    "statistic_name": name, "null": null, "note": _note(result, name), **_values(result),
                }
            )  # fmt: skip
    return rows


def _values(result: Correlation) -> dict:
    values = {"statistic": result.value, "effect": result.value, "ci_lo": result.ci_lo, "ci_hi": result.ci_hi}
    return {**UNDEFINED, **values, "p": result.p, "n": result.n}


def _note(result: Correlation, name: str) -> str:
    if np.isnan(result.value):
        return "one side is constant, or nothing of it is left beside the controls"
    return "controls: ranks of mean firing rate and largest norm" if name.startswith("partial") else ""
