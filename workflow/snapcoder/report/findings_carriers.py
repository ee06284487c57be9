"""Findings about what connects features with abilities: who leads a task, and whether its carriers come before it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from snapcoder.figures.summary import SIGNIFICANT
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

_SHIFT = "task_feature_timing"
_MOST = 6  # hand-overs told one by one


def carrier_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about hand-overs and about lead and lag, of all tasks together and then of each."""
    handover, timing = tables["handover"], tables["task_feature_timing"]
    led = [_dominance(rows, str(task)) for task, rows in _by_task(handover)]
    led = [_dominance_of_all(led), *led]
    primary = timing[(timing["weighting"] == "last") & (timing["onset_by"] == "combined")] if len(timing) else timing
    since = [_since(rows.iloc[0], timing, str(task)) for task, rows in _by_task(primary)]
    return [*led, _since_of_all(since, primary), *since]


def _by_task(table: pd.DataFrame) -> list[tuple[object, pd.DataFrame]]:
    return list(table.groupby("task", sort=True)) if len(table) else []


def _dominance(rows: pd.DataFrame, task: str) -> Finding:
    claim, key, name = f"Different features dominate {task} at different times", f"dominance_{task}", "handover"
    rows = rows.sort_values("step")
    if len(rows) < 2:
        return undecidable(key, "tasks", claim, "Fewer than two snapshots can do the task.", name)
    leaders = rows["leader"].to_numpy()
    changes, clear = int((np.diff(leaders) != 0).sum()), int(rows["told_apart"].sum())
    events = rows.dropna(subset="from_feature")
    held = {*events["from_feature"].astype(int), *events["holder"].astype(int)}
    n_leaders = max(len(held), 1)
    verdict: Verdict = "found" if len(events) else "not_found" if clear >= 2 else "undecidable"
    turns = "has" if len(set(leaders)) == 1 else "have in turn"
    names = f"{plural(len(set(leaders)), 'feature')} {turns} the largest attribution"
    where = f"over {plural(len(rows), 'snapshot')} ({plural(changes, 'change')}); the lead is clear at {clear} of them"
    said = {
        "found": f"{plural(len(events), 'hand-over')} from one clear leader to another: {_told(events)}",
        "not_found": "no lead passes from one clear leader to another",
        "undecidable": "leader and rivals are too close, for this number of examples, to tell a hand-over from noise",
    }[verdict]
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        f"{names} {where}; {said}.",
        (
            Statistic("hand-overs", len(events), name),
            Statistic("distinguishable leaders", n_leaders, name),
            Statistic("changes of the largest attribution", changes, name),
        ),
        caveat="A hand-over counts when the one was clearly ahead before and the other is clearly ahead after "
        "(two-sided z, Holm over all pairs of leaders and snapshots). Not found needs a clear lead at two snapshots.",
    )


def _told(events: pd.DataFrame) -> str:
    told = [
        f"{int(row['from_feature'])} → {int(row['holder'])} between {step(row['from_step'])} and {step(row['step'])} "
        f"(cosine of their decoders {number(float(row['cosine']))})"
        for _, row in events.head(_MOST).iterrows()
    ]
    return "; ".join([*told, "…"] if len(events) > _MOST else told)


def _dominance_of_all(tasks: Sequence[Finding]) -> Finding:
    claim, key = "Different features dominate an ability at different times", "dominance"
    if not tasks:
        return undecidable(key, "tasks", claim, "No task was attributed.", "handover")
    found, decided = (
        [finding for finding in tasks if finding.verdict in kinds] for kinds in (("found",), ("found", "not_found"))
    )
    open_ = len(tasks) - len(decided)
    verdict: Verdict = "undecidable" if not decided else "found" if 2 * len(found) > len(decided) else "not_found"
    sentence = f"In none of {plural(len(tasks), 'task')} is the lead clear often enough to tell a hand-over from noise."
    if decided:
        sentence = (
            f"The lead passes from one feature to another, clearly, in {len(found)} of {plural(len(decided), 'task')} with a "
            f"lead that is clear often enough to tell; {open_} of {len(tasks)} cannot be decided."
        )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic("tasks with a hand-over", len(found), "handover"),
            Statistic("tasks that can be decided", len(decided), "handover"),
        ),
        caveat="Counted as found in more than half of the tasks that can be decided; corrected within tasks.",
    )


