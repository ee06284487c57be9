"""Step `task_performance`: scored examples of all snapshots to one row per task and snapshot, and how they are split."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import TASK_PERFORMANCE, TASK_SPLITS
from snapcoder.tasks.performance import split_rows
from snapcoder.tasks.performance import task_performance as aggregate


def task_performance(job: Job) -> None:
    """Write accuracy and logit difference of every task at every snapshot, with intervals, and the halves of its examples."""
    settings = job.section("tasks", TaskSettings)
    parts, tasks = [read_table(path) for path in job.paths("examples")], read_table(job.path("tasks"))
    rows = aggregate(pd.concat(parts, ignore_index=True), tasks, bootstrap=settings.bootstrap, seed=settings.seed)
    write_table(job.output("table"), rows, TASK_PERFORMANCE, job.core)
    splits = split_rows(parts[0], tasks, largest=settings.attribution_examples)
    write_table(job.output("splits"), splits, TASK_SPLITS, job.core)
