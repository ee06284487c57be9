"""Rows of the attribution tables, from the attributions of one task at one snapshot."""

import numpy as np
import pandas as pd

from snapcoder.attribution.gradients import Attribution, PathGradient


def feature_ranking(attribution: Attribution) -> np.ndarray:
    """Return all features, the largest |mean attribution| first, ties by index, [feature]."""
    mean = np.asarray(attribution.feature.mean(axis=0)).ravel()
    return np.argsort(-np.abs(mean), kind="stable")


def feature_order(rows: pd.DataFrame, *, n_features: int) -> np.ndarray:
    """Return all features [feature] as ATTRIBUTION rows of one task and snapshot rank them; those without a row last."""
    ranked = rows.loc[rows["rank"] > 0].sort_values("rank")["feature"].to_numpy(np.int64)
    return np.concatenate([ranked, np.setdiff1d(np.arange(n_features), ranked)])


def attribution_rows(
    attribution: Attribution, path: PathGradient, *, task: str, step: int, layer: int, points: int
) -> pd.DataFrame:
    """Return ATTRIBUTION rows: the features that have any attribution, strongest first, and the error term as −1."""
    values, n = attribution.feature, len(attribution.error)
    kept = feature_ranking(attribution)
    kept = kept[np.asarray(abs(values).sum(axis=0)).ravel()[kept] > 0]
    columns = np.column_stack([values[:, kept].toarray(), attribution.error])  # [example, kept feature + error]
    mean, change = columns.mean(axis=0), float((path.metric_clean - path.metric_patch).mean())
    return pd.DataFrame(
        {
            "layer": layer,
            "task": task,
            "step": step,
            "feature": [*kept.tolist(), -1],
            "method": "ig",
            "ig_steps": points,
            "baseline": "corrupted",
            "attr": mean,
            "attr_se": columns.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.nan,
            "attr_abs_mean": np.abs(columns).mean(axis=0),
            "attr_share": mean / change if change else np.nan,
            "rank": [*range(1, len(kept) + 1), 0],
            "n_examples": n,
        }
    )


def quality_row(attribution: Attribution, path: PathGradient, *, task: str, step: int, layer: int) -> dict[str, object]:
    """Return the ATTRIBUTION_QUALITY row of an attributed task.

    completeness_gap = mean |Σ attr + error − Δm| / mean |Δm|: what the midpoint rule misses. error_share = error term
    / sum of all; it can lie outside 0 and 1 when features and error disagree in sign.
    """
    change = path.metric_clean - path.metric_patch
    total = np.asarray(attribution.feature.sum(axis=1)).ravel() + attribution.error
    size = float(np.abs(change).mean())
    return {
        "layer": layer,
        "task": task,
        "step": step,
        "status": "attributed",
        "reason": "",
        "metric_clean": path.metric_clean.mean(),
        "metric_patch": path.metric_patch.mean(),
        "completeness_gap": np.abs(total - change).mean() / size if size else np.nan,
        "error_share": attribution.error.mean() / total.mean() if total.mean() else np.nan,
        "n_examples": len(change),
    }


def not_acquired_row(performance: pd.Series, *, step: int, layer: int) -> dict[str, object]:
    """Return the ATTRIBUTION_QUALITY row of a task that is not attributed at a snapshot, from its performance row."""
    scored_only = performance["status"] == "scored" and not performance["attributable"]
    if scored_only:
        reason = "whole sentences are compared: there is no patch prefix to trace the difference to"
    elif performance["status"] == "dropped":
        reason = "the task was dropped: too few valid examples (table tasks says why)"
    else:
        reason = (
            f"accuracy {performance['accuracy']:.2f} "
            f"[{performance['accuracy_ci_lo']:.2f}, {performance['accuracy_ci_hi']:.2f}] against chance "
            f"{performance['chance']:.2f}, logit difference {performance['logit_diff']:.2f} "
            f"[{performance['logit_diff_ci_lo']:.2f}, {performance['logit_diff_ci_hi']:.2f}]: "
            "not both intervals lie above chance"
        )
    return {
        "layer": layer,
        "task": performance["task"],
        "step": step,
        "status": "not_attributable" if scored_only else "not_acquired",
        "reason": reason,
        "metric_clean": np.nan,
        "metric_patch": np.nan,
        "completeness_gap": np.nan,
        "error_share": np.nan,
        "n_examples": 0,
    }
