"""Findings about directions: when they turn, whether one drift explains it, what remains after a common rotation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from snapcoder.figures.summary import turning_point
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, step, undecidable
from snapcoder.report.findings_dimensions import dimension_findings

LEVEL = 0.05  # p-values at or below it count against a null
UNRELATED = 0.25  # blocks whose cosines across are clearly below it count as nearly orthogonal
ALIKE = 0.5  # a block whose cosines within are clearly above it counts as slow drift
LAWS = ("steady", "wandering")


def direction_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about rotation and dimensionality."""
    intervals, points = tables["rotation_intervals"], tables["turning_points"]
    plain = _curve(intervals, "plain")
    peak = _peak(plain, points)
    found = [_turn(plain, points, peak), _blocks(points), _orthogonal(tables["rotation_summary"], peak)]
    return [*found, _basis(points, peak), *dimension_findings(tables)]


def _curve(intervals: pd.DataFrame, turn: str) -> pd.DataFrame:
    """Return the intervals with features alive at both ends, in order."""
    if intervals.empty:
        return intervals
    return intervals[(intervals["turn"] == turn) & intervals["turn_deg"].notna()].sort_values("step_a")


def _peak(plain: pd.DataFrame, points: pd.DataFrame) -> dict[str, Any] | None:
    """Return the interval of fastest turning: by the law of wandering, which unequal intervals do not mislead."""
    found = turning_point(points)
    if found is None or len(plain) < 3:
        return None
    row = plain[plain["step_b"] == found["step_b"]]
    return dict(row.iloc[0]) if len(row) else None


def _turn(plain: pd.DataFrame, points: pd.DataFrame, peak: dict[str, Any] | None) -> Finding:
    claim, name = "Directions turn fastest at one time, then slow down", "turning_points"
    peaks = {law: turning_point(points, law=law) for law in LAWS}
    bursts = [turning_point(points, law=law, statistic="burst") for law in LAWS]
    if peak is None or any(row is None for row in (*peaks.values(), *bursts)):
        return undecidable(
            "turning_point", "directions", claim, "Fewer than three intervals have features alive at both ends.", name
        )
    steady, wandering = (peaks[law] or {} for law in LAWS)
    first, last = plain.iloc[0], plain.iloc[-1]
    p_constant = max(float(row["p_constant"]) for row in (steady, wandering))
    p_order = max(float(row["p_order"]) for row in bursts if row is not None)
    at_end = any(
        row["step_a"] == first["step_a"] or row["step_b"] == last["step_b"] for row in (steady, wandering)
    )  # fmt: skip
    verdict: Verdict
    if at_end or p_constant > LEVEL:
        verdict = "not_found"
    else:  # an undefined p-value is below no level
        verdict = "found" if p_constant <= LEVEL and p_order <= LEVEL else "undecidable"
    sentence = (
        f"Turning is fastest between {step(wandering['step_a'])} and {step(wandering['step_b'])} (95% over features: "
        f"{step(wandering['ci_lo'])} to {step(wandering['ci_hi'])}): {number(peak['turn_deg'], 0)}° in this interval "
        f"beyond the {number(peak['noise_deg'], 0)}° that estimation makes, {number(peak['turn_per_decade'], 0)}° per "
        f"decade of steps {between(peak['turn_per_decade_ci_lo'], peak['turn_per_decade_ci_hi'], 0)}, against "
        f"{_speed(first)} in the first interval and {_speed(last)} in the last. p = {p_constant:.3f} against constant "
        f"speed, {p_order:.3f} against the same speeds in any order (the larger of two laws)."
    )
    return Finding(
        "turning_point",
        "directions",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "turn per decade where fastest",
                float(peak["turn_per_decade"]),
                "rotation_intervals",
                float(peak["turn_per_decade_ci_lo"]),
                float(peak["turn_per_decade_ci_hi"]),
                "degrees/decade",
            ),
            Statistic("interval, from", float(wandering["step_a"]), name, unit="training steps"),
            Statistic("interval, to", float(wandering["step_b"]), name, unit="training steps"),
            Statistic("p against constant speed", p_constant, name),
            Statistic("p against speeds in any order", p_order, name),
        ),
        caveat=_turn_caveat(points, steady),
    )


def _speed(row: pd.Series) -> str:
    low, high = row["turn_per_decade_ci_lo"], row["turn_per_decade_ci_hi"]
    return f"{number(row['turn_per_decade'], 0)}° {between(low, high, 0)}"


