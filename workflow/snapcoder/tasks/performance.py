"""How well a snapshot does each task: from scored examples to accuracy and logit difference with intervals."""

import dataclasses

import numpy as np
import pandas as pd

from snapcoder.tasks.acquisition import Acquisition, age_of_acquisition
from snapcoder.tasks.intervals import bootstrap_weights, mean_interval
from snapcoder.tasks.selection import split_halves

CHANCE = 0.5
"""Accuracy of guessing between the two answers."""


def task_performance(scored: pd.DataFrame, tasks: pd.DataFrame, *, bootstrap: int, seed: int) -> pd.DataFrame:
    """Aggregate TASK_EXAMPLES rows of all snapshots to TASK_PERFORMANCE rows.

    An example counts as right when its logit difference is positive. A task is acquired when the 95% intervals
    (bootstrap over clusters of examples, the same draws at every snapshot) of the accuracy and of the mean logit difference both
    lie wholly above chance. Tasks that were dropped get a row per snapshot with nothing in it.
    """
    steps = sorted(int(step) for step in scored["step"].unique())
    groups = dict(list(scored.groupby("task")))
    rows: list[dict[str, object]] = []
    for _, task in tasks.sort_values("task").iterrows():
        name, known = str(task["task"]), {"task": task["task"], "attributable": bool(task["attributable"])}
        if task["status"] == "dropped":
            rows += [{**known, **_dropped(), **_age(Acquisition()), "step": step} for step in steps]
            continue
        curves = _curves(groups.get(name), steps, name)
        rows += [{**known, **row} for row in _scored(curves, steps, bootstrap=bootstrap, seed=seed)]
    return pd.DataFrame(rows)


def _curves(scored: pd.DataFrame | None, steps: list[int], task: str) -> pd.DataFrame:
    """Return the rows of one task by example and step; raise ValueError when a snapshot lacks one."""
    rows = None if scored is None else scored.sort_values(["step", "example"])
    for step in steps:
        n = 0 if rows is None else int((rows["step"] == step).sum())
        if rows is None or n == 0 or n * len(steps) != len(rows):
            raise ValueError(f"task {task} was not scored at step {step}; delete the behaviour folder and rerun")
    if rows is None or (np.ptp(rows["example"].to_numpy().reshape(len(steps), -1), axis=0) > 0).any():
        raise ValueError(f"task {task}: snapshots were scored on other examples; delete the behaviour folder and rerun")
    return rows


def _scored(rows: pd.DataFrame, steps: list[int], *, bootstrap: int, seed: int) -> list[dict[str, object]]:
    values = rows[["logit_diff", "prob_correct", "loss_answer"]].to_numpy(np.float64).reshape(len(steps), -1, 3)
    n = values.shape[1]
    logit_diff = values[..., 0]  # [snapshot, example]
    right = (logit_diff > 0).astype(np.float64)
    cluster = rows["cluster"].to_numpy()[:n]
    weights = bootstrap_weights(cluster, draws=bootstrap, rng=np.random.default_rng(seed))
    low, high = mean_interval(np.stack([right, logit_diff]), weights)  # [quantity, snapshot]
    accuracy, mean = right.mean(axis=1), values.mean(axis=1)
    # A mean of equal values may differ from them in the last bit; shares must stay within 0 and 1.
    low[0], high[0] = np.clip(np.minimum(low[0], accuracy), 0, 1), np.clip(np.maximum(high[0], accuracy), 0, 1)
    acquired = (low[0] > CHANCE) & (low[1] > 0)
    drawn = np.concatenate([accuracy[None], (right @ weights).T])  # [1 + draw, snapshot]
    age = age_of_acquisition(drawn, np.array(steps), acquired_at_end=bool(acquired[-1]))
    return [
        {
            "step": step,
            "n": n,
            "accuracy": accuracy[at],
            "accuracy_ci_lo": low[0, at],
            "accuracy_ci_hi": high[0, at],
            "logit_diff": mean[at, 0],
            "logit_diff_ci_lo": low[1, at],
            "logit_diff_ci_hi": high[1, at],
            "prob_correct": mean[at, 1],
            "loss_answer": mean[at, 2],
            "chance": CHANCE,
            "acquired": bool(acquired[at]),
            **_age(age),
            "status": "scored",
        }
        for at, step in enumerate(steps)
    ]


def _age(age: Acquisition) -> dict[str, object]:
    return {f"aoa_{name}": value for name, value in dataclasses.asdict(age).items()}


def _dropped() -> dict[str, object]:
    missing = [
        "accuracy", "accuracy_ci_lo", "accuracy_ci_hi", "logit_diff", "logit_diff_ci_lo", "logit_diff_ci_hi",
        "prob_correct", "loss_answer",
    ]  # fmt: skip
    return {"n": 0, "chance": CHANCE, **dict.fromkeys(missing, np.nan), "acquired": False, "status": "dropped"}


def split_rows(scored: pd.DataFrame, tasks: pd.DataFrame, *, largest: int) -> pd.DataFrame:
    """Return TASK_SPLITS rows: which half of its task each example is in, from the TASK_EXAMPLES rows of one snapshot.

    largest: examples of a task in either half. Examples of tasks that cannot be attributed are in neither.
    """
    rows = scored.sort_values("example")[["task", "example", "cluster"]].reset_index(drop=True)
    clusters = np.zeros(int(rows["example"].max()) + 1 if len(rows) else 0, dtype=np.int64)
    clusters[rows["example"]] = rows["cluster"]
    attributable = set(tasks.loc[tasks["attributable"], "task"])
    lines = {
        str(task): of_task["example"].to_numpy(np.int64)
        for task, of_task in rows.groupby("task", sort=False)
        if task in attributable
    }
    split = np.full(len(clusters), "unused", dtype=object)
    for ranking, evaluation in split_halves(lines, clusters, largest=largest).values():
        split[ranking], split[evaluation] = "ranking", "evaluation"
    return rows.assign(split=split[rows["example"]])
