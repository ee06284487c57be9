"""Findings about abilities and the features that carry them."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import acquired_tasks, median_interval
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable
from snapcoder.report.findings_ablation import ablation_findings
from snapcoder.tables.attribution import primary_attribution

LINEAR_R = 0.95  # correlation with exact effects that the table's column linear asks for


def task_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about every task: acquired or not, and carried by how few features."""
    performance, tasks = tables["task_performance"], tables["tasks"]
    # A snapshot chose the examples of cloze, so that it does the task by selection: `cloze_order` speaks of these.
    chosen = set(tasks.loc[tasks["kind"] == "cloze", "task"]) if not tasks.empty else set()
    since_of = {task: since for task, since in acquired_tasks(performance).items() if task not in chosen}
    found = [_acquisition(performance, task, since) for task, since in since_of.items()]
    if not tasks.empty:
        found += [
            _dropped(row["task"], row["reason"])
            for _, row in tasks[tasks["status"] == "dropped"].sort_values("task").iterrows()
        ]
    if not found:
        found.append(
            undecidable("tasks", "tasks", "The model acquires an ability", "No task was scored.", "task_performance")
        )
    quality = primary_attribution(tables["attribution_quality"])
    done = quality[quality["status"] == "attributed"] if not quality.empty else quality
    found += ablation_findings(tables)
    return [*found, _quality(done), _exact(done), _significance(done)] if not done.empty else found


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


def _exact(done: pd.DataFrame) -> Finding:
    """Say how far attributions may be read as effects: of one feature, on the same and on other examples."""
    name, r = "attribution_quality", median_interval(done["exact_r"])
    heldout, linear = median_interval(done["exact_r_heldout"]), int((done["linear"] == "yes").sum())
    high = int((done["exact_r"] >= LINEAR_R).sum())
    claim = "Attribution is what ablating one feature does"
    if not r.n:
        return undecidable("attribution_exact", "tasks", claim, "Too few features were verified.", name)
    sentence = (
        f"Over {plural(r.n, 'pair')} of task and snapshot, attributions correlate with exact effects of single features by a "
        f"median r of {number(r.value)} {between(r.low, r.high)}; r ≥ {LINEAR_R:g} at {high}, linear in all respects at "
        f"{linear}. With effects on examples that ranked no feature: {number(heldout.value)} "
        f"{between(heldout.low, heldout.high)}."
    )
    return Finding(
        "attribution_exact",
        "tasks",
        claim,
        "found" if r.value >= LINEAR_R else "not_found",
        sentence,
        (
            Statistic("median r with exact effects", r.value, name, r.low, r.high),
            Statistic("median r on held-out examples", heldout.value, name, heldout.low, heldout.high),
            Statistic("linear in all respects", linear, name, unit="task × snapshot"),
        ),
        caveat="Column linear of the table says where attribution must not be read as effect, and why. A low correlation on "
        "held-out examples means that few examples ranked the features, not that attribution is wrong on them.",
    )


def _significance(done: pd.DataFrame) -> Finding:
    name, some = "attribution_quality", done[done["n_significant"] > 0]
    tasks = sorted(some["task"].unique())
    most = int(done["n_significant"].max())
    counts = sorted({int(done["n_examples"].min()), int(done["n_examples"].max())})
    counted = " to ".join(map(str, counts))
    sentence = (
        f"With {counted} examples, "
        f"{plural(len(some), 'pair')} of task and snapshot out of {len(done)} have a feature whose mean attribution "
        "differs from 0 (sign flips of clusters of examples, false discovery rate 5% within the pair)"
        + (f": of {', '.join(tasks)}, at most {plural(most, 'feature')}." if tasks else ".")
    )
    return Finding(
        "attribution_significance",
        "tasks",
        "Single features carry an ability beyond chance",
        "found" if tasks else "not_found",
        sentence,
        (Statistic("task × snapshot with a significant feature", len(some), name),),
        caveat="Not found means not shown with this number of examples (tasks.attribution_examples).",
    )
