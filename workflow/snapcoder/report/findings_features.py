"""Findings about features: classes, onsets, lifetimes, and whether the norm can be trusted."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from snapcoder.figures.summary import median_interval, onset_bins, share
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

FEW = 10  # features below which no verdict is given
LONG = 0.6  # "most persist in 60%+ of snapshots" is the claim
DRAWS = 2000


def feature_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about the histories of features."""
    timing = tables["feature_timing"]
    if timing.empty:
        return [
            undecidable("classes", "features", "Features fall into classes", "There is no feature.", "feature_timing")
        ]
    live = timing[timing["class"] != "dead"]
    return [
        _classes(timing, live),
        _onsets(live, tables["snapshots"]),
        _lifetimes(live),
        _firing(live),
        _norm_validity(tables["feature_trajectory"], live),
    ]


def _classes(timing: pd.DataFrame, live: pd.DataFrame) -> Finding:
    claim = "Some features are there from initialisation, others emerge"
    counts = live["class"].value_counts()
    parts = [
        f"{name} {count:,} ({percent(count / max(len(live), 1))})"
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]
    emergent = share(int(counts.get("emergent", 0)), len(live))
    both = counts.get("initialization", 0) >= FEW and counts.get("emergent", 0) >= FEW
    sentence = (
        f"Of {plural(len(live), 'live feature')} ({len(timing) - len(live):,} more are dead): {', '.join(parts)}. "
        f"Share of emergent features: {percent(emergent.value)} "
        f"{between(emergent.low, emergent.high, as_percent=True)}."
    )
    return Finding(
        "classes",
        "features",
        claim,
        "found" if both else "not_found",
        sentence,
        (
            *(
                Statistic(f"{name} features", int(count), "feature_timing")
                for name, count in counts.sort_index().items()
            ),
            Statistic("share of emergent features", emergent.value, "feature_timing", emergent.low, emergent.high),
        ),
        caveat=f"Counted as found with at least {FEW} of each. Classes follow from the norm and its "
        "threshold α; the interval treats features as independent "
        "draws. Counts depend on the dictionary's size.",
    )


def _onsets(live: pd.DataFrame, snapshots: pd.DataFrame) -> Finding:
    claim = "Onsets crowd at one time"
    inside = live[live["onset_censoring"] == "interval"]
    named = pd.concat([inside["onset_lo"], inside["onset_hi"]]).dropna().astype(int)
    steps = sorted(set(snapshots["step"].astype(int)) if not snapshots.empty else set(named))
    n = len(inside)
    if n < FEW or len(steps) < 3:
        why = f"Only {plural(n, 'feature')} have an onset between two snapshots: too few to speak of a distribution."
        return undecidable("onsets", "features", claim, why, "feature_timing")
    bins = onset_bins(live, steps)
    peak = bins.iloc[int(bins["rate_per_decade"].to_numpy().argmax())]
    count, expected = bins["count"].to_numpy(float), bins["expected"].to_numpy(float)
    p = _uneven(count, expected)
    part = share(int(peak["count"]), n)
    flat = float(peak["expected"]) / n
    verdict: Verdict = "not_found" if p >= 0.05 else "found" if part.low > flat else "undecidable"
    sentence = (
        f"{plural(n, 'feature')} appear between two snapshots. The rate per decade of steps is highest "
        f"between {step(peak['step_lo'])} and "
        f"{step(peak['step_hi'])}: {int(peak['count']):,} onsets ({percent(part.value)} "
        f"{between(part.low, part.high, as_percent=True)}), where a rate that is constant per "
        f"decade would put {number(float(peak['expected']), 1)} (Monte-Carlo χ² against that constant "
        f"rate: p = {p:.4f})."
    )
    return Finding(
        "onsets",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("share of onsets in the densest interval", part.value, "feature_timing", part.low, part.high),
            Statistic("densest interval, from", float(peak["step_lo"]), "feature_timing", unit="training steps"),
            Statistic("densest interval, to", float(peak["step_hi"]), "feature_timing", unit="training steps"),
            Statistic("p, constant rate per decade", p, "feature_timing"),
        ),
        caveat="Onsets are known up to the interval between snapshots. On a linear axis almost any "
        "early process looks like a burst.",
    )


