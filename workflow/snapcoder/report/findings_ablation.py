"""Findings about how few features carry an ability: what ablating the top k does, beside features that are alike."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import SIGNIFICANT, control_ranking, main_curves
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, plural, step, undecidable

TENS = 99  # "tens of features suffice" is the claim
_WORDS = {"disrupt": "Taking away a few features disrupts", "restore": "A few features alone restore"}
_CONTROLS = {"random": "at random", "matched": "of like norm and firing rate"}


def ablation_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return a finding per attributed task and mode: from the summary of its curves where there is one."""
    curves, summary = (
        main_curves(tables["ablation_curves"]),
        main_curves(tables.get("ablation_summary", pd.DataFrame())),
    )
    if len(summary):
        summary = summary[summary["ranking"] == "attr_here"]
    found = []
    for task in sorted(curves["task"].unique()) if not curves.empty else []:
        rows = curves[curves["task"] == task]
        own = summary[summary["task"] == task] if len(summary) else summary
        for mode in _WORDS:
            chosen = own[own["mode"] == mode] if len(own) else own
            found.append(_by_summary(chosen, task, mode) if len(chosen) else _by_curves(rows, task, mode))
    if not found:
        why = "No snapshot can do a task clearly better than chance, so nothing was attributed or ablated."
        if curves.columns.empty:
            why = "The study has no table of ablations."
        found.append(undecidable("few_features", "tasks", "A few features carry an ability", why, "ablation_curves"))
    return found


def _by_summary(rows: pd.DataFrame, task: str, mode: str) -> Finding:
    """Judge one task by k50 with its interval at the last snapshot, and by its p against features alike."""
    claim, key, name = f"{_WORDS[mode]} {task}", f"{mode}_{task}", "ablation_summary"
    ordered = rows.sort_values("step")
    last, sizes = ordered.iloc[-1], ordered["k50"].dropna()
    if not np.isfinite(last["k50"]):
        why = f"At {step(last['step'])}, all features together move the logit difference too little (below 3 SE), or the wrong way."
        return undecidable(key, "tasks", claim, why, name)
    low, high = (float(last[f"k50_ci_{end}"]) for end in ("lo", "hi"))
    p = float(last["p_matched_holm"])
    few, many = high <= TENS, last["k50"] > TENS if np.isnan(low) else low > TENS
    verdict: Verdict = "not_found" if many else "found" if few and p < SIGNIFICANT else "undecidable"
    control = "no features alike were drawn" if np.isnan(p) else (
        f"against draws of features of like norm and firing rate p = {p:.3f} (Holm over sizes)"
    )  # fmt: skip
    others = (
        f" Over the {plural(len(sizes), 'snapshot')} where it can be told, {number(sizes.min(), 0)} to {number(sizes.max(), 0)}."
        if len(sizes) > 1
        else ""
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        f"At {step(last['step'])}, {number(float(last['k50']), 0)} {between(low, high, 0)} features of "
        f"{int(last['n_units']):,} move the logit difference half of the way that all do; {control}.{others}",
        (
            Statistic("features for half the effect", float(last["k50"]), name, low, high, "features"),
            Statistic("p, features alike", p, name),
        ),
        caveat=f"Found when the interval ends at {TENS} or below and features alike do clearly less (p < {SIGNIFICANT}); not "
        "found when it begins above. Ablated features take their value on the patch prefix; the error term keeps its own.",
    )


def _by_curves(curves: pd.DataFrame, task: str, mode: str) -> Finding:
    """Judge one task from its curves alone: the smallest size in the grid, and whether it lies beyond every control draw."""
    claim, key, name = f"{_WORDS[mode]} {task}", f"{mode}_{task}", "ablation_curves"
    chosen = curves[curves["mode"] == mode]
    ranked = chosen[chosen["ranking"] == "attr_here"]
    halves = {int(at): _half(ranked[ranked["step"] == at], mode) for at in sorted(ranked["step"].unique())}
    if not halves:
        return undecidable(key, "tasks", claim, "No curve was measured.", name)
    last = max(halves)
    k = halves[last]
    here = chosen[chosen["step"] == last]
    everything = int(here["k"].max())
    if k is None:
        sentence = f"At {step(last)}, no number of features short of all moves the metric half-way."
        return Finding(key, "tasks", claim, "not_found", sentence, (), (name,))
    top = here[(here["ranking"] == "attr_here") & (here["k"] == k)].iloc[0]
    kind = control_ranking(here)
    random = here[(here["ranking"] == kind) & (here["k"] == k)]["metric"]
    start = float(here[(here["ranking"] == "attr_here")].sort_values("k")["metric"].iloc[0])
    better = len(random) > 0 and (
        (top["metric_ci_hi"] < random.min()) if mode == "disrupt" else (top["metric_ci_lo"] > random.max())
    )
    verdict: Verdict = "not_found" if k > TENS or k >= everything else "found" if better else "undecidable"
    control = (
        f"{k:,} features {_CONTROLS[kind]}: mean {number(float(random.mean()))}, range "
        f"{between(float(random.min()), float(random.max()))} over {plural(len(random), 'draw')}"
        if len(random)
        else "without a random control"
    )
    known = [value for value in halves.values() if value is not None]
    others = (
        f" Over the {plural(len(halves), 'snapshot')} tested, half-way takes {min(known):,} to {max(known):,}."
        if len(halves) > 1
        else ""
    )
    sentence = (
        f"At {step(last)}, {plural(k, 'feature')} of {everything:,} move the logit difference at least "
        f"half-way: from {number(start)} to {number(top['metric'])} "
        f"{between(top['metric_ci_lo'], top['metric_ci_hi'])}; {control}.{others}"
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic("features for half the effect", k, name, unit="features"),
            Statistic(
                "logit difference with the top features treated",
                float(top["metric"]),
                name,
                float(top["metric_ci_lo"]),
                float(top["metric_ci_hi"]),
                "logits",
            ),
            Statistic(
                f"the same, features {_CONTROLS[kind]}",
                float(random.mean()) if len(random) else float("nan"),
                name,
                unit="logits",
            ),
        ),
        caveat=f"Counted as found up to {TENS} features, when the interval lies beyond every control "
        "draw. k is taken from the grid tested; the error term keeps its clean value.",
    )


def _half(ranked: pd.DataFrame, mode: str) -> int | None:
    """Return the smallest k at which the metric has moved half of its way from k = 0 to all; None when the way is nothing."""
    ordered = ranked.sort_values("k")
    metric, k = ordered["metric"].to_numpy(float), ordered["k"].to_numpy()
    way = metric[-1] - metric[0]
    if way == 0 or (way > 0) == (mode == "disrupt"):
        return None
    reached = np.flatnonzero((metric - metric[0]) / way >= 0.5)
    return int(k[reached[0]]) if k[reached[0]] < k[-1] else None
