"""Findings about abilities and the features that carry them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.figures.summary import acquired_tasks, median_interval
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable
from snapcoder.report.findings_ablation import ablation_findings
from snapcoder.tables.attribution import primary_attribution


def task_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about every task: acquired or not, carried by how few features, and by the same ones throughout."""
    performance, tasks = tables["task_performance"], tables["tasks"]
    found = [_acquisition(performance, task, since) for task, since in acquired_tasks(performance).items()]
    if not tasks.empty:
        found += [
            _dropped(row["task"], row["reason"])
            for _, row in tasks[tasks["status"] == "dropped"].sort_values("task").iterrows()
        ]
    if not found:
        found.append(
            undecidable("tasks", "tasks", "The model acquires an ability", "No task was scored.", "task_performance")
        )
    found += ablation_findings(tables)
    attribution = primary_attribution(tables["attribution"])
    for task in sorted(attribution["task"].unique()) if not attribution.empty else []:
        found.append(_dominance(attribution[attribution["task"] == task], task))
    quality = primary_attribution(tables["attribution_quality"])
    done = quality[quality["status"] == "attributed"] if not quality.empty else quality
    return [*found, _quality(done)] if not done.empty else found


def _acquisition(performance: pd.DataFrame, task: str, since: int | None) -> Finding:
    rows = performance[(performance["task"] == task) & (performance["status"] == "scored")].sort_values("step")
    last, name = rows.iloc[-1], "task_performance"
    scores = (
        f"accuracy {percent(last['accuracy'])} "
        f"{between(last['accuracy_ci_lo'], last['accuracy_ci_hi'], as_percent=True)}, chance "
        f"{percent(last['chance'])}"
    )
    difference = (
        f"logit difference {number(last['logit_diff'])} {between(last['logit_diff_ci_lo'], last['logit_diff_ci_hi'])}"
    )
    ends = f"at {step(last['step'])}: {scores}, {difference} (n = {int(last['n'])})"
    once = rows[rows["acquired"].astype(bool)]
    verdict: Verdict = "found" if since is not None else "not_found"
    if since is not None and len(rows) > 1 and since == last["step"]:
        verdict = "undecidable"
        sentence = f"Clearly above chance at the last snapshot only, which chance alone may do; {ends}."
    elif since is not None:
        sentence = f"Clearly above chance from {step(since)} to the end; {ends}."
    elif len(once):
        sentence = (
            f"Above chance at {plural(len(once), 'snapshot')} (first "
            f"{step(once['step'].iloc[0])}) but not at the end; {ends}."
        )
    else:
        sentence = f"At no snapshot clearly above chance; {ends}."
    return Finding(
        f"task_{task}",
        "tasks",
        f"The model acquires {task}",
        verdict,
        sentence,
        (
            Statistic(
                "accuracy, last snapshot",
                float(last["accuracy"]),
                name,
                float(last["accuracy_ci_lo"]),
                float(last["accuracy_ci_hi"]),
                "share",
            ),
            Statistic(
                "logit difference, last snapshot",
                float(last["logit_diff"]),
                name,
                float(last["logit_diff_ci_lo"]),
                float(last["logit_diff_ci_hi"]),
                "logits",
            ),
            Statistic("acquired since", float("nan") if since is None else since, name, unit="training steps"),
        ),
        caveat="Intervals are per snapshot, not corrected for the number of tasks and snapshots."
        if since is not None
        else "",
    )


def _dropped(task: str, reason: str) -> Finding:
    return undecidable(f"task_{task}", "tasks", f"The model acquires {task}", f"Not tested: {reason}.", "tasks")


def _dominance(attribution: pd.DataFrame, task: str) -> Finding:
    claim, key, name = f"Different features dominate {task} at different times", f"dominance_{task}", "attribution"
    first = attribution[attribution["rank"] == 1].sort_values("step")
    if len(first) < 2:
        return undecidable(key, "tasks", claim, "Fewer than two snapshots can do the task.", name)
    leaders = [int(feature) for feature in first["feature"]]
    changes = int((np.diff(leaders) != 0).sum())
    path = " → ".join(f"{feature} ({at:,})" for feature, at in zip(leaders, first["step"].astype(int), strict=True))
    sentence = (
        f"The feature with the largest absolute attribution changes {plural(changes, 'time')} "
        f"over {plural(len(leaders), 'snapshot')}; {len(set(leaders))} different ones lead: "
        f"{path}."
    )
    return Finding(
        key,
        "tasks",
        claim,
        "found" if len(set(leaders)) > 1 else "not_found",
        sentence,
        (Statistic("leading features", len(set(leaders)), name), Statistic("changes of leader", changes, name)),
        caveat="A change of leader between close rivals may be noise; compare attr with attr_se in the table.",
    )


def _quality(done: pd.DataFrame) -> Finding:
    gap, error = median_interval(done["completeness_gap"]), median_interval(done["error_share"])
    verdict: Verdict = "found" if gap.value < 0.1 and abs(error.value) < 0.5 else "not_found"
    sentence = (
        "Attributions add up to the metric's change with a median completeness gap of "
        f"{percent(gap.value)} over {plural(gap.n, 'pair')} of task and snapshot; the reconstruction "
        f"error, which no feature explains, carries a median {percent(error.value)} "
        f"{between(error.low, error.high, as_percent=True)} of it."
    )
    return Finding(
        "attribution_quality",
        "tasks",
        "Attribution is complete and falls on features",
        verdict,
        sentence,
        (
            Statistic("median completeness gap", gap.value, "attribution_quality", gap.low, gap.high),
            Statistic("median share of the error term", error.value, "attribution_quality", error.low, error.high),
        ),
        caveat="Counted as found with a gap below 10% and an error share below one half.",
    )