def _uneven(count: np.ndarray, expected: np.ndarray) -> float:
    """Return the Monte-Carlo p-value of a χ² test of counts [bins] against expected counts."""
    usable = expected > 0
    observed, wanted = count[usable], expected[usable]
    drawn = np.random.default_rng(0).multinomial(int(observed.sum()), wanted / wanted.sum(), size=DRAWS)
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    return float((1 + (((drawn - wanted) ** 2 / wanted).sum(axis=1) >= statistic - 1e-9).sum()) / (1 + DRAWS))


def _lifetimes(live: pd.DataFrame) -> Finding:
    claim = "Most features are long-lived"
    long = share(int((live["lifetime_frac"] >= LONG - 1e-6).sum()), len(live))
    middle = median_interval(live["lifetime_frac"])
    verdict: Verdict = "undecidable"
    if len(live) >= FEW:
        verdict = "found" if long.low > 0.5 else "not_found" if long.high < 0.5 else "undecidable"
    sentence = (
        f"{percent(long.value)} {between(long.low, long.high, as_percent=True)} of live features are "
        f"present in at least {LONG:.0%} of the snapshots; the median is "
        f"{percent(middle.value)} {between(middle.low, middle.high, as_percent=True)}."
    )
    return Finding(
        "lifetimes",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic(f"share present in ≥ {LONG:.0%} of snapshots", long.value, "feature_timing", long.low, long.high),
            Statistic("median lifetime", middle.value, "feature_timing", middle.low, middle.high, "share of snapshots"),
        ),
        caveat="Counted in snapshots, so their spacing matters; presence is by norm.",
    )


def _firing(live: pd.DataFrame) -> Finding:
    claim = "Norm and firing agree on when features appear"
    known = live[live["onset_hi"].notna()]
    if len(known) < FEW:
        return undecidable(
            "norm_and_firing", "features", claim, f"Only {len(known)} features have an onset.", "feature_timing"
        )
    same = share(int((known["onset_hi"] == known["onset_alive_hi"]).sum()), len(known))
    later = int((known["onset_alive_hi"] > known["onset_hi"]).sum())
    never = int(known["onset_alive_hi"].isna().sum())
    verdict: Verdict = "found" if same.low > 0.5 else "not_found" if same.high < 0.5 else "undecidable"
    sentence = (
        f"Both give the same onset for {percent(same.value)} "
        f"{between(same.low, same.high, as_percent=True)} of {plural(len(known), 'feature')}; by "
        f"firing, {later:,} appear later and "
        f"{never:,} have no lasting onset."
    )
    return Finding(
        "norm_and_firing",
        "features",
        claim,
        verdict,
        sentence,
        (Statistic("share with the same onset", same.value, "feature_timing", same.low, same.high),),
        caveat="Where they disagree, distrust the norm: it is part of what training minimises.",
    )


def _norm_validity(trajectory: pd.DataFrame, live: pd.DataFrame) -> Finding:
    claim, name = "The norm follows how well the activations are explained by the code", "feature_trajectory"
    rows = trajectory[trajectory["feature"].isin(live["feature"])] if not trajectory.empty else trajectory
    if rows.empty or rows["step"].nunique() < 5:
        return undecidable("norm_validity", "features", claim, "There are fewer than five snapshots.", name)
    norm = rows.pivot(index="feature", columns="step", values="norm").to_numpy(float)
    r2 = rows.pivot(index="feature", columns="step", values="regress_r2").to_numpy(float)
    keep = (
        ~np.isnan(norm).any(axis=1) & ~np.isnan(r2).any(axis=1) & (np.ptp(norm, axis=1) > 0) & (np.ptp(r2, axis=1) > 0)
    )
    if keep.sum() < FEW:
        return undecidable("norm_validity", "features", claim, "The regression is defined for too few features.", name)
    a, b = (stats.rankdata(values[keep], axis=1) for values in (norm, r2))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    rho = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    middle = median_interval(rho)
    verdict: Verdict = "found" if middle.low > 0.5 else "not_found" if middle.high < 0.5 else "undecidable"
    sentence = (
        "Over snapshots, a feature's norm and the variance that its code explains have a median rank "
        f"correlation of {number(middle.value)} "
        f"{between(middle.low, middle.high)} over {plural(middle.n, 'feature')}; "
        f"{percent(float((rho < 0).mean()))} are negative."
    )
    return Finding(
        "norm_validity",
        "features",
        claim,
        verdict,
        sentence,
        (Statistic("median Spearman ρ, norm and regress_r2", middle.value, name, middle.low, middle.high),),
        caveat="Counted as found when the interval lies above 0.5.",
    )