def _since(row: pd.Series, timing: pd.DataFrame, task: str) -> Finding:
    claim, key = f"The features that carry {task} emerge before it is acquired", f"carriers_{task}"
    if not np.isfinite(row["acquisition"]):
        return undecidable(key, "tasks", claim, "The task is not acquired to the end, so it has no date.", _SHIFT)
    dated = f"Acquired at about {step(10 ** row['acquisition'])}. "
    shares = (
        f"Of what its carriers bear at {step(row['step_last'])}, {percent(row['share_initial'])} falls to features that may "
        f"have been there from the start, {percent(row['share_before'])} to features that emerged before, "
        f"{percent(row['share_together'])} about then, {percent(row['share_after'])} after"
    )
    undated = f", {percent(row['share_undated'])} to features without lasting onset" if row["share_undated"] > 0 else ""
    if not np.isfinite(row["lag_ci_lo"]):
        return undecidable(key, "tasks", claim, f"{dated}{shares}{undated}. Fewer than two emerged.", _SHIFT)
    ahead = row["lag_ci_hi"] < 0
    verdict: Verdict = "found" if ahead else "not_found" if row["lag_ci_lo"] > 0 else "undecidable"
    mean = (
        f"Those that emerged do so, weighted by attribution, {number(abs(row['lag']))} decades "
        f"{'before' if row['lag'] < 0 else 'after'} it (lag {number(row['lag'])} "
        f"{between(row['lag_ci_lo'], row['lag_ci_hi'])}, n = {int(row['n_emerged'])})"
    )
    control = (
        f"against alive features of the same firing rate, carriers come {number(abs(row['shift']))} decades "
        f"{'earlier' if row['shift'] < 0 else 'later'} (p = {row['p_shift']:.3f}, {row['p_shift_holm']:.3f} over tasks), and "
        f"their distance to the acquisition is {number(row['distance'])} decades against {number(row['distance_null'])} "
        f"(p = {row['p_distance']:.3f}, {row['p_distance_holm']:.3f} over tasks)"
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        f"{dated}{shares}{undated}. {mean}; {control}.",
        (
            Statistic("weighted mean lag", float(row["lag"]), _SHIFT, float(row["lag_ci_lo"]), float(row["lag_ci_hi"]), "decades"),
            Statistic("against features alike", float(row["shift"]), _SHIFT, unit="decades"),
            Statistic("p, features alike", float(row["p_shift_holm"]), _SHIFT),
        ),
        tables=("attribution_report",),
        caveat=f"Found when the 95% interval of the lag lies below 0, not found when above. {_robustness(timing, task)} That most "
        "features emerge early is reason enough for a lead: the comparison with features alike says whether carriers differ.",
    )  # fmt: skip


def _robustness(timing: pd.DataFrame, task: str) -> str:
    """Return the lags by the norm, and by the weights at the acquisition."""
    rows = timing[timing["task"] == task]
    by_norm = rows[(rows["weighting"] == "last") & (rows["onset_by"] == "norm")].iloc[0]
    first = rows[(rows["weighting"] == "first") & (rows["onset_by"] == "combined")].iloc[0]
    return (
        f"By the norm alone: {number(by_norm['lag'])} {between(by_norm['lag_ci_lo'], by_norm['lag_ci_hi'])}; weighted as at "
        f"{step(first['step_first'])}: {number(first['lag'])} {between(first['lag_ci_lo'], first['lag_ci_hi'])}."
    )


def _since_of_all(tasks: Sequence[Finding], primary: pd.DataFrame) -> Finding:
    claim, key = "Features that carry an ability emerge before it is acquired", "carriers"
    dated = [finding for finding in tasks if finding.statistics]
    if not dated:
        return undecidable(key, "tasks", claim, "No task with a date is carried by features that emerged.", _SHIFT)
    names = {
        verdict: [finding.key.removeprefix("carriers_") for finding in dated if finding.verdict == verdict]
        for verdict in ("found", "not_found", "undecidable")
    }
    n = {verdict: len(found) for verdict, found in names.items()}
    verdict: Verdict = (
        "found" if 2 * n["found"] > len(dated) else "not_found" if 2 * n["not_found"] > len(dated) else "undecidable"
    )
    special = primary[primary["p_shift_holm"] < SIGNIFICANT]
    unlike = f"in {len(special)} of {plural(len(dated), 'task')} they differ in onset from alive features of the same firing rate"
    parts = [
        f"{said} in {', '.join(names[kind])}"
        for kind, said in (("found", "before"), ("not_found", "after"), ("undecidable", "neither clearly"))
        if names[kind]
    ]
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        f"Carriers that emerged: {'; '.join(parts)}; {unlike} (p < {SIGNIFICANT}, Holm over tasks).",
        (
            Statistic("tasks whose carriers lead", n["found"], _SHIFT),
            Statistic("tasks whose carriers lag", n["not_found"], _SHIFT),
            Statistic("tasks whose carriers are unlike others", len(special), _SHIFT),
        ),
        caveat="Found when carriers lead in more than half of the tasks with a date. Weighted by attribution at the last "
        "snapshot, where late features can count.",
    )  # fmt: skip
