"""Findings about features: classes, lifetimes, and whether norm and firing agree."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import median_interval, share
from snapcoder.report.finding import Finding, Statistic, Verdict, between, percent, plural, undecidable

FEW = 10  # features below which no verdict is given
LONG = 0.6  # "most persist in 60%+ of snapshots" is the claim


def feature_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about the histories and the contents of features."""
    timing = tables["feature_timing"]
    if timing.empty:
        return [
            undecidable("classes", "features", "Features fall into classes", "There is no feature.", "feature_timing")
        ]
    live = timing[timing["class"] != "dead"]
    return [
        _classes(timing, live),
        _lifetimes(live),
        _firing(live),
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
            Statistic("share of emergent features", emergent.value, "feature_timing", emergent.low, emergent.high),
            *(
                Statistic(f"{name} features", int(count), "feature_timing")
                for name, count in counts.sort_index().items()
            ),
        ),
        caveat=f"Counted as found with at least {FEW} of each. Classes follow from the norm and its "
        "threshold α; the interval treats features as independent "
        "draws. Counts depend on the dictionary's size.",
    )


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
