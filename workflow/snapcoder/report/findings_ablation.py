"""Findings about how few features carry an ability, beside matched features, neurons and principal directions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import SIGNIFICANT
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

TENS = 99  # "tens of features suffice" is the claim
_SUMMARY, _CURVES = "ablation_summary", "ablation_curves"
_TOLD = 4  # tasks whose numbers a sentence about all of them gives
_CLAIMS = {"disrupt": "Taking away a few features disrupts", "restore": "A few features alone restore"}
_DOES = {"disrupt": "Taking away", "restore": "Keeping"}


def ablation_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return, for each task and mode, whether a few features do it, and whether fewer features than other units do."""
    summary, curves = tables[_SUMMARY], tables[_CURVES]
    if summary.empty or curves.empty:
        why = "No snapshot can do a task clearly better than chance, so nothing was attributed or ablated."
        if summary.columns.empty or curves.columns.empty:
            why = "The study has no table of ablations."
        return [undecidable("few_features", "tasks", "A few features carry an ability", why, _SUMMARY, _CURVES)]
    found = []
    for task in sorted(summary["task"].unique()):
        for mode in _CLAIMS:
            chosen = [table[(table["task"] == task) & (table["mode"] == mode)] for table in (summary, curves)]
            found.append(_few_features(*chosen, task, mode))
    return [*found, _fewer_than_neurons(summary)]


def _main(rows: pd.DataFrame, *, unit: str = "feature", ablation: str = "resample") -> pd.DataFrame:
    """Return rows by attribution here, in order of step."""
    kept = (rows["ranking"] == "attr_here") & (rows["ablation"] == ablation) & (rows["unit"] == unit)
    return rows[kept].sort_values("step")


def _few_features(summary: pd.DataFrame, curves: pd.DataFrame, task: str, mode: str) -> Finding:
    claim, key, ranked = f"{_CLAIMS[mode]} {task}", f"{mode}_{task}", _main(summary)
    if ranked.empty:
        return undecidable(key, "tasks", claim, "No curve was measured.", _SUMMARY)
    last = ranked.iloc[-1]
    at = step(last["step"])
    if np.isnan(last["k50"]):
        why = (
            f"At {at}, all {int(last['n_units']):,} features together move the logit difference by {number(last['effect'])}: "
            "less than three standard errors, or the wrong way, so there is no half-way to look for."
        )
        return undecidable(key, "tasks", claim, why, _SUMMARY)
    verdict: Verdict = "undecidable"
    if last["k50_ci_lo"] > TENS:
        verdict = "not_found"
    elif last["k50_ci_hi"] <= TENS and last["p_matched_holm"] < SIGNIFICANT:
        verdict = "found"
    sentence = (
        f"At {at}, {number(last['k50'], 1)} features {between(last['k50_ci_lo'], last['k50_ci_hi'], 1)} of "
        f"{int(last['n_units']):,} move the logit difference half of the way that all of them do, {number(last['effect'])}. "
        f"{_beside_matched(last, curves, mode)}{_over_snapshots(ranked)}{_other_values(summary, last['step'])}{_sum(last)}"
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "features for half the effect",
                last["k50"],
                _SUMMARY,
                float(last["k50_ci_lo"]),
                float(last["k50_ci_hi"]),
                "features",
            ),
            Statistic("share of the effect, mean over shares of features (CPR)", float(last["cpr"]), _SUMMARY,
                      float(last["cpr_ci_lo"]), float(last["cpr_ci_hi"])),
            Statistic("share of matched draws with a weaker effect", float(last["percentile_vs_matched"]), _SUMMARY),
            Statistic("p (Holm), against matched features", float(last["p_matched_holm"]), _SUMMARY),
        ),
        (_SUMMARY, _CURVES),
        caveat=f"Found when the interval ends at {TENS} or below and p is below {SIGNIFICANT:g} at a size; p is corrected over "
        "sizes, not over tasks and snapshots. Linear in k between the sizes tested; the error term keeps its clean value.",
    )  # fmt: skip


def _beside_matched(last: pd.Series, curves: pd.DataFrame, mode: str) -> str:
    if np.isnan(last["matched_k"]):
        return "No matched features were drawn: too few fire. "
    here = curves[(curves["step"] == last["step"]) & (curves["k"] == last["matched_k"]) & (curves["unit"] == "feature")]
    here = here[here["ablation"] == "resample"]
    own = float(here.loc[here["ranking"] == "attr_here", "metric"].iloc[0])
    drawn = here.loc[here["ranking"] == "matched", "metric"]
    return (
        f"{_DOES[mode]} the top {int(last['matched_k'])} gives {number(own)}; as many features matched in decoder norm and "
        f"firing rate {between(drawn.min(), drawn.max())} over {plural(len(drawn), 'draw')}, "
        f"{percent(last['percentile_vs_matched'])} of them weaker (p = {number(last['p_matched_holm'], 3)}, Holm)."
    )


