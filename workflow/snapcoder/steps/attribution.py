"""Step `attribution`: which features carry each task that one snapshot can do, and how far that can be trusted."""

import logging

import pandas as pd

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.of_task import Subject, TaskTables, attribute_task
from snapcoder.attribution.rows import not_acquired_row
from snapcoder.attribution.task_prompts import read_mean_code, read_snapshot_prompts
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.attribution import ATTRIBUTION, ATTRIBUTION_POSITIONS, ATTRIBUTION_QUALITY, PRIMARY
from snapcoder.tasks.performance import task_performance

logger = logging.getLogger(__name__)


def attribution(job: Job) -> None:
    """Write the attributions of every task, their quality, and where they fall; tasks not acquired get a row that says so."""
    settings, step, layer = job.section("tasks", TaskSettings), int(job.value("step")), int(job.value("layer"))
    # From the snapshot's own scores, not from the table of all: adding a snapshot must not touch the others.
    scored, tasks = read_table(job.path("examples")), read_table(job.path("table"))
    performance = task_performance(scored, tasks, bootstrap=settings.bootstrap, seed=settings.seed)
    chosen = performance["acquired"] & performance["attributable"]
    acquired = [str(task) for task in performance.loc[chosen, "task"]]
    where = {"step": step, "layer": layer}
    names = {**where, "method": PRIMARY[0], "baseline": PRIMARY[1]}
    missing = [not_acquired_row(row, names) for _, row in performance[~chosen].iterrows()]
    done = _attributed(job, settings, acquired, step=step, layer=layer) if acquired else []
    for output, schema, parts in (
        ("attribution", ATTRIBUTION, [tables.attribution for tables in done]),
        ("quality", ATTRIBUTION_QUALITY, [pd.DataFrame(missing), *(tables.quality for tables in done)]),
        ("positions", ATTRIBUTION_POSITIONS, [tables.positions for tables in done]),
    ):
        write_table(job.output(output), joined(parts, schema), schema, job.core)
    logger.info("attribution: step %d: %d of %d tasks acquired", step, len(acquired), len(performance))


def _attributed(job: Job, settings: TaskSettings, tasks: list[str], *, step: int, layer: int) -> list[TaskTables]:
    snapshot = read_snapshot_prompts(
        job.path("tasks"),
        (*job.paths("prompts"), job.path("own")),
        job.path("dictionary"),
        job.paths("extension"),
        largest=settings.attribution_examples,
        step=step,
        layer=layer,
    )
    model = load_snapshot(job.path("facts"))
    mean_code = read_mean_code(job.path("features"))
    texts = token_strings(job.path("tokenizer"))
    with continue_from(model, layer=layer) as run:
        return [
            attribute_task(
                Subject(run, snapshot, task, settings, mean_code), texts=texts, where={"step": step, "layer": layer}
            )
            for task in tasks
        ]
