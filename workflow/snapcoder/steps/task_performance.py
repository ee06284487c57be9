"""Step `task_performance`: scored examples of all snapshots to one row per task and snapshot."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import TASK_PERFORMANCE
from snapcoder.tasks.performance import task_performance as aggregate


def task_performance(job: Job) -> None:
    """Write accuracy and logit difference of every task at every snapshot, with intervals."""
    settings = job.section("tasks", TaskSettings)
    scored = pd.concat([read_table(path) for path in job.paths("examples")], ignore_index=True)
    rows = aggregate(scored, read_table(job.path("tasks")), bootstrap=settings.bootstrap, seed=settings.seed)
    write_table(job.output("table"), rows, TASK_PERFORMANCE, job.core)