def _over_snapshots(ranked: pd.DataFrame) -> str:
    known = ranked["k50"].dropna()
    if len(ranked) < 2:
        return ""
    return (
        f" Over the {plural(len(ranked), 'snapshot')} tested it takes {number(known.min(), 1)} to "
        f"{number(known.max(), 1)}{'' if len(known) == len(ranked) else f', undefined at {len(ranked) - len(known)}'}."
    )


def _other_values(summary: pd.DataFrame, at: int) -> str:
    """Return what mean and zero ablation find at the same snapshot."""
    told = []
    for ablation in ("mean", "zero"):
        row = _main(summary[summary["step"] == at], ablation=ablation)
        if len(row):
            k50 = row["k50"].iloc[0]
            told.append(f"{ablation} {'no clear effect' if np.isnan(k50) else number(k50, 1)}")
    return f" With other values for ablated features: {', '.join(told)}." if told else ""


def _sum(last: pd.Series) -> str:
    if np.isnan(last["nonadditivity"]):
        return ""
    low, high = last["nonadditivity_ci_lo"], last["nonadditivity_ci_hi"]
    return (
        f" Alone, the top {int(last['nonadditivity_k'])} do {number(last['single_sum'])} in sum; together "
        f"{number(last['nonadditivity'])} {between(low, high)} on top."
    )


def _fewer_than_neurons(summary: pd.DataFrame) -> Finding:
    claim, key = "Fewer features than neurons or principal directions carry an ability", "fewer_than_neurons"
    restore = summary[summary["mode"] == "restore"]
    rows = {}
    for task in sorted(restore["task"].unique()):
        of_task = restore[restore["task"] == task]
        last = of_task[of_task["step"] == of_task["step"].max()]
        units = {unit: _main(last, unit=unit) for unit in ("feature", "neuron", "pca")}
        if all(len(row) and not np.isnan(row["k50"].iloc[0]) for row in units.values()):
            rows[task] = {unit: row.iloc[0] for unit, row in units.items()}
    if not rows:
        why = "At the last snapshot of no task do all three kinds of units have a clear effect."
        return undecidable(key, "tasks", claim, why, _SUMMARY)
    fewer = [
        task
        for task, of in rows.items()
        if of["feature"]["k50_ci_hi"] < min(of["neuron"]["k50_ci_lo"], of["pca"]["k50_ci_lo"])
    ]
    more = [
        task
        for task, of in rows.items()
        if of["feature"]["k50_ci_lo"] > min(of["neuron"]["k50_ci_hi"], of["pca"]["k50_ci_hi"])
    ]
    verdict: Verdict = "found" if len(fewer) == len(rows) else "not_found" if more else "undecidable"
    told = "; ".join(
        f"{task} {_k50(of['feature'])} features, {_k50(of['neuron'])} neurons, {_k50(of['pca'])} directions"
        for task, of in list(rows.items())[:_TOLD]
    )
    left = f"; and {len(rows) - _TOLD} more in the table" if len(rows) > _TOLD else ""
    first = next(iter(rows.values()))
    shares = [float(of["feature"]["effect_share"]) for of in rows.values()]
    sentence = (
        f"Units that restore half of what all of their kind do, at the last snapshot of each task: {told}{left}. Features need "
        f"clearly fewer in {len(fewer)} of {plural(len(rows), 'task')}, clearly more than one of the others in {len(more)}."
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic("tasks with clearly fewer features", len(fewer), _SUMMARY, unit="tasks"),
            Statistic("tasks compared", len(rows), _SUMMARY, unit="tasks"),
            Statistic("share of the effect that features move, median", float(np.median(shares)), _SUMMARY),
        ),
        caveat=f"Clearly: their 95% intervals do not meet. There are {int(first['feature']['n_units']):,} features and "
        f"{int(first['neuron']['n_units']):,} of the others, and what the error term carries is left out of the features' half.",
    )  # fmt: skip


def _k50(row: pd.Series) -> str:
    return f"{number(row['k50'], 1)} {between(row['k50_ci_lo'], row['k50_ci_hi'], 1)}"
