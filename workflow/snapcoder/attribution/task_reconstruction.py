"""Task scores when the dictionary's reconstruction stands in for the activations on the clean prefix."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.gradients import metric_at
from snapcoder.attribution.reconstruction import reconstruction, share
from snapcoder.attribution.task_prompts import SnapshotPrompts
from snapcoder.phases.resampling import interval
from snapcoder.storage.task_examples import cluster_ids
from snapcoder.tasks.intervals import bootstrap_weights


def task_logit_diffs(
    run: Continuation, snapshot: SnapshotPrompts, task: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the examples that a task's ablations are scored on (lines), and their logit differences [example].

    clean: with the activations as captured; patch: with those of the patch prefix; reconstructed: with â of the clean
    prefix, at every position. Shares recovered so compare with the faithfulness of ablation curves.
    """
    lines = snapshot.halves[task][1]
    at, code = snapshot.own.positions(lines), snapshot.code(lines, "clean")
    sides = {
        "clean": snapshot.own.clean[at],
        "patch": snapshot.own.patch[at],
        "reconstructed": reconstruction(code, snapshot.here),
    }
    values = metric_at(run, snapshot.prefixes(lines), sides.values())
    return lines, dict(zip(sides, values, strict=True))


def task_row(
    found: Mapping[str, np.ndarray], cluster: np.ndarray, *, task: str, step: int, layer: int, bootstrap: int, seed: int
) -> dict[str, object]:
    """Return the TASK_RECONSTRUCTION row of one task; `found` as from `task_logit_diffs`, cluster [example]."""
    n = len(cluster)
    weights = bootstrap_weights(cluster, draws=bootstrap, rng=np.random.default_rng(seed))
    weights = np.column_stack([np.full(n, 1 / n), weights])  # [example, 1 + draw]
    clean, patch, rebuilt = (found[name] @ weights for name in ("clean", "patch", "reconstructed"))
    right = (found["reconstructed"] > 0) @ weights
    row: dict[str, object] = {"layer": layer, "task": task, "step": step, "n": n}
    for name, draws in (("accuracy", right.clip(0, 1)), ("logit_diff", rebuilt)):
        row |= _with_interval(name, draws)
    return (
        row
        | _with_interval("recovered", share(rebuilt - patch, clean - patch))
        | {
            "accuracy_clean": (found["clean"] > 0).mean(),
            "logit_diff_clean": clean[0],
            "logit_diff_patch": patch[0],
        }
    )


def _with_interval(name: str, draws: np.ndarray) -> dict[str, object]:
    low, high = interval(draws[1:])
    return {name: draws[0], f"{name}_ci_lo": low, f"{name}_ci_hi": high}


def task_rows(
    run: Continuation, snapshot: SnapshotPrompts, *, step: int, layer: int, bootstrap: int, seed: int
) -> pd.DataFrame:
    """Return TASK_RECONSTRUCTION rows of all tasks at one snapshot."""
    clusters = cluster_ids(snapshot.examples)
    rows = []
    for task in sorted(snapshot.halves):
        lines, found = task_logit_diffs(run, snapshot, task)
        if len(lines):
            options = {"task": task, "step": step, "layer": layer}
            rows.append(task_row(found, clusters[lines], **options, bootstrap=bootstrap, seed=seed))  # type: ignore[arg-type]
    return pd.DataFrame(rows)
