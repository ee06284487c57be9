"""Findings about directions: when they turn, what remains after a common rotation, and how many dimensions they fill."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import rank_correlation, rotation_by_interval
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, step, undecidable

DEEP = 1.5  # dimensionality before and after must exceed the minimum by this factor to count as compression
ALIKE = 0.7  # rank correlation above which two curves are called the same shape


def direction_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about rotation and dimensionality."""
    rotation, summary = tables["direction_rotation"], tables["rotation_summary"]
    intervals = rotation_by_interval(rotation) if not rotation.empty else pd.DataFrame()
    found = [_turn(intervals), _orthogonal(summary, intervals), _basis(intervals)]
    return [*found, *_dimensionality(tables["dimensionality"])]


def _turn(intervals: pd.DataFrame) -> Finding:
    claim, name = "Directions turn fastest at one time, then slow down", "direction_rotation"
    if len(intervals) < 3:
        return undecidable(
            "turning_point", "directions", claim, "Fewer than three intervals have features alive at both ends.", name
        )
    place = int(intervals["angle"].to_numpy().argmax())
    peak, first, last = intervals.iloc[place], intervals.iloc[0], intervals.iloc[-1]
    verdict: Verdict
    if place in (0, len(intervals) - 1):
        verdict = "not_found"
    else:
        verdict = "found" if peak["angle_lo"] > max(first["angle_hi"], last["angle_hi"]) else "undecidable"
    sentence = (
        f"Turning is fastest between {step(peak['step_a'])} and {step(peak['step_b'])}: a median of "
        f"{number(peak['angle'], 0)}° per decade of steps "
        f"{between(peak['angle_lo'], peak['angle_hi'], 0)} ({number(peak['angle_deg'], 0)}° in this "
        f"interval, {int(peak['n']):,} features), against {number(first['angle'], 0)} "
        f"{between(first['angle_lo'], first['angle_hi'], 0)} in the first interval and "
        f"{number(last['angle'], 0)} {between(last['angle_lo'], last['angle_hi'], 0)} in the last."
    )
    return Finding(
        "turning_point",
        "directions",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "fastest turning",
                float(peak["angle"]),
                name,
                float(peak["angle_lo"]),
                float(peak["angle_hi"]),
                "degrees/decade",
            ),
            Statistic("interval, from", float(peak["step_a"]), name, unit="training steps"),
            Statistic("interval, to", float(peak["step_b"]), name, unit="training steps"),
        ),
        caveat="Only features that fire at both ends count. Where directions wander rather than turn, short intervals "
        f"look faster; these are {number(float(intervals['decades'].min()))} to "
        f"{number(float(intervals['decades'].max()))} decades wide.",
    )


def _orthogonal(summary: pd.DataFrame, intervals: pd.DataFrame) -> Finding:
    claim, name = "Before the turn, directions are unrelated to the final ones", "rotation_summary"
    if summary.empty or len(intervals) < 3:
        return undecidable("orthogonal_turn", "directions", claim, "There are too few snapshots.", name)
    last = summary["step_b"].max()
    rows = summary[
        (summary["step_b"] == last) & (summary["step_a"] < last) & summary["cos_median"].notna()
    ].sort_values("step_a")
    if rows.empty:
        return undecidable(
            "orthogonal_turn", "directions", claim, "No feature is alive at the last and an earlier snapshot.", name
        )
    peak = intervals.iloc[int(intervals["angle"].to_numpy().argmax())]
    before = rows[rows["step_a"] <= peak["step_a"]].iloc[0]
    later = rows[rows["step_a"] >= peak["step_b"]]
    after = later.iloc[0] if len(later) else rows.iloc[-1]
    texts = ", ".join(
        f"{number(row['cos_median'])} {between(row['cos_ci_lo'], row['cos_ci_hi'])} at {step(row['step_a'])}"
        for row in (before, after, rows.iloc[-1])
    )
    chance = float(before["cos_null_p95"])
    unrelated = float(before["cos_ci_hi"]) <= chance
    related = float(before["cos_ci_lo"]) > chance
    verdict: Verdict = (
        "found"
        if unrelated and after["cos_ci_lo"] > after["cos_null_p95"]
        else "not_found"
        if related
        else "undecidable"
    )
    sentence = (
        f"Median cosine to the direction at {step(last)}: {texts}. At the first, 95% of "
        f"unrelated pairs have a cosine below {number(chance)}."
    )
    return Finding(
        "orthogonal_turn",
        "directions",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "cosine to final, first snapshot",
                float(before["cos_median"]),
                name,
                float(before["cos_ci_lo"]),
                float(before["cos_ci_hi"]),
            ),
            Statistic(
                "cosine to final, after the turn",
                float(after["cos_median"]),
                name,
                float(after["cos_ci_lo"]),
                float(after["cos_ci_hi"]),
            ),
            Statistic("95% of unrelated pairs, first snapshot", chance, name),
        ),
    )


