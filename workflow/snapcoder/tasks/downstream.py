"""Every score of what snapshots can do in one long table: the model, the model through the dictionary, the harness."""

from collections.abc import Iterable

import pandas as pd

_SCORES = ("accuracy", "logit_diff")
TEXT = "text"
"""How the table calls next tokens of held-out text, beside the tasks."""


def downstream_performance(
    losses: pd.DataFrame, tasks: pd.DataFrame, performance: pd.DataFrame, harness: Iterable[pd.DataFrame], *, layer: int
) -> pd.DataFrame:
    """Return DOWNSTREAM_PERFORMANCE rows.

    losses: RECONSTRUCTION_LOSS; tasks: TASK_RECONSTRUCTION; performance: TASK_PERFORMANCE (tasks that were dropped have no
    rows here); harness: HARNESS_PERFORMANCE of each snapshot, or nothing.
    """
    scored = performance[performance["status"] == "scored"]
    parts = [
        *(_long(scored, metric, source="model", n="n") for metric in _SCORES),
        *(_long(tasks, metric, source="reconstruction", n="n") for metric in (*_SCORES, "recovered")),
        *_text(losses),
        *(_of_harness(frame) for frame in harness),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True).assign(layer=layer)


def _long(rows: pd.DataFrame, column: str, *, source: str, n: str, metric: str = "") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": rows["step"],
            "source": source,
            "task": rows["task"],
            "metric": metric or column,
            "value": rows[column],
            "ci_lo": rows[f"{column}_ci_lo"],
            "ci_hi": rows[f"{column}_ci_hi"],
            "n": rows[n],
        }
    )


def _text(losses: pd.DataFrame) -> Iterable[pd.DataFrame]:
    of = {name: part.assign(task=TEXT) for name, part in losses.groupby("activation")}
    yield _long(of["clean"], "loss", source="model", n="n_tokens")
    for column in ("loss", "kl"):
        yield _long(of["reconstructed"], column, source="reconstruction", n="n_tokens")
    for ablation in ("mean", "zero"):
        metric = f"recovered_{ablation}"
        yield _long(of[ablation], "recovered", source="reconstruction", n="n_tokens", metric=metric)


def _of_harness(rows: pd.DataFrame) -> pd.DataFrame:
    half = 1.96 * rows["se"]
    kept = rows[["step", "task", "metric", "value", "n"]]
    return kept.assign(source="lm-eval", ci_lo=rows["value"] - half, ci_hi=rows["value"] + half)
