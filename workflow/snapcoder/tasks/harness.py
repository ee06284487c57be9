"""Scores of lm-evaluation-harness as rows: what its results say of each task, metric by metric."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

_NO_FILTER = "none"


def harness_rows(results: Mapping[str, Any], *, step: int, harness_version: str) -> pd.DataFrame:
    """Return HARNESS_PERFORMANCE rows from what `lm_eval.simple_evaluate` returns.

    `results["results"]` maps a task (or group) to `"metric,filter"` and `"metric_stderr,filter"`; other keys are names and
    counts. A standard error that the harness does not know ("N/A") is missing.
    """
    rows = []
    for task, scores in sorted(results["results"].items()):
        for key, value in sorted(scores.items()):
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = scores.get(f"{metric}_stderr,{chosen}")
            rows.append(
                {
                    "step": step,
                    "task": task,
                    "metric": metric if chosen == _NO_FILTER else f"{metric},{chosen}",
                    "value": float(value),
                    "se": float(error) if isinstance(error, (int, float)) else float("nan"),
                    "n": _questions(results, task),
                    "task_version": str(results.get("versions", {}).get(task, "")),
                    "harness_version": harness_version,
                }
            )
    return pd.DataFrame(rows)


def _questions(results: Mapping[str, Any], task: str) -> int:
    """Return how many questions of a task were asked; of a group, those of its tasks."""
    counts = results.get("n-samples", {})
    if task in counts:
        return int(counts[task].get("effective", counts[task]["original"]))
    members = results.get("group_subtasks", {}).get(task, [])
    return sum(_questions(results, member) for member in members)