def _basis(intervals: pd.DataFrame) -> Finding:
    claim, name = "Features turn by themselves, not only with the whole space", "direction_rotation"
    if len(intervals) < 1 or intervals["procrustes_deg"].isna().all():
        return undecidable("own_rotation", "directions", claim, "No common rotation could be fitted.", name)
    known = intervals[intervals["procrustes_deg"].notna()]
    peak = known.iloc[int(known["angle"].to_numpy().argmax())]
    remains = float(peak["procrustes_deg"] / peak["angle_deg"]) if peak["angle_deg"] > 0 else float("nan")
    low, high = (float(peak[f"procrustes_{end}"] / peak["angle"]) for end in ("lo", "hi"))
    verdict: Verdict = "found" if low > 0.5 else "not_found" if high < 0.5 else "undecidable"
    sentence = (
        f"In the interval of fastest turning (to {step(peak['step_b'])}), the best rotation of the "
        f"whole space leaves {number(peak['procrustes_deg'], 0)}° of the median "
        f"{number(peak['angle_deg'], 0)}°: {percent(remains)} {between(low, high, as_percent=True)}."
    )
    return Finding(
        "own_rotation",
        "directions",
        claim,
        verdict,
        sentence,
        (Statistic("share of the turn that remains", remains, name, low, high),),
        caveat="Counted as found when clearly more than half remains; the interval is that of the "
        "remaining median only.",
    )


def _dimensionality(table: pd.DataFrame) -> list[Finding]:
    claim, name = "Feature dimensionality is compressed, then expands", "dimensionality"
    caveat_claim = "That is more than the activations' own spectrum"
    if len(table) < 4:
        return [undecidable("dimensionality", "directions", claim, "There are fewer than four snapshots.", name)]
    rows = table.sort_values("step")
    rate = rows["total_dim_rate"].to_numpy(float)
    place = int(rate.argmin())
    low, first, last = float(rate[place]), float(rate[0]), float(rate[-1])
    inner = 0 < place < len(rate) - 1
    found = inner and min(first, last) > DEEP * low
    at = step(float(rows["step"].iloc[place]))
    sentence = (
        f"The share of dimensions that features fill goes from {number(first)} at "
        f"{step(float(rows['step'].iloc[0]))} through {number(low)} at {at} to {number(last)} at "
        f"{step(float(rows['step'].iloc[-1]))}; random directions with the same norms would fill "
        f"{number(float(rows['dim_rate_null_norms'].iloc[-1]))} "
        f"{between(float(rows['dim_rate_null_ci_lo'].iloc[-1]), float(rows['dim_rate_null_ci_hi'].iloc[-1]))} "
        "at the end."
    )
    shape = Finding(
        "dimensionality",
        "directions",
        claim,
        "found" if found else "not_found",
        sentence,
        (
            Statistic("first", first, name),
            Statistic("minimum", low, name),
            Statistic("last", last, name),
            Statistic("step of the minimum", float(rows["step"].iloc[place]), name, unit="training steps"),
        ),
        caveat=f"Counted as found when the minimum lies inside and both ends exceed it {DEEP}-fold. "
        "Read it with the next finding.",
    )
    share = rows["pr_act"].to_numpy(float) / rows["d_model"].to_numpy(float)
    alike = rank_correlation(rate, share)
    lowest = step(float(rows["step"].iloc[int(share.argmin())]))
    verdict: Verdict = "undecidable"
    if np.isfinite(alike.rho):
        verdict = "not_found" if alike.rho >= ALIKE else "found" if alike.high < ALIKE else "undecidable"
    same = "draws the same shape" if verdict == "not_found" else "does not simply draw the same shape"
    if verdict == "undecidable":
        same = "may or may not draw the same shape"
    text = (
        f"The participation ratio of the raw activations, which knows no features, {same}: "
        f"{number(float(share[0]))} of d at the first snapshot, lowest ({number(float(share.min()))}) "
        f"at {lowest}, "
        f"{number(float(share[-1]))} at the last; rank correlation of the two curves over snapshots "
        f"{alike.rho:+.2f} {between(alike.low, alike.high)}, n = {alike.n}."
    )
    return [
        shape,
        Finding(
            "dimensionality_beyond_spectrum",
            "directions",
            caveat_claim,
            verdict,
            text,
            (
                Statistic(
                    "Spearman ρ, feature dimensionality and activation participation ratio",
                    alike.rho,
                    name,
                    alike.low,
                    alike.high,
                ),
                Statistic("participation ratio / d, minimum", float(share.min()), name),
            ),
            caveat=f"A correlation of {ALIKE} or more counts as the same shape; then compression and "
            "expansion are properties of the activations, not of features.",
        ),
    ]
