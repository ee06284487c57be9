"""Findings about onsets: whether they crowd, how sudden they are, and whether other thresholds or snapshots agree."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import log_step, median_interval
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

FEW = 10  # dated onsets below which no verdict is given
LEVEL = 0.05
SUPPORT = 0.5  # share of bootstrap draws that must name the same interval
STABLE = 0.9  # share of features that must keep their class, and their onset up to the wider interval
ALIKE_SHARE = 1.5  # largest ratio of emergent shares that still counts as the same
SMOOTH = 0.05  # explained variance that interpolation may lose
EVIDENCE = ("combined", "norm")  # what leads, first that there is


def timing_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about the distribution of onsets and what it depends on."""
    return [
        _crowd(tables["onset_distribution"], tables["onset_tests"]),
        _width(tables["feature_timing"]),
        *_thresholds(tables["threshold_sensitivity"]),
        _snapshots(tables["snapshot_sensitivity"]),
        _interpolation(tables["heldout_snapshots"]),
    ]


def _crowd(distribution: pd.DataFrame, tests: pd.DataFrame) -> Finding:
    claim, names = "Onsets crowd at one time", ("onset_distribution", "onset_tests")
    if distribution.empty or tests.empty:
        return undecidable("onsets", "features", claim, "There is no distribution of onsets.", *names)
    onset_by = next(name for name in EVIDENCE if (tests["onset_by"] == name).any())
    bins, nulls = (_live(table, onset_by) for table in (distribution, tests))
    inside = bins[bins["decades"].notna()]
    n, n_dated = int(bins["n"].iloc[0]), float((inside["n"] * inside["mass"]).sum())
    peak = nulls[nulls["null"] == "log_uniform"].iloc[0]
    if not n_dated >= FEW or nulls["p_holm"].isna().any():
        why = (
            f"{number(np.nan_to_num(n_dated), 0)} of {plural(n, 'live feature')} have an onset between two snapshots: "
            "with so few, or so few snapshots, there is no distribution to speak of."
        )
        return undecidable("onsets", "features", claim, why, *names)
    row = inside[inside["step_hi"] == peak["peak_hi"]].iloc[0]
    worst, support = float(nulls["p_holm"].max()), float(row["peak_support"])
    verdict: Verdict = "not_found" if worst >= LEVEL else "found" if support >= SUPPORT else "undecidable"
    first, last, width = _shortest_half(inside)
    sentence = (
        f"By {_told(onset_by)}, {number(n_dated, 0)} of {plural(n, 'live feature')} appear between two snapshots. The strongest "
        f"excess over a constant rate per decade lies between {step(peak['peak_lo'])} and {step(peak['peak_hi'])}: "
        f"{number(peak['observed'], 0)} onsets where {number(peak['expected'], 1)} are expected; {percent(support)} of "
        f"bootstrap draws name this interval. The shortest run of intervals with half of the onsets goes from "
        f"{step(first)} to {step(last)}, {number(width)} decades. A constant rate, or a constant chance of those still to "
        f"come, per decade or per step: the largest of four p (Holm) is {worst:.4f}.{_other(tests, onset_by)}"
    )
    return Finding(
        "onsets",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "share of all live features in the peak", float(row["mass"]), "onset_distribution",
                float(row["mass_ci_lo"]), float(row["mass_ci_hi"]),
            ),
            Statistic("peak, from", float(peak["peak_lo"]), "onset_tests", unit="training steps"),
            Statistic("peak, to", float(peak["peak_hi"]), "onset_tests", unit="training steps"),
            Statistic("bootstrap draws that name the peak", support, "onset_distribution"),
            Statistic("width of the densest half", width, "onset_distribution", unit="decades"),
            *(
                Statistic(f"p (Holm), {name.replace('_', ' ')}", float(p), "onset_tests")
                for name, p in zip(nulls["null"], nulls["p_holm"], strict=True)
            ),
        ),
        caveat="Onsets are known up to the interval between snapshots, and censored as such. The tests treat features as "
        "independent, which features of one dictionary are not. Counted as found when all four nulls are rejected and "
        f"at least {SUPPORT:.0%} of bootstrap draws name the same interval.",
    )  # fmt: skip


