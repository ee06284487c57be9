"""Step `attribution`: which features carry each task that one snapshot can do."""

import logging

import pandas as pd
import torch

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.gradients import attribute, path_gradient
from snapcoder.attribution.rows import attribution_rows, not_acquired_row, quality_row
from snapcoder.attribution.task_prompts import read_snapshot_prompts
from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import ATTRIBUTION, ATTRIBUTION_QUALITY
from snapcoder.tasks.performance import task_performance

logger = logging.getLogger(__name__)


def attribution(job: Job) -> None:
    """Write the attributions of every task and their quality; tasks not acquired get a row that says so."""
    settings, step, layer = job.section("tasks", TaskSettings), int(job.value("step")), int(job.value("layer"))
    # From the snapshot's own scores, not from the table of all: adding a snapshot must not touch the others.
    scored, tasks = read_table(job.path("examples")), read_table(job.path("table"))
    performance = task_performance(scored, tasks, bootstrap=settings.bootstrap, seed=settings.seed)
    chosen = performance["acquired"] & performance["attributable"]
    acquired = [str(task) for task in performance.loc[chosen, "task"]]
    where = {"step": step, "layer": layer}
    quality = [not_acquired_row(row, **where) for _, row in performance[~chosen].iterrows()]
    attributed: list[pd.DataFrame] = []
    if acquired:
        snapshot = read_snapshot_prompts(
            job.path("tasks"),
            (*job.paths("prompts"), job.path("own")),
            job.path("dictionary"),
            job.paths("extension"),
            largest=settings.attribution_examples,
            **where,
        )
        facts, device = job.path("facts"), torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load(facts.parent / read_json(facts)["folder"]).to(device)  # type: ignore[arg-type]
        with continue_from(model, layer=layer) as run:
            for task in acquired:
                prompts = snapshot.ranking(task)
                path = path_gradient(run, prompts, points=settings.ig_steps)
                found = attribute(prompts, snapshot.here, path)
                attributed.append(attribution_rows(found, path, points=settings.ig_steps, task=task, **where))
                quality.append(quality_row(found, path, task=task, **where))
    write_table(job.output("attribution"), joined(attributed, ATTRIBUTION), ATTRIBUTION, job.core)
    write_table(
        job.output("quality"), joined([pd.DataFrame(quality)], ATTRIBUTION_QUALITY), ATTRIBUTION_QUALITY, job.core
    )
    logger.info("attribution: step %d: %d of %d tasks acquired", step, len(acquired), len(quality))
