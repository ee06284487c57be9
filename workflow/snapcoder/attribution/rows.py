"""Rows of the attribution tables, from the attributions of one task at one snapshot."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from snapcoder.attribution.contributions import Attribution
from snapcoder.attribution.exact import Agreement, agreement
from snapcoder.attribution.gradients import PathGradient
from snapcoder.attribution.significance import bootstrap_error, sign_flip_p
from snapcoder.evolution.multiplicity import benjamini_hochberg

LEVEL = 0.05  # of significance
LINEAR_R, LINEAR_SLOPE = 0.95, (0.8, 1.25)  # least correlation with exact effects, and slopes, that count as linear
_UNDEFINED = (
    "metric_clean", "metric_base", "completeness_gap", "error_share", "exact_slope", "exact_r", "exact_r2", "exact_sign",
    "exact_r_top", "exact_sign_top", "exact_r_random", "exact_sign_random", "exact_r_heldout",
)  # fmt: skip
_COUNTS = ("n_examples", "n_clusters", "n_tested", "n_significant", "n_exact_top", "n_exact_random")


def feature_ranking(attribution: Attribution) -> np.ndarray:
    """Return all features, the largest |mean attribution| first, ties by index, [feature]."""
    mean = np.asarray(attribution.feature.mean(axis=0)).ravel()
    return np.argsort(-np.abs(mean), kind="stable")


def feature_order(rows: pd.DataFrame, *, n_features: int) -> np.ndarray:
    """Return all features [feature] as ATTRIBUTION rows of one task and snapshot rank them; those without a row last.

    The rows are those of one method and baseline (`primary_attribution`).
    """
    ranked = rows.loc[rows["rank"] > 0].sort_values("rank")["feature"].to_numpy(np.int64)
    return np.concatenate([ranked, np.setdiff1d(np.arange(n_features), ranked)])


def attribution_rows(
    attribution: Attribution,
    found: PathGradient,
    cluster: np.ndarray,
    *,
    exact: Mapping[int, tuple[float, float]],
    flips: int,
    bootstrap: int,
    rng: np.random.Generator,
    names: Mapping[str, object],
) -> pd.DataFrame:
    """Return ATTRIBUTION rows: the features that have any attribution, strongest first, and the error term as −1.

    cluster [example]: see `bootstrap_weights`; exact: feature → exact effect on the same and on the held-out examples;
    names: columns that are the same in all rows.
    """
    values = attribution.feature
    kept = feature_ranking(attribution)
    kept = kept[np.asarray(abs(values).sum(axis=0)).ravel()[kept] > 0]
    columns = np.column_stack([values[:, kept].toarray(), attribution.error])  # [example, kept feature + error]
    mean, change = columns.mean(axis=0), float((found.metric_clean - found.metric_base).mean())
    places = np.column_stack([attribution.by_distance[:, kept], attribution.error_by_distance])
    p, smallest = sign_flip_p(columns, cluster, draws=flips, rng=rng)
    tested = np.where(smallest <= LEVEL, p, np.nan)[:-1]  # untestable ones would only dilute the correction
    verified = np.array([exact.get(feature, (np.nan, np.nan)) for feature in [*kept.tolist(), -1]])
    return pd.DataFrame(
        {
            **names,
            "feature": [*kept.tolist(), -1],
            "ig_steps": found.points,
            "attr": mean,
            "attr_se": bootstrap_error(columns, cluster, draws=bootstrap, rng=rng),
            "attr_abs_mean": np.abs(columns).mean(axis=0),
            "attr_share": mean / change if change else np.nan,
            "rank": [*range(1, len(kept) + 1), 0],
            "position_max": -np.abs(places).argmax(axis=0),
            "delta_f": [*attribution.delta[kept], np.nan],
            "grad_mean": [*attribution.slope[kept], np.nan],
            "p_signflip": p,
            "q_bh": [*benjamini_hochberg(tested), np.nan],
            "exact_effect": verified[:, 0],
            "exact_effect_heldout": verified[:, 1],
            "n_examples": len(columns),
        }
    )


def quality_row(
    attribution: Attribution,
    found: PathGradient,
    rows: pd.DataFrame,
    top: np.ndarray,
    *,
    n_clusters: int,
    tolerance: float,
    names: Mapping[str, object],
) -> dict[str, object]:
    """Return the ATTRIBUTION_QUALITY row of an attributed task.

    rows: its `attribution_rows`; top: verified features that were chosen for their attribution (the others were drawn).
    error_share = error term / sum of all; it can lie outside 0 and 1 when features and error disagree in sign.
    """
    total = float(attribution.feature.sum(axis=1).mean() + attribution.error.mean())
    features = rows[rows["feature"] >= 0]
    verified = features[features["exact_effect"].notna()]
    attributed, exact = verified["attr"].to_numpy(), verified["exact_effect"].to_numpy()
    first = verified["feature"].isin(top.tolist()).to_numpy()
    joint, of_top = agreement(attributed, exact), agreement(attributed[first], exact[first])
    of_random = agreement(attributed[~first], exact[~first])
    gap = found.tried[-1][1] if found.tried else np.nan
    linear, reason = _linear(joint, gap, tolerance)
    return {
        **names,
        "status": "attributed",
        "reason": reason,
        "metric_clean": found.metric_clean.mean(),
        "metric_base": found.metric_base.mean(),
        "completeness_gap": gap,
        "ig_steps": found.points,
        "tried_steps": [points for points, _ in found.tried],
        "tried_gaps": [tried for _, tried in found.tried],
        "error_share": attribution.error.mean() / total if total else np.nan,
        "n_tested": int(features["q_bh"].notna().sum()),
        "n_significant": int((features["q_bh"] < LEVEL).sum()),
        "n_exact_top": of_top.n,
        "n_exact_random": of_random.n,
        "exact_slope": joint.slope,
        "exact_r": joint.r,
        "exact_r2": joint.r2,
        "exact_sign": joint.sign,
        "exact_r_top": of_top.r,
        "exact_sign_top": of_top.sign,
        "exact_r_random": of_random.r,
        "exact_sign_random": of_random.sign,
        "exact_r_heldout": agreement(attributed, verified["exact_effect_heldout"].to_numpy()).r,
        "linear": linear,
        "n_examples": len(attribution.error),
        "n_clusters": n_clusters,
    }


def _linear(joint: Agreement, gap: float, tolerance: float) -> tuple[str, str]:
    """Return whether attributions may be read as effects, and why not."""
    if np.isnan(joint.r) or np.isnan(gap):
        return "unknown", f"{joint.n} features verified: too few, or without any effect"
    broken = []
    if joint.r < LINEAR_R:
        broken.append(f"correlation with exact effects {joint.r:.2f}, below {LINEAR_R:g}")
    if not LINEAR_SLOPE[0] <= joint.slope <= LINEAR_SLOPE[1]:
        broken.append(
            f"{joint.slope:.2f} of attribution per unit of exact effect, not {LINEAR_SLOPE[0]} to {LINEAR_SLOPE[1]}"
        )
    if gap > tolerance:
        broken.append(f"completeness gap {gap:.3f}, above {tolerance:g}")
    return ("no", "; ".join(broken)) if broken else ("yes", "")


def not_acquired_row(performance: pd.Series, names: Mapping[str, object]) -> dict[str, object]:
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
        **names,
        "task": performance["task"],
        "status": "not_attributable" if scored_only else "not_acquired",
        "reason": reason,
        "ig_steps": 0,
        "tried_steps": [],
        "tried_gaps": [],
        "linear": "unknown",
        **dict.fromkeys(_UNDEFINED, np.nan),
        **dict.fromkeys(_COUNTS, 0),
    }


def position_rows(
    shares: tuple[np.ndarray, np.ndarray, np.ndarray],
    features: np.ndarray,
    tokens: Sequence[str],
    *,
    names: Mapping[str, object],
) -> pd.DataFrame:
    """Return ATTRIBUTION_POSITIONS rows of one example; shares: see `position_shares`; tokens: its clean prefix."""
    chosen, error, everything = shares
    columns = [(-2, everything), (-1, error), *zip(features.tolist(), chosen.T, strict=True)]
    return pd.concat(
        [
            pd.DataFrame(
                {**names, "feature": feature, "position": np.arange(len(tokens)), "token": list(tokens), "attr": attr}
            )
            for feature, attr in columns
        ],
        ignore_index=True,
    )
