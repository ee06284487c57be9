"""Findings about what the dictionary keeps of what the model uses, and about what lies beyond n-grams."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import acquired_tasks, median_interval
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

GOOD = 0.8  # share that counts as kept
_FEW = 5  # tasks whose median has no distribution-free interval at 95%
BEYOND, WITHIN = "cloze_beyond_trigram", "cloze_within_trigram"


def downstream_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about loss and tasks through the reconstruction, and about the order of the cloze tasks."""
    found = [_loss(tables["reconstruction_loss"]), _tasks(tables["task_reconstruction"], tables["task_performance"])]
    performance = tables["task_performance"]
    if not performance.empty and {BEYOND, WITHIN} <= set(performance["task"]):
        found.append(_cloze(performance))
    return found


def _loss(losses: pd.DataFrame) -> Finding:
    claim, name, key = "The dictionary keeps what the model uses", "reconstruction_loss", "recovered_loss"
    ablated = losses[losses["activation"] == "mean"] if not losses.empty else losses
    known = ablated[ablated["recovered"].notna()].sort_values("step") if not ablated.empty else ablated
    if known.empty:
        why = "At no snapshot does it cost loss to replace activations by their mean."
        return undecidable(key, "dictionary", claim, "No text was read through it." if losses.empty else why, name)
    last, lowest = known.iloc[-1], known.iloc[int(known["recovered"].to_numpy().argmin())]
    here = {str(row["activation"]): row for _, row in losses[losses["step"] == last["step"]].iterrows()}
    worse = here["reconstructed"]["loss"] - here["clean"]["loss"]
    skipped = len(ablated) - len(known)
    sentence = (
        f"In place of the activations, its reconstruction recovers {percent(last['recovered'])} "
        f"{between(last['recovered_ci_lo'], last['recovered_ci_hi'], as_percent=True)} of the loss that their mean costs at "
        f"{step(last['step'])} (zero: {percent(here['zero']['recovered'])}), and least at {step(lowest['step'])}: "
        f"{percent(lowest['recovered'])} "
        f"{between(lowest['recovered_ci_lo'], lowest['recovered_ci_hi'], as_percent=True)}. Held-out text loses "
        f"{number(worse)} nats per token at {step(last['step'])} (KL {number(here['reconstructed']['kl'])})."
    )
    if skipped:
        sentence += f" At {plural(skipped, 'snapshot')} the mean costs nothing that could be recovered."
    return Finding(
        key,
        "dictionary",
        claim,
        "found"
        if lowest["recovered_ci_lo"] >= GOOD
        else "not_found"
        if lowest["recovered_ci_hi"] < GOOD
        else "undecidable",
        sentence,
        (
            _statistic("loss recovered, last snapshot", last, name),
            _statistic("loss recovered, lowest", lowest, name),
            Statistic("loss added by the reconstruction", float(worse), name, unit="nats/token"),
        ),
        caveat=f"Counted as found when the interval lies above {GOOD:.0%} at every snapshot. The mean of all activations may do "
        "worse than knowing nothing, which makes the share easy: read it beside the nats and the KL.",
    )


def _statistic(what: str, row: pd.Series, table: str) -> Statistic:
    values = (float(row[column]) for column in ("recovered", "recovered_ci_lo", "recovered_ci_hi"))
    value, low, high = values
    return Statistic(what, value, table, low, high, "share")


def _tasks(tasks: pd.DataFrame, performance: pd.DataFrame) -> Finding:
    claim, name, key = "Abilities survive the reconstruction", "task_reconstruction", "recovered_tasks"
    since = {task: at for task, at in acquired_tasks(performance).items() if at is not None}
    last = tasks[tasks["step"] == tasks["step"].max()] if not tasks.empty else tasks
    known = last[last["task"].isin(list(since)) & last["recovered"].notna()] if not last.empty else last
    if known.empty:
        return undecidable(
            key, "tasks", claim, "No task is acquired with two prefixes that the model tells apart.", name
        )
    kept = median_interval(known["recovered"])
    low, high = (kept.low, kept.high) if kept.n > _FEW else (float("nan"), float("nan"))
    worst = known.iloc[int(known["recovered"].to_numpy().argmin())]
    sentence = (
        f"With the reconstruction on the clean prefix, a median {percent(kept.value)} "
        f"{between(low, high, as_percent=True)} of what tells it from the patch prefix is left over "
        f"{plural(kept.n, 'acquired task')} at {step(last['step'].iloc[0])}, least of {worst['task']}: "
        f"{percent(worst['recovered'])} "
        f"{between(worst['recovered_ci_lo'], worst['recovered_ci_hi'], as_percent=True)} (accuracy "
        f"{percent(worst['accuracy'])}, clean {percent(worst['accuracy_clean'])})."
    )
    verdict: Verdict = "found" if (known["recovered"] >= GOOD).all() else "not_found"
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic("median share recovered", kept.value, name, low, high, "share"),
            _statistic("share recovered, lowest", worst, name),
        ),
        caveat=f"Counted as found when every acquired task keeps {GOOD:.0%}; what is lost lies in the reconstruction error.",
    )


def _cloze(performance: pd.DataFrame) -> Finding:
    claim, name, key = "What lies beyond a trigram is learnt after what lies within", "task_performance", "cloze_order"
    since = acquired_tasks(performance)
    if since.get(BEYOND) is None or since.get(WITHIN) is None:
        return undecidable(
            key, "tasks", claim, "One of the two cloze tasks has too few examples or was not acquired.", name
        )
    first = {task: int(since[task]) for task in (BEYOND, WITHIN)}  # type: ignore[arg-type]
    at = first[WITHIN]
    scores = performance[performance["step"] == at].set_index("task")[["accuracy", "accuracy_ci_lo", "accuracy_ci_hi"]]
    here = scores.astype(float).to_dict("index")
    ahead, behind = here[WITHIN], here[BEYOND]
    apart = first[WITHIN] < first[BEYOND] and ahead["accuracy_ci_lo"] > behind["accuracy_ci_hi"]
    verdict: Verdict = "found" if apart else "not_found" if first[WITHIN] > first[BEYOND] else "undecidable"
    sentence = (
        f"Next tokens that a trigram model knows are preferred to its best other guess from {step(at)} on, tokens as frequent "
        f"that it gets wrong from {step(first[BEYOND])} on; at {step(at)} the accuracies are {percent(ahead['accuracy'])} "
        f"{between(ahead['accuracy_ci_lo'], ahead['accuracy_ci_hi'], as_percent=True)} and {percent(behind['accuracy'])} "
        f"{between(behind['accuracy_ci_lo'], behind['accuracy_ci_hi'], as_percent=True)}."
    )
    return Finding(
        key,
        "tasks",
        claim,
        verdict,
        sentence,
        (
            Statistic("acquired within the trigram from", first[WITHIN], name, unit="training steps"),
            Statistic("acquired beyond the trigram from", first[BEYOND], name, unit="training steps"),
        ),
        caveat="The last base snapshot chose the examples of both, so it is right on all of them by selection: only their order "
        "in time says something. Beyond the trigram the other answer is the trigram's own guess, which a model must first "
        "unlearn.",
    )