def _live(table: pd.DataFrame, onset_by: str) -> pd.DataFrame:
    return table[(table["onset_by"] == onset_by) & (table["group"] == "live")]


def _told(onset_by: str) -> str:
    return {"norm": "norm", "firing": "firing", "combined": "combined evidence"}[onset_by]


def _other(tests: pd.DataFrame, onset_by: str) -> str:
    """Say where the other kinds of evidence have their peak."""
    rows = tests[(tests["group"] == "live") & (tests["null"] == "log_uniform") & (tests["onset_by"] != onset_by)]
    rows = rows[rows["peak_hi"].notna()]
    said = [
        f" By {_told(row['onset_by'])}, the peak lies between {step(row['peak_lo'])} and {step(row['peak_hi'])}."
        for row in rows.to_dict("records")
    ]
    return "".join(said)


def _shortest_half(inside: pd.DataFrame) -> tuple[float, float, float]:
    """Return the run of intervals, shortest in decades, that holds half of the dated mass: from, to, decades."""
    mass = np.concatenate([[0.0], np.cumsum(inside["mass"])])
    place = np.concatenate([[0.0], np.cumsum(inside["decades"])])
    lo, hi = inside["step_lo"].to_numpy(dtype=float), inside["step_hi"].to_numpy(dtype=float)
    runs = [
        (place[b] - place[a], lo[a], hi[b - 1])
        for a in range(len(inside))
        for b in range(a + 1, len(inside) + 1)
        if mass[b] - mass[a] >= mass[-1] / 2 - 1e-12
    ]
    width, first, last = min(runs)
    return float(first), float(last), float(width)


def _width(timing: pd.DataFrame) -> Finding:
    claim, name = "Features appear within one interval between snapshots", "feature_timing"
    if timing.empty:
        return undecidable("onset_width", "features", claim, "There is no feature.", name)
    rows = timing[(timing["class"] == "emergent") & timing["onset_sigmoid"].notna()]
    rows = rows[rows["onset_censoring"] == "interval"]
    if len(rows) < FEW:
        why = f"Only {plural(len(rows), 'emergent feature')} rise along a sigmoid that the snapshots resolve."
        return undecidable("onset_width", "features", claim, why, name)
    width = median_interval(rows["onset_width"])
    gap = float(np.median(log_step(rows["onset_hi"]) - log_step(rows["onset_lo"])))
    verdict: Verdict = "found" if width.high < gap else "not_found" if width.low > gap else "undecidable"
    se = median_interval(rows["onset_sigmoid_se"])
    emergent = int((timing["class"] == "emergent").sum())
    sentence = (
        f"The norms of {plural(len(rows), 'emergent feature')} of {emergent:,} follow a rising sigmoid. From 10% to 90% it "
        f"takes a median of {number(width.value)} {between(width.low, width.high)} decades of steps, where the interval of "
        f"the onset spans {number(gap)}; the midpoint is known to a median standard error of {number(se.value)} decades."
    )
    return Finding(
        "onset_width",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("median rise from 10% to 90%", width.value, name, width.low, width.high, "decades"),
            Statistic("median interval of the onset", gap, name, unit="decades"),
            Statistic("median standard error of the midpoint", se.value, name, se.low, se.high, "decades"),
        ),
        caveat="A rise that fewer than two snapshots lie on has no standard error and is not counted: the most sudden onsets "
        "are left out.",
    )


def _thresholds(table: pd.DataFrame) -> list[Finding]:
    name = "threshold_sensitivity"
    claims = {
        "threshold_onsets": "Onsets crowd at the same time with other thresholds",
        "threshold_classes": "The share of emergent features does not depend on the threshold",
    }
    known = table[table["default"].astype(bool)] if not table.empty else table
    if known.empty or len(table) < 2 or known["n_dated"].iloc[0] < FEW or known["peak_hi"].isna().any():
        why = "There are too few onsets between two snapshots, or no other threshold."
        return [undecidable(key, "features", claim, why, name) for key, claim in claims.items()]
    default = known.iloc[0]
    return [
        _threshold_onsets(table, default, claims["threshold_onsets"]),
        _threshold_classes(table, default, claims["threshold_classes"]),
    ]