def _turn_caveat(points: pd.DataFrame, steady: Mapping[str, Any]) -> str:
    """Say what the place owes to the law and to the clock."""
    text = (
        f"The place supposes that small turns add up at random; as angle per decade, turning is fastest between "
        f"{step(steady['step_a'])} and {step(steady['step_b'])}."
    )
    linear = turning_point(points, clock="step")
    if linear is not None:
        text += f" Per step, not per decade, it is between {step(linear['step_a'])} and {step(linear['step_b'])}."
    return text + " Features that all turn in a single interval cannot be told from an uneven process by order alone."


def _blocks(points: pd.DataFrame) -> Finding:
    claim, name = "Directions fall into two blocks: unrelated across, slow drift within the later one", "turning_points"
    row = turning_point(points, statistic="blocks")
    if row is None:
        return undecidable("two_blocks", "directions", claim, "There are too few snapshots with live features.", name)
    p_constant, p_order = float(row["p_constant"]), float(row["p_order"])
    across, after = ((float(row[f"cos_{x}_ci_lo"]), float(row[f"cos_{x}_ci_hi"])) for x in ("across", "after"))
    verdict: Verdict = "undecidable"
    if across[0] > UNRELATED or after[1] < ALIKE or p_constant > LEVEL:
        verdict = "not_found"
    elif across[1] <= UNRELATED and after[0] >= ALIKE and p_constant <= LEVEL and p_order <= LEVEL:
        verdict = "found"
    texts = [
        f"{number(row[f'cos_{x}'])} {between(row[f'cos_{x}_ci_lo'], row[f'cos_{x}_ci_hi'])} {where}"
        for x, where in (("before", "before"), ("after", "after"), ("across", "across"))
    ]
    sentence = (
        f"The best split lies between {step(row['step_a'])} and {step(row['step_b'])}, with a mean cosine of "
        f"{', '.join(texts)}. A drift of constant speed makes a pair of blocks this sharp with p = {number(p_constant, 3)}, "
        f"one with the same speeds in any order with p = {number(p_order, 3)}."
    )
    return Finding(
        "two_blocks",
        "directions",
        claim,
        verdict,
        sentence,
        (
            Statistic("mean cosine across", float(row["cos_across"]), name, *across),
            Statistic("mean cosine after", float(row["cos_after"]), name, *after),
            Statistic("p against constant drift", p_constant, name),
            Statistic("p against drift in any order", p_order, name),
        ),
        caveat=f"Unrelated: clearly below {UNRELATED}; slow drift: clearly above {ALIKE}. Any drift has a best split, and "
        "snapshots are not evenly spaced; the p-values take both into account.",
    )


def _orthogonal(summary: pd.DataFrame, peak: dict[str, Any] | None) -> Finding:
    claim, name = "Before the turn, directions are unrelated to the final ones", "rotation_summary"
    if summary.empty or peak is None:
        return undecidable("orthogonal_turn", "directions", claim, "There are too few snapshots.", name)
    last = summary["step_b"].max()
    rows = summary[
        (summary["step_b"] == last) & (summary["step_a"] < last) & summary["cos_median"].notna()
    ].sort_values("step_a")
    if rows.empty:
        return undecidable(
            "orthogonal_turn", "directions", claim, "No feature is alive at the last and an earlier snapshot.", name
        )
    before = rows.iloc[0]
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


def _basis(points: pd.DataFrame, peak: dict[str, Any] | None) -> Finding:
    claim, name = "Features turn by themselves, not only with the whole space", "rotation_intervals"
    if peak is None or pd.isna(peak["common_share"]):
        return undecidable("own_rotation", "directions", claim, "No common rotation could be fitted.", name)
    remains, low, high = (1 - float(peak[f"common_share{end}"]) for end in ("", "_ci_hi", "_ci_lo"))
    verdict: Verdict = "found" if low > 0.5 else "not_found" if high < 0.5 else "undecidable"
    sentence = (
        f"In the interval of fastest turning (to {step(peak['step_b'])}), {percent(remains)} "
        f"{between(low, high, as_percent=True)} of the median turn of {number(peak['turn_deg'], 0)}° remain after the best "
        "rotation of the whole space."
    )
    own = turning_point(points, turn="procrustes")
    if own is not None:
        sentence += (
            f" What remains is fastest between {step(own['step_a'])} and {step(own['step_b'])} "
            f"(95%: {step(own['ci_lo'])} to {step(own['ci_hi'])})."
        )
    return Finding(
        "own_rotation",
        "directions",
        claim,
        verdict,
        sentence,
        (Statistic("share of the turn that remains", remains, name, low, high),),
        caveat="Counted as found when clearly more than half remains. The rotation is fitted on other features than it "
        "is applied to; being estimated, it can take a little away, so a few per cent above or below mean nothing."
        if np.isfinite(remains)
        else "",
    )
