"""Findings about features: classes, lifetimes and complexity."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from snapcoder.figures.summary import log_step, median_interval, rank_correlation, share
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, undecidable

FEW = 10  # features below which no verdict is given
FEW_PER_TYPE = 5
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
        _complexity(live, tables["complexity"]),
        _type_order(live, tables["complexity"]),
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


def _complexity(live: pd.DataFrame, complexity: pd.DataFrame) -> Finding:
    claim = "Later features are more complex"
    dated = _dated(live, complexity)
    if len(dated) < FEW:
        why = (
            f"Only {plural(len(dated), 'feature')} have both an onset between two snapshots and a "
            "complexity: too few to decide."
        )
        return undecidable("complexity", "features", claim, why, "feature_timing", "complexity")
    onset, level = log_step(dated["onset_hi"]), dated["complexity"].to_numpy(float)
    result = rank_correlation(onset, level)
    partial = _partial(onset, level, np.log(dated["n_active"].to_numpy(float) + 1))
    verdict: Verdict = "undecidable"
    if np.isfinite(result.rho):
        verdict = "found" if result.p < 0.05 and result.rho > 0 else "not_found"
    sentence = (
        f"Spearman's ρ between onset and rule-based complexity is {result.rho:+.2f} "
        f"{between(result.low, result.high)}, p = {result.p:.3f}, n = {result.n:,}; with the number of "
        ""
        f"tokens on which a feature fires held fixed, {partial:+.2f}."
        if np.isfinite(result.rho)
        else f"Onset or complexity is the same for all {plural(len(dated), 'feature')}: no correlation is defined."
    )
    if verdict == "found":
        sentence += " This supports the claim."
    elif verdict == "not_found":
        sentence += " This does not support the claim."
    return Finding(
        "complexity",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("Spearman ρ", result.rho, "complexity", result.low, result.high),
            Statistic("p (permutation)", result.p, "complexity"),
            Statistic("features", result.n, "complexity"),
            Statistic("partial ρ given log firing", partial, "complexity"),
        ),
        caveat="The paper reports r = 0.31 with complexity judged by a language model; here "
        "complexity is computed by rule. No significance is not proof of absence.",
    )


def _dated(live: pd.DataFrame, complexity: pd.DataFrame) -> pd.DataFrame:
    if complexity.empty:
        return pd.DataFrame(columns=["feature", "onset_hi", "complexity", "n_active", "type"])
    onsets = live.loc[live["onset_censoring"] == "interval", ["feature", "onset_hi"]].astype("float64")
    known = complexity.loc[complexity["complexity"].notna(), ["feature", "complexity", "n_active", "type"]]
    return onsets.merge(known, on="feature")


def _partial(x: np.ndarray, y: np.ndarray, control: np.ndarray) -> float:
    """Return the Spearman correlation of x and y [n] with the ranks of `control` regressed out of both."""
    a, b, c = (stats.rankdata(values) for values in (x, y, control))
    if np.ptp(c) == 0:
        return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else float("nan")
    design = np.column_stack([np.ones_like(c), c])
    rest = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (a, b)]
    return float(np.corrcoef(*rest)[0, 1]) if all(np.ptp(values) > 1e-9 for values in rest) else float("nan")


def _type_order(live: pd.DataFrame, complexity: pd.DataFrame) -> Finding:
    claim = "Previous-token features come before induction features, and these before contextual ones"
    dated = _dated(live, complexity)
    types = ("prev_token", "induction", "contextual")
    onsets = [log_step(dated.loc[dated["type"] == name, "onset_hi"]) for name in types]
    counts = ", ".join(f"{name} {len(values)}" for name, values in zip(types, onsets, strict=True))
    if min(len(values) for values in onsets) < FEW_PER_TYPE:
        why = (
            f"Features of these types with an onset between two snapshots: {counts}. At least "
            f"{FEW_PER_TYPE} of each are needed."
        )
        return undecidable("type_order", "features", claim, why, "complexity", "feature_timing")
    medians = [median_interval(10**values) for values in onsets]
    p = _trend(onsets)
    texts = ", ".join(
        f"{name} {number(m.value, 0)} {between(m.low, m.high, 0)}" for name, m in zip(types, medians, strict=True)
    )
    ordered = medians[0].value < medians[1].value < medians[2].value
    sentence = f"Median onset step: {texts} ({counts}). Jonckheere–Terpstra trend: p = {p:.3f}."
    return Finding(
        "type_order",
        "features",
        claim,
        "found" if ordered and p < 0.05 else "not_found",
        sentence,
        (
            *(
                Statistic(f"median onset, {name}", m.value, "feature_timing", m.low, m.high, "training steps")
                for name, m in zip(types, medians, strict=True)
            ),
            Statistic("p (trend, permutation)", p, "feature_timing"),
        ),
    )


def _trend(groups: list[np.ndarray]) -> float:
    """Return the one-sided permutation p-value of the Jonckheere–Terpstra statistic for groups in increasing order."""
    values, sizes = np.concatenate(groups), [len(group) for group in groups]
    label = np.repeat(np.arange(len(groups)), sizes)
    later = label[:, None] < label[None, :]

    def statistic(data: np.ndarray) -> float:
        return float((np.sign(data[None, :] - data[:, None]) * later).sum())

    observed, generator = statistic(values), np.random.default_rng(0)
    null = [statistic(generator.permutation(values)) for _ in range(500)]
    return (1 + sum(value >= observed for value in null)) / 501