def _threshold_onsets(table: pd.DataFrame, default: pd.Series, claim: str) -> Finding:
    name = "threshold_sensitivity"
    dated = table[(table["n_dated"] >= FEW) & table["peak_hi"].notna()]
    same = _touches(dated, default) & (dated["p_log_uniform"] < LEVEL)
    low, high = dated["median_onset"].min(), dated["median_onset"].max()
    verdict: Verdict = "undecidable" if len(dated) < 2 else "found" if same.all() else "not_found"
    moved = dated[~same]
    where = ", ".join(
        f"α {row['alpha']:g} with m {row['consecutive']} ({step(row['peak_lo'])} to {step(row['peak_hi'])})"
        for row in moved.to_dict("records")
    )
    sentence = (
        f"Onsets were dated again with {len(table)} combinations of α and m. In {int(same.sum())} of {len(dated)} with at "
        f"least {FEW} onsets, the interval of the strongest excess over a constant rate per decade is the study's own "
        f"({step(default['peak_lo'])} to {step(default['peak_hi'])}) or next to it, with p < {LEVEL}. The median onset goes "
        f"from {step(low)} to {step(high)}."
    ) + (f" Elsewhere: {where}." if where else "")
    return Finding(
        "threshold_onsets",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("settings with the same peak", int(same.sum()), name),
            Statistic("settings compared", len(dated), name),
            Statistic("lowest rank correlation of onsets", float(dated["spearman_dated"].min()), name),
            Statistic("largest earth mover's distance", float(dated["emd_decades"].max()), name, unit="decades"),
        ),
        caveat="A lower α dates a gradual rise earlier, whatever happens: some shift is built in.",
    )


def _threshold_classes(table: pd.DataFrame, default: pd.Series, claim: str) -> Finding:
    name = "threshold_sensitivity"
    shares = table["emergent_share"].to_numpy(dtype=float)
    low, high = table.iloc[int(shares.argmin())], table.iloc[int(shares.argmax())]
    alike = high["emergent_share"] <= ALIKE_SHARE * low["emergent_share"]
    sentence = (
        f"The study's own thresholds call {percent(default['emergent_share'])} of live features emergent. Over "
        f"{len(table)} combinations this goes from {percent(low['emergent_share'])} (α {low['alpha']:g}, m "
        f"{low['consecutive']}) to {percent(high['emergent_share'])} (α {high['alpha']:g}, m {high['consecutive']}); at least "
        f"{percent(float(table['class_agreement'].min()))} of features keep their class."
    )
    return Finding(
        "threshold_classes",
        "features",
        claim,
        "found" if alike else "not_found",
        sentence,
        (
            Statistic("lowest share of emergent features", float(low["emergent_share"]), name),
            Statistic("highest share of emergent features", float(high["emergent_share"]), name),
            Statistic("lowest share of features that keep their class", float(table["class_agreement"].min()), name),
        ),
        caveat=f"Counted as found when the highest share is at most {ALIKE_SHARE:g} times the lowest. No threshold is published: "
        "quote the share with its threshold.",
    )


def _touches(rows: pd.DataFrame, peak: pd.Series) -> pd.Series:
    """Return which rows have their peak at the interval of `peak` or next to it."""
    return (rows["peak_lo"].astype(float) <= float(peak["peak_hi"])) & (
        rows["peak_hi"].astype(float) >= float(peak["peak_lo"])
    )


