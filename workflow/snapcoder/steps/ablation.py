"""Step `ablation`: how few features carry each task that one snapshot can do, beside controls and baselines."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.rows import feature_order
from snapcoder.attribution.task_ablation import TaskAblation, ablate_task
from snapcoder.attribution.task_prompts import read_mean_code, read_snapshot_prompts
from snapcoder.attribution.units import baseline_units
from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.activations import BLOCK_ROWS, iterate_cache, read_header
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.ablation import ABLATION_CURVES, ABLATION_SUMMARY
from snapcoder.tables.attribution import PRIMARY

logger = logging.getLogger(__name__)

_BASIS_BLOCKS = 4  # of the cache, spread over it, that the principal directions are fitted on


def ablation(job: Job) -> None:
    """Write the ablation curves of every task that was attributed at this snapshot, and a summary of each."""
    settings, step, layer = job.section("tasks", TaskSettings), int(job.value("step")), int(job.value("layer"))
    here = _primary(job.path("attribution"))
    curves: list[pd.DataFrame] = []
    summaries: list[pd.DataFrame] = []
    if len(here):
        snapshot = read_snapshot_prompts(
            job.path("tasks"),
            (*job.paths("prompts"), job.path("own")),
            job.path("dictionary"),
            job.paths("extension"),
            step=step,
            layer=layer,
            largest=settings.attribution_examples,
        )
        n_features = snapshot.dictionary.n_features
        final = _last_attributed(job.paths("final"), here["task"].unique().tolist())
        mean, baselines = read_mean_code(job.path("features")), baseline_units(_sample(job.path("cache")))
        model = load_snapshot(job.path("facts"))
        with continue_from(model, layer=layer) as run:
            for name, of_task in here.groupby("task"):
                task = str(name)
                orders = {"attr_here": feature_order(of_task, n_features=n_features)}
                if task in final:
                    orders["attr_final"] = feature_order(final[task], n_features=n_features)
                of = TaskAblation(
                    task, snapshot.ranking(task), snapshot.evaluation(task), snapshot.here, orders, mean, baselines, settings
                )  # fmt: skip
                rows, summary = ablate_task(run, of)
                curves.append(rows.assign(layer=layer, task=task, step=step))
                summaries.append(summary.assign(layer=layer, task=task, step=step))
    write_table(job.output("curves"), joined(curves, ABLATION_CURVES), ABLATION_CURVES, job.core)
    write_table(job.output("summary"), joined(summaries, ABLATION_SUMMARY), ABLATION_SUMMARY, job.core)
    logger.info("ablation: step %d: %d tasks", step, len(curves))


def _primary(path: Path) -> pd.DataFrame:
    """Return the attributions that rank: integrated gradients from the patch prompt."""
    where = [(column, "==", value) for column, value in zip(("method", "baseline"), PRIMARY, strict=True)]
    return read_table(path, ["task", "feature", "rank"], where=where)


def _last_attributed(paths: Sequence[Path], tasks: list[str]) -> dict[str, pd.DataFrame]:
    """Return, for each task, its attributions at the last base snapshot that has some; `paths` in order of step."""
    found: dict[str, pd.DataFrame] = {}
    for path in reversed(paths):
        if all(task in found for task in tasks):
            break
        for task, rows in _primary(path).groupby("task"):
            found.setdefault(str(task), rows)
    return found


def _sample(path: Path) -> np.ndarray:
    """Return train rows of a cache in a few whole blocks spread over it, [row, model]."""
    n_blocks = -(-read_header(path).n_rows // BLOCK_ROWS)
    numbers = np.unique(np.linspace(0, n_blocks - 1, min(_BASIS_BLOCKS, n_blocks)).round().astype(int))
    return np.concatenate(list(iterate_cache(path, numbers.tolist())))
