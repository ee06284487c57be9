"""Step `attribution_tables`: the attributions of all snapshots of a layer in three tables."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import ABLATION_CURVES, ATTRIBUTION, ATTRIBUTION_QUALITY


def attribution_tables(job: Job) -> None:
    """Write each table of all snapshots together; of the attributions, the strongest features and the error term."""
    top = job.section("tasks", TaskSettings).top_features
    attributed = [read_table(path) for path in job.paths("attribution")]
    strongest = [part[part["rank"] <= top] for part in attributed]
    write_table(job.output("attribution"), joined(strongest, ATTRIBUTION), ATTRIBUTION, job.core)
    for name, schema in (("quality", ATTRIBUTION_QUALITY), ("curves", ABLATION_CURVES)):
        parts: list[pd.DataFrame] = [read_table(path) for path in job.paths(name)]
        write_table(job.output(name), joined(parts, schema), schema, job.core)