def _snapshots(table: pd.DataFrame) -> Finding:
    claim, name = "Half of the snapshots tell the same onsets", "snapshot_sensitivity"
    half = table[table["every"] == 2] if not table.empty else table
    if half.empty or table["n_dated"].min() < FEW or half["n_snapshots"].max() < 4 or half["peak_hi"].isna().any():
        why = "There are too few snapshots, or too few onsets between two of them."
        return undecidable("snapshot_onsets", "features", claim, why, name)
    full = table[table["every"] == 1].iloc[0]
    consistent, classes = float(half["consistent"].min()), float(half["class_agreement"].min())
    beyond = float((half["emd_decades"] - half["emd_resolution"]).max())
    same = bool(_touches(half, full).all())
    peaks = " and ".join(f"{step(row['peak_lo'])} to {step(row['peak_hi'])}" for row in half.to_dict("records"))
    turns = ", ".join(
        f"{step(row['turn_lo'])} to {step(row['turn_hi'])}"
        for row in half.to_dict("records")
        if pd.notna(row["turn_hi"])
    )
    sentence = (
        f"With every second snapshot, either way, at least {percent(consistent)} of live features keep their onset up to the "
        f"wider interval and {percent(classes)} their class. Onsets move by at most {number(float(half['emd_decades'].max()))} "
        f"decades on average, of which {number(max(beyond, 0.0))} more than wider intervals explain. The peak lies between "
        f"{step(full['peak_lo'])} and {step(full['peak_hi'])} with all, {peaks} with half."
    ) + (f" Directions turn fastest in {turns} with half." if turns else "")
    return Finding(
        "snapshot_onsets",
        "features",
        claim,
        "found" if min(consistent, classes) >= STABLE and same else "not_found",
        sentence,
        (
            Statistic("lowest share of consistent onsets", consistent, name),
            Statistic("lowest share of kept classes", classes, name),
            Statistic("largest earth mover's distance", float(half["emd_decades"].max()), name, unit="decades"),
            Statistic("beyond the wider intervals", beyond, name, unit="decades"),
        ),
        caveat="The dictionary is the same: this varies which snapshots are looked at, not which it was trained on. Counted as "
        f"found when {STABLE:.0%} keep onset and class and the peaks overlap or touch.",
    )


def _interpolation(table: pd.DataFrame) -> Finding:
    claim, name = "Between two snapshots, decoders lie near the line between theirs", "heldout_snapshots"
    ev = table.pivot(index="step", columns="method", values="ev").dropna() if not table.empty else table
    if len(ev) < 3:
        return undecidable(
            "heldout_snapshots", "dictionary", claim, "Fewer than three snapshots lie between others.", name
        )
    lost = ev["own"] - ev["interpolated"]
    middle = median_interval(lost)
    verdict: Verdict = "found" if middle.high <= SMOOTH else "not_found" if middle.low > SMOOTH else "undecidable"
    wins = {other: int((ev["interpolated"] > ev[other]).sum()) for other in ("nearest", "endpoints", "pca")}
    worst = int(lost.to_numpy().argmax())
    at_worst = ev.iloc[worst]
    sentence = (
        f"Reconstructed with a decoder interpolated in log step between its neighbours', a snapshot loses a median of "
        f"{number(middle.value)} {between(middle.low, middle.high)} of explained variance against its own; most at "
        f"{step(float(ev.index[worst]))} ({number(at_worst['interpolated'])} against {number(at_worst['own'])}). Interpolation beats "
        f"the nearer neighbour at {wins['nearest']} of {plural(len(ev), 'snapshot')}, a line from the first to the last at "
        f"{wins['endpoints']}, and as many principal components as features are active at {wins['pca']}."
    )
    return Finding(
        "heldout_snapshots",
        "dictionary",
        claim,
        verdict,
        sentence,
        (
            Statistic("median loss of explained variance", middle.value, name, middle.low, middle.high),
            Statistic("largest loss", float(lost.max()), name),
            *(Statistic(f"snapshots where interpolation beats {key}", value, name) for key, value in wins.items()),
        ),
        caveat=f"Counted as found when the interval of the median loss ends below {SMOOTH:g}. The code is the one that was "
        "computed with the snapshot's own activations among the others; decoders also differ by the noise of their "
        "estimation.",
    )
