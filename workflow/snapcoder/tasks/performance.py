"""How well a snapshot does each task: from scored examples to accuracy and logit difference with intervals."""

import numpy as np
import pandas as pd

from snapcoder.tasks.intervals import bootstrap_weights, mean_interval

CHANCE = 0.5
"""Accuracy of guessing between the two answers."""


def task_performance(scored: pd.DataFrame, tasks: pd.DataFrame, *, bootstrap: int, seed: int) -> pd.DataFrame:
    """Aggregate TASK_EXAMPLES rows of all snapshots to TASK_PERFORMANCE rows.

    An example counts as right when its logit difference is positive. A task is acquired when the 95% intervals
    (bootstrap over clusters of examples, the same draws at every snapshot) of the accuracy and of the mean logit difference both
    lie wholly above chance. Tasks that were dropped get a row per snapshot with nothing in it.
    """
    steps = sorted(int(step) for step in scored["step"].unique())
    groups = dict(list(scored.groupby(["task", "step"])))
    rows = []
    for task, status in sorted(zip(tasks["task"], tasks["status"], strict=True)):
        for step in steps:
            if status == "dropped":
                rows.append(_dropped(task, step))
                continue
            if (task, step) not in groups:
                raise ValueError(f"task {task} was not scored at step {step}; delete the behaviour folder and rerun")
            group = groups[task, step].sort_values("example")
            rows.append({"task": task, "step": step, **_scored(group, bootstrap=bootstrap, seed=seed)})
    return pd.DataFrame(rows).assign(**dict.fromkeys(("aoa_step", "aoa_se", "aoa_lo", "aoa_hi"), np.nan))


def _scored(group: pd.DataFrame, *, bootstrap: int, seed: int) -> dict[str, object]:
    values = np.stack([group["logit_diff"] > 0, group["logit_diff"]]).astype(np.float64)  # [quantity, example]
    weights = bootstrap_weights(group["cluster"].to_numpy(), draws=bootstrap, rng=np.random.default_rng(seed))
    low, high = mean_interval(values, weights)
    accuracy, logit_diff = values.mean(axis=1)
    # A mean of equal values may differ from them in the last bit; shares must stay within 0 and 1.
    low[0], high[0] = max(min(low[0], accuracy), 0.0), min(max(high[0], accuracy), 1.0)
    return {
        "n": len(group),
        "accuracy": accuracy,
        "accuracy_ci_lo": low[0],
        "accuracy_ci_hi": high[0],
        "logit_diff": logit_diff,
        "logit_diff_ci_lo": low[1],
        "logit_diff_ci_hi": high[1],
        "prob_correct": group["prob_correct"].mean(),
        "loss_answer": group["loss_answer"].mean(),
        "chance": CHANCE,
        "acquired": bool(low[0] > CHANCE and low[1] > 0),
        "status": "scored",
    }


def _dropped(task: str, step: int) -> dict[str, object]:
    missing = [
        "accuracy", "accuracy_ci_lo", "accuracy_ci_hi", "logit_diff", "logit_diff_ci_lo", "logit_diff_ci_hi",
        "prob_correct", "loss_answer",
    ]  # fmt: skip
    row: dict[str, object] = {"task": task, "step": step, "n": 0, "chance": CHANCE}
    return {**row, **dict.fromkeys(missing, np.nan), "acquired": False, "status": "dropped"}
