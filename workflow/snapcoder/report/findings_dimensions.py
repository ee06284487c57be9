"""Findings about how many dimensions features fill, and whether norms or the activations' spectrum explain it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import rank_correlation
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, step, undecidable

DEEP = 1.5  # dimensionality before and after must exceed the minimum by this factor to count as compression
LEVEL = 0.05  # p-values at or below it count against a null


def dimension_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return whether dimensionality is compressed and expands, and whether that is more than either null does."""
    table, tests = tables["dimensionality"], tables["dimensionality_tests"]
    measures = {} if tests.empty else {str(name): dict(row) for name, row in tests.set_index("measure").iterrows()}
    return [
        _shape(table, measures),
        _beyond(
            "dimensionality_beyond_random",
            "That is more than random directions with the same norms do",
            "norms",
            measures,
        ),
        _beyond(
            "dimensionality_beyond_spectrum",
            "That is more than the activations' own spectrum",
            "spectrum",
            measures,
            _alike(table),
        ),
    ]


def _shape(table: pd.DataFrame, measures: Mapping[str, dict[str, float]]) -> Finding:
    claim, name = "Feature dimensionality is compressed, then expands", "dimensionality_tests"
    if "rate" not in measures or len(table) < 4:
        return undecidable("dimensionality", "directions", claim, "There are fewer than four snapshots.", name)
    row = measures["rate"]
    deep = row["depth"] > 0 and min(row["early"], row["late"]) > DEEP * row["minimum"]
    clear = min(row["compression_ci_lo"], row["expansion_ci_lo"]) > 0
    verdict: Verdict = "found" if deep and clear else "undecidable" if deep else "not_found"
    last = table.sort_values("step").iloc[-1]
    sentence = (
        f"The share of dimensions that features fill goes from {number(row['early'])} at {step(row['step_early'])} "
        f"through {number(row['minimum'])} at {step(row['step_min'])} to {number(row['late'])} at "
        f"{step(row['step_late'])}: down by {_gain(row, 'compression')}, up by {_gain(row, 'expansion')}. At the end "
        f"random directions with the same norms would fill {number(float(last['dim_rate_null_norms']))} "
        f"{between(float(last['dim_rate_null_ci_lo']), float(last['dim_rate_null_ci_hi']))}."
    )
    return Finding(
        "dimensionality",
        "directions",
        claim,
        verdict,
        sentence,
        (
            _statistic("down by", row, "compression"),
            _statistic("up by", row, "expansion"),
            Statistic("step of the minimum", float(row["step_min"]), name, unit="training steps"),
        ),
        caveat=f"Counted as found when the minimum lies inside and both sides exceed it {DEEP}-fold. "
        "Read it with the next two findings.",
    )


def _beyond(key: str, claim: str, null: str, measures: Mapping[str, dict[str, float]], more: str = "") -> Finding:
    """Say whether the dip survives taking off a null, and whether it survives as a ratio, too."""
    name = "dimensionality_tests"
    less, over = measures.get(f"minus_{null}"), measures.get(f"over_{null}")
    if less is None or over is None or measures["rate"]["depth"] <= 0:
        return undecidable(key, "directions", claim, "There is no dip inside the study to explain.", name)
    verdict: Verdict = "found" if _survives(less) and _survives(over) else "undecidable"
    if not _survives(less):
        verdict = "not_found"
    what = {"norms": "random directions with the same norms", "spectrum": "random directions with that spectrum"}[null]
    sentence = (
        f"Less the rate of {what}, it still goes down by {_gain(less, 'compression')} to {step(less['step_min'])} and up by "
        f"{_gain(less, 'expansion')} after (p = {less['p_null']:.3f}): {percent(less['depth'] / measures['rate']['depth'])} "
        f"of the dip. As a ratio to that rate it goes from {number(np.exp(over['early']))} at {step(over['step_early'])} "
        f"through {number(np.exp(over['minimum']))} at {step(over['step_min'])} to {number(np.exp(over['late']))} "
        f"(p = {over['p_null']:.3f}).{more}"
    )
    return Finding(
        key,
        "directions",
        claim,
        verdict,
        sentence,
        (
            _statistic("down by, beyond the null", less, "compression"),
            _statistic("up by, beyond the null", less, "expansion"),
            Statistic("p, difference", float(less["p_null"]), name),
            Statistic("p, ratio", float(over["p_null"]), name),
        ),
        caveat="Found when fall and rise are both clear and no draw of the null dips as much, as a difference and as a "
        "ratio. A rate below its null says that features share directions more than chance would have it.",
    )


def _survives(row: Mapping[str, float]) -> bool:
    return row["p_null"] <= LEVEL and min(row["compression_ci_lo"], row["expansion_ci_lo"]) > 0


def _gain(row: Mapping[str, float], name: str) -> str:
    return f"{number(row[name])} {between(row[f'{name}_ci_lo'], row[f'{name}_ci_hi'])}"


def _statistic(name: str, row: Mapping[str, float], column: str) -> Statistic:
    ends = float(row[f"{column}_ci_lo"]), float(row[f"{column}_ci_hi"])
    return Statistic(name, float(row[column]), "dimensionality_tests", *ends)


def _alike(table: pd.DataFrame) -> str:
    """Say how the activations' participation ratio, which knows no features, moves with the rate."""
    if len(table) < 4:
        return ""
    rows = table.sort_values("step")
    share = rows["pr_act"].to_numpy(float) / rows["d_model"].to_numpy(float)
    alike = rank_correlation(rows["total_dim_rate"].to_numpy(float), share)
    if not np.isfinite(alike.rho):
        return ""
    lowest = step(float(rows["step"].iloc[int(share.argmin())]))
    return (
        f" The participation ratio of the raw activations, which knows no features, is lowest ({number(float(share.min()))} "
        f"of d) at {lowest}; its rank correlation with the rate over snapshots is {alike.rho:+.2f} "
        f"{between(alike.low, alike.high)}, n = {alike.n}."
    )
